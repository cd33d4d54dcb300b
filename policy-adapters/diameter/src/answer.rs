//! Answers: what RFC 6733 §6.2 says must be in each, and the ones that refuse (§7).

use crate::avp::ietf::{
    ERROR_MESSAGE, EXPERIMENTAL_RESULT, EXPERIMENTAL_RESULT_CODE, FAILED_AVP, ORIGIN_HOST, ORIGIN_REALM,
    ORIGIN_STATE_ID, PROXY_INFO, RESULT_CODE, SESSION_ID, VENDOR_ID,
};
use crate::avp::{FLAG_MANDATORY, FLAG_PROTECTED, FLAG_VENDOR, IETF};
use crate::error::{Error, Offender, result};
use crate::limits::{FAILED_AVP_LEN_MAX, PROXY_INFO_MAX};
use crate::message::{FLAG_ERROR, FLAG_PROXIABLE, Header, Message, Outcome};
use crate::writer::Writer;

/// Who we are on the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    pub host: String,
    pub realm: String,
    /// Grows with each start that lost its sessions (RFC 6733 §8.16).
    pub state_id: u32,
}

impl Origin {
    /// Origin-Host and Origin-Realm.
    pub fn write(&self, writer: &mut Writer) {
        writer.text(ORIGIN_HOST, &self.host);
        writer.text(ORIGIN_REALM, &self.realm);
    }

    /// The same with Origin-State-Id.
    pub fn write_with_state(&self, writer: &mut Writer) {
        self.write(writer);
        writer.u32(ORIGIN_STATE_ID, self.state_id);
    }
}

/// Starts the answer to a request: header, Session-Id, result, origin, Proxy-Info in its order. An outcome with a
/// vendor goes into Experimental-Result (RFC 6733 §7.6).
pub fn answer(request: &Message<'_>, origin: &Origin, outcome: Outcome) -> Writer {
    let mut writer = Writer::new(answer_header(&request.header, outcome));
    if let Some(session) = request.find(SESSION_ID) {
        writer.copy(&session);
    }
    write_outcome(&mut writer, outcome);
    origin.write(&mut writer);
    for avp in request.all(PROXY_INFO).take(PROXY_INFO_MAX) {
        writer.copy(&avp);
    }
    writer
}

/// [`answer`] with a Result-Code.
pub fn answer_with(request: &Message<'_>, origin: &Origin, code: u32) -> Writer {
    answer(request, origin, Outcome { vendor: IETF, code })
}

/// The whole answer to a request that is not taken; it always fits.
pub fn refuse(request: &Message<'_>, origin: &Origin, error: &Error) -> Vec<u8> {
    let mut writer = answer_with(request, origin, error.result_code());
    writer.text(ERROR_MESSAGE, &error.to_string());
    if let Some(offender) = error.offender() {
        write_failed(&mut writer, request.bytes(), &offender);
    }
    finish_or_bare(writer, request, origin, error.result_code())
}

/// A refusal without an AVP to blame.
pub fn refuse_with(request: &Message<'_>, origin: &Origin, code: u32, why: &str) -> Vec<u8> {
    let mut writer = answer_with(request, origin, code);
    writer.text(ERROR_MESSAGE, why);
    finish_or_bare(writer, request, origin, code)
}

/// A request full of Proxy-Info may leave no room for what else an answer has; then only the origin is sent.
fn finish_or_bare(writer: Writer, request: &Message<'_>, origin: &Origin, code: u32) -> Vec<u8> {
    let outcome = Outcome { vendor: IETF, code };
    writer.finish().unwrap_or_else(|_| {
        let mut bare = Writer::new(answer_header(&request.header, outcome));
        write_outcome(&mut bare, outcome);
        origin.write(&mut bare);
        bare.finish().expect("two names of a configured length fit")
    })
}

fn answer_header(request: &Header, outcome: Outcome) -> Header {
    let is_error = outcome.vendor == IETF && result::is_protocol_error(outcome.code);
    let error = if is_error { FLAG_ERROR } else { 0 };
    Header { flags: (request.flags & FLAG_PROXIABLE) | error, ..*request }
}

fn write_outcome(writer: &mut Writer, outcome: Outcome) {
    if outcome.vendor == IETF {
        writer.u32(RESULT_CODE, outcome.code);
    } else {
        writer.group(EXPERIMENTAL_RESULT, |w| {
            w.u32(VENDOR_ID, outcome.vendor);
            w.u32(EXPERIMENTAL_RESULT_CODE, outcome.code);
        });
    }
}

/// Failed-AVP (RFC 6733 §7.5): the AVP as it came; where its length was the fault, where it was absent, and where
/// it is long, its header over zeros of the least length of its type.
fn write_failed(writer: &mut Writer, request: &[u8], offender: &Offender) {
    if offender.key.code == 0 {
        return;
    }
    let len = offender.len as usize;
    let known = crate::avp::definition(offender.key);
    let (min, max) = known.map_or((0, FAILED_AVP_LEN_MAX), |known| known.kind.len_range());
    let data = request.get(offender.at as usize..).and_then(|rest| rest.get(..len));
    let data = data.filter(|data| len <= FAILED_AVP_LEN_MAX && (min..=max).contains(&data.len()));
    let group = writer.open(FAILED_AVP);
    let flags = offender.flags & (FLAG_VENDOR | FLAG_MANDATORY | FLAG_PROTECTED);
    writer.raw(offender.key, flags, data.unwrap_or(&[0; 8][..min.min(8)]));
    writer.close(group);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avp::{Key, ietf, tgpp};
    use crate::check;
    use crate::message::{application, command};

    fn origin() -> Origin {
        Origin { host: "pcrf.example".into(), realm: "example".into(), state_id: 3 }
    }

    #[test]
    fn a_refusal_names_the_avp_and_keeps_the_route() {
        let mut w = Writer::request(command::CREDIT_CONTROL, application::GX);
        w.text(SESSION_ID, "s;1;2");
        w.group(PROXY_INFO, |w| {
            w.text(ietf::PROXY_HOST, "relay.example");
            w.octets(ietf::PROXY_STATE, &[1, 2]);
        });
        w.raw(Key { vendor: 9, code: 77 }, 0xc0, b"why");
        let mut bytes = w.finish().unwrap();
        crate::message::set_hop_by_hop(&mut bytes, 5);
        let request = Message::parse(&bytes).unwrap();
        let error = check::request(&request, &[application::GX]).unwrap_err();
        let answer = refuse(&request, &origin(), &error);
        let answer = Message::parse(&answer).unwrap();
        assert_eq!((answer.header.flags, answer.header.hop_by_hop), (0x40, 5));
        assert_eq!(answer.result(), Some(Outcome { vendor: 0, code: 5001 }));
        assert_eq!(answer.text(SESSION_ID), Some("s;1;2"));
        assert_eq!(answer.find(PROXY_INFO).map(|a| a.data), request.find(PROXY_INFO).map(|a| a.data));
        let failed = answer.find(FAILED_AVP).unwrap().children().next().unwrap();
        assert_eq!((failed.key.code, failed.data), (77, &b"why"[..]));
        assert_eq!(check::avps(&answer), Ok(()));
    }

    #[test]
    fn what_is_sent_back_is_bounded() {
        let mut w = Writer::request(command::CREDIT_CONTROL, application::GX);
        for _ in 0..2 * PROXY_INFO_MAX {
            w.group(PROXY_INFO, |w| w.octets(ietf::PROXY_STATE, &[0; 1_000]));
        }
        w.raw(Key { vendor: 9, code: 77 }, 0xc0, &[7; FAILED_AVP_LEN_MAX + 1]);
        let bytes = w.finish().unwrap();
        let request = Message::parse(&bytes).unwrap();
        let error = check::request(&request, &[application::GX]).unwrap_err();
        let answer = refuse(&request, &origin(), &error);
        let answer = Message::parse(&answer).unwrap();
        assert_eq!(answer.all(PROXY_INFO).count(), PROXY_INFO_MAX);
        assert_eq!(answer.find(FAILED_AVP).unwrap().children().next().map(|avp| avp.data), Some(&[][..]));
        // Session-Id and Proxy-Info that leave no room: the bare answer.
        let mut w = Writer::request(command::CREDIT_CONTROL, application::GX);
        w.group(PROXY_INFO, |w| w.octets(ietf::PROXY_STATE, &[0; 65_480]));
        let bytes = w.finish().unwrap();
        let answer = refuse_with(&Message::parse(&bytes).unwrap(), &origin(), result::TOO_BUSY, "busy");
        let answer = Message::parse(&answer).unwrap();
        assert_eq!((answer.avps().count(), answer.u32(RESULT_CODE)), (3, Some(result::TOO_BUSY)));
    }

    #[test]
    fn protocol_errors_have_the_e_bit_and_absent_avps_an_example() {
        let w = Writer::request(command::CREDIT_CONTROL, application::RX);
        let bytes = w.finish().unwrap();
        let request = Message::parse(&bytes).unwrap();
        let error = check::request(&request, &[application::GX]).unwrap_err();
        let answer = refuse(&request, &origin(), &error);
        assert_eq!(Message::parse(&answer).unwrap().header.flags, 0x60);
        let answer = refuse(&request, &origin(), &Error::Missing(Offender::absent(tgpp::AN_GW_ADDRESS.key)));
        let answer = Message::parse(&answer).unwrap();
        let failed = answer.find(FAILED_AVP).unwrap().children().next().unwrap();
        assert_eq!((failed.key, failed.data), (tgpp::AN_GW_ADDRESS.key, &[0, 0, 0][..]));
        let experimental = Outcome { vendor: 10_415, code: 5142 };
        let answer = super::answer(&request, &origin(), experimental).finish().unwrap();
        let answer = Message::parse(&answer).unwrap();
        assert_eq!(answer.result(), Some(experimental));
        assert!(!answer.header.is_error());
    }
}
