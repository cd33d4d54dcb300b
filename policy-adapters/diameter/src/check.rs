//! Judges a parsed message by the dictionary and the grammar. Nothing is allocated and nothing recurses: groups
//! are walked with a fixed stack.

use crate::avp::{Avp, Kind, Walk, ietf};
use crate::error::{Error, Offender};
use crate::grammar::{self, Command, Rule};
use crate::limits::{DEPTH_MAX, IDENTITY_LEN_MAX};
use crate::message::{Header, Message, application};

/// Rules of one command; the tables are shorter, a test holds it.
const RULES_MAX: usize = 16;

/// Everything about a request, in the order in which RFC 6733 §6.1 looks: header, application, command, AVPs,
/// grammar. `applications` are those we serve.
///
/// # Errors
/// The first thing wrong, with the Result-Code to answer.
pub fn request(message: &Message<'_>, applications: &[u32]) -> Result<&'static Command, Error> {
    let header = &message.header;
    if header.is_error() {
        return Err(Error::HeaderFlags(header.flags));
    }
    if header.application != application::BASE && !applications.contains(&header.application) {
        return Err(Error::Application(header.application));
    }
    let command = grammar::find(header.application, header.command).ok_or(Error::Command(header.command))?;
    flags(header, command)?;
    avps(message)?;
    self::grammar(message, command.request)?;
    Ok(command)
}

/// The P flag must be as the command defines it (RFC 6733 §3, §7.1.3).
fn flags(header: &Header, command: &Command) -> Result<(), Error> {
    if header.is_proxiable() == command.is_proxiable { Ok(()) } else { Err(Error::HeaderFlags(header.flags)) }
}

/// Every AVP at every depth: lengths, values, and in requests the M bit of what is unknown.
///
/// # Errors
/// 3009, 5001 (requests only), 5004, 5014.
pub fn avps(message: &Message<'_>) -> Result<(), Error> {
    let is_request = message.is_request();
    let mut levels = [Walk::new(&[], 0); DEPTH_MAX];
    levels[0] = message.walk();
    let mut depth = 0;
    loop {
        let Some(next) = levels[depth].next() else {
            if depth == 0 {
                return Ok(());
            }
            depth -= 1;
            continue;
        };
        let avp = next?;
        let Some(known) = avp.definition() else {
            if is_request && avp.is_mandatory() {
                return Err(Error::Unknown(avp.offender()));
            }
            continue;
        };
        value(&avp, known.kind)?;
        // Failed-AVP holds what somebody found faulty; looking into it would find the fault again.
        if known.kind == Kind::Grouped && avp.key != ietf::FAILED_AVP.key && !avp.data.is_empty() {
            depth += 1;
            if depth == DEPTH_MAX {
                return Err(Error::Depth(avp.offender()));
            }
            levels[depth] = avp.walk();
        }
    }
}

/// Length and content of one known value (RFC 6733 §4.2, §4.3).
fn value(avp: &Avp<'_>, kind: Kind) -> Result<(), Error> {
    let (min, max) = kind.len_range();
    if avp.data.len() < min || avp.data.len() > max {
        return Err(Error::AvpLength(avp.offender()));
    }
    let is_good = match kind {
        Kind::Utf8String | Kind::Uri | Kind::FilterRule => std::str::from_utf8(avp.data).is_ok(),
        Kind::Identity => is_identity(avp.data),
        Kind::Address => match avp.data {
            [0, 1, v4 @ ..] if v4.len() != 4 => return Err(Error::AvpLength(avp.offender())),
            [0, 2, v6 @ ..] if v6.len() != 16 => return Err(Error::AvpLength(avp.offender())),
            _ => true,
        },
        Kind::OctetString
        | Kind::Integer32
        | Kind::Integer64
        | Kind::Unsigned32
        | Kind::Unsigned64
        | Kind::Enumerated
        | Kind::Grouped
        | Kind::Time => true,
    };
    if is_good { Ok(()) } else { Err(Error::Value(avp.offender())) }
}

/// A name that may be compared and logged: visible ASCII, as an FQDN is (RFC 6733 §4.3.1).
pub fn is_identity(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= IDENTITY_LEN_MAX && name.iter().all(u8::is_ascii_graphic)
}

/// How often each AVP stands at the top.
///
/// # Errors
/// 5005, 5008, 5009.
pub fn grammar(message: &Message<'_>, rules: &[Rule]) -> Result<(), Error> {
    let mut counts = [0u8; RULES_MAX];
    for avp in message.avps() {
        let Some(at) = rules.iter().position(|rule| rule.key == avp.key) else { continue };
        if rules[at].max == 0 {
            return Err(Error::NotAllowed(avp.offender()));
        }
        counts[at] = counts[at].saturating_add(1);
        if counts[at] > rules[at].max {
            return Err(Error::TooMany(avp.offender()));
        }
    }
    match rules.iter().zip(counts).find(|(rule, count)| *count < rule.min) {
        Some((rule, _)) => Err(Error::Missing(Offender::absent(rule.key))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avp::{FLAG_MANDATORY, Key, tgpp};
    use crate::message::command;
    use crate::writer::Writer;

    fn ccr(change: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::request(command::CREDIT_CONTROL, application::GX);
        writer.text(ietf::SESSION_ID, "pcef;1;1");
        writer.u32(ietf::AUTH_APPLICATION_ID, application::GX);
        writer.text(ietf::ORIGIN_HOST, "pcef.example");
        writer.text(ietf::ORIGIN_REALM, "example");
        writer.text(ietf::DESTINATION_REALM, "example");
        writer.u32(ietf::CC_REQUEST_TYPE, 1);
        writer.u32(ietf::CC_REQUEST_NUMBER, 0);
        change(&mut writer);
        writer.finish().unwrap()
    }

    fn code(bytes: &[u8]) -> u32 {
        let message = Message::parse(bytes).unwrap();
        request(&message, &[application::GX]).map_or_else(|e| e.result_code(), |_| 2001)
    }

    fn with_byte(at: usize, byte: u8) -> Vec<u8> {
        let mut bytes = ccr(|_| ());
        bytes[at] = byte;
        bytes
    }

    #[test]
    fn each_fault_has_its_code() {
        assert!(grammar::COMMANDS.iter().all(|c| c.request.len() <= RULES_MAX));
        let unknown = Key { vendor: 9_999, code: 1 };
        let deep = ccr(|w| {
            let groups: Vec<_> = (0..8).map(|_| w.open(ietf::SUBSCRIPTION_ID)).collect();
            groups.into_iter().rev().for_each(|group| w.close(group));
        });
        let very_deep = {
            let mut bytes = deep.clone();
            let inner = [0, 0, 1, 187, 0x40, 0, 0, 8];
            let at = bytes.len() - 64;
            for (level, chunk) in bytes[at..].as_chunks_mut::<8>().0.iter_mut().enumerate() {
                chunk[7] = 72 - 8 * level as u8;
            }
            bytes.extend(inner);
            bytes[3] += 8;
            bytes
        };
        for (what, bytes, expected) in [
            ("good", ccr(|_| ()), 2001),
            ("unknown, M clear", ccr(|w| w.raw(unknown, 0x80, b"x")), 2001),
            ("unknown, M set", ccr(|w| w.raw(unknown, 0x80 | FLAG_MANDATORY, b"x")), 5001),
            (
                "3GPP's 8 is not Framed-IP-Address",
                ccr(|w| w.raw(Key { vendor: 10_415, code: 8 }, 0x80, b"x")),
                2001,
            ),
            ("E and R", with_byte(4, 0xe0), 3008),
            ("P clear", with_byte(4, 0x80), 3008),
            ("reserved header bits are ignored", with_byte(4, 0xcf), 2001),
            ("application", with_byte(11, 0), 3007),
            ("command", with_byte(7, 0), 3001),
            ("Unsigned32 of 3", ccr(|w| w.raw(ietf::ORIGIN_STATE_ID.key, 0x40, b"abc")), 5014),
            ("not UTF-8", ccr(|w| w.raw(ietf::CALLED_STATION_ID.key, 0x40, &[0xff])), 5004),
            ("Address of no family", ccr(|w| w.raw(tgpp::AN_GW_ADDRESS.key, 0x80, &[0, 1, 1])), 5014),
            ("name with a blank", ccr(|w| w.raw(ietf::DESTINATION_HOST.key, 0x40, b"a b")), 5004),
            ("twice", ccr(|w| w.u32(ietf::CC_REQUEST_TYPE, 1)), 5009),
            ("empty groups 8 deep", deep, 2001),
            ("groups 9 deep", very_deep, 5004),
        ] {
            assert_eq!(code(&bytes), expected, "{what}");
        }
        let mut writer = Writer::request(command::CREDIT_CONTROL, application::GX);
        writer.text(ietf::SESSION_ID, "1");
        assert_eq!(code(&writer.finish().unwrap()), 5005);
        let mut writer = Writer::request(command::DEVICE_WATCHDOG, application::BASE);
        writer.text(ietf::SESSION_ID, "1");
        assert_eq!(code(&writer.finish().unwrap()), 5008);
    }
}
