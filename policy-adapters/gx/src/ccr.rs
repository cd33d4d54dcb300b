//! Reads what a gateway says: CCR (TS 29.212 §5.6.2) and the reports in CCR and RAA. Everything is checked before
//! anything has an effect.

use crate::address;
use crate::limits::{
    FEATURES_MAX, RULE_REPORTS_MAX, SESSION_ID_LEN_MAX, SUBSCRIPTION_IDS_MAX, TRIGGERS_MAX, USAGE_REPORTS_MAX,
};
use crate::plmn::Plmn;
use crate::profile::{Identity, IdentityKind};
use crate::rule::RuleName;
use crate::settings::{Feature, network_identifier};
use std::net::Ipv4Addr;
use tollway_diameter::avp::ietf::{
    AUTH_APPLICATION_ID, CALLED_STATION_ID, CC_INPUT_OCTETS, CC_OUTPUT_OCTETS, CC_REQUEST_NUMBER,
    CC_REQUEST_TYPE, CC_TOTAL_OCTETS, FRAMED_IP_ADDRESS, FRAMED_IPV6_PREFIX, ORIGIN_HOST, ORIGIN_REALM,
    SESSION_ID, SUBSCRIPTION_ID, SUBSCRIPTION_ID_DATA, SUBSCRIPTION_ID_TYPE, USED_SERVICE_UNIT, VENDOR_ID,
};
use tollway_diameter::avp::tgpp::{
    CHARGING_RULE_NAME, CHARGING_RULE_REPORT, EVENT_TRIGGER, FEATURE_LIST, FEATURE_LIST_ID, MONITORING_KEY,
    PCC_RULE_STATUS, RULE_FAILURE_CODE, SUPPORTED_FEATURES, USAGE_MONITORING_INFORMATION,
};
use tollway_diameter::avp::{IETF, TGPP};
use tollway_diameter::{Avp, Definition, Message, Outcome, application, result};
use tollway_policy::DeviceAddress;

/// Result codes of Gx and credit control that the base protocol does not have.
pub(crate) mod code {
    /// DIAMETER_AUTHORIZATION_REJECTED (RFC 6733 §7.1.5).
    pub const AUTHORIZATION_REJECTED: u32 = 5003;
    /// DIAMETER_RESOURCES_EXCEEDED (RFC 6733 §7.1.5).
    pub const RESOURCES_EXCEEDED: u32 = 5006;
    /// DIAMETER_USER_UNKNOWN (RFC 8506 §9.3).
    pub const USER_UNKNOWN: u32 = 5030;
    /// DIAMETER_ERROR_INITIAL_PARAMETERS (TS 29.212 §5.5.3), within Experimental-Result.
    pub const INITIAL_PARAMETERS: u32 = 5140;
}

/// A request that is not taken: the outcome to answer, and the AVP to blame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub outcome: Outcome,
    pub failed: Option<Definition>,
    pub why: &'static str,
}

impl Fault {
    pub const fn base(code: u32, why: &'static str) -> Fault {
        Fault { outcome: Outcome { vendor: IETF, code }, failed: None, why }
    }

    const fn at(code: u32, failed: Definition, why: &'static str) -> Fault {
        Fault { failed: Some(failed), ..Fault::base(code, why) }
    }

    /// Something that a decision needs is missing or wrong (TS 29.212 §5.5.3).
    pub(crate) const fn initial(failed: Definition, why: &'static str) -> Fault {
        Fault { outcome: Outcome { vendor: TGPP, code: code::INITIAL_PARAMETERS }, failed: Some(failed), why }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Initial,
    Update,
    Termination,
}

/// What every CCR has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ccr<'a> {
    pub message: Message<'a>,
    pub session_id: &'a str,
    pub host: &'a str,
    pub realm: &'a str,
    pub kind: Kind,
    pub number: u32,
}

fn missing(failed: Definition) -> Fault {
    Fault::at(result::MISSING_AVP, failed, "missing")
}

impl<'a> Ccr<'a> {
    pub fn read(message: &Message<'a>) -> Result<Ccr<'a>, Fault> {
        let text = |avp: Definition| message.text(avp).ok_or(missing(avp));
        let session_id = text(SESSION_ID)?;
        if session_id.is_empty() || session_id.len() > SESSION_ID_LEN_MAX {
            return Err(Fault::at(result::INVALID_AVP_VALUE, SESSION_ID, "a Session-Id has 1 to 512 bytes"));
        }
        if message.u32(AUTH_APPLICATION_ID) != Some(application::GX) {
            return Err(Fault::at(result::INVALID_AVP_VALUE, AUTH_APPLICATION_ID, "the application is Gx"));
        }
        let kind = match message.u32(CC_REQUEST_TYPE) {
            Some(1) => Kind::Initial,
            Some(2) => Kind::Update,
            Some(3) => Kind::Termination,
            Some(_) => return Err(Fault::at(result::INVALID_AVP_VALUE, CC_REQUEST_TYPE, "1, 2 or 3 on Gx")),
            None => return Err(missing(CC_REQUEST_TYPE)),
        };
        Ok(Ccr {
            message: *message,
            session_id,
            host: text(ORIGIN_HOST)?,
            realm: text(ORIGIN_REALM)?,
            kind,
            number: message.u32(CC_REQUEST_NUMBER).ok_or(missing(CC_REQUEST_NUMBER))?,
        })
    }
}

/// What a CCR-I says besides.
pub(crate) struct Initial<'a> {
    pub apn: String,
    pub address: DeviceAddress,
    pub identities: Vec<Identity<'a>>,
    pub plmn: Option<Plmn>,
    pub features: Features,
}

impl<'a> Initial<'a> {
    pub fn read(message: &Message<'a>) -> Result<Initial<'a>, Fault> {
        let called = message.text(CALLED_STATION_ID);
        let called = called.ok_or(Fault::initial(CALLED_STATION_ID, "which APN?"))?;
        let apn = network_identifier(called).ok_or(Fault::initial(CALLED_STATION_ID, "no APN"))?;
        Ok(Initial {
            apn,
            address: device_address(message)?,
            identities: identities(message)?,
            plmn: Plmn::of(message),
            features: Features::read(message)?,
        })
    }
}

fn device_address(message: &Message<'_>) -> Result<DeviceAddress, Fault> {
    let v4 = match message.find(FRAMED_IP_ADDRESS) {
        Some(avp) => match avp.u32() {
            // All ones and all ones but one ask the server to choose (RFC 7155 §4.4.10.5.1); a PCRF has none to give.
            Some(0 | 0xffff_ffff | 0xffff_fffe) | None => {
                return Err(Fault::initial(FRAMED_IP_ADDRESS, "no address of a device"));
            }
            Some(bits) => Some(Ipv4Addr::from(bits)),
        },
        None => None,
    };
    let v6 = match message.find(FRAMED_IPV6_PREFIX) {
        Some(avp) => Some(
            address::prefix(avp.data).ok_or(Fault::initial(FRAMED_IPV6_PREFIX, "no prefix of a device"))?,
        ),
        None => None,
    };
    address::device(v4, v6).ok_or(Fault::initial(FRAMED_IP_ADDRESS, "the device has no address"))
}

/// All Subscription-Ids of kinds that we look up (RFC 8506 §8.46).
fn identities<'a>(message: &Message<'a>) -> Result<Vec<Identity<'a>>, Fault> {
    let mut identities = Vec::new();
    for (at, group) in message.all(SUBSCRIPTION_ID).enumerate() {
        if at == SUBSCRIPTION_IDS_MAX {
            return Err(too_many(SUBSCRIPTION_ID));
        }
        let kind = match group.find(SUBSCRIPTION_ID_TYPE).and_then(|avp| avp.u32()) {
            Some(0) => IdentityKind::E164,
            Some(1) => IdentityKind::Imsi,
            Some(_) | None => continue,
        };
        match group.find(SUBSCRIPTION_ID_DATA).and_then(|avp| avp.text()) {
            Some(digits) if (1..=15).contains(&digits.len()) => identities.push(Identity { kind, digits }),
            Some(_) | None => return Err(Fault::initial(SUBSCRIPTION_ID, "no identity in it")),
        }
    }
    if identities.is_empty() { Err(Fault::initial(SUBSCRIPTION_ID, "who is it?")) } else { Ok(identities) }
}

const fn too_many(failed: Definition) -> Fault {
    Fault::at(result::AVP_OCCURS_TOO_MANY_TIMES, failed, "more often than allowed")
}

/// Feature lists of 3GPP that were offered (TS 29.229 §6.3.29).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Features {
    lists: [u32; 2],
}

impl Features {
    /// Rel8 and Rel9 of list 1: what this PCRF does of it (TS 29.212 §5.4.1).
    const OURS: u32 = 0b11;

    fn read(message: &Message<'_>) -> Result<Features, Fault> {
        let mut features = Features::default();
        for (at, group) in message.all(SUPPORTED_FEATURES).enumerate() {
            if at == FEATURES_MAX {
                return Err(too_many(SUPPORTED_FEATURES));
            }
            let get = |avp: Definition| group.find(avp).and_then(|avp| avp.u32());
            if let (Some(TGPP), Some(id @ 1..=2), Some(list)) =
                (get(VENDOR_ID), get(FEATURE_LIST_ID), get(FEATURE_LIST))
            {
                features.lists[id as usize - 1] |= list;
            }
        }
        Ok(features)
    }

    pub fn has(self, feature: Feature) -> bool {
        let list = (feature.list_id as usize).checked_sub(1).and_then(|at| self.lists.get(at));
        list.is_some_and(|list| list.checked_shr(u32::from(feature.bit)).unwrap_or(0) & 1 == 1)
    }

    /// `(Feature-List-ID, Feature-List)` that both sides have.
    pub fn common(self, extended_bw: Option<Feature>) -> impl Iterator<Item = (u32, u32)> {
        let mut ours = [Features::OURS, 0];
        if let Some(feature) = extended_bw
            && let Some(list) = ours.get_mut((feature.list_id as usize).wrapping_sub(1))
        {
            *list |= 1u32.checked_shl(u32::from(feature.bit)).unwrap_or(0);
        }
        let common = [(1, self.lists[0] & ours[0]), (2, self.lists[1] & ours[1])];
        common.into_iter().filter(|(_, list)| *list != 0)
    }
}

/// PCC-Rule-Status (TS 29.212 §5.3.19).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    Active,
    Inactive,
    TemporarilyInactive,
}

/// One of our rules in a Charging-Rule-Report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RuleReport {
    pub name: RuleName,
    pub status: Status,
    pub failure: Option<u32>,
}

impl RuleReport {
    /// For people.
    pub fn reason(&self) -> String {
        let why = match self.failure {
            Some(1) => "unknown rule name",
            Some(4) => "gateway malfunction",
            Some(5) => "resources limitation",
            Some(6) => "maximum number of bearers reached",
            Some(9) => "missing flow information",
            Some(10) => "resource allocation failure",
            Some(11) => "unsuccessful QoS validation",
            Some(12) => "incorrect flow information",
            Some(15) => "no bearer bound",
            Some(16) => "filter restrictions",
            Some(17) => "the access gateway failed",
            Some(29) => "equal activation and deactivation times",
            Some(_) => "a failure without a name",
            None => "no failure code",
        };
        let word = match self.status {
            Status::Active => "active",
            Status::Inactive => "inactive",
            Status::TemporarilyInactive => "temporarily inactive",
        };
        format!("{word}: {why} ({})", self.failure.unwrap_or(0))
    }
}

/// Our rules out of all Charging-Rule-Reports (TS 29.212 §5.3.18); others' names are passed over. Without a status
/// only a failure code says something.
pub(crate) fn rule_reports(message: &Message<'_>) -> Result<Vec<RuleReport>, Fault> {
    let mut reports = Vec::new();
    let mut names = 0;
    for (at, group) in message.all(CHARGING_RULE_REPORT).enumerate() {
        let failure = group.find(RULE_FAILURE_CODE).and_then(|avp| avp.u32());
        let status = match group.find(PCC_RULE_STATUS).and_then(|avp| avp.u32()) {
            Some(0) => Some(Status::Active),
            Some(1) => Some(Status::Inactive),
            Some(2) => Some(Status::TemporarilyInactive),
            Some(_) => return Err(Fault::at(result::INVALID_AVP_VALUE, PCC_RULE_STATUS, "0, 1 or 2")),
            None => failure.map(|_| Status::Inactive),
        };
        for name in group.children().filter(|avp| avp.key == CHARGING_RULE_NAME.key) {
            names += 1;
            if let (Some(name), Some(status)) = (RuleName::parse(name.data), status) {
                reports.push(RuleReport { name, status, failure });
            }
        }
        if at >= RULE_REPORTS_MAX || names > RULE_REPORTS_MAX {
            return Err(too_many(CHARGING_RULE_REPORT));
        }
    }
    Ok(reports)
}

/// What one of our rules used since it was last reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Used {
    pub name: RuleName,
    pub up: u64,
    pub down: u64,
    /// Said without a direction, which we never ask for.
    pub total: u64,
}

/// Our monitoring keys out of all Usage-Monitoring-Information (TS 29.212 §5.3.60).
pub(crate) fn usage_reports(message: &Message<'_>) -> Result<Vec<Used>, Fault> {
    let mut used = Vec::new();
    for (at, group) in message.all(USAGE_MONITORING_INFORMATION).enumerate() {
        if at == USAGE_REPORTS_MAX {
            return Err(too_many(USAGE_MONITORING_INFORMATION));
        }
        let Some(name) = group.find(MONITORING_KEY).and_then(|key| RuleName::parse(key.data)) else {
            continue;
        };
        let mut one = Used { name, up: 0, down: 0, total: 0 };
        for units in group.children().filter(|avp| avp.key == USED_SERVICE_UNIT.key) {
            let get = |avp: Definition| units.find(avp).and_then(|avp: Avp<'_>| avp.u64());
            let (up, down) = (get(CC_INPUT_OCTETS), get(CC_OUTPUT_OCTETS));
            one.up = one.up.saturating_add(up.unwrap_or(0));
            one.down = one.down.saturating_add(down.unwrap_or(0));
            if up.is_none() && down.is_none() {
                one.total = one.total.saturating_add(get(CC_TOTAL_OCTETS).unwrap_or(0));
            }
        }
        used.push(one);
    }
    Ok(used)
}

pub(crate) fn check_triggers(message: &Message<'_>) -> Result<(), Fault> {
    if message.all(EVENT_TRIGGER).count() > TRIGGERS_MAX { Err(too_many(EVENT_TRIGGER)) } else { Ok(()) }
}
