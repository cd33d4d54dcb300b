//! 10,000 random messages through our codec and through crate `diameter` 0.7.1, both ways, as a second
//! implementation. Where they differ, the difference is one of the crate's defects, each named here.
#![allow(clippy::unwrap_used)]

mod support;

use diameter::avp::{self as theirs, AvpType, AvpValue};
use diameter::dictionary::{AvpDefinition, Dictionary};
use diameter::{ApplicationId, CommandCode, DiameterMessage};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use support::{Random, capture, messages, mutants};
use tollway_diameter::avp::{self, Avp, FLAG_MANDATORY, FLAG_PROTECTED, FLAG_VENDOR, Kind};
use tollway_diameter::{Definition, Header, Key, Message, Writer, check};

const MESSAGES: usize = 10_000;

/// What the crate does wrong, and so is left out of the comparison; a test of each shows that it is still so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Defect {
    /// One AVP that is not in its dictionary refuses the whole message, M bit or not (RFC 6733 §4.1).
    UnknownAvp,
    /// Its commands are a closed list of 12, so nobody can answer 3001.
    ClosedCommands,
    /// Its applications are a closed list of 6, so nobody can answer 3007.
    ClosedApplications,
    /// An Address of another family than IP and E.164 is refused; the registry has 20 and more.
    AddressFamily,
    /// The length of an E.164 Address leaves out the family's two bytes: what it encodes is broken.
    E164Length,
    /// Time with the top bit clear is read as 1900-1968, not as 2036-2104 (RFC 6733 §4.3.1).
    TimeEra,
}

#[derive(Clone, PartialEq, Debug)]
enum Value {
    Bytes(Vec<u8>),
    Group(Vec<Node>),
}

#[derive(Clone, PartialEq, Debug)]
struct Node {
    key: Key,
    kind: Option<Kind>,
    flags: u8,
    value: Value,
}

fn their_type(kind: Kind) -> AvpType {
    match kind {
        Kind::OctetString => AvpType::OctetString,
        Kind::Integer32 => AvpType::Integer32,
        Kind::Integer64 => AvpType::Integer64,
        Kind::Unsigned32 => AvpType::Unsigned32,
        Kind::Unsigned64 => AvpType::Unsigned64,
        Kind::Enumerated => AvpType::Enumerated,
        Kind::Grouped => AvpType::Grouped,
        Kind::Address => AvpType::Address,
        Kind::Time => AvpType::Time,
        Kind::Utf8String | Kind::FilterRule => AvpType::UTF8String,
        Kind::Identity => AvpType::Identity,
        Kind::Uri => AvpType::DiameterURI,
    }
}

fn vendor(key: Key) -> Option<u32> {
    (key.vendor != avp::IETF).then_some(key.vendor)
}

fn dictionary() -> Arc<Dictionary> {
    let mut dictionary = Dictionary::new(&[]);
    for row in avp::definitions() {
        dictionary.add_avp(AvpDefinition {
            code: row.key.code,
            vendor_id: vendor(row.key),
            name: row.name.to_owned(),
            avp_type: their_type(row.kind),
            m_flag: row.flags() & FLAG_MANDATORY != 0,
        });
    }
    Arc::new(dictionary)
}

/// Random trees out of our own table.
struct Maker {
    random: Random,
    rows: Vec<&'static Definition>,
    defects: Vec<Defect>,
}

impl Maker {
    fn text(&mut self, len_max: usize) -> Vec<u8> {
        let words = ["a", "Z", "9", ".", "-", "ü", "中"];
        let len = self.random.below(len_max + 1);
        (0..len).flat_map(|_| words[self.random.below(words.len())].bytes().collect::<Vec<u8>>()).collect()
    }

    fn address(&mut self) -> Vec<u8> {
        let (family, len) = match self.random.below(40) {
            0 => (8, 1 + self.random.below(15)),
            1 => (16, 6),
            n if n % 2 == 0 => (1, 4),
            _ => (2, 16),
        };
        match family {
            8 => self.defects.push(Defect::E164Length),
            16 => self.defects.push(Defect::AddressFamily),
            _ => {}
        }
        let mut data = vec![0, family];
        data.extend((0..len).map(|_| b'0' + self.random.below(10) as u8));
        data
    }

    fn data(&mut self, kind: Kind) -> Vec<u8> {
        match kind {
            Kind::OctetString => {
                let len = self.random.below(40);
                self.random.bytes(len)
            }
            Kind::Integer32 | Kind::Unsigned32 | Kind::Enumerated => self.random.bytes(4),
            Kind::Integer64 | Kind::Unsigned64 => self.random.bytes(8),
            Kind::Time => {
                let mut data = self.random.bytes(4);
                // Not 1968-1969, which our seconds since 1970 cannot say.
                if data[0] & 0x80 != 0 {
                    data[0] |= 0xc0;
                } else {
                    self.defects.push(Defect::TimeEra);
                }
                data
            }
            Kind::Utf8String | Kind::FilterRule => self.text(30),
            Kind::Identity | Kind::Uri => {
                let len = 1 + self.random.below(30);
                (0..len).map(|_| b'a' + self.random.below(26) as u8).collect()
            }
            Kind::Address => self.address(),
            Kind::Grouped => Vec::new(),
        }
    }

    fn node(&mut self, depth: usize) -> Node {
        let random_flags = |random: &mut Random| [0, FLAG_MANDATORY, FLAG_PROTECTED][random.below(3)];
        if self.random.one_in(400) {
            self.defects.push(Defect::UnknownAvp);
            let flags = random_flags(&mut self.random) & !FLAG_MANDATORY;
            let key = Key { vendor: 9_999 * self.random.below(2) as u32, code: 100_000 };
            let data = self.text(20);
            return Node { key, kind: None, flags, value: Value::Bytes(data) };
        }
        let row = self.rows[self.random.below(self.rows.len())];
        let flags = random_flags(&mut self.random);
        // What lies in a Failed-AVP is not looked into, so both would call it something else.
        let is_group = row.key != avp::ietf::FAILED_AVP.key;
        let value = if row.kind != Kind::Grouped {
            Value::Bytes(self.data(row.kind))
        } else if depth < 8 && is_group {
            let children = self.random.below(5);
            Value::Group((0..children).map(|_| self.node(depth + 1)).collect())
        } else {
            Value::Group(Vec::new())
        };
        Node { key: row.key, kind: Some(row.kind), flags, value }
    }

    fn header(&mut self) -> Header {
        let commands = [257, 258, 265, 271, 272, 274, 275, 280, 282];
        let applications = [0, 3, 4, 16_777_236, 16_777_238, 16_777_302];
        let mut header = Header {
            flags: self.random.next() as u8,
            command: commands[self.random.below(commands.len())],
            application: applications[self.random.below(applications.len())],
            hop_by_hop: self.random.next() as u32,
            end_to_end: self.random.next() as u32,
        };
        match self.random.below(40) {
            0 => {
                header.command = 316;
                self.defects.push(Defect::ClosedCommands);
            }
            1 => {
                header.application = 16_777_272;
                self.defects.push(Defect::ClosedApplications);
            }
            _ => {}
        }
        header
    }
}

fn write(writer: &mut Writer, nodes: &[Node]) {
    for node in nodes {
        match &node.value {
            Value::Bytes(data) => writer.raw(node.key, node.flags, data),
            Value::Group(children) => {
                let group = writer.open_raw(node.key, node.flags);
                write(writer, children);
                writer.close(group);
            }
        }
    }
}

fn read<'a>(avps: impl Iterator<Item = Avp<'a>>) -> Vec<Node> {
    avps.map(|avp| {
        let kind = avp.definition().map(|known| known.kind);
        let value = match kind {
            Some(Kind::Grouped) => Value::Group(read(avp.children())),
            _ => Value::Bytes(avp.data.to_vec()),
        };
        Node { key: avp.key, kind, flags: avp.flags & !FLAG_VENDOR, value }
    })
    .collect()
}

fn build(nodes: &[Node], dictionary: &Arc<Dictionary>) -> Vec<theirs::Avp> {
    nodes
        .iter()
        .map(|node| {
            let value = match &node.value {
                Value::Group(children) => {
                    theirs::Grouped::new(build(children, dictionary), Arc::clone(dictionary)).into()
                }
                Value::Bytes(data) => their_value(node.kind.expect("known"), data),
            };
            theirs::Avp::new(node.key.code, vendor(node.key), node.flags, value, Arc::clone(dictionary))
        })
        .collect()
}

fn word<const N: usize>(data: &[u8]) -> [u8; N] {
    data.try_into().expect("as long as its type")
}

fn their_value(kind: Kind, data: &[u8]) -> AvpValue {
    let text = || std::str::from_utf8(data).expect("text");
    match kind {
        Kind::OctetString => theirs::OctetString::new(data.to_vec()).into(),
        Kind::Integer32 => theirs::Integer32::new(i32::from_be_bytes(word(data))).into(),
        Kind::Integer64 => theirs::Integer64::new(i64::from_be_bytes(word(data))).into(),
        Kind::Unsigned32 => theirs::Unsigned32::new(u32::from_be_bytes(word(data))).into(),
        Kind::Unsigned64 => theirs::Unsigned64::new(u64::from_be_bytes(word(data))).into(),
        Kind::Enumerated => theirs::Enumerated::new(i32::from_be_bytes(word(data))).into(),
        Kind::Address if data[1] == 1 => theirs::Address::from_ipv4(Ipv4Addr::from(word(&data[2..]))).into(),
        Kind::Address => theirs::Address::from_ipv6(Ipv6Addr::from(word(&data[2..]))).into(),
        Kind::Time => theirs::Time::decode_from(&mut Cursor::new(data)).expect("four bytes").into(),
        Kind::Utf8String | Kind::FilterRule => theirs::UTF8String::new(text()).into(),
        Kind::Identity => theirs::Identity::new(text()).into(),
        Kind::Uri => theirs::DiameterURI::new(data.to_vec()).into(),
        Kind::Grouped => panic!("a group has children"),
    }
}

/// Each value that the crate decoded, against ours of the same AVP.
fn compare(avps: &[theirs::Avp], walk: impl Iterator<Item = Avp<'static>>, defects: &[Defect]) {
    let ours: Vec<Avp<'static>> = walk.collect();
    assert_eq!(avps.len(), ours.len());
    for (their, our) in avps.iter().zip(ours) {
        assert_eq!((their.get_code(), their.get_vendor_id()), (our.key.code, vendor(our.key)));
        let flags = their.get_flags();
        assert_eq!(flags.vendor, our.flags & FLAG_VENDOR != 0);
        assert_eq!(flags.mandatory, our.flags & FLAG_MANDATORY != 0);
        assert_eq!(flags.private, our.flags & FLAG_PROTECTED != 0);
        match their.get_value() {
            AvpValue::Grouped(group) => compare(group.avps(), our.children(), defects),
            AvpValue::Unsigned32(value) => assert_eq!(Some(value.value()), our.u32()),
            AvpValue::Unsigned64(value) => assert_eq!(Some(value.value()), our.u64()),
            AvpValue::Integer32(value) => assert_eq!(Some(value.value()), our.i32()),
            AvpValue::Integer64(value) => assert_eq!(Some(value.value()), our.i64()),
            AvpValue::Enumerated(value) => assert_eq!(Some(value.value()), our.i32()),
            AvpValue::UTF8String(value) => assert_eq!(Some(value.value()), our.text()),
            AvpValue::Identity(value) => assert_eq!(Some(value.value()), our.text()),
            AvpValue::OctetString(value) => assert_eq!(value.value(), our.data),
            AvpValue::DiameterURI(value) => assert_eq!(value.value(), our.data),
            AvpValue::Address(value) => {
                let is_ip = our.address().is_some();
                let shown = our
                    .address()
                    .as_ref()
                    .map_or_else(|| String::from_utf8_lossy(&our.data[2..]).into_owned(), IpAddr::to_string);
                assert!(is_ip || defects.contains(&Defect::E164Length));
                assert_eq!(value.to_string(), shown);
            }
            AvpValue::Time(value) => {
                let seconds = our.unix_s().and_then(|s| i64::try_from(s).ok());
                let era = if our.data[0] & 0x80 == 0 { 1i64 << 32 } else { 0 };
                assert!(era == 0 || defects.contains(&Defect::TimeEra));
                assert_eq!(Some(value.value().timestamp() + era), seconds);
            }
            other @ (AvpValue::AddressIPv4(_)
            | AvpValue::AddressIPv6(_)
            | AvpValue::Float32(_)
            | AvpValue::Float64(_)) => panic!("nothing of ours has this type: {other:?}"),
        }
    }
}

fn decode(bytes: &[u8], dictionary: &Arc<Dictionary>) -> diameter::Result<DiameterMessage> {
    DiameterMessage::decode_from(&mut Cursor::new(bytes), Arc::clone(dictionary))
}

/// Defects that make the crate refuse a good message.
fn is_refused(defect: &Defect) -> bool {
    match defect {
        Defect::UnknownAvp | Defect::ClosedCommands | Defect::ClosedApplications | Defect::AddressFamily => {
            true
        }
        Defect::E164Length | Defect::TimeEra => false,
    }
}

#[test]
fn random_messages_agree_both_ways() {
    let dictionary = dictionary();
    let mut maker =
        Maker { random: Random::new(733), rows: avp::definitions().collect(), defects: Vec::new() };
    let mut met: BTreeMap<Defect, usize> = BTreeMap::new();
    let mut compared = (0, 0);
    for number in 0..MESSAGES {
        maker.defects.clear();
        let header = maker.header();
        let count = maker.random.below(10);
        let tree: Vec<Node> = (0..count).map(|_| maker.node(1)).collect();
        maker.defects.iter().for_each(|defect| *met.entry(*defect).or_default() += 1);
        let mut writer = Writer::new(header);
        write(&mut writer, &tree);
        let bytes = writer.finish().unwrap();
        // Ours reads what ours wrote. The bytes are leaked to give them a name that lives long enough.
        let bytes: &'static [u8] = bytes.leak();
        let message = Message::parse(bytes).unwrap();
        check::avps(&message).unwrap();
        assert_eq!((message.header, read(message.avps())), (header, tree.clone()), "message {number}");
        // Theirs reads what ours wrote.
        let decoded = decode(bytes, &dictionary);
        assert_eq!(
            decoded.is_err(),
            maker.defects.iter().any(is_refused),
            "message {number}: {:?}",
            maker.defects
        );
        let Ok(decoded) = decoded else { continue };
        assert_eq!(decoded.get_flags(), header.flags);
        assert_eq!(decoded.get_command_code() as u32, header.command);
        assert_eq!(decoded.get_application_id() as u32, header.application);
        assert_eq!(
            (decoded.get_hop_by_hop_id(), decoded.get_end_to_end_id()),
            (header.hop_by_hop, header.end_to_end)
        );
        compare(decoded.get_avps(), message.avps(), &maker.defects);
        compared.0 += 1;
        // Ours reads what theirs wrote.
        if maker.defects.contains(&Defect::E164Length) {
            continue;
        }
        let command = CommandCode::from_u32(header.command).unwrap();
        let application = ApplicationId::from_u32(header.application).unwrap();
        let ids = (header.hop_by_hop, header.end_to_end);
        let mut built =
            DiameterMessage::new(command, application, header.flags, ids.0, ids.1, Arc::clone(&dictionary));
        build(&tree, &dictionary).into_iter().for_each(|avp| built.add(avp));
        let mut encoded = Vec::new();
        built.encode_to(&mut encoded).unwrap();
        assert_eq!(encoded, bytes, "message {number}");
        compared.1 += 1;
    }
    assert!(compared.0 > MESSAGES * 8 / 10 && compared.1 > MESSAGES * 8 / 10, "{compared:?} {met:?}");
    assert_eq!(met.len(), 6, "each defect is met: {met:?}");
}

/// What we take, the crate takes too, but for what it does not know.
#[test]
fn mutants_that_we_take_are_taken() {
    let dictionary = dictionary();
    let seeds: Vec<Vec<u8>> = capture::all().into_iter().chain(messages::all()).collect();
    let mut random = Random::new(9);
    let mut taken = 0;
    for _ in 0..MESSAGES {
        let mutant = mutants::mutate(&seeds[random.below(seeds.len())], &mut random);
        let Ok(message) = Message::parse(&mutant) else { continue };
        if check::avps(&message).is_err() {
            continue;
        }
        let is_known = CommandCode::from_u32(message.header.command).is_some()
            && ApplicationId::from_u32(message.header.application).is_some()
            && is_all_known(message.avps());
        assert_eq!(decode(&mutant, &dictionary).is_ok(), is_known, "{mutant:02x?}");
        taken += usize::from(is_known);
    }
    assert!(taken > MESSAGES / 20, "{taken}");
}

/// No AVP unknown, no Address of a foreign family, nothing in a Failed-AVP, which the crate looks into.
fn is_all_known<'a>(mut avps: impl Iterator<Item = Avp<'a>>) -> bool {
    avps.all(|avp| match avp.definition().map(|known| known.kind) {
        None => false,
        Some(Kind::Grouped) if avp.key == avp::ietf::FAILED_AVP.key => avp.data.is_empty(),
        Some(Kind::Grouped) => is_all_known(avp.children()),
        Some(Kind::Address) => match avp.data[..2] {
            [0, 1 | 2] => true,
            [0, 8] => avp.data.len() <= 17 && avp.text().is_some(),
            _ => false,
        },
        Some(_) => true,
    })
}

#[test]
fn the_crate_confuses_vendors() {
    let dictionary = dictionary();
    let mut writer =
        Writer::new(Header { flags: 0x40, command: 272, application: 4, hop_by_hop: 0, end_to_end: 0 });
    writer.text(avp::tgpp::TGPP_IMSI_MCC_MNC, "99970");
    writer.octets(avp::ietf::FRAMED_IP_ADDRESS, &[10, 0, 0, 1]);
    let bytes = writer.finish().unwrap();
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.find(avp::ietf::FRAMED_IP_ADDRESS).unwrap().data, [10, 0, 0, 1]);
    let theirs = decode(&bytes, &dictionary).unwrap();
    assert_eq!(theirs.get_avp(8).unwrap().get_vendor_id(), Some(10_415));
}
