//! Messages by the crate `diameter`, AVPs by their names.

use diameter::avp::{self, Avp, AvpType, AvpValue, Grouped};
use diameter::dictionary::{AvpDefinition, DEFAULT_DICT_XML, Dictionary};
use diameter::{ApplicationId, CommandCode, DiameterMessage, flags};
use std::io::Cursor;
use std::net::IpAddr;
use std::sync::Arc;

/// 3GPP's number, for its AVPs and result codes.
pub const TGPP: u32 = 10_415;
/// Gx's application (TS 29.212 §5.1).
pub const GX: u32 = 16_777_238;

/// What Wireshark knows of Gx; the crate's own dictionary stops at RFC 4006.
const LIST: &str = include_str!("../../../tests/fixtures/gx/avps.tsv");

fn avp_type(name: &str, text: &str) -> AvpType {
    match (name, text) {
        // Four plain bytes, whatever Wireshark shows (RFC 7155 §4.4.10.5.1).
        ("Framed-IP-Address", _) | (_, "OctetString" | "OctetStringOrUTF8") => AvpType::OctetString,
        (_, "Unsigned32" | "AppId") => AvpType::Unsigned32,
        (_, "Unsigned64") => AvpType::Unsigned64,
        (_, "Enumerated") => AvpType::Enumerated,
        (_, "Grouped") => AvpType::Grouped,
        (_, "IPAddress") => AvpType::Address,
        (_, "Time") => AvpType::Time,
        (_, "UTF8String" | "IPFilterRule") => AvpType::UTF8String,
        (_, "DiameterIdentity") => AvpType::Identity,
        (_, other) => panic!("avps.tsv: {name} has the type {other}, which is not known here"),
    }
}

/// The crate's dictionary with Gx in it.
pub fn dictionary() -> Dictionary {
    let mut dictionary = Dictionary::new(&[&DEFAULT_DICT_XML]);
    for line in LIST.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [code, vendor, name, kind, mandatory, ..] = fields[..] else { continue };
        let (Ok(code), Ok(vendor)) = (code.parse(), vendor.parse::<u32>()) else { continue };
        let vendor_id = (vendor != 0).then_some(vendor);
        if dictionary.get_avp(code, vendor_id).is_none() {
            dictionary.add_avp(AvpDefinition {
                code,
                vendor_id,
                name: name.to_owned(),
                avp_type: avp_type(name, kind),
                m_flag: mandatory == "must",
            });
        }
    }
    dictionary
}

/// Members of a message or a group, being written.
pub struct Fields {
    dictionary: Arc<Dictionary>,
    avps: Vec<Avp>,
}

impl Fields {
    fn put(&mut self, name: &str, value: AvpValue) {
        let avp = Avp::from_name(name, value, Arc::clone(&self.dictionary));
        self.avps.push(avp.expect("every AVP that is sent is in the dictionary"));
    }

    fn kind(&self, name: &str) -> AvpType {
        let known = self.dictionary.get_avp_by_name(name);
        known.expect("every AVP that is sent is in the dictionary").avp_type
    }

    pub fn text(&mut self, name: &str, text: &str) {
        let value = if self.kind(name) == AvpType::OctetString {
            avp::OctetString::new(text.as_bytes().to_vec()).into()
        } else if self.kind(name) == AvpType::Identity {
            avp::Identity::new(text).into()
        } else {
            avp::UTF8String::new(text).into()
        };
        self.put(name, value);
    }

    pub fn number(&mut self, name: &str, number: u32) {
        let value = if self.kind(name) == AvpType::Enumerated {
            avp::Enumerated::new(number.cast_signed()).into()
        } else {
            avp::Unsigned32::new(number).into()
        };
        self.put(name, value);
    }

    pub fn wide(&mut self, name: &str, number: u64) {
        self.put(name, avp::Unsigned64::new(number).into());
    }

    pub fn octets(&mut self, name: &str, octets: &[u8]) {
        self.put(name, avp::OctetString::new(octets.to_vec()).into());
    }

    pub fn address(&mut self, name: &str, address: IpAddr) {
        let value = match address {
            IpAddr::V4(v4) => avp::Address::from_ipv4(v4),
            IpAddr::V6(v6) => avp::Address::from_ipv6(v6),
        };
        self.put(name, value.into());
    }

    /// Seconds since 1970. Read from bytes, since the crate's own way needs the calendar crate that it uses.
    pub fn time(&mut self, name: &str, unix_s: u32) {
        // Seconds since 1900 (RFC 6733 §4.3.1).
        let since_1900 = u64::from(unix_s) + 2_208_988_800;
        let mut bytes = Cursor::new(since_1900.to_be_bytes()[4..].to_vec());
        let time = avp::Time::decode_from(&mut bytes).expect("four bytes are a time");
        self.put(name, time.into());
    }

    pub fn group(&mut self, name: &str, fill: impl FnOnce(&mut Fields)) {
        let mut fields = Fields { dictionary: Arc::clone(&self.dictionary), avps: Vec::new() };
        fill(&mut fields);
        let group = Grouped::new(fields.avps, Arc::clone(&self.dictionary));
        self.put(name, group.into());
    }
}

/// Ids and flags of a message.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Head {
    pub command: CommandCode,
    pub application: ApplicationId,
    pub flags: u8,
    pub hop_by_hop: u32,
    pub end_to_end: u32,
}

impl Head {
    pub fn is_request(&self) -> bool {
        self.flags & flags::REQUEST != 0
    }

    /// Of the answer to this request.
    pub fn answer(self, is_error: bool) -> Head {
        let error = if is_error { flags::ERROR } else { 0 };
        Head { flags: (self.flags & flags::PROXYABLE) | error, ..self }
    }
}

/// Encodes a message.
pub fn encode(dictionary: &Arc<Dictionary>, head: Head, fill: impl FnOnce(&mut Fields)) -> Vec<u8> {
    let mut message = DiameterMessage::new(
        head.command,
        head.application,
        head.flags,
        head.hop_by_hop,
        head.end_to_end,
        Arc::clone(dictionary),
    );
    let mut fields = Fields { dictionary: Arc::clone(dictionary), avps: Vec::new() };
    fill(&mut fields);
    fields.avps.into_iter().for_each(|avp| message.add(avp));
    let mut bytes = Vec::new();
    message.encode_to(&mut bytes).expect("a buffer in memory takes everything");
    bytes
}

/// A message that was read.
#[derive(Debug)]
pub struct Message {
    pub head: Head,
    inner: DiameterMessage,
    dictionary: Arc<Dictionary>,
}

/// Why a frame is no message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Frame(#[from] crate::frame::Error),
    #[error("the decoder: {0}")]
    Decode(String),
}

impl Message {
    /// # Errors
    /// Lengths that lie, and everything that the crate does not know: commands, applications, AVPs.
    pub fn decode(frame: &[u8], dictionary: &Arc<Dictionary>) -> Result<Message, Error> {
        crate::frame::check(frame, dictionary)?;
        let inner = DiameterMessage::decode_from(&mut Cursor::new(frame), Arc::clone(dictionary));
        let inner = inner.map_err(|e| Error::Decode(e.to_string()))?;
        let head = Head {
            command: inner.get_command_code(),
            application: inner.get_application_id(),
            flags: inner.get_flags(),
            hop_by_hop: inner.get_hop_by_hop_id(),
            end_to_end: inner.get_end_to_end_id(),
        };
        Ok(Message { head, inner, dictionary: Arc::clone(dictionary) })
    }

    pub fn view(&self) -> View<'_> {
        View { dictionary: &self.dictionary, avps: self.inner.get_avps() }
    }

    /// `(vendor, code)` of Result-Code or Experimental-Result.
    pub fn result(&self) -> Option<(u32, u32)> {
        let view = self.view();
        let experimental = || {
            let group = view.groups("Experimental-Result").next()?;
            Some((group.number("Vendor-Id")?, group.number("Experimental-Result-Code")?))
        };
        view.number("Result-Code").map(|code| (0, code)).or_else(experimental)
    }
}

/// Members of a message or a group, to be read.
#[derive(Clone, Copy)]
pub struct View<'a> {
    dictionary: &'a Arc<Dictionary>,
    avps: &'a [Avp],
}

impl<'a> View<'a> {
    /// The crate's own search takes another vendor's AVP of the same code.
    fn all(&self, name: &str) -> impl Iterator<Item = &'a Avp> + use<'a> {
        let known = self.dictionary.get_avp_by_name(name);
        let key = known.map(|known| (known.code, known.vendor_id));
        self.avps.iter().filter(move |avp| Some((avp.get_code(), avp.get_vendor_id())) == key)
    }

    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    pub fn number(&self, name: &str) -> Option<u32> {
        let avp = self.all(name).next()?;
        avp.get_unsigned32().or_else(|| avp.get_enumerated().map(|e| e.value().cast_unsigned()))
    }

    pub fn wide(&self, name: &str) -> Option<u64> {
        self.all(name).next()?.get_unsigned64()
    }

    pub fn text(&self, name: &str) -> Option<String> {
        self.texts(name).next()
    }

    pub fn texts(&self, name: &str) -> impl Iterator<Item = String> + use<'a> {
        self.all(name).filter_map(|avp| {
            let octets = || avp.get_octetstring().and_then(|o| String::from_utf8(o.value().to_vec()).ok());
            let utf8 = avp.get_utf8string().map(|t| t.value().to_owned());
            utf8.or_else(|| avp.get_identity().map(|i| i.value().to_owned())).or_else(octets)
        })
    }

    /// Seconds since 1970.
    pub fn time(&self, name: &str) -> Option<u64> {
        let time = self.all(name).next()?.get_time()?;
        u64::try_from(time.value().timestamp()).ok()
    }

    pub fn groups(&self, name: &str) -> impl Iterator<Item = View<'a>> + use<'a> {
        let dictionary = self.dictionary;
        self.all(name).filter_map(move |avp| Some(View { dictionary, avps: avp.get_grouped()?.avps() }))
    }
}

/// What can be said to a request that the crate cannot read: the header's ids are at fixed places.
pub fn refuse_unread(frame: &[u8], origin: (&str, &str), dictionary: &Arc<Dictionary>) -> Option<Vec<u8>> {
    let word = |at: usize| frame.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    let (hop_by_hop, end_to_end, application) = (word(12)?, word(16)?, word(8)?);
    let (flags, command) = (*frame.get(4)?, word(4)? & 0x00ff_ffff);
    if flags & flags::REQUEST == 0 {
        return None;
    }
    let head = Head {
        command: CommandCode::from_u32(command)?,
        application: ApplicationId::from_u32(application)?,
        flags,
        hop_by_hop,
        end_to_end,
    };
    Some(encode(dictionary, head.answer(false), |w| {
        w.number("Result-Code", UNABLE_TO_COMPLY);
        w.text("Origin-Host", origin.0);
        w.text("Origin-Realm", origin.1);
    }))
}

/// RFC 6733 §7.1.
pub const SUCCESS: u32 = 2001;
pub const COMMAND_UNSUPPORTED: u32 = 3001;
pub const UNKNOWN_SESSION_ID: u32 = 5002;
pub const UNABLE_TO_COMPLY: u32 = 5012;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let dictionary = Arc::new(dictionary());
        let head = Head {
            command: CommandCode::CreditControl,
            application: ApplicationId::Gx,
            flags: flags::REQUEST | flags::PROXYABLE,
            hop_by_hop: 7,
            end_to_end: 9,
        };
        let bytes = encode(&dictionary, head, |w| {
            w.text("Session-Id", "a;1;2");
            w.octets("Framed-IP-Address", &[10, 0, 0, 1]);
            w.text("3GPP-SGSN-MCC-MNC", "99970");
            w.group("Used-Service-Unit", |w| w.wide("CC-Output-Octets", 1 << 40));
            w.group("Charging-Rule-Report", |w| {
                w.text("Charging-Rule-Name", "tw-1-0");
                w.number("PCC-Rule-Status", 1);
            });
        });
        let message = Message::decode(&bytes, &dictionary).unwrap();
        assert_eq!(message.head, head);
        let view = message.view();
        assert_eq!(view.text("Session-Id").as_deref(), Some("a;1;2"));
        let report = view.groups("Charging-Rule-Report").next().unwrap();
        assert_eq!(report.text("Charging-Rule-Name").as_deref(), Some("tw-1-0"));
        assert_eq!(report.number("PCC-Rule-Status"), Some(1));
        let used = view.groups("Used-Service-Unit").next().unwrap();
        assert_eq!((used.wide("CC-Output-Octets"), used.has("CC-Input-Octets")), (Some(1 << 40), false));
        // V, and M as Gx has it.
        assert_eq!(bytes.windows(8).filter(|w| w[..4] == 1005u32.to_be_bytes() && w[4] == 0xc0).count(), 1);
    }

    #[test]
    fn a_request_that_cannot_be_read_is_refused() {
        let dictionary = Arc::new(dictionary());
        let mut frame = vec![0u8; 20];
        frame[0] = 1;
        frame[4..8].copy_from_slice(&[0xc0, 0, 1, 2]);
        frame[8..12].copy_from_slice(&GX.to_be_bytes());
        frame[12..20].copy_from_slice(&[0, 0, 0, 7, 0, 0, 0, 9]);
        frame.extend_from_slice(&[0, 1, 0x86, 0xa0, 0, 0, 0, 12, 0, 0, 0, 1]);
        frame[3] = 32;
        assert!(matches!(Message::decode(&frame, &dictionary), Err(Error::Decode(_))));
        let answer = refuse_unread(&frame, ("a.example", "example"), &dictionary).unwrap();
        let answer = Message::decode(&answer, &dictionary).unwrap();
        assert_eq!((answer.result(), answer.head.hop_by_hop), (Some((0, UNABLE_TO_COMPLY)), 7));
        frame[4] = 0x40;
        assert_eq!(refuse_unread(&frame, ("a.example", "example"), &dictionary), None);
    }
}
