//! What happened: one JSON object a line on standard output.

use crate::rule::{Rates, Rule};
use serde::Serialize;

#[derive(Clone, PartialEq, Serialize, Debug)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// CEA 2001.
    Connected {
        host: String,
        realm: String,
        state_id: u32,
    },
    /// Another CEA.
    Rejected {
        code: u32,
    },
    Disconnected {
        why: String,
    },
    /// A CCR has left; here its session is named first.
    Asked {
        session: String,
        kind: u32,
        number: u32,
        is_repeat: bool,
    },
    /// Its answer came. Vendor 0 is Result-Code, 10415 Experimental-Result.
    Answered {
        session: String,
        kind: u32,
        number: u32,
        vendor: u32,
        code: u32,
        installed: Vec<String>,
        removed: Vec<String>,
    },
    /// A RAR came, and so it is answered; code 0: not at all.
    Pushed {
        session: String,
        installed: Vec<String>,
        removed: Vec<String>,
        is_repeat: bool,
        vendor: u32,
        code: u32,
    },
    /// A rule holds from now on, or with what it says now.
    Active {
        session: String,
        rule: String,
        max: Rates,
        guaranteed: Rates,
    },
    /// It holds no more: taken away, its time is over, or its session is.
    Gone {
        session: String,
        rule: String,
        why: &'static str,
    },
    /// The other side answered a watchdog request.
    Watched {},
    /// What is held.
    Held {
        sessions: Vec<Held>,
    },
    /// A message that was not expected or cannot be read.
    Odd {
        what: String,
    },
    /// A command that cannot be done; nothing was.
    Problem {
        what: String,
    },
    /// The kernel did not take a rule.
    NotEnforced {
        session: String,
        rule: String,
        what: String,
    },
}

#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct Held {
    pub session: String,
    pub imsi: String,
    pub apn: String,
    pub rules: Vec<Rule>,
}
