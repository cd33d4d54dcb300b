//! What a script asks for: one JSON object a line on standard input.

use serde::Deserialize;
use std::net::Ipv4Addr;

#[derive(Clone, PartialEq, Deserialize, Debug)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Dials, after `crash` or `disconnect`.
    Connect {},
    /// CCR-I.
    Open(Open),
    /// CCR-U.
    Update(Update),
    /// CCR-T; with the last usage.
    Close {
        session: String,
        #[serde(default)]
        usage: Vec<Usage>,
    },
    /// The last CCR again, T flag set, same end-to-end id (RFC 6733 §3).
    Repeat {},
    /// How coming RARs are answered.
    Behave(Behave),
    /// Traffic of a rule, as if its meter had counted it.
    Traffic {
        session: String,
        rule: String,
        #[serde(default)]
        up: u64,
        #[serde(default)]
        down: u64,
    },
    /// A watchdog request now.
    Watchdog {},
    /// The connection breaks; sessions stay.
    Crash {},
    /// Everything is forgotten, Origin-State-Id grows, and it dials again (RFC 6733 §8.16).
    Restart {},
    /// DPR, DPA, and the connection ends.
    Disconnect {},
    /// Says what is held.
    Show {},
    /// DPR, and the end.
    Quit {},
}

#[derive(Clone, PartialEq, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Open {
    pub imsi: String,
    #[serde(default)]
    pub msisdn: Option<String>,
    pub apn: String,
    pub address: Ipv4Addr,
    #[serde(default)]
    pub mcc_mnc: Option<String>,
    #[serde(default = "default_ambr_bps")]
    pub up_bps: u32,
    #[serde(default = "default_ambr_bps")]
    pub down_bps: u32,
    /// Further sessions count IMSI, MSISDN and address up.
    #[serde(default = "one")]
    pub count: u32,
}

const fn default_ambr_bps() -> u32 {
    100_000_000
}

const fn one() -> u32 {
    1
}

#[derive(Clone, PartialEq, Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub struct Update {
    pub session: String,
    #[serde(default)]
    pub reports: Vec<RuleReport>,
    #[serde(default)]
    pub usage: Vec<Usage>,
    /// Event-Trigger values (TS 29.212 §5.3.7).
    #[serde(default)]
    pub triggers: Vec<u32>,
    /// The network that the subscriber is in now.
    #[serde(default)]
    pub mcc_mnc: Option<String>,
}

/// PCC-Rule-Status (TS 29.212 §5.3.19).
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum RuleStatus {
    Active = 0,
    Inactive = 1,
    TemporarilyInactive = 2,
}

#[derive(Clone, PartialEq, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct RuleReport {
    pub rule: String,
    pub status: RuleStatus,
    /// Rule-Failure-Code (TS 29.212 §5.3.38).
    #[serde(default)]
    pub failure: Option<u32>,
}

#[derive(Clone, PartialEq, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    pub key: String,
    #[serde(default)]
    pub up: u64,
    #[serde(default)]
    pub down: u64,
}

#[derive(Clone, PartialEq, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Behave {
    pub rar: Answering,
    /// So many RARs; afterwards they are accepted again. Left out: until told otherwise.
    #[serde(default)]
    pub times: Option<u32>,
}

/// How a RAR is answered.
#[derive(Clone, PartialEq, Deserialize, Debug)]
#[serde(tag = "as", rename_all = "snake_case", deny_unknown_fields)]
pub enum Answering {
    Accept {},
    /// PCC_RULE_EVENT (5142) and a report INACTIVE for each rule; nothing is installed.
    Refuse {
        failure: u32,
    },
    /// A Result-Code, and nothing is installed. 5002 forgets the session too.
    Code {
        code: u32,
    },
    /// No answer; whether it was obeyed is up to the script.
    Silent {
        obeys: bool,
    },
    /// Obeyed at once, answered later.
    Late {
        ms: u64,
    },
    /// Obeyed, and answered with another Session-Id.
    WrongSession {},
}

/// Reads one line.
///
/// # Errors
/// What is wrong with it.
pub fn parse(line: &str) -> Result<Command, String> {
    let command: Command = serde_json::from_str(line).map_err(|e| e.to_string())?;
    check(&command)?;
    Ok(command)
}

fn check(command: &Command) -> Result<(), String> {
    let Command::Open(open) = command else { return Ok(()) };
    let is_digits = |text: &str| (5..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !is_digits(&open.imsi) {
        return Err("imsi: 5 to 15 digits".into());
    }
    if open.msisdn.as_deref().is_some_and(|msisdn| !is_digits(msisdn)) {
        return Err("msisdn: 5 to 15 digits".into());
    }
    if !(1..=crate::limits::OPEN_COUNT_MAX).contains(&open.count) {
        return Err(format!("count: 1 to {}", crate::limits::OPEN_COUNT_MAX));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(line: &str, expect: Expect) {
        let said = match parse(line) {
            Ok(command) => format!("{command:?}"),
            Err(error) => error,
        };
        expect.assert_eq(&said);
    }

    #[test]
    fn lines_are_commands_or_say_what_is_wrong() {
        check(r#"{"do":"show"}"#, expect!["Show"]);
        check(
            r#"{"do":"behave","rar":{"as":"refuse","failure":10},"times":1}"#,
            expect!["Behave(Behave { rar: Refuse { failure: 10 }, times: Some(1) })"],
        );
        check(
            r#"{"do":"traffic","session":"a","rule":"b","down":5}"#,
            expect![[r#"Traffic { session: "a", rule: "b", up: 0, down: 5 }"#]],
        );
        check(
            r#"{"do":"open","imsi":"99970x","apn":"internet","address":"10.0.0.1"}"#,
            expect!["imsi: 5 to 15 digits"],
        );
        check(
            r#"{"do":"open","imsi":"999700","apn":"internet","address":"10.0.0.1","count":0}"#,
            expect!["count: 1 to 100000"],
        );
        check(r#"{"do":"open","imsi":"999700","apn":"internet"}"#, expect!["missing field `address`"]);
        check(
            r#"{"do":"update","session":"a","report":[]}"#,
            expect![
                "unknown field `report`, expected one of `session`, `reports`, `usage`, `triggers`, `mcc_mnc`"
            ],
        );
        check(r#"{"do":"show","more":1}"#, expect!["unknown field `more`, there are no fields"]);
        check(
            r#"{"do":"fly"}"#,
            expect![
                "unknown variant `fly`, expected one of `connect`, `open`, `update`, `close`, `repeat`, `behave`, `traffic`, `watchdog`, `crash`, `restart`, `disconnect`, `show`, `quit` at line 1 column 11"
            ],
        );
        check("open", expect!["expected value at line 1 column 1"]);
    }
}
