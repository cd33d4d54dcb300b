//! The judge of captures: what it must find, so that its silence about our frames says something.

#[path = "../peers/mod.rs"]
mod peers;

use diameter::{ApplicationId, CommandCode, flags};
use peers::capture::Capture;
use std::net::SocketAddr;
use std::sync::Arc;
use tollway_pcef::message::{self, Fields, Head};

/// A CCR-U with more in it.
fn ccr(more: impl FnOnce(&mut Fields)) -> Vec<u8> {
    let head = Head {
        command: CommandCode::CreditControl,
        application: ApplicationId::Gx,
        flags: flags::REQUEST | flags::PROXYABLE,
        hop_by_hop: 1,
        end_to_end: 1,
    };
    message::encode(&Arc::new(message::dictionary()), head, |w| {
        w.text("Session-Id", "pcef.example.net;1;1");
        w.number("Auth-Application-Id", message::GX);
        w.text("Origin-Host", "pcef.example.net");
        w.text("Origin-Realm", "example.net");
        w.text("Destination-Realm", "example.net");
        w.number("CC-Request-Type", 2);
        w.number("CC-Request-Number", 1);
        more(w);
    })
}

/// The same with bytes behind it.
fn with_avp(avp: &[u8]) -> Vec<u8> {
    let mut bytes = ccr(|_| ());
    bytes.extend_from_slice(avp);
    let len = (bytes.len() as u32).to_be_bytes();
    bytes[1..4].copy_from_slice(&len[1..]);
    bytes
}

fn complaints(frame: &[u8]) -> Vec<String> {
    let capture = Capture::default();
    let end = |port| SocketAddr::from(([127, 0, 0, 1], port));
    capture.take(end(4_000), end(4_001), frame);
    capture.complaints("judge")
}

#[test]
fn good_frames_pass_and_bad_ones_are_found() {
    let usage = ccr(|w| {
        w.number("Event-Trigger", 33);
        w.group("Usage-Monitoring-Information", |w| {
            w.text("Monitoring-Key", "tw-1-0");
            w.group("Used-Service-Unit", |w| w.wide("CC-Output-Octets", 5));
            w.number("Usage-Monitoring-Level", 1);
        });
    });
    assert_eq!(complaints(&usage), Vec::<String>::new());
    let unknown = with_avp(&[0, 1, 0x86, 0xa0, 0, 0, 0, 12, 0, 0, 0, 1]);
    let unknown_of_vendor = with_avp(&[0, 1, 0x86, 0xa0, 0x80, 0, 0, 16, 0, 0, 0x28, 0xaf, 0, 0, 0, 1]);
    let value = ccr(|w| w.number("Flow-Status", 77));
    // Origin-State-Id of two bytes.
    let short = with_avp(&[0, 0, 1, 22, 0x40, 0, 0, 10, 0, 1, 0, 0]);
    // An AVP that ends behind its message.
    let long = with_avp(&[0, 0, 1, 22, 0x40, 0, 0, 60, 0, 0, 0, 1]);
    for (what, frame) in [
        ("unknown", unknown),
        ("vendor", unknown_of_vendor),
        ("value", value),
        ("short", short),
        ("long", long),
    ] {
        assert_ne!(complaints(&frame), Vec::<String>::new(), "{what}");
    }
    // Not Diameter at all.
    assert_ne!(complaints(b"GET / HTTP/1.1\r\n\r\n"), Vec::<String>::new());
}
