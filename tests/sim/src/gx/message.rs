//! The gateway's side of Gx as bytes, both ways: what it asks and what it reads out of what it is told.

use tollway_diameter::avp::Avp;
use tollway_diameter::avp::ietf::{
    AUTH_APPLICATION_ID, CALLED_STATION_ID, CC_INPUT_OCTETS, CC_OUTPUT_OCTETS, CC_REQUEST_NUMBER,
    CC_REQUEST_TYPE, DESTINATION_REALM, FRAMED_IP_ADDRESS, GRANTED_SERVICE_UNIT, ORIGIN_HOST, ORIGIN_REALM,
    SESSION_ID, SUBSCRIPTION_ID, SUBSCRIPTION_ID_DATA, SUBSCRIPTION_ID_TYPE, USED_SERVICE_UNIT,
};
use tollway_diameter::avp::tgpp::{
    CHARGING_RULE_DEFINITION, CHARGING_RULE_INSTALL, CHARGING_RULE_NAME, CHARGING_RULE_REMOVE,
    CHARGING_RULE_REPORT, MONITORING_KEY, PCC_RULE_STATUS, RULE_ACTIVATION_TIME, RULE_DEACTIVATION_TIME,
    RULE_FAILURE_CODE, TGPP_SGSN_MCC_MNC, USAGE_MONITORING_INFORMATION,
};
use tollway_diameter::{Message, Writer, application, command};
use tollway_model::{LegId, ReservationId, Timestamp};

pub const HOST: &str = "gw.sim";
pub const REALM: &str = "sim";
pub const APN: &str = "internet";
pub const HOME: &str = "99970";
const ABROAD: &str = "00101";

/// CC-Request-Type (RFC 8506 §8.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Initial,
    Update,
    Termination,
}

impl Kind {
    const fn number(self) -> u32 {
        match self {
            Kind::Initial => 1,
            Kind::Update => 2,
            Kind::Termination => 3,
        }
    }
}

/// What a gateway has to say in a CCR.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Word {
    Status { leg: LegId, is_active: bool },
    Usage { leg: LegId, bytes: u64, is_down: bool },
    Place { is_home: bool },
}

/// A rule that a RAR installs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Install {
    pub leg: LegId,
    pub from: Timestamp,
    pub until: Option<Timestamp>,
}

/// What a RAR or a CCA changes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    pub removed: Vec<LegId>,
    pub installed: Vec<Install>,
    /// Usage of these is to be told; with the direction that is granted.
    pub metered: Vec<(LegId, bool)>,
}

pub fn address(subscriber: u64, variant: u8) -> [u8; 4] {
    [10, 45, variant, u8::try_from(subscriber).unwrap_or(0)]
}

/// The identity of a subscriber, and back.
pub fn imsi(subscriber: u64) -> String {
    format!("{HOME}{subscriber:010}")
}

pub fn name(leg: LegId) -> String {
    format!("tw-{}-{}", leg.reservation.0, leg.index)
}

fn leg(name: &str) -> Option<LegId> {
    let (reservation, index) = name.strip_prefix("tw-")?.split_once('-')?;
    Some(LegId { reservation: ReservationId(reservation.parse().ok()?), index: index.parse().ok()? })
}

fn start(kind: Kind, session: &str, number: u32) -> Writer {
    let mut w = Writer::request(command::CREDIT_CONTROL, application::GX);
    w.text(SESSION_ID, session);
    w.u32(AUTH_APPLICATION_ID, application::GX);
    w.text(ORIGIN_HOST, HOST);
    w.text(ORIGIN_REALM, REALM);
    w.text(DESTINATION_REALM, REALM);
    w.u32(CC_REQUEST_TYPE, kind.number());
    w.u32(CC_REQUEST_NUMBER, number);
    w
}

pub fn initial(session: &str, subscriber: u64, variant: u8) -> Vec<u8> {
    let mut w = start(Kind::Initial, session, 0);
    w.group(SUBSCRIPTION_ID, |w| {
        w.u32(SUBSCRIPTION_ID_TYPE, 1);
        w.text(SUBSCRIPTION_ID_DATA, &imsi(subscriber));
    });
    w.octets(FRAMED_IP_ADDRESS, &address(subscriber, variant));
    w.text(CALLED_STATION_ID, APN);
    w.text(TGPP_SGSN_MCC_MNC, HOME);
    w.finish().expect("a request of few AVPs is short")
}

pub fn further(kind: Kind, session: &str, number: u32, words: &[Word]) -> Vec<u8> {
    let mut w = start(kind, session, number);
    for word in words {
        match word {
            Word::Status { leg, is_active } => w.group(CHARGING_RULE_REPORT, |w| {
                w.text(CHARGING_RULE_NAME, &name(*leg));
                w.u32(PCC_RULE_STATUS, u32::from(!*is_active));
                if !*is_active {
                    // RESOURCE_ALLOCATION_FAILURE (TS 29.212 §5.3.38).
                    w.u32(RULE_FAILURE_CODE, 10);
                }
            }),
            Word::Usage { leg, bytes, is_down } => w.group(USAGE_MONITORING_INFORMATION, |w| {
                w.text(MONITORING_KEY, &name(*leg));
                w.group(USED_SERVICE_UNIT, |w| {
                    w.u64(CC_INPUT_OCTETS, if *is_down { 0 } else { *bytes });
                    w.u64(CC_OUTPUT_OCTETS, if *is_down { *bytes } else { 0 });
                });
            }),
            Word::Place { is_home } => w.text(TGPP_SGSN_MCC_MNC, if *is_home { HOME } else { ABROAD }),
        }
    }
    w.finish().expect("a request of few words is short")
}

/// Rules of ours that a message installs and removes; others are none of this gateway's business.
pub fn changes(message: &Message<'_>) -> Changes {
    let mut changes = Changes::default();
    for remove in message.all(CHARGING_RULE_REMOVE) {
        changes.removed.extend(names(remove));
    }
    for install in message.all(CHARGING_RULE_INSTALL) {
        let time = |avp| Some(Timestamp::from_secs(install.find(avp).and_then(|avp: Avp<'_>| avp.unix_s())?));
        let from = time(RULE_ACTIVATION_TIME).unwrap_or(Timestamp::ZERO);
        let until = time(RULE_DEACTIVATION_TIME);
        let legs = install.children().filter(|avp| avp.key == CHARGING_RULE_DEFINITION.key).flat_map(names);
        changes.installed.extend(legs.map(|leg| Install { leg, from, until }));
    }
    for usage in message.all(USAGE_MONITORING_INFORMATION) {
        let of = usage.find(MONITORING_KEY).and_then(|avp| leg(avp.text()?));
        let is_down = usage.find(GRANTED_SERVICE_UNIT).map(|unit| unit.find(CC_OUTPUT_OCTETS).is_some());
        changes.metered.extend(of.zip(is_down));
    }
    changes
}

fn names(group: Avp<'_>) -> Vec<LegId> {
    let of = |avp: Avp<'_>| avp.text().and_then(leg);
    group.children().filter(|avp| avp.key == CHARGING_RULE_NAME.key).filter_map(of).collect()
}

/// The place of CC-Request-Number in a request.
pub fn number_at(bytes: &[u8]) -> Option<usize> {
    let wanted = CC_REQUEST_NUMBER.key.code.to_be_bytes();
    let mut at = 20;
    while let Some(head) = bytes.get(at..at + 8) {
        if head.starts_with(&wanted) {
            return Some(at + 8);
        }
        let length = usize::from(head[5]) << 16 | usize::from(head[6]) << 8 | usize::from(head[7]);
        at += length.max(8).next_multiple_of(4);
    }
    None
}
