//! Decode and encode of a CCR-I with 25 AVPs at the top, beside crate `diameter` 0.7.1 in the same run:
//! `cargo run --release -p tollway-diameter --example bench`.

#[path = "../tests/support/mod.rs"]
mod support;

use diameter::DiameterMessage;
use diameter::avp::AvpType;
use diameter::dictionary::{AvpDefinition, Dictionary};
use std::hint::black_box;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Instant;
use support::messages::{ccr_initial, ccr_initial_into, local, origin};
use support::rig::{PCEF, Rig, US, peer};
use tollway_diameter::avp::{self, Kind, ietf, tgpp};
use tollway_diameter::machine::{Event, Input, PeerSettings, Proof};
use tollway_diameter::message::set_end_to_end;
use tollway_diameter::node::{Config, Dial, Handle, Listen, Node, PeerConfig};
use tollway_diameter::{Message, Writer, answer, application, check};

const ROUNDS: usize = 5;

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
        let vendor_id = (row.key.vendor != 0).then_some(row.key.vendor);
        dictionary.add_avp(AvpDefinition {
            code: row.key.code,
            vendor_id,
            name: row.name.to_owned(),
            avp_type,
            m_flag: true,
        });
    }
    Arc::new(dictionary)
}

/// Best of some rounds, in thousands a second.
fn measure(name: &str, times: usize, mut step: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        (0..times).for_each(|_| step());
        best = best.min(started.elapsed().as_secs_f64());
    }
    println!("{name:<44} {:>9.0} k/s", times as f64 / best / 1_000.0);
}

/// What a PCRF reads from a CCR-I.
fn read(message: &Message<'_>) -> u64 {
    let mut sum = u64::from(message.u32(ietf::CC_REQUEST_TYPE).unwrap_or(0));
    sum += message.text(ietf::SESSION_ID).map_or(0, |text| text.len() as u64);
    sum += message.text(ietf::CALLED_STATION_ID).map_or(0, |text| text.len() as u64);
    sum += message.find(ietf::FRAMED_IP_ADDRESS).and_then(|avp| avp.u32()).map_or(0, u64::from);
    let qos = message.find(tgpp::DEFAULT_EPS_BEARER_QOS);
    sum + qos
        .and_then(|qos| qos.find(tgpp::QOS_CLASS_IDENTIFIER))
        .and_then(|avp| avp.u32())
        .map_or(0, u64::from)
}

fn main() {
    let bytes = ccr_initial();
    let parsed = Message::parse(&bytes).expect("ours");
    println!("CCR-I: {} bytes, {} AVPs at the top", bytes.len(), parsed.avps().count());
    let applications = [application::GX];
    measure("ours: parse, check all, read five", 200_000, || {
        let message = Message::parse(black_box(&bytes)).expect("ours");
        check::request(&message, &applications).expect("good");
        black_box(read(&message));
    });
    measure("ours: parse only", 500_000, || {
        black_box(Message::parse(black_box(&bytes)).expect("ours"));
    });
    let mut buffer = Vec::with_capacity(2_048);
    measure("ours: build and encode", 200_000, || {
        let mut writer = Writer::into(std::mem::take(&mut buffer), parsed.header);
        ccr_initial_into(&mut writer);
        buffer = black_box(writer.finish().expect("it fits"));
    });
    measure("ours: encode from decoded AVPs", 500_000, || {
        let mut writer = Writer::into(std::mem::take(&mut buffer), parsed.header);
        parsed.avps().for_each(|avp| writer.copy(&avp));
        buffer = black_box(writer.finish().expect("it fits"));
    });
    let us = origin("pcrf.example.net");
    measure("ours: parse, check, answer (CCA)", 200_000, || {
        let message = Message::parse(black_box(&bytes)).expect("ours");
        check::request(&message, &applications).expect("good");
        black_box(answer::answer_with(&message, &us, 2001).finish().expect("it fits"));
    });
    let dictionary = dictionary();
    measure("crate diameter 0.7.1: decode", 20_000, || {
        let decoded =
            DiameterMessage::decode_from(&mut Cursor::new(black_box(&bytes)), Arc::clone(&dictionary));
        black_box(decoded.expect("it takes this one"));
    });
    let decoded =
        DiameterMessage::decode_from(&mut Cursor::new(&bytes), Arc::clone(&dictionary)).expect("good");
    let mut out = Vec::with_capacity(2_048);
    measure("crate diameter 0.7.1: encode from decoded", 100_000, || {
        out.clear();
        decoded.encode_to(&mut out).expect("it fits");
        black_box(&out);
    });
    assert_eq!(out, bytes, "both write the same");
    measure_machine();
    measure_loopback();
}

/// A CCR-I through the whole node and its CCA out again, in memory.
fn measure_machine() {
    let (mut rig, pcef, _) = Rig::with_relay();
    let us = origin(US);
    let mut number = 0;
    measure("machine: CCR-I in, request event, CCA out", 50_000, || {
        number += 1;
        let mut ccr = ccr_initial();
        set_end_to_end(&mut ccr, number);
        rig.receive(pcef, ccr);
        let Some(Event::Request { token, frame, .. }) = rig.machine.poll_event() else {
            panic!("no request")
        };
        let bytes = answer::answer_with(&frame.message(), &us, 2001).finish().expect("it fits");
        rig.give(Input::Answer { token, bytes });
        black_box(rig.machine.poll_transmit());
    });
}

async fn ask(node: Handle, times: usize) {
    for _ in 0..times {
        node.request(ccr_initial(), None).await.expect("an answer");
    }
}

/// Two nodes over loopback TCP, 64 requests at a time, both on these cores.
fn measure_loopback() {
    const TIMES: usize = 20_000;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let peer_of = |host: &str, dial| PeerConfig {
            settings: PeerSettings {
                proof: Proof::Addresses(vec![[127, 0, 0, 1].into()]),
                ..peer(host, "example.net")
            },
            dial,
        };
        let config = |host: &str, peer| Config {
            local: local(host, &[application::GX]),
            peers: vec![peer],
            listen: vec![Listen { address: ([127, 0, 0, 1], 0).into(), is_tls: false }],
            tls: None,
            trace: None,
        };
        let (pcrf, mut events) = Node::start(config(US, peer_of(PCEF, None))).await.expect("a node");
        let address = pcrf.listening()[0].to_string();
        let dial = Some(Dial { address, is_tls: false });
        let (pcef, mut up) = Node::start(config(PCEF, peer_of(US, dial))).await.expect("a node");
        up.recv().await.expect("the node is up");
        tokio::spawn(async move {
            let us = origin(US);
            while let Some(event) = events.recv().await {
                if let tollway_diameter::node::Event::Request(request) = event {
                    let cca = answer::answer_with(&request.frame.message(), &us, 2001).finish();
                    request.responder.answer(cca.expect("it fits"));
                }
            }
        });
        let started = Instant::now();
        let tasks: Vec<_> = (0..64).map(|_| tokio::spawn(ask(pcef.clone(), TIMES / 64))).collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        let rate = (TIMES / 64 * 64) as f64 / started.elapsed().as_secs_f64() / 1_000.0;
        println!("{:<44} {rate:>9.0} k/s", "loopback TCP: CCR-I and CCA, 64 at a time");
    });
}
