//! Who may open a session and who may not; what is recorded before it is answered; messages that mean harm.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use support::*;
use tollway_diameter::avp::ietf::{
    CALLED_STATION_ID, FAILED_AVP, FRAMED_IP_ADDRESS, FRAMED_IPV6_PREFIX, SUBSCRIPTION_ID,
    SUBSCRIPTION_ID_DATA, SUBSCRIPTION_ID_TYPE, USED_SERVICE_UNIT,
};
use tollway_diameter::avp::tgpp::{
    APN_AGGREGATE_MAX_BITRATE_DL, CHARGING_RULE_INSTALL, CHARGING_RULE_NAME, CHARGING_RULE_REPORT,
    DEFAULT_EPS_BEARER_QOS, EVENT_TRIGGER, MONITORING_KEY, PCC_RULE_STATUS, QOS_INFORMATION,
    SUPPORTED_FEATURES, TGPP_SGSN_MCC_MNC, TGPP_USER_LOCATION_INFO, USAGE_MONITORING_INFORMATION,
};
use tollway_diameter::{Message, Writer};
use tollway_gx::{Closed, Input, Mark};
use tollway_policy::{DeviceAddress, SubscriberRef};

#[test]
fn a_cca_has_what_the_profile_says() {
    let mut world = World::new(settings());
    let answer = world.ask_for(attach(1, &session(1)));
    let message = Message::parse(&answer).unwrap();
    assert!(message.find(DEFAULT_EPS_BEARER_QOS).is_some());
    let ambr = message.find(QOS_INFORMATION).and_then(|qos| qos.find(APN_AGGREGATE_MAX_BITRATE_DL));
    assert_eq!(ambr.and_then(|avp| avp.u32()), Some(50_000_000));
    let standing = message.find(CHARGING_RULE_INSTALL).unwrap();
    assert_eq!(standing.find(CHARGING_RULE_NAME).and_then(|name| name.text()), Some("dns-free"));
    let triggers: Vec<_> = message.all(EVENT_TRIGGER).filter_map(|avp| avp.u32()).collect();
    assert_eq!(triggers, [4, 5, 6, 22, 33]);
}

#[test]
fn a_session_is_recorded_before_it_is_answered() {
    let mut world = World::new(settings());
    world.is_store_up = false;
    let token = world.send(attach(1, &session(1)));
    let learnt = world.opened().remove(0);
    assert_eq!((learnt.access.subscriber, learnt.access.apn.as_str()), (SubscriberRef(1), APN));
    assert_eq!(learnt.address, DeviceAddress { v4: Some([10, 0, 0, 1].into()), v6: None });
    assert_eq!((learnt.name.session_id, learnt.name.origin_host), (session(1), GATEWAY.to_owned()));
    // Its rule waits behind its answer, and both behind the record.
    world.input(Input::Desire(Box::new(desire(1, 1, START))));
    assert!(!world.answers.contains_key(&token) && world.requests.is_empty());
    world.gate.durable(Mark(0));
    world.input(Input::Tick);
    assert!(world.answers.is_empty());
    world.is_store_up = true;
    world.input(Input::Tick);
    assert!(world.answers.contains_key(&token) && world.requests.len() == 1);
}

#[test]
fn only_our_apns_and_never_voice() {
    let mut world = World::new(settings());
    for (apn, code) in [
        ("internet", 2001),
        ("Internet.mnc070.mcc999.gprs", 2001),
        ("other", 5003),
        ("ims", 5003),
        ("IMS.mnc070.mcc999.gprs", 5003),
        ("sos", 5003),
        ("sos.example", 5003),
        ("", 5140),
        ("a b", 5140),
    ] {
        assert_eq!(world.ask(attach_with(1, &format!("s;{apn}"), apn, |_| ())), code, "{apn}");
    }
    let counters = world.counters();
    assert_eq!((counters.apn_refused, counters.voice_apn_refused, counters.malformed), (1, 4, 2));
    assert_eq!((counters.opened, counters.superseded), (2, 1));
}

#[test]
fn a_subscriber_without_profile_is_refused() {
    let mut world = World::of(settings(), table());
    world.input(Input::Ready);
    assert_eq!(world.ask(attach(2, &session(2))), 5030);
    assert_eq!((world.facts.len(), world.counters().subscriber_unknown), (0, 1));
    assert_eq!(world.ask(attach(1, &session(1))), 2001);
}

#[test]
fn outside_the_home_networks_nothing_is_sold() {
    let mut world = World::new(settings());
    let from = |fill: fn(&mut Writer)| {
        ccr(1, 0, &session(1), |w| {
            identity(w, "999700000000001");
            w.octets(FRAMED_IP_ADDRESS, &address(1));
            w.text(CALLED_STATION_ID, APN);
            fill(w);
        })
    };
    type Fill = fn(&mut Writer);
    let cases: [(Fill, u32); 5] = [
        (|w| w.text(TGPP_SGSN_MCC_MNC, "26201"), 5003),
        (|w| w.text(TGPP_SGSN_MCC_MNC, "nonsense"), 5140),
        (|_| (), 5140),
        (|w| w.octets(TGPP_USER_LOCATION_INFO, &[130, 0x62, 0xf2, 0x10, 0, 1]), 5003),
        (|w| w.octets(TGPP_USER_LOCATION_INFO, &[130, 0x99, 0xf9, 0x07, 0, 1]), 2001),
    ];
    for (fill, code) in cases {
        assert_eq!(world.ask(from(fill)), code);
    }
    assert_eq!((world.counters().plmn_refused, world.machine.sessions_len()), (4, 1));
}

#[test]
fn moved_out_in_a_live_session() {
    let mut world = World::active();
    world.now = at(20);
    let answer = ccr(2, 2, &session(1), |w| {
        w.u32(EVENT_TRIGGER, 4);
        w.text(TGPP_SGSN_MCC_MNC, "26201");
    });
    assert_eq!(world.ask(answer), 2001, "his ordinary traffic goes on");
    assert_eq!(world.words(), ["1 withdrawn: MOVED_OUT"]);
    assert_eq!(world.rules_of_next(), (vec![], vec!["tw-1-0".to_owned()]));
    world.accept_one();
    let away: Vec<bool> = world.opened().iter().map(|session| session.is_away).collect();
    assert_eq!(away, [true]);
    world.input(Input::Desire(Box::new(desire(2, 1, START))));
    assert_eq!(world.words()[1], "2 refused: MOVED_OUT");
    world.until(at(300));
    assert_eq!(world.requests.len(), 0);
    assert_eq!(world.words()[2], "1 removed", "nobody has to ask for it");
    let active: u32 = world.readings().iter().map(|reading| reading.active_ms).sum();
    assert_eq!((active, world.readings().last().unwrap().last), (20_000, true));
    // Home again: what is still wanted holds again, what was withdrawn does not.
    world.ask(ccr(2, 3, &session(1), |w| w.text(TGPP_SGSN_MCC_MNC, "99970")));
    assert_eq!(world.rules_of_next().0, ["tw-2-0"]);
}

#[test]
fn a_newer_ccr_i_supersedes() {
    let mut world = World::active();
    // No CCR-T came; a new session with a new address.
    let second = ccr(1, 0, "pcef.example;9;9", |w| {
        identity(w, "999700000000001");
        w.octets(FRAMED_IP_ADDRESS, &[10, 9, 9, 9]);
        w.octets(FRAMED_IPV6_PREFIX, &[0, 64, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 1]);
        w.text(CALLED_STATION_ID, APN);
        w.text(TGPP_SGSN_MCC_MNC, "99970");
    });
    assert_eq!(world.ask(second), 2001);
    assert_eq!(world.closed(), [Closed::Superseded.as_str()]);
    assert_eq!((world.machine.sessions_len(), world.counters().superseded), (1, 1));
    assert_eq!(world.words(), ["1 lost: a newer session replaced it"]);
    assert_eq!(world.requests.len(), 0, "its flows are of the old address");
    assert_eq!(world.ask(ccr(2, 2, &session(1), |_| ())), 5002);
    let mut bound = desire(1, 1, START);
    bound.desired.attempt = 2;
    bound.desired.flows[0].device = "2001:db8:0:1::7".parse().unwrap();
    bound.desired.flows[0].remote = "2001:db8::1".parse().unwrap();
    world.input(Input::Desire(Box::new(bound)));
    assert_eq!(world.rules_of_next().0, ["tw-1-0"]);
    // Another subscriber at the same address: the session that had it is over.
    let third = ccr(1, 0, "pcef.example;10;1", |w| {
        identity(w, "999700000000002");
        w.octets(FRAMED_IP_ADDRESS, &[10, 9, 9, 9]);
        w.text(CALLED_STATION_ID, APN);
        w.text(TGPP_SGSN_MCC_MNC, "99970");
    });
    assert_eq!(world.ask(third), 2001);
    assert_eq!((world.machine.sessions_len(), world.counters().superseded), (1, 2));
}

/// What, the message, its result code.
type Case = (&'static str, Vec<u8>, u32);

fn raw(avp: tollway_diameter::Definition, data: &'static [u8]) -> impl Fn(&mut Writer) {
    move |w: &mut Writer| w.raw(avp.key, avp.flags(), data)
}

fn list(avp: tollway_diameter::Definition, count: usize) -> impl Fn(&mut Writer) {
    move |w: &mut Writer| (0..count).for_each(|_| w.group(avp, |w| w.u32(SUBSCRIPTION_ID_TYPE, 1)))
}

/// A CCR-I without one of the things that a decision needs.
fn lacking(which: usize) -> Vec<u8> {
    ccr(1, 0, &session(5), |w| {
        if which != 0 {
            identity(w, "999700000000005");
        }
        if which != 1 {
            w.octets(FRAMED_IP_ADDRESS, &address(5));
        }
        if which != 2 {
            w.text(CALLED_STATION_ID, APN);
        }
        w.text(TGPP_SGSN_MCC_MNC, "99970");
    })
}

fn hostile_attaches() -> Vec<Case> {
    let with = |fill: &dyn Fn(&mut Writer)| attach_with(5, &session(5), APN, fill);
    let deep = |w: &mut Writer| {
        let groups: Vec<_> = (0..8).map(|_| w.open(SUBSCRIPTION_ID)).collect();
        groups.into_iter().rev().for_each(|group| w.close(group));
    };
    let nobody = |w: &mut Writer| {
        w.group(SUBSCRIPTION_ID, |w| {
            w.u32(SUBSCRIPTION_ID_TYPE, 1);
            w.text(SUBSCRIPTION_ID_DATA, "");
        });
    };
    let unknown = |w: &mut Writer| w.raw(tollway_diameter::Key { vendor: 9, code: 1 }, 0xc0, b"x");
    vec![
        ("no Subscription-Id", lacking(0), 5140),
        ("no address", lacking(1), 5140),
        ("no Called-Station-Id", lacking(2), 5140),
        ("an event request", ccr(4, 0, &session(5), |_| ()), 5004),
        ("a type that is none", ccr(0, 0, &session(5), |_| ()), 5004),
        ("an empty Session-Id", ccr(1, 0, "", |_| ()), 5004),
        ("a Session-Id of 513 bytes", ccr(1, 0, &"s".repeat(513), |_| ()), 5004),
        ("two Session-Ids", with(&|w| w.text(tollway_diameter::avp::ietf::SESSION_ID, "x")), 5009),
        ("an unknown AVP with M", with(&unknown), 5001),
        ("an APN that is no text", with(&raw(CALLED_STATION_ID, &[0xff])), 5004),
        ("groups in groups, within the depth", with(&deep), 2001),
        ("an identity that is none", with(&nobody), 5140),
        ("9 Subscription-Ids", with(&list(SUBSCRIPTION_ID, 9)), 5140),
        ("9 Supported-Features", with(&list(SUPPORTED_FEATURES, 9)), 5009),
        ("an address of 3 bytes", ccr(1, 0, &session(5), raw_address(&[1, 2, 3])), 5140),
        ("an address for the server to choose", ccr(1, 0, &session(5), raw_address(&[255; 4])), 5140),
    ]
}

fn hostile_updates() -> Vec<Case> {
    let update = |fill: &dyn Fn(&mut Writer)| ccr(2, 2, &session(1), fill);
    let names = |w: &mut Writer| {
        w.group(CHARGING_RULE_REPORT, |w| (0..65).for_each(|_| w.text(CHARGING_RULE_NAME, "tw-1-0")));
    };
    let seven = |w: &mut Writer| {
        w.group(USAGE_MONITORING_INFORMATION, |w| {
            w.text(MONITORING_KEY, "tw-1-0");
            w.group(USED_SERVICE_UNIT, raw(tollway_diameter::avp::ietf::CC_OUTPUT_OCTETS, &[1; 7]));
        });
    };
    vec![
        ("a status of 2 bytes", update(&raw(PCC_RULE_STATUS, &[1, 2])), 5014),
        ("a status that is none", update(&|w| rule_report(w, "tw-1-0", 9, None)), 5004),
        ("2,000 rule reports", update(&list(CHARGING_RULE_REPORT, 2_000)), 5009),
        ("65 names in one report", update(&names), 5009),
        ("2,000 usage reports", update(&list(USAGE_MONITORING_INFORMATION, 2_000)), 5009),
        ("4,000 triggers", update(&|w| (0..4_000).for_each(|_| w.u32(EVENT_TRIGGER, 1))), 5009),
        ("usage of 7 bytes", update(&seven), 5014),
    ]
}

fn raw_address(data: &'static [u8]) -> impl FnOnce(&mut Writer) {
    move |w| {
        identity(w, "999700000000005");
        w.octets(FRAMED_IP_ADDRESS, data);
        w.text(CALLED_STATION_ID, APN);
        w.text(TGPP_SGSN_MCC_MNC, "99970");
    }
}

#[test]
fn hostile_messages_are_answered_and_change_nothing() {
    for (what, bytes, code) in hostile_attaches().into_iter().chain(hostile_updates()) {
        let mut world = World::active();
        let answer = world.ask_for(bytes);
        let message = Message::parse(&answer).unwrap();
        assert_eq!(message.result().unwrap().code, code, "{what}");
        if code == 2001 {
            continue;
        }
        assert_eq!(
            (world.facts.len(), world.requests.len(), world.machine.sessions_len()),
            (0, 0, 1),
            "{what}"
        );
        assert!(world.counters().malformed > 0, "{what}");
        assert!(message.find(FAILED_AVP).is_some(), "{what}");
    }
}

#[test]
fn usage_beyond_all_numbers_is_held_at_the_most() {
    let mut world = World::active();
    for number in 2..5 {
        assert_eq!(world.ask(ccr(2, number, &session(1), |w| usage(w, "tw-1-0", u64::MAX, u64::MAX))), 2001);
    }
    assert_eq!(world.readings().last().unwrap().sold.bytes, u64::MAX);
}

#[test]
fn gateways_are_bounded() {
    let mut world = World::new(settings());
    let from = |n: u32| {
        ccr_from(&format!("pcef{n}.example"), 1, 0, "s;1;1", |w| {
            identity(w, &format!("99970{n:010}"));
            w.octets(FRAMED_IP_ADDRESS, &address(u64::from(n)));
            w.text(CALLED_STATION_ID, APN);
            w.text(TGPP_SGSN_MCC_MNC, "99970");
        })
    };
    for n in 1..=4_096 {
        assert_eq!(world.ask(from(n)), 2001);
    }
    assert_eq!(world.ask(from(4_097)), 5006);
    assert_eq!((world.counters().sessions_full, world.machine.sessions_len()), (1, 4_096));
}
