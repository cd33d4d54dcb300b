//! Gx in memory: the codec beside the crate `diameter`, attaches and pushes through codec and session machine.

#[allow(dead_code, clippy::unwrap_used, clippy::wildcard_enum_match_arm)]
#[path = "../../../policy-adapters/diameter/tests/support/messages.rs"]
mod messages;
#[allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]
#[path = "../../../policy-adapters/gx/tests/support/mod.rs"]
mod support;

use crate::rows::{Row, nanos};
use diameter::DiameterMessage;
use diameter::avp::AvpType;
use diameter::dictionary::{AvpDefinition, Dictionary};
use messages::{ccr_initial, ccr_initial_into};
use std::hint::black_box;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Instant;
use support::{START, World, attach, desire, session, settings};
use tollway_diameter::avp::{self, Kind};
use tollway_diameter::{Message, Writer, application, check};
use tollway_gx::{Gateway, Input};

const PUSHED: u64 = 10_000;

pub fn rows() -> Vec<Row> {
    let mut rows = codec();
    rows.push(attaches());
    rows.push(pushes());
    rows
}

/// The AVPs that we know, for a codec that knows few of Gx.
fn dictionary() -> Arc<Dictionary> {
    let mut dictionary = Dictionary::new(&[]);
    for row in avp::definitions() {
        let avp_type = match row.kind {
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
        };
        dictionary.add_avp(AvpDefinition {
            code: row.key.code,
            vendor_id: (row.key.vendor != 0).then_some(row.key.vendor),
            name: row.name.to_owned(),
            avp_type,
            m_flag: true,
        });
    }
    Arc::new(dictionary)
}

fn codec() -> Vec<Row> {
    let bytes = ccr_initial();
    let parsed = Message::parse(&bytes).expect("ours");
    let decode = nanos(50_000, |count| {
        for _ in 0..count {
            let message = Message::parse(black_box(&bytes)).expect("ours");
            check::request(&message, &[application::GX]).expect("good");
            black_box(message.avps().count());
        }
    });
    let mut buffer = Vec::with_capacity(2_048);
    let encode = nanos(50_000, |count| {
        for _ in 0..count {
            let mut writer = Writer::into(std::mem::take(&mut buffer), parsed.header);
            ccr_initial_into(&mut writer);
            buffer = black_box(writer.finish().expect("it fits"));
        }
    });
    let dictionary = dictionary();
    let read = || DiameterMessage::decode_from(&mut Cursor::new(black_box(&bytes)), Arc::clone(&dictionary));
    let peer_decode = nanos(5_000, |count| {
        for _ in 0..count {
            black_box(read().expect("it takes this one"));
        }
    });
    let decoded = read().expect("it takes this one");
    let mut out = Vec::with_capacity(2_048);
    let peer_encode = nanos(20_000, |count| {
        for _ in 0..count {
            out.clear();
            decoded.encode_to(&mut out).expect("it fits");
            black_box(&out);
        }
    });
    let row = |name, own: f64, peer, peer_nanos: f64, bound_by| Row {
        name,
        value: 1e9 / own,
        unit: "1/s",
        peer: Some(peer),
        peer_value: Some(1e9 / peer_nanos),
        ratio: Some(peer_nanos / own),
        aim: ">= 500000 /s".into(),
        reached: 1e9 / own >= 500_000.0,
        bound_by,
    };
    vec![
        row(
            "decode and check a CCR-I of 25 AVPs",
            decode,
            "crate diameter 0.7.1, which decodes and checks nothing",
            peer_decode,
            "one core; every length, flag and value is looked at",
        ),
        row(
            "build and encode the same",
            encode,
            "crate diameter 0.7.1, from AVPs that are built already",
            peer_encode,
            "one core; copying into one buffer",
        ),
    ]
}

/// A CCR-I with its checks, profile, learnt access and CCA, in memory; the store is up at once.
fn attaches() -> Row {
    let mut subscriber = 0;
    let mut world = World::new(settings());
    let value = 1e9
        / nanos(10_000, |count| {
            for _ in 0..count {
                subscriber += 1;
                assert_eq!(world.ask(attach(subscriber, &session(subscriber))), 2001);
                world.facts.clear();
                world.answers.clear();
            }
        });
    Row {
        name: "CCR-I to CCA, codec and session machine in memory",
        value,
        unit: "1/s",
        peer: None,
        peer_value: None,
        ratio: None,
        aim: ">= 20000 /s".into(),
        reached: value >= 20_000.0,
        bound_by: "one core; the bench also builds each CCR-I and judges each CCA",
    }
}

/// A rule for each of 10,000 open sessions: from the first one that is wanted to the last RAA, without a rate limit.
fn pushes() -> Row {
    let unlimited = Gateway { rar_rate_max: None, ..Gateway::default() };
    let mut world = World::new(tollway_gx::Settings { gateway: unlimited, ..settings() });
    for subscriber in 1..=PUSHED {
        assert_eq!(world.ask(attach(subscriber, &session(subscriber))), 2001);
    }
    world.facts.clear();
    let begun = Instant::now();
    for subscriber in 1..=PUSHED {
        world.input(Input::Desire(Box::new(desire(subscriber, subscriber, START))));
    }
    let mut accepted = 0;
    while !world.requests.is_empty() {
        world.accept_one();
        accepted += 1;
    }
    assert_eq!(accepted, PUSHED, "one RAR for each");
    let value = begun.elapsed().as_secs_f64();
    Row {
        name: "push a rule to 10,000 sessions, to the last RAA, in memory",
        value,
        unit: "s",
        peer: None,
        peer_value: None,
        ratio: None,
        aim: "<= 3 s".into(),
        reached: value <= 3.0,
        bound_by: "one core; the bench also judges each RAR and builds each RAA",
    }
}
