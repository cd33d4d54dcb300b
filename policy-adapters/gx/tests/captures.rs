//! Real peers' messages, replayed through the machine: it answers each CCR with what decodes and has no unknown AVP.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

#[path = "../../diameter/tests/support/capture.rs"]
#[allow(dead_code)]
mod capture;
mod support;

use support::*;
use tollway_diameter::avp::ietf::{CALLED_STATION_ID, CC_REQUEST_TYPE, SESSION_ID};
use tollway_diameter::{Message, command};
use tollway_gx::profile::{Identity, SubscriberProfile};
use tollway_gx::{Gateway, Input, Profile, QosClass, Rates, Reports, Settings};
use tollway_policy::SubscriberRef;

/// Whoever comes.
struct Anybody;

impl Profile for Anybody {
    fn find(&self, _: &[Identity<'_>], _: &str) -> Option<std::sync::Arc<SubscriberProfile>> {
        Some(std::sync::Arc::new(SubscriberProfile {
            subscriber: SubscriberRef(1),
            default_qos: QosClass::for_default(9, 15, None).ok()?,
            ambr: Rates { up_bps: 1_000_000_000, down_bps: 1_000_000_000 },
            standing: Vec::new(),
        }))
    }
}

fn replay(name: &str) -> (Vec<(u32, u32)>, World<Anybody>) {
    let gateway = Gateway { reports: Reports::None, ..Gateway::default() };
    let home_plmns = vec!["99970".to_owned()];
    let mut world = World::of(Settings { gateway, home_plmns, ..settings() }, Anybody);
    world.input(Input::Ready);
    let mut seen = Vec::new();
    for bytes in capture::messages(name) {
        let message = Message::parse(&bytes).unwrap();
        if !message.is_request() || message.header.command != command::CREDIT_CONTROL {
            continue;
        }
        let kind = message.u32(CC_REQUEST_TYPE).unwrap();
        let answer = world.ask_for(bytes.clone());
        let answer = Message::parse(&answer).unwrap();
        assert_eq!(answer.header.end_to_end, message.header.end_to_end);
        assert_eq!(answer.header.hop_by_hop, message.header.hop_by_hop);
        assert_eq!(answer.text(SESSION_ID), message.text(SESSION_ID));
        seen.push((kind, answer.result().unwrap().code));
    }
    (seen, world)
}

#[test]
fn a_real_gateways_session() {
    let (seen, world) = replay("pcef-open5gs.pcapng");
    assert!(seen.contains(&(1, 2001)) && seen.contains(&(3, 2001)), "{seen:?}");
    assert!(seen.iter().all(|(_, code)| *code == 2001), "{seen:?}");
    assert_eq!(world.counters().malformed, 0);
    println!("{seen:?}");
}

#[test]
fn a_relayed_session() {
    let (seen, world) = replay("relay-freediameter.pcapng");
    println!("{seen:?} {:?}", world.counters());
    assert!(!seen.is_empty());
    assert_eq!(world.counters().unwritable, 0);
}

#[test]
fn a_rule_for_a_real_gateways_session() {
    let first = capture::messages("pcef-open5gs.pcapng").into_iter().find(|bytes| {
        let message = Message::parse(bytes).unwrap();
        message.is_request() && message.u32(CC_REQUEST_TYPE) == Some(1)
    });
    let first = first.unwrap();
    assert_eq!(Message::parse(&first).unwrap().text(CALLED_STATION_ID), Some(APN));
    let mut world = World::of(settings(), Anybody);
    world.input(Input::Ready);
    assert_eq!(world.ask(first.clone()), 2001);
    let mut wanted = desire(1, 1, START);
    wanted.desired.flows[0].device = [10, 45, 0, 2].into();
    world.input(Input::Desire(Box::new(wanted)));
    assert_eq!(world.rules_of_next().0, ["tw-1-0"]);
    let rar = Message::parse(&world.requests[0].1).unwrap();
    assert_eq!(rar.text(SESSION_ID), Message::parse(&first).unwrap().text(SESSION_ID));
}
