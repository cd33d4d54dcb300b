//! Our bytes and another implementation's: what we send decodes in crate `diameter` to the same values, and what it
//! encodes as a PCRF the machine takes. There is no capture of a real PCRF on Rx yet.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use diameter::avp::{self as theirs, AvpType, AvpValue};
use diameter::dictionary::{AvpDefinition, Dictionary};
use diameter::{ApplicationId, CommandCode, DiameterMessage};
use std::io::Cursor;
use std::sync::Arc;
use support::*;
use tollway_diameter::avp::{self, Avp, FLAG_MANDATORY, Kind};
use tollway_diameter::{Definition, Frame, Message};
use tollway_rx::{Desire, Input, Pcrf, Token};

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

fn vendor(definition: &Definition) -> Option<u32> {
    (definition.key.vendor != avp::IETF).then_some(definition.key.vendor)
}

/// Its own dictionary knows no AVP of Rx; it gets the names and types of ours.
fn dictionary() -> Arc<Dictionary> {
    let mut dictionary = Dictionary::new(&[]);
    for row in avp::definitions() {
        dictionary.add_avp(AvpDefinition {
            code: row.key.code,
            vendor_id: vendor(row),
            name: row.name.to_owned(),
            avp_type: their_type(row.kind),
            m_flag: row.flags() & FLAG_MANDATORY != 0,
        });
    }
    Arc::new(dictionary)
}

/// Compares an AVP with theirs, children included; gives back how many were compared.
fn same(ours: &Avp<'_>, other: &theirs::Avp) -> usize {
    assert_eq!(other.get_code(), ours.key.code);
    assert_eq!(other.get_vendor_id().unwrap_or(avp::IETF), ours.key.vendor);
    assert_eq!(other.get_flags().mandatory, ours.is_mandatory(), "{}", ours.key);
    match other.get_value() {
        AvpValue::Grouped(group) => {
            let children: Vec<_> = ours.children().collect();
            assert_eq!(group.avps().len(), children.len());
            return 1 + children.iter().zip(group.avps()).map(|(a, b)| same(a, b)).sum::<usize>();
        }
        AvpValue::Unsigned32(value) => assert_eq!(ours.u32(), Some(value.value())),
        AvpValue::Enumerated(value) => assert_eq!(ours.i32(), Some(value.value())),
        AvpValue::Unsigned64(value) => assert_eq!(ours.u64(), Some(value.value())),
        AvpValue::UTF8String(value) => assert_eq!(ours.text(), Some(value.value())),
        AvpValue::Identity(value) => assert_eq!(ours.text(), Some(value.value())),
        AvpValue::OctetString(value) => assert_eq!(ours.data, value.value()),
        other => panic!("a type that we do not send: {other:?}"),
    }
    1
}

/// Decodes with the crate, compares, and encodes again to the same bytes.
fn agrees(bytes: &[u8], dictionary: &Arc<Dictionary>) -> usize {
    let ours = Message::parse(bytes).unwrap();
    let decoded = DiameterMessage::decode_from(&mut Cursor::new(bytes), dictionary.clone()).unwrap();
    let avps: Vec<_> = ours.avps().collect();
    assert_eq!(decoded.get_avps().len(), avps.len());
    let count = avps.iter().zip(decoded.get_avps()).map(|(a, b)| same(a, b)).sum();
    let mut encoded = Vec::new();
    decoded.encode_to(&mut encoded).unwrap();
    assert_eq!(encoded, bytes);
    count
}

#[test]
fn what_we_send_is_the_same_to_another_implementation() {
    let dictionary = dictionary();
    let pcrf = Pcrf { takes_extended_bw: true, ..Pcrf::of_realm("example") };
    let mut world = World::new(settings_of(pcrf));
    let mut count = 0;
    let mut wanted = Desire { terms: sponsored(), ..desire(1, 1, START) };
    wanted.access.ip_domain = Some("north".into());
    wanted.desired.flows.push(flow(1, 2));
    world.desire(wanted.clone());
    count += agrees(&world.requests[0].1, &dictionary);
    world.accept_one();
    // An update with a component less, one of more than 32 bits, answers, and an end.
    wanted.desired.attempt = 2;
    wanted.desired.flows.pop();
    world.desire(with_schedule(wanted, START, &[(600, 9_000_000_000)]));
    count += agrees(&world.requests[0].1, &dictionary);
    world.accept_one();
    for request in [rar(ID, &[8], |_| ()), rar("other", &[8], |_| ()), asr(ID, 0)] {
        let answer = world.ask_for(request);
        count += agrees(&answer, &dictionary);
    }
    count += agrees(&world.requests[0].1, &dictionary);
    let mut v6 = desire(2, 1, START);
    v6.desired.flows[0].device = "2001:db8::7".parse().unwrap();
    v6.desired.flows[0].remote = "2001:db8:1::1".parse().unwrap();
    world.desire(v6);
    count += agrees(&world.requests.back().unwrap().1, &dictionary);
    assert!(count > 130, "{count} AVPs were compared");
}

/// A message of the crate with the names of AVPs, as a PCRF built on it would make it.
struct Theirs(DiameterMessage, Arc<Dictionary>);

impl Theirs {
    fn request(code: CommandCode, session: &str) -> Theirs {
        let dictionary = dictionary();
        let message = DiameterMessage::new(code, ApplicationId::Rx, 0xc0, 17, 4_711, dictionary.clone());
        let mut made = Theirs(message, dictionary);
        made.envelope(session);
        made.add("Destination-Realm", theirs::Identity::new("example").into());
        made.add("Destination-Host", theirs::Identity::new("af.example").into());
        made
    }

    fn answer(code: CommandCode, session: &str) -> Theirs {
        let dictionary = dictionary();
        let message = DiameterMessage::new(code, ApplicationId::Rx, 0x40, 1, 1, dictionary.clone());
        let mut made = Theirs(message, dictionary);
        made.envelope(session);
        made
    }

    fn envelope(&mut self, session: &str) {
        self.add("Session-Id", theirs::UTF8String::new(session).into());
        self.add("Auth-Application-Id", theirs::Unsigned32::new(16_777_236).into());
        self.add("Origin-Host", theirs::Identity::new(HOST).into());
        self.add("Origin-Realm", theirs::Identity::new("example").into());
    }

    fn avp(&self, name: &str, value: AvpValue) -> theirs::Avp {
        let row = avp::definitions().find(|row| row.name == name).unwrap();
        let flags = if row.flags() & FLAG_MANDATORY != 0 { theirs::flags::M } else { 0 };
        theirs::Avp::new(row.key.code, vendor(row), flags, value, self.1.clone())
    }

    fn add(&mut self, name: &str, value: AvpValue) {
        let avp = self.avp(name, value);
        self.0.add(avp);
    }

    fn group(&self, name: &str, children: Vec<theirs::Avp>) -> theirs::Avp {
        self.avp(name, theirs::Grouped::new(children, self.1.clone()).into())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.encode_to(&mut bytes).unwrap();
        bytes
    }
}

fn u32_of(value: u32) -> AvpValue {
    theirs::Unsigned32::new(value).into()
}

fn answered(world: &mut World, answer: &Theirs) {
    let (id, _) = world.requests.pop_front().unwrap();
    world.input(Input::Answered { id, frame: Frame::new(answer.bytes()).unwrap() });
}

#[test]
fn what_another_implementation_sends_is_taken() {
    let mut world = World::asked(Desire { terms: sponsored(), ..desire(1, 1, START) });
    // As a real PCRF answers: no Supported-Features, and AVPs that nothing follows from.
    let mut aaa = Theirs::answer(CommandCode::AA, ID);
    aaa.add("Auth-Request-Type", theirs::Enumerated::new(1).into());
    aaa.add("IP-CAN-Type", theirs::Enumerated::new(5).into());
    aaa.add("RAT-Type", theirs::Enumerated::new(1_004).into());
    aaa.add("Result-Code", u32_of(2001));
    answered(&mut world, &aaa);
    let mut rar = Theirs::request(CommandCode::ReAuth, ID);
    rar.add("Specific-Action", theirs::Enumerated::new(8).into());
    let number = rar.avp("Media-Component-Number", u32_of(1));
    let flows = rar.group("Flows", vec![number]);
    rar.0.add(flows);
    assert_eq!(world.ask(rar.bytes()), 2001);
    let mut report = Theirs::request(CommandCode::ReAuth, ID);
    report.add("Specific-Action", theirs::Enumerated::new(11).into());
    let octets = report.avp("CC-Output-Octets", theirs::Unsigned64::new(1 << 33).into());
    let used = report.group("Used-Service-Unit", vec![octets]);
    let sponsored = report.group("Sponsored-Connectivity-Data", vec![used]);
    report.0.add(sponsored);
    assert_eq!(world.ask(report.bytes()), 2001);
    assert_eq!(world.answers[&Token(2)][12..20], report.bytes()[12..20], "both ids come back");
    assert_eq!(world.words(), ["1 accepted", "1 active"]);
    assert_eq!(world.readings().last().unwrap().sold.bytes, 1 << 33);
    assert_eq!(world.counters().features_missing, 1);
}

#[test]
fn a_refusal_of_another_implementation() {
    let mut world = World::asked(desire(1, 1, START));
    let mut aaa = Theirs::answer(CommandCode::AA, ID);
    let children =
        vec![aaa.avp("Vendor-Id", u32_of(10_415)), aaa.avp("Experimental-Result-Code", u32_of(5063))];
    let result = aaa.group("Experimental-Result", children);
    aaa.0.add(result);
    let component = aaa.group(
        "Media-Component-Description",
        vec![
            aaa.avp("Media-Component-Number", u32_of(1)),
            aaa.avp("Max-Requested-Bandwidth-DL", u32_of(1_500_000)),
        ],
    );
    let acceptable = aaa.group("Acceptable-Service-Info", vec![component]);
    aaa.0.add(acceptable);
    answered(&mut world, &aaa);
    let expected =
        "1 refused: the PCRF answered 5063: requested service not authorised offered 150000/1500000";
    assert_eq!(world.words(), [expected]);
}
