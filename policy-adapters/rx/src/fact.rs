//! What the machine says: facts to be made durable, and messages that may leave once they are.

use crate::limits::TEXT_LEN_MAX;
use crate::rates::Rates;
use std::net::IpAddr;
use tollway_diameter::machine::RequestId;
use tollway_model::LegId;
use tollway_policy::{PolicyReport, SlotReading};

/// Numbers facts in the order in which they were made; 0 is before the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Mark(pub u64);

/// Names a request of a PCRF until it is answered; the shell knows which of the node's it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Token(pub u64);

/// Where a leg's device is known.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Access {
    /// A PCRF of the settings.
    pub pcrf: String,
    /// Called-Station-Id, where the PCRF needs it to find the device's session.
    pub apn: Option<String>,
    /// IP-Domain-Id, where addresses are used twice (TS 29.214 §5.3.35).
    pub ip_domain: Option<String>,
}

impl Access {
    /// What of it cannot be said.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let is_text = |text: &Option<String>| {
            text.as_deref().is_none_or(|text| !text.is_empty() && text.len() <= TEXT_LEN_MAX)
        };
        let is_good = is_text(&self.apn) && is_text(&self.ip_domain);
        (!is_good).then_some("the access's APN or IP domain has no name, or one of more than 100 bytes")
    }
}

/// A PCRF's names on the wire.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Host {
    pub host: String,
    pub realm: String,
}

/// One AF session. What is known of it after a restart is this and nothing else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AfSession {
    pub session_id: String,
    pub leg: LegId,
    pub access: Access,
    /// The device's address, which the PCRF binds the session by.
    pub address: IpAddr,
    /// Who answered the first AAR; `None` until then.
    pub answered_by: Option<Host>,
    /// Media components that the PCRF may know: numbers from 1 to this.
    pub components: u8,
    /// End-to-end ids of the latest usage reports that were counted.
    pub usage_seen: Vec<u32>,
}

/// Why a session is no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// STA, or never sent.
    Ended,
    /// Its first AAR was refused.
    Refused,
    /// The PCRF answered 5002.
    Unknown,
    /// The PCRF restarted (Origin-State-Id).
    Restarted,
    /// STRs were refused too often.
    GivenUp,
}

impl Closed {
    pub const fn as_str(self) -> &'static str {
        match self {
            Closed::Ended => "the session ended",
            Closed::Refused => "the PCRF refused the session",
            Closed::Unknown => "the PCRF does not know the session",
            Closed::Restarted => "the PCRF restarted",
            Closed::GivenUp => "the PCRF refused to end the session",
        }
    }
}

/// Whether `Active` can ever come for a leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Certainty {
    /// The PCRF reports.
    Reported,
    /// It does not: accepted is the most that will be known, and that must be said on.
    Unconfirmed,
}

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    Opened(AfSession),
    /// The same session, answered by another host, or with other components or usage.
    Changed(AfSession),
    Closed {
        session_id: String,
        why: Closed,
    },
    Leg {
        leg: LegId,
        attempt: u32,
        report: PolicyReport,
        certainty: Certainty,
        /// With a refusal: what the PCRF would authorise, in IP bit/s, for a counter-offer.
        acceptable_bps: Option<Rates>,
    },
    Usage(SlotReading),
}

/// What the driver carries out, in this order. `after`: it leaves when that fact, and with it all before, is
/// durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    Fact { mark: Mark, fact: Fact },
    Answer { after: Mark, token: Token, bytes: Vec<u8> },
    Request { after: Mark, id: RequestId, bytes: Vec<u8>, timeout_ms: u64 },
}
