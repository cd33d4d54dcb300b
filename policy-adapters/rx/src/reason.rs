//! What a PCRF's codes mean, in words for people.

use crate::limits::ERROR_TEXT_LEN_MAX;
use tollway_diameter::avp::{TGPP, ietf};
use tollway_diameter::{Message, Outcome};

/// Experimental-Result-Code on Rx (TS 29.214 §5.5).
const fn experimental(code: u32) -> Option<&'static str> {
    Some(match code {
        5061 => "invalid service information",
        5062 => "filter restrictions",
        5063 => "requested service not authorised",
        5064 => "duplicated AF session",
        5065 => "the device has no session in the network",
        5066 => "unauthorised non-emergency session",
        5067 => "unauthorised sponsored data connectivity",
        5068 => "temporary network failure",
        4261 => "requested service temporarily not authorised",
        _ => return None,
    })
}

/// Why a request was refused.
pub(crate) fn of_answer(message: &Message<'_>, outcome: Outcome) -> String {
    let mut reason = match (outcome.vendor, experimental(outcome.code)) {
        (TGPP, Some(words)) => format!("the PCRF answered {}: {words}", outcome.code),
        (_, _) => format!("the PCRF answered {}", outcome.code),
    };
    if let Some(text) = message.text(ietf::ERROR_MESSAGE) {
        let shown: String =
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(ERROR_TEXT_LEN_MAX).collect();
        reason.push_str(&format!(" ({shown})"));
    }
    reason
}

/// Abort-Cause (TS 29.214 §5.3.1).
pub(crate) fn of_abort(cause: Option<u32>) -> String {
    let words = match cause {
        None => return "the PCRF aborted the session".to_owned(),
        Some(0) => "bearer released",
        Some(1) => "insufficient server resources",
        Some(2) => "insufficient bearer resources",
        Some(3) => "handover to the circuit-switched network",
        Some(4) => "sponsored data connectivity disallowed",
        Some(5) => "failure of the gateway",
        Some(other) => return format!("the PCRF aborted the session: cause {other}"),
    };
    format!("the PCRF aborted the session: {words}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollway_diameter::{Writer, application, command};

    #[test]
    fn a_peers_text_is_bounded_and_has_no_control_characters() {
        let mut w = Writer::request(command::AA, application::RX);
        w.text(ietf::ERROR_MESSAGE, &"\u{1b}ü".repeat(ERROR_TEXT_LEN_MAX));
        let bytes = w.finish().unwrap();
        let reason = of_answer(&Message::parse(&bytes).unwrap(), Outcome { vendor: TGPP, code: 5063 });
        let text = reason.split_once(" (").unwrap().1.strip_suffix(')').unwrap();
        assert_eq!(text.chars().count(), ERROR_TEXT_LEN_MAX);
        assert!(!reason.contains('\u{1b}'));
    }

    #[test]
    fn abort_causes_have_their_words() {
        assert_eq!(of_abort(None), "the PCRF aborted the session");
        assert_eq!(of_abort(Some(0)), "the PCRF aborted the session: bearer released");
        assert_eq!(of_abort(Some(77)), "the PCRF aborted the session: cause 77");
    }
}
