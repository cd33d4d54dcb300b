//! Real peers' bytes decode, and come out again as they were.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use support::capture;
use tollway_diameter::avp::{Avp, FLAG_MANDATORY, Kind, MBit, Walk};
use tollway_diameter::{Message, Writer, check};

/// Writes every AVP anew from its parts; groups from their children.
fn rewrite(writer: &mut Writer, walk: Walk<'_>) {
    for avp in walk {
        let avp = avp.expect("the capture was checked");
        match avp.definition().map(|known| known.kind) {
            Some(Kind::Grouped) => {
                let group = writer.open_raw(avp.key, avp.flags);
                rewrite(writer, avp.walk());
                writer.close(group);
            }
            _ => writer.copy(&avp),
        }
    }
}

fn flags(avp: &Avp<'_>, odd: &mut BTreeSet<String>) {
    let known = avp.definition().unwrap_or_else(|| panic!("{} is not in the dictionary", avp.key));
    let is_set = avp.flags & FLAG_MANDATORY != 0;
    let fits = match known.m_bit {
        MBit::Must => is_set,
        MBit::May => true,
        MBit::MustNot => !is_set,
    };
    if !fits {
        odd.insert(format!("{} M={}", known.name, u8::from(is_set)));
    }
    if known.kind == Kind::Grouped {
        avp.children().for_each(|child| flags(&child, odd));
    }
}

#[test]
fn captures_decode_and_encode_to_the_same_bytes() {
    for name in capture::CAPTURES {
        let messages = capture::messages(name);
        assert!(messages.len() > 10, "{name}: {}", messages.len());
        for bytes in messages {
            let message = Message::parse(&bytes).unwrap();
            check::avps(&message).unwrap();
            let mut writer = Writer::new(message.header);
            rewrite(&mut writer, message.walk());
            assert_eq!(writer.finish().unwrap(), bytes);
        }
    }
}

#[test]
fn captures_fit_our_grammar_and_flags() {
    let mut odd = BTreeSet::new();
    for bytes in capture::all() {
        let message = Message::parse(&bytes).unwrap();
        if message.is_request() {
            let checked = check::request(&message, &[16_777_238, 16_777_236]);
            assert!(checked.is_ok(), "{:?}: {}", message.header, checked.unwrap_err());
        } else {
            assert!(message.result().is_some(), "{:?}", message.header);
        }
        message.avps().for_each(|avp| flags(&avp, &mut odd));
    }
    // The scripted peers of these captures set M everywhere; the real PCEF's flags are ours.
    let known = [
        "APN-Aggregate-Max-Bitrate-DL M=1",
        "APN-Aggregate-Max-Bitrate-UL M=1",
        "Allocation-Retention-Priority M=1",
        "Default-EPS-Bearer-QoS M=1",
        "Flow-Information M=1",
        "Pre-emption-Capability M=1",
        "Pre-emption-Vulnerability M=1",
        "Priority-Level M=1",
    ];
    assert_eq!(odd, BTreeSet::from(known.map(str::to_owned)));
}
