//! Writes what we say: AAR (TS 29.214 §5.6.1), STR (§5.6.5), RAA (§5.6.4) and ASA (§5.6.8).

use crate::fact::{Access, Host};
use crate::filter;
use crate::rates::{self, Rates};
use crate::settings::{Pcrf, Reports};
use crate::terms::Terms;
use std::net::IpAddr;
use tollway_diameter::avp::TGPP;
use tollway_diameter::avp::ietf::{
    AUTH_APPLICATION_ID, CALLED_STATION_ID, CC_INPUT_OCTETS, CC_OUTPUT_OCTETS, DESTINATION_HOST,
    DESTINATION_REALM, FRAMED_IP_ADDRESS, FRAMED_IPV6_PREFIX, GRANTED_SERVICE_UNIT, ORIGIN_STATE_ID,
    SESSION_ID, TERMINATION_CAUSE, VENDOR_ID,
};
use tollway_diameter::avp::tgpp::{
    AF_APPLICATION_IDENTIFIER, APPLICATION_SERVICE_PROVIDER_IDENTITY, FEATURE_LIST, FEATURE_LIST_ID,
    FLOW_DESCRIPTION, FLOW_NUMBER, FLOW_STATUS, FLOW_USAGE, IP_DOMAIN_ID, MEDIA_COMPONENT_DESCRIPTION,
    MEDIA_COMPONENT_NUMBER, MEDIA_SUB_COMPONENT, MEDIA_TYPE, RX_REQUEST_TYPE, SHARING_KEY_DL, SHARING_KEY_UL,
    SPECIFIC_ACTION, SPONSOR_IDENTITY, SPONSORED_CONNECTIVITY_DATA, SUPPORTED_FEATURES,
};
use tollway_diameter::{Message, Origin, WriteError, Writer, answer, application, command};
use tollway_model::{Direction, Flow, LegId};

/// Flow-Status (TS 29.214 §5.3.11).
const ENABLED: u32 = 2;
const REMOVED: u32 = 4;
/// Flow-Usage NO_INFORMATION (TS 29.214 §5.3.12).
const NO_INFORMATION: u32 = 0;
/// DIAMETER_LOGOUT (RFC 6733 §8.15).
const LOGOUT: u32 = 1;

/// Specific-Action (TS 29.214 §5.3.13) that every PCRF is asked for: loss, recovery and release of a bearer.
const ACTIONS: [u32; 3] = [2, 3, 4];
/// And those of one that reports: out of credit, successful and failed allocation.
const ACTIONS_WITH_REPORTS: [u32; 3] = [7, 8, 9];
/// USAGE_REPORT.
const ACTION_USAGE: u32 = 11;

/// Bits of feature list 1 (TS 29.214 §5.4.1).
const REL8: u32 = 1;
const REL9: u32 = 1 << 1;
const SPONSORED_CONNECTIVITY: u32 = 1 << 3;
const RES_SHARE: u32 = 1 << 11;
/// Bits of feature list 2: Extended-Max-Requested-BW-NR, Extended-Min-Requested-BW-NR.
const EXTENDED_BW: u32 = 0b110;

/// Rx-Request-Type (TS 29.214 §5.3.31).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RequestType {
    Initial,
    Update,
}

/// What every request of ours starts with.
pub(crate) struct Envelope<'a> {
    pub origin: &'a Origin,
    pub session_id: &'a str,
    pub pcrf: &'a Pcrf,
    /// Who answered before.
    pub answered_by: Option<&'a Host>,
    /// Whether the host is named, or whoever serves the realm may answer.
    pub is_to_host: bool,
}

impl Envelope<'_> {
    fn start(&self, code: u32) -> Writer {
        let mut w = Writer::request(code, application::RX);
        w.text(SESSION_ID, self.session_id);
        w.u32(AUTH_APPLICATION_ID, application::RX);
        self.origin.write(&mut w);
        let (host, realm) = match self.answered_by {
            Some(host) => (Some(&host.host), &host.realm),
            None => (self.pcrf.host.as_ref(), &self.pcrf.realm),
        };
        w.text(DESTINATION_REALM, realm);
        if let Some(host) = host.filter(|_| self.is_to_host) {
            w.text(DESTINATION_HOST, host);
        }
        w
    }
}

/// All that a session's service is written from.
pub(crate) struct Service<'a> {
    pub leg: LegId,
    pub access: &'a Access,
    pub address: IpAddr,
    pub terms: &'a Terms,
    pub flows: &'a [Flow],
    pub direction: Direction,
    pub rates: Rates,
    pub borrow: bool,
    /// Components that the PCRF may know from before.
    pub components: u8,
    /// Whether the usage threshold is said.
    pub grants: bool,
}

impl Service<'_> {
    /// The number that the components of this leg have in common and those of no other leg of the device.
    fn sharing_key(&self) -> u32 {
        let reservation = self.leg.reservation.0 as u32;
        reservation.wrapping_mul(8).wrapping_add(self.leg.index)
    }

    /// One component a flow, each with the whole rate: any of them may carry all of it. Where there are several, the
    /// sharing key says that they have it together (TS 29.214 §4.4.9).
    fn write_components(&self, w: &mut Writer) {
        for (number, flow) in (1..).zip(self.flows) {
            w.group(MEDIA_COMPONENT_DESCRIPTION, |w| {
                w.u32(MEDIA_COMPONENT_NUMBER, number);
                w.group(MEDIA_SUB_COMPONENT, |w| {
                    w.u32(FLOW_NUMBER, 1);
                    for direction in Direction::BOTH {
                        w.text(FLOW_DESCRIPTION, &filter::description(flow, direction));
                    }
                    w.u32(FLOW_USAGE, NO_INFORMATION);
                });
                w.u32(MEDIA_TYPE, self.terms.media_type.code());
                rates::write(w, self.terms, self.rates, self.borrow);
                w.u32(FLOW_STATUS, ENABLED);
                if self.flows.len() > 1 {
                    w.u32(SHARING_KEY_UL, self.sharing_key());
                    w.u32(SHARING_KEY_DL, self.sharing_key());
                }
            });
        }
        let now = u32::try_from(self.flows.len()).unwrap_or(u32::MAX);
        for number in now.saturating_add(1)..=u32::from(self.components) {
            w.group(MEDIA_COMPONENT_DESCRIPTION, |w| {
                w.u32(MEDIA_COMPONENT_NUMBER, number);
                w.u32(FLOW_STATUS, REMOVED);
            });
        }
    }

    fn write_sponsor(&self, w: &mut Writer) {
        let Some(sponsor) = &self.terms.sponsor else { return };
        w.group(SPONSORED_CONNECTIVITY_DATA, |w| {
            w.text(SPONSOR_IDENTITY, &sponsor.sponsor);
            w.text(APPLICATION_SERVICE_PROVIDER_IDENTITY, &sponsor.provider);
            if let Some(bytes) = self.terms.usage_bytes.filter(|_| self.grants) {
                w.group(GRANTED_SERVICE_UNIT, |w| match self.direction {
                    Direction::Up => w.u64(CC_INPUT_OCTETS, bytes),
                    Direction::Down => w.u64(CC_OUTPUT_OCTETS, bytes),
                });
            }
        });
    }

    fn write_actions(&self, w: &mut Writer, pcrf: &Pcrf) {
        let with_reports: &[u32] = match pcrf.reports {
            Reports::Full => &ACTIONS_WITH_REPORTS,
            Reports::None => &[],
        };
        let usage = self.terms.usage_bytes.map(|_| ACTION_USAGE);
        let actions = ACTIONS.iter().chain(with_reports).copied().chain(usage);
        actions.for_each(|action| w.u32(SPECIFIC_ACTION, action));
    }
}

/// Feature list 1 that we offer, and of it what a leg rests on.
fn features(terms: &Terms) -> u32 {
    let sponsored = if terms.sponsor.is_some() { SPONSORED_CONNECTIVITY } else { 0 };
    REL8 | REL9 | RES_SHARE | sponsored
}

/// Whether a first AAA names the features of list 1 without which what we wait for cannot come.
pub(crate) fn has_features(answer: &Message<'_>, terms: &Terms, reports: Reports) -> bool {
    let rel8 = match reports {
        Reports::Full => REL8,
        Reports::None => 0,
    };
    let needed = rel8 | (features(terms) & SPONSORED_CONNECTIVITY);
    let list = answer
        .all(SUPPORTED_FEATURES)
        .filter(|group| group.find(FEATURE_LIST_ID).and_then(|avp| avp.u32()) == Some(1))
        .find_map(|group| group.find(FEATURE_LIST)?.u32());
    list.unwrap_or(0) & needed == needed
}

fn write_features(w: &mut Writer, id: u32, list: u32) {
    w.group(SUPPORTED_FEATURES, |w| {
        w.u32(VENDOR_ID, TGPP);
        w.u32(FEATURE_LIST_ID, id);
        w.u32(FEATURE_LIST, list);
    });
}

/// The address in full: 4 bytes, or a prefix of 128 bits (TS 29.214 §4.4.1; RFC 7155 §4.4.10.5).
fn write_address(w: &mut Writer, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => w.octets(FRAMED_IP_ADDRESS, &v4.octets()),
        IpAddr::V6(v6) => {
            let mut prefix = [0; 18];
            prefix[1] = 128;
            prefix[2..].copy_from_slice(&v6.octets());
            w.octets(FRAMED_IPV6_PREFIX, &prefix);
        }
    }
}

/// AAR: the whole service, each time.
pub(crate) fn service(
    envelope: &Envelope<'_>,
    kind: RequestType,
    service: &Service<'_>,
) -> Result<Vec<u8>, WriteError> {
    let mut w = envelope.start(command::AA);
    if let Some(domain) = &service.access.ip_domain {
        w.text(IP_DOMAIN_ID, domain);
    }
    if let Some(name) = &service.terms.application {
        w.text(AF_APPLICATION_IDENTIFIER, name);
    }
    service.write_components(&mut w);
    if kind == RequestType::Initial {
        // Only a first AAR may ask for lasting notifications (TS 29.214 §5.3.13).
        service.write_actions(&mut w, envelope.pcrf);
        write_features(&mut w, 1, features(service.terms));
        if envelope.pcrf.takes_extended_bw {
            write_features(&mut w, 2, EXTENDED_BW);
        }
    }
    write_address(&mut w, service.address);
    if let Some(apn) = &service.access.apn {
        w.text(CALLED_STATION_ID, apn);
    }
    service.write_sponsor(&mut w);
    w.u32(
        RX_REQUEST_TYPE,
        match kind {
            RequestType::Initial => 0,
            RequestType::Update => 1,
        },
    );
    w.u32(ORIGIN_STATE_ID, envelope.origin.state_id);
    w.finish()
}

/// STR.
pub(crate) fn end(envelope: &Envelope<'_>) -> Result<Vec<u8>, WriteError> {
    let mut w = envelope.start(command::SESSION_TERMINATION);
    w.u32(TERMINATION_CAUSE, LOGOUT);
    w.u32(ORIGIN_STATE_ID, envelope.origin.state_id);
    w.finish()
}

/// RAA or ASA that takes what was said.
pub(crate) fn taken(request: &Message<'_>, origin: &Origin) -> Result<Vec<u8>, WriteError> {
    let mut w = answer::answer_with(request, origin, tollway_diameter::result::SUCCESS);
    w.u32(ORIGIN_STATE_ID, origin.state_id);
    w.finish()
}
