//! Codes of the wire as an operator knows them.

use tollway_diameter::counters::Counters;
use tollway_diameter::{Outcome, command};

/// A command by its request's short name; one without is its number.
pub fn command_name(code: u32) -> String {
    match code {
        command::CAPABILITIES_EXCHANGE => "CER".to_owned(),
        command::RE_AUTH => "RAR".to_owned(),
        command::AA => "AAR".to_owned(),
        command::CREDIT_CONTROL => "CCR".to_owned(),
        command::ABORT_SESSION => "ASR".to_owned(),
        command::SESSION_TERMINATION => "STR".to_owned(),
        command::DEVICE_WATCHDOG => "DWR".to_owned(),
        command::DISCONNECT_PEER => "DPR".to_owned(),
        other => other.to_string(),
    }
}

/// `2001`, or `10415/5140` for a vendor's.
pub fn outcome_name(outcome: Outcome) -> String {
    match outcome.vendor {
        0 => outcome.code.to_string(),
        vendor => format!("{vendor}/{}", outcome.code),
    }
}

/// What befell a peer, by name.
pub fn befell(counters: &Counters) -> [(&'static str, u64); 13] {
    let watchdogs = counters.watchdogs;
    [
        ("opened", counters.opened),
        ("lost", counters.lost),
        ("refused", counters.refused),
        ("retransmitted", counters.retransmitted),
        ("duplicates", counters.duplicates),
        ("timeouts", counters.timeouts),
        ("late", counters.late),
        ("malformed", counters.malformed),
        ("busy", counters.busy),
        ("watchdogs_sent", watchdogs.requests_out),
        ("watchdogs_answered", watchdogs.answers_in),
        ("watchdogs_heard", watchdogs.requests_in),
        ("failovers", watchdogs.failovers),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_names() {
        assert_eq!(command_name(272), "CCR");
        assert_eq!(command_name(99), "99");
        assert_eq!(outcome_name(Outcome { vendor: 0, code: 2001 }), "2001");
        assert_eq!(outcome_name(Outcome { vendor: 10_415, code: 5_140 }), "10415/5140");
    }
}
