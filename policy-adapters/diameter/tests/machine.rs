//! The node without I/O: strangers, routes, failover, copies, restarts, bounds.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use std::net::IpAddr;
use support::messages::{self, ccr_initial};
use support::rig::{
    PCEF, RELAY, Rig, US, WATCHDOG_MS, address, answer_to, code, header, peer, settings, with_hop,
};
use tollway_diameter::avp::ietf;
use tollway_diameter::limits::{
    COPIES_MAX, INCOMING_BYTES_MAX, INCOMING_MAX, INCOMING_MS_MAX, ORIGINS_MAX, PENDING_MAX, STRANGER_MS_MAX,
    STRANGERS_MAX,
};
use tollway_diameter::machine::{Event, Failure, Input, Machine, Proof, RequestId, SettingsError, Token};
use tollway_diameter::message::{FLAG_RETRANSMITTED, set_end_to_end};
use tollway_diameter::peer::{Transmit, cause};
use tollway_diameter::{Message, Origin, Writer, answer, application, command, result};

fn requests(events: &[Event]) -> Vec<Token> {
    let token = |event: &Event| if let Event::Request { token, .. } = event { Some(*token) } else { None };
    events.iter().filter_map(token).collect()
}

#[test]
fn strangers_get_what_they_deserve() {
    let elsewhere = IpAddr::from([192, 0, 2, 1]);
    for (what, host, applications, from, expected) in [
        ("unknown host", "who.example.net", vec![application::GX], address(), result::UNKNOWN_PEER),
        ("another address", PCEF, vec![application::GX], elsewhere, result::UNKNOWN_PEER),
        ("no common application", PCEF, vec![4], address(), result::NO_COMMON_APPLICATION),
        ("no application", PCEF, vec![], address(), result::NO_COMMON_APPLICATION),
    ] {
        let mut rig = Rig::new(vec![peer(PCEF, "example.net")]);
        let conn = rig.cer(host, 1, &applications, from);
        let made = rig.transmits();
        let [Transmit::Send(to, cea), Transmit::Close(closed)] = &made[..] else {
            panic!("{what}: {made:?}")
        };
        assert_eq!((*to, *closed, code(cea)), (conn, conn, expected), "{what}");
        assert_eq!(header(cea).is_error(), expected < 4_000, "{what}");
        assert!(matches!(&rig.events()[..], [Event::Stranger { code, .. }] if *code == expected), "{what}");
        assert_eq!(rig.machine.poll_timeout(), None);
    }
}

#[test]
fn a_certificate_is_asked_for_where_it_is_the_proof() {
    let by_certificate =
        tollway_diameter::machine::PeerSettings { proof: Proof::Certificate, ..peer(PCEF, "example.net") };
    let mut rig = Rig::new(vec![by_certificate]);
    rig.cer(PCEF, 1, &[application::GX], address());
    assert!(matches!(&rig.events()[..], [Event::Stranger { code: result::UNKNOWN_PEER, .. }]));
}

#[test]
fn strangers_are_few_and_short() {
    let mut rig = Rig::new(vec![peer(PCEF, "example.net")]);
    for _ in 0..STRANGERS_MAX {
        rig.accept(address());
    }
    assert_eq!(rig.transmits(), []);
    let one_more = rig.accept(address());
    assert_eq!(rig.transmits(), [Transmit::Close(one_more)]);
    rig.until(STRANGER_MS_MAX);
    assert_eq!(rig.transmits().len(), STRANGERS_MAX);
    // Whoever does not begin with a CER is closed at once.
    let conn = rig.accept(address());
    rig.receive(conn, ccr_initial());
    assert_eq!(rig.transmits(), [Transmit::Close(conn)]);
}

#[test]
fn requests_are_judged_and_each_refusal_has_its_code() {
    let (mut rig, pcef, _) = Rig::with_relay();
    let edit = |realm: &str, host: Option<&str>, route: Option<&str>| {
        let mut writer = Writer::request(command::CREDIT_CONTROL, application::GX);
        writer.text(ietf::SESSION_ID, "s;1");
        writer.u32(ietf::AUTH_APPLICATION_ID, application::GX);
        messages::origin(PCEF).write(&mut writer);
        writer.text(ietf::DESTINATION_REALM, realm);
        host.into_iter().for_each(|host| writer.text(ietf::DESTINATION_HOST, host));
        route.into_iter().for_each(|host| writer.text(ietf::ROUTE_RECORD, host));
        writer.u32(ietf::CC_REQUEST_TYPE, 1);
        writer.u32(ietf::CC_REQUEST_NUMBER, 0);
        writer.finish().unwrap()
    };
    for (bytes, expected) in [
        (edit("other.net", None, None), result::REALM_NOT_SERVED),
        (edit("example.net", Some("other.example.net"), None), result::UNABLE_TO_DELIVER),
        (edit("example.net", None, Some(US)), result::LOOP_DETECTED),
    ] {
        rig.receive(pcef, bytes);
        let sent = rig.sent();
        assert_eq!((sent.len(), sent[0].0, code(&sent[0].1)), (1, pcef, expected));
        assert!(header(&sent[0].1).is_error());
    }
    for (what, bytes, expected) in messages::killers() {
        rig.receive(pcef, bytes);
        let sent = rig.sent();
        assert_eq!(sent.iter().map(|(_, bytes)| code(bytes)).collect::<Vec<_>>(), [expected], "{what}");
    }
    assert_eq!(rig.events(), []);
    rig.receive(pcef, edit("EXAMPLE.net", Some(US), Some(RELAY)));
    assert_eq!(requests(&rig.events()).len(), 1);
}

#[test]
fn a_lost_stream_closes_that_peer_only() {
    let (mut rig, pcef, relay) = Rig::with_relay();
    let error = tollway_diameter::Error::MessageLength(0);
    let good = header(&ccr_initial());
    rig.give(Input::Garbage { conn: pcef, error, header: Some(good) });
    let made = rig.transmits();
    assert!(matches!(&made[..], [Transmit::Send(_, bytes), Transmit::Close(_)] if code(bytes) == 5015));
    assert!(matches!(&rig.events()[..], [Event::Lost { peer: 0, .. }]));
    rig.receive(relay, ccr_initial());
    assert_eq!(requests(&rig.events()).len(), 1);
    rig.give(Input::Garbage { conn: relay, error, header: None });
    assert_eq!(rig.transmits(), [Transmit::Close(relay)]);
}

#[test]
fn a_request_goes_to_its_host_and_its_answer_comes_back() {
    let (mut rig, pcef, _) = Rig::with_relay();
    rig.ask(1, 1_000);
    let sent = rig.sent();
    assert_eq!((sent.len(), sent[0].0), (1, pcef));
    let answer = answer_to(&sent[0].1, result::SUCCESS);
    // Another's hop-by-hop id, and the right one from another peer, are not ours.
    rig.receive(pcef, with_hop(answer.clone(), 999_999));
    assert_eq!(rig.events(), []);
    rig.receive(pcef, answer.clone());
    assert!(matches!(&rig.events()[..], [Event::Answered { id: RequestId(1), peer: 0, .. }]));
    rig.receive(pcef, answer);
    assert_eq!(rig.events(), []);
    assert_eq!(rig.machine.views()[0].counters.late, 2);
}

#[test]
fn without_the_host_a_relay_gets_it() {
    let (mut rig, pcef, relay) = Rig::with_relay();
    rig.give(Input::Closed { conn: pcef });
    rig.events();
    rig.ask(1, 1_000);
    let sent = rig.sent();
    assert_eq!((sent.len(), sent[0].0), (1, relay));
    assert_eq!(header(&sent[0].1).flags & FLAG_RETRANSMITTED, 0);
    rig.give(Input::Closed { conn: relay });
    rig.ask(2, 1_000);
    assert!(rig.events().contains(&Event::Failed { id: RequestId(2), failure: Failure::NoRoute }));
    rig.until(1_000);
    assert_eq!(rig.events(), [Event::Failed { id: RequestId(1), failure: Failure::Timeout }]);
}

#[test]
fn a_silent_peer_fails_over_with_t_and_the_same_end_to_end_id() {
    let (mut rig, pcef, relay) = Rig::with_relay();
    rig.until(WATCHDOG_MS);
    rig.dwa(relay, RELAY);
    let watchdogs = rig.sent();
    assert_eq!(watchdogs.len(), 2);
    rig.ask(1, 10 * WATCHDOG_MS);
    let first = rig.sent();
    assert_eq!(first[0].0, pcef);
    rig.until(2 * WATCHDOG_MS);
    assert!(rig.events().contains(&Event::Suspect { peer: 0 }));
    let sent = rig.sent();
    let again: Vec<_> = sent.iter().filter(|(_, bytes)| header(bytes).command == command::RE_AUTH).collect();
    assert_eq!((again.len(), again[0].0), (1, relay));
    let (before, after) = (header(&first[0].1), header(&again[0].1));
    assert_eq!(after.flags, before.flags | FLAG_RETRANSMITTED);
    assert_eq!(after.end_to_end, before.end_to_end);
    assert_ne!(after.hop_by_hop, before.hop_by_hop);
    rig.receive(relay, answer_to(&again[0].1, result::SUCCESS));
    assert!(rig.events().iter().any(|event| matches!(event, Event::Answered { peer: 1, .. })));
    // New requests do not go to a suspect.
    rig.ask(2, 1_000);
    assert!(rig.sent().iter().all(|(conn, _)| *conn == relay));
}

#[test]
fn without_an_alternate_it_waits_and_is_sent_again_when_the_peer_is_back() {
    let mut rig = Rig::new(vec![peer(PCEF, "example.net")]);
    let first = rig.connect(PCEF, &[application::GX]);
    rig.ask(1, 20_000);
    let sent = rig.sent();
    rig.give(Input::Closed { conn: first });
    let second = rig.connect(PCEF, &[application::GX]);
    // Lost before: three watchdog answers, then it is used again (RFC 3539 §3.4.1).
    for _ in 0..3 {
        rig.dwa(second, PCEF);
    }
    let again: Vec<_> =
        rig.sent().into_iter().filter(|(_, bytes)| header(bytes).command == command::RE_AUTH).collect();
    assert_eq!((again.len(), again[0].0), (1, second));
    assert!(header(&again[0].1).is_retransmitted());
    assert_eq!(header(&again[0].1).end_to_end, header(&sent[0].1).end_to_end);
    rig.receive(second, answer_to(&again[0].1, 5_002));
    let is_answer =
        |event: &Event| matches!(event, Event::Answered { frame, .. } if code(frame.bytes()) == 5_002);
    assert!(rig.events().iter().any(is_answer));
}

#[test]
fn what_a_relay_cannot_deliver_goes_another_way() {
    let mut rig = Rig::new(vec![peer(RELAY, "example.net"), peer("relay2.example.net", "example.net")]);
    let one = rig.connect(RELAY, &[application::RELAY]);
    let two = rig.connect("relay2.example.net", &[application::RELAY]);
    rig.events();
    rig.ask(1, 1_000);
    let sent = rig.sent();
    assert_eq!(sent[0].0, one);
    rig.receive(one, answer_to(&sent[0].1, result::UNABLE_TO_DELIVER));
    let sent = rig.sent();
    assert_eq!(sent[0].0, two);
    rig.receive(two, answer_to(&sent[0].1, result::UNABLE_TO_DELIVER));
    assert!(matches!(&rig.events()[..], [Event::Answered { peer: 1, .. }]));
}

#[test]
fn a_copy_gets_the_same_answer_and_no_second_effect() {
    let (mut rig, pcef, relay) = Rig::with_relay();
    let ccr = with_hop(ccr_initial(), 100);
    rig.receive(pcef, ccr.clone());
    // While the first is open: through a relay, with another hop-by-hop id and the T flag.
    let mut copy = with_hop(ccr.clone(), 200);
    copy[4] |= FLAG_RETRANSMITTED;
    rig.receive(relay, copy);
    let tokens = requests(&rig.events());
    assert_eq!((tokens.len(), rig.sent().len()), (1, 0));
    let message = Message::parse(&ccr).unwrap();
    let mut cca = answer::answer_with(&message, &messages::origin(US), result::SUCCESS);
    cca.u32(ietf::CC_REQUEST_TYPE, 1);
    rig.give(Input::Answer { token: tokens[0], bytes: cca.finish().unwrap() });
    let mut sent = rig.sent();
    sent.sort();
    assert_eq!(
        sent.iter().map(|(conn, bytes)| (*conn, header(bytes).hop_by_hop)).collect::<Vec<_>>(),
        [(pcef, 100), (relay, 200)]
    );
    // And after it.
    rig.receive(pcef, with_hop(ccr.clone(), 300));
    let after = rig.sent();
    assert_eq!(with_hop(after[0].1.clone(), 100), sent[0].1);
    assert_eq!((rig.events(), header(&after[0].1).hop_by_hop), (vec![], 300));
    // Another end-to-end id is another request.
    let mut next = ccr;
    set_end_to_end(&mut next, 99);
    rig.receive(pcef, next);
    assert_eq!(requests(&rig.events()).len(), 1);
}

#[test]
fn what_nobody_answers_is_answered() {
    let (mut rig, pcef, _) = Rig::with_relay();
    rig.receive(pcef, ccr_initial());
    let token = requests(&rig.events())[0];
    rig.give(Input::Answer { token, bytes: ccr_initial() });
    assert_eq!(code(&rig.sent()[0].1), result::UNABLE_TO_COMPLY);
    let mut next = ccr_initial();
    set_end_to_end(&mut next, 99);
    rig.receive(pcef, next.clone());
    rig.until(INCOMING_MS_MAX);
    let sent = rig.sent();
    let codes: Vec<u32> =
        sent.iter().filter(|(_, b)| !header(b).is_request()).map(|(_, b)| code(b)).collect();
    assert_eq!(codes, [result::UNABLE_TO_COMPLY]);
    // Its answer was for a lost connection: kept, and given to the copy over the next one.
    rig.receive(pcef, next);
    assert_eq!(code(&rig.sent()[0].1), result::UNABLE_TO_COMPLY);
}

#[test]
fn a_restarted_host_is_told_once() {
    let (mut rig, pcef, relay) = Rig::with_relay();
    let restarted = |events: Vec<Event>| {
        events.into_iter().filter(|event| matches!(event, Event::Restarted { .. })).collect::<Vec<_>>()
    };
    rig.give(Input::Closed { conn: pcef });
    rig.cer(PCEF, 8, &[application::GX], address());
    assert_eq!(restarted(rig.events()), [Event::Restarted { host: PCEF.into(), state_id: 8 }]);
    // Behind a relay too, and not for a lower or equal number.
    for (state_id, expected) in [(8, 0), (3, 0), (9, 1), (9, 0)] {
        let mut writer = Writer::request(command::CREDIT_CONTROL, application::GX);
        messages::ccr_initial_into(&mut writer);
        let mut ccr = writer.finish().unwrap();
        let at = ccr.windows(8).position(|w| w[..4] == 278u32.to_be_bytes() && w[7] == 12).unwrap();
        ccr[at + 8..at + 12].copy_from_slice(&u32::to_be_bytes(state_id));
        set_end_to_end(&mut ccr, 1_000 + state_id + expected);
        rig.receive(relay, ccr);
        assert_eq!(restarted(rig.events()).len(), expected as usize, "{state_id}");
    }
}

#[test]
fn tables_are_bounded() {
    let mut rig = Rig::new(vec![peer(PCEF, "example.net")]);
    let pcef = rig.connect(PCEF, &[application::GX]);
    rig.events();
    for id in 0..=PENDING_MAX as u64 {
        rig.ask(id, 1_000_000);
    }
    assert_eq!(rig.events(), [Event::Failed { id: RequestId(PENDING_MAX as u64), failure: Failure::Busy }]);
    rig.transmits();
    for number in 0..=INCOMING_MAX as u32 {
        let mut ccr = ccr_initial();
        set_end_to_end(&mut ccr, number);
        rig.receive(pcef, ccr);
    }
    assert_eq!(requests(&rig.events()).len(), INCOMING_MAX);
    let sent = rig.sent();
    assert_eq!(sent.iter().map(|(_, bytes)| code(bytes)).collect::<Vec<_>>(), [result::TOO_BUSY]);
}

/// A CCR-I of a host behind the relay, with so many bytes of ballast.
fn ccr_of(host: &str, state_id: u32, number: u32, ballast: usize) -> Vec<u8> {
    let mut writer = Writer::request(command::CREDIT_CONTROL, application::GX);
    writer.text(ietf::SESSION_ID, "s");
    writer.u32(ietf::AUTH_APPLICATION_ID, application::GX);
    Origin { host: host.into(), realm: "example.net".into(), state_id }.write_with_state(&mut writer);
    writer.text(ietf::DESTINATION_REALM, "example.net");
    writer.u32(ietf::CC_REQUEST_TYPE, 1);
    writer.u32(ietf::CC_REQUEST_NUMBER, 0);
    writer.octets(ietf::CLASS, &vec![0; ballast]);
    let mut bytes = writer.finish().unwrap();
    set_end_to_end(&mut bytes, number);
    bytes
}

#[test]
fn copies_and_bytes_are_bounded() {
    let (mut rig, pcef, relay) = Rig::with_relay();
    for hop in 0..10 {
        rig.receive(pcef, with_hop(ccr_initial(), hop));
    }
    let token = requests(&rig.events())[0];
    rig.give(Input::Abandon { token, code: result::UNABLE_TO_COMPLY });
    assert_eq!(rig.sent().len(), 1 + COPIES_MAX);
    let fit = INCOMING_BYTES_MAX.div_ceil(ccr_of(PCEF, 7, 0, 60_000).len());
    for number in 0..=fit as u32 {
        rig.receive(relay, ccr_of(PCEF, 7, number, 60_000));
    }
    assert_eq!(requests(&rig.events()).len(), fit);
    assert_eq!(code(&rig.sent()[0].1), result::TOO_BUSY);
}

#[test]
fn hosts_behind_relays_are_remembered_up_to_a_bound() {
    let (mut rig, _, relay) = Rig::with_relay();
    let mut restarts = 0;
    for (state_id, number) in [(1, 0), (2, ORIGINS_MAX as u32 + 10)] {
        for host in 0..=ORIGINS_MAX as u32 {
            rig.receive(relay, ccr_of(&format!("h{host}.example.net"), state_id, number + host, 0));
            for event in rig.events() {
                match event {
                    Event::Request { token, .. } => {
                        rig.give(Input::Abandon { token, code: result::UNABLE_TO_COMPLY });
                    }
                    other => restarts += usize::from(matches!(other, Event::Restarted { .. })),
                }
            }
            rig.transmits();
        }
    }
    // The two peers have their places already.
    assert_eq!(restarts, ORIGINS_MAX - 2);
}

#[test]
fn stop_disconnects_all_and_nobody_comes_back() {
    let (mut rig, pcef, relay) = Rig::with_relay();
    rig.give(Input::Stop { peer: None, cause: cause::REBOOTING });
    let sent = rig.sent();
    assert_eq!(sent.iter().map(|(conn, _)| *conn).collect::<Vec<_>>(), [pcef, relay]);
    assert!(sent.iter().all(|(_, bytes)| header(bytes).command == command::DISCONNECT_PEER));
    rig.ask(1, 1_000);
    assert!(rig.events().contains(&Event::Failed { id: RequestId(1), failure: Failure::NoRoute }));
    rig.until(60_000);
    assert_eq!(rig.transmits(), [Transmit::Close(pcef), Transmit::Close(relay)]);
    assert_eq!(rig.machine.poll_timeout(), None);
}

#[test]
fn settings_are_checked_whole() {
    let twice = vec![peer(PCEF, "example.net"), peer("PCEF.example.net", "example.net")];
    let ourselves = vec![peer(US, "example.net")];
    let no_name = vec![peer("a b", "example.net")];
    let many = (0..65).map(|n| peer(&format!("p{n}.example.net"), "example.net")).collect();
    for (peers, message) in [
        (twice, "peer PCEF.example.net is configured twice, or is ourselves"),
        (ourselves, "peer pcrf.example.net is configured twice, or is ourselves"),
        (no_name, "\"a b\" is no name of a Diameter node: visible ASCII, at most 255 bytes"),
        (many, "65 peers; at most 64 are taken"),
    ] {
        assert_eq!(Machine::new(settings(peers)).unwrap_err().to_string(), message);
    }
    let mut empty = settings(Vec::new());
    empty.local.applications.clear();
    assert_eq!(Machine::new(empty).unwrap_err(), SettingsError::Capabilities);
}

#[test]
fn mutants_do_not_disturb_the_others() {
    let (mut rig, mut pcef, relay) = Rig::with_relay();
    let seeds = messages::all();
    let mut random = support::Random::new(3);
    for number in 0..20_000u32 {
        let seed = &seeds[random.below(seeds.len())];
        let mutant = support::mutants::mutate(seed, &mut random);
        rig.receive(pcef, mutant.clone());
        let stranger = rig.accept(address());
        rig.receive(stranger, mutant);
        rig.give(Input::Closed { conn: stranger });
        for transmit in rig.transmits() {
            assert_ne!(transmit, Transmit::Close(relay), "mutant {number}");
        }
        for token in requests(&rig.events()) {
            rig.give(Input::Abandon { token, code: result::UNABLE_TO_COMPLY });
        }
        rig.transmits();
        if rig.machine.owner(pcef).is_none()
            || rig.machine.peer(0).is_none_or(|peer| peer.open_on() != Some(pcef))
        {
            rig.give(Input::Closed { conn: pcef });
            pcef = rig.cer(PCEF, 7, &[application::GX], address());
        }
    }
    rig.receive(relay, with_hop(ccr_initial(), 4_711));
    assert!(rig.machine.peer(1).is_some_and(|peer| peer.usable_on() == Some(relay)));
}
