//! What is asked for, when, and what is reported of it, on bytes of the codec both ways.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use expect_test::expect;
use support::*;
use tollway_diameter::avp::ietf::{DESTINATION_HOST, FRAMED_IPV6_PREFIX, GRANTED_SERVICE_UNIT, SESSION_ID};
use tollway_diameter::avp::tgpp::{
    FLOW_STATUS, MEDIA_COMPONENT_DESCRIPTION, SHARING_KEY_DL, SPECIFIC_ACTION, SPONSORED_CONNECTIVITY_DATA,
};
use tollway_diameter::machine::RequestId;
use tollway_diameter::{Message, command};
use tollway_rx::{Desire, Fact, Floor, Input, Known, Pcrf, Reports, Sponsor, Terms};

#[test]
fn a_first_request_in_full() {
    let world = World::asked(Desire { terms: sponsored(), ..desire(1, 1, START) });
    expect![[r#"
        Session-Id af.example;100;0;rx
        Auth-Application-Id 16777236
        Origin-Host af.example
        Origin-Realm example
        Destination-Realm example
        AF-Application-Identifier peers
        Media-Component-Description
          Media-Component-Number 1
          Media-Sub-Component
            Flow-Number 1
            Flow-Description permit in 6 from 10.0.0.1 5000 to 192.0.2.1 443
            Flow-Description permit out 6 from 192.0.2.1 443 to 10.0.0.1 5000
            Flow-Usage 0
          Media-Type 2
          Max-Requested-Bandwidth-UL 150000
          Max-Requested-Bandwidth-DL 5000000
          Min-Requested-Bandwidth-UL 150000
          Min-Requested-Bandwidth-DL 5000000
          Flow-Status 2
        Specific-Action 2
        Specific-Action 3
        Specific-Action 4
        Specific-Action 7
        Specific-Action 8
        Specific-Action 9
        Specific-Action 11
        Supported-Features
          Vendor-Id 10415
          Feature-List-ID 1
          Feature-List 2059
        Framed-IP-Address [0a, 00, 00, 01]
        Called-Station-Id internet
        Sponsored-Connectivity-Data
          Sponsor-Identity shop
          Application-Service-Provider-Identity peers.example
          Granted-Service-Unit
            CC-Output-Octets 1000000
        Rx-Request-Type 0
        Origin-State-Id 7
    "#]]
    .assert_eq(&dump(&world.requests[0].1));
}

#[test]
fn an_end_in_full() {
    let mut world = World::active();
    world.release(1);
    expect![[r#"
        Session-Id af.example;100;0;rx
        Auth-Application-Id 16777236
        Origin-Host af.example
        Origin-Realm example
        Destination-Realm example
        Destination-Host pcrf.example
        Termination-Cause 1
        Origin-State-Id 7
    "#]]
    .assert_eq(&dump(&world.requests[0].1));
    assert_eq!(world.words(), [""; 0], "not gone before the PCRF said so");
    world.until(at(7));
    world.accept_one();
    assert_eq!(world.take_words(), ["1 removed"]);
    assert_eq!(world.machine.sessions_len(), 0);
}

#[test]
fn an_access_by_prefix_and_domain_and_a_named_host() {
    let pcrf = Pcrf { host: Some("first.example".into()), ..Pcrf::of_realm("example") };
    let mut world = World::new(settings_of(pcrf));
    let mut wanted = desire(1, 1, START);
    wanted.desired.flows[0].device = "2001:db8::7".parse().unwrap();
    wanted.desired.flows[0].remote = "2001:db8:1::1".parse().unwrap();
    wanted.access.apn = None;
    wanted.access.ip_domain = Some("north".into());
    wanted.terms.application = None;
    world.desire(wanted);
    let text = dump(&world.requests[0].1);
    assert!(text.contains("Destination-Host first.example") && text.contains("IP-Domain-Id north"), "{text}");
    assert!(!text.contains("Called-Station-Id") && !text.contains("AF-Application-Identifier"), "{text}");
    let message = Message::parse(&world.requests[0].1).unwrap();
    let prefix = message.find(FRAMED_IPV6_PREFIX).unwrap().data;
    assert_eq!((prefix.len(), &prefix[..4]), (18, &[0, 128, 0x20, 1][..]));
}

#[test]
fn flows_are_components_that_share_and_are_taken_back() {
    let mut world = World::new(settings());
    let mut wanted = desire(1, 1, START);
    wanted.desired.flows = (1..=3).map(|port| flow(1, port)).collect();
    world.desire(wanted.clone());
    let components = |bytes: &[u8]| -> Vec<(Option<u32>, Option<u32>)> {
        let message = Message::parse(bytes).unwrap();
        let get = |group: tollway_diameter::Avp<'_>, avp| group.find(avp).and_then(|avp| avp.u32());
        message
            .all(MEDIA_COMPONENT_DESCRIPTION)
            .map(|group| (get(group, FLOW_STATUS), get(group, SHARING_KEY_DL)))
            .collect()
    };
    assert_eq!(components(&world.requests[0].1), [(Some(2), Some(8)); 3]);
    world.accept_one();
    // Fewer flows: the others are removed by number, and only once.
    wanted.desired.attempt = 2;
    wanted.desired.flows.truncate(1);
    world.desire(wanted.clone());
    let status: Vec<_> = components(&world.requests[0].1);
    assert_eq!(status, [(Some(2), None), (Some(4), None), (Some(4), None)]);
    assert!(
        Message::parse(&world.requests[0].1).unwrap().find(SPECIFIC_ACTION).is_none(),
        "not in an update"
    );
    world.accept_one();
    assert_eq!(world.record(ID).unwrap().components, 1);
    // More again: recorded before it leaves, since after a crash it must be known what to take back.
    world.is_store_up = false;
    wanted.desired.attempt = 3;
    wanted.desired.flows = (1..=2).map(|port| flow(1, port)).collect();
    world.desire(wanted);
    assert_eq!((world.requests.len(), world.record(ID).unwrap().components), (0, 2));
    world.gate.durable(world.mark);
    world.carry();
    assert_eq!(components(&world.requests[0].1).len(), 2);
}

#[test]
fn accepted_is_not_active() {
    let mut world = World::asked(desire(1, 1, START));
    world.accept_one();
    world.until(at(200));
    assert_eq!(world.take_words(), ["1 accepted"]);
    assert_eq!(world.readings().len(), 0, "no time accrues");
    assert_eq!(world.ask(rar(ID, &[8], |_| ())), 2001);
    world.until(at(230));
    world.release(1);
    world.accept_one();
    assert_eq!(world.words(), ["1 active", "1 removed"]);
    let active: u32 = world.readings().iter().map(|reading| reading.active_ms).sum();
    assert_eq!(active, 30_000);
    assert!(world.readings().last().unwrap().last);
}

#[test]
fn without_reports_accepted_is_all_and_says_so() {
    let pcrf = Pcrf { reports: Reports::None, ..Pcrf::of_realm("example") };
    let mut world = World::new(settings_of(pcrf));
    world.desire(desire(1, 1, START));
    let message = Message::parse(&world.requests[0].1).unwrap();
    let actions: Vec<_> = message.all(SPECIFIC_ACTION).filter_map(|avp| avp.u32()).collect();
    assert_eq!(actions, [2, 3, 4]);
    world.accept_one();
    // What is heard all the same: a loss is one, a recovery is no proof.
    for action in [8, 2, 3] {
        assert_eq!(world.ask(rar(ID, &[action], |_| ())), 2001);
    }
    let words = ["1 accepted unconfirmed", "1 lost: loss of bearer unconfirmed", "1 accepted unconfirmed"];
    assert_eq!(world.words(), words);
    world.until(at(200));
    assert_eq!(world.readings().len(), 0);
}

#[test]
fn active_needs_every_flow() {
    let mut world = World::new(settings());
    let mut wanted = desire(1, 1, START);
    wanted.desired.flows = vec![flow(1, 1), flow(1, 2)];
    world.desire(wanted);
    world.accept_one();
    world.ask(rar(ID, &[8], |w| component(w, 2)));
    assert_eq!(world.take_words(), ["1 accepted"]);
    // A reconnection in between does not forget what was said.
    world.input(Input::PeerUp { origin_host: Some(HOST.into()) });
    world.accept_one();
    world.ask(rar(ID, &[8], |w| component(w, 1)));
    assert_eq!(world.take_words(), ["1 active"]);
    // One flow lost is the promise lost; back with that flow.
    world.ask(rar(ID, &[2], |w| component(w, 1)));
    world.ask(rar(ID, &[3], |w| component(w, 1)));
    // None of ours.
    world.ask(rar(ID, &[2], |w| component(w, 7)));
    assert_eq!(world.take_words(), ["1 lost: loss of bearer", "1 active"]);
    assert_eq!(world.requests.len(), 0, "the PCRF keeps the session and says when it is back");
}

#[test]
fn a_schedule_is_followed_by_updates_at_its_edges() {
    let steps = [(60, 5_000_000), (60, 2_000_000), (60, 0), (60, 3_000_000)];
    let mut world = World::new(settings());
    world.desire(with_schedule(desire(1, 1, at(10)), at(10), &steps));
    world.until(at(9));
    assert_eq!((world.asks(), world.machine.sessions_len()), (vec![], 0), "a PCRF has no timed rules");
    let mut seen = Vec::new();
    for second in [10, 70, 130, 190, 250] {
        world.until(at(second).plus_ms(0).max(world.now));
        let asks = world.asks();
        seen.push(format!("{second} {}", asks.join(", ")));
        while !world.requests.is_empty() {
            let (_, bytes) = world.requests[0].clone();
            world.accept_one();
            if Message::parse(&bytes).unwrap().header.command == command::AA {
                let id = Message::parse(&bytes).unwrap().text(SESSION_ID).unwrap().to_owned();
                world.ask(rar(&id, &[8], |_| ()));
            }
        }
    }
    expect![[r#"
        10 initial 0 5000000
        70 update 0 2000000
        130 end 0
        190 initial 1 3000000
        250 end 1"#]]
    .assert_eq(&seen.join("\n"));
    assert_eq!(world.words().last().unwrap(), "1 removed");
    let active: u32 = world.readings().iter().map(|reading| reading.active_ms).sum();
    assert_eq!(active, 180_000, "the gap does not accrue");
    assert_eq!(world.machine.poll_timeout(), None, "nothing is left");
}

#[test]
fn an_end_nobody_asked_for_comes_at_valid_until() {
    let mut world = World::active();
    world.until(at(3_600));
    assert_eq!(world.asks(), ["end 0"]);
    world.accept_one();
    assert_eq!(world.words(), ["1 removed"]);
}

#[test]
fn another_address_is_another_session() {
    let mut world = World::active();
    let mut wanted = desire(1, 2, START);
    wanted.desired.attempt = 2;
    world.desire(wanted);
    assert_eq!(world.asks(), ["end 0", "initial 1 5000000"]);
    world.accept_one();
    world.accept_one();
    world.ask(rar("af.example;100;1;rx", &[8], |_| ()));
    assert_eq!(world.words(), ["1 lost: the device has another address", "1 accepted", "1 active"]);
    assert_eq!(world.machine.sessions_len(), 1);
}

#[test]
fn a_report_of_an_older_attempt_does_not_confirm_a_newer_one() {
    let mut world = World::asked(desire(1, 1, START));
    world.accept_one();
    let mut wanted = desire(1, 1, START);
    wanted.desired.attempt = 2;
    wanted.desired.flows[0].device_port = Some(6_000);
    world.desire(wanted);
    world.ask(rar(ID, &[8], |_| ()));
    let attempts: Vec<u32> = world
        .facts
        .iter()
        .filter_map(|fact| if let Fact::Leg { attempt, .. } = fact { Some(*attempt) } else { None })
        .collect();
    assert_eq!((world.words().len(), attempts), (2, vec![1, 1]), "{:?}", world.words());
}

#[test]
fn what_cannot_be_asked_for_is_refused_here() {
    let tall = with_schedule(desire(1, 1, START), START, &[(60, 5_000_000_000)]);
    let mut two = desire(1, 1, START);
    two.desired.flows.push(flow(2, 1));
    let mut many = desire(1, 1, START);
    many.desired.flows = (1..=9).map(|port| flow(1, port)).collect();
    let mut none = desire(1, 1, START);
    none.desired.flows.clear();
    let mut mixed = desire(1, 1, START);
    mixed.desired.flows[0].remote = "2001:db8::1".parse().unwrap();
    let mut nowhere = desire(1, 1, START);
    nowhere.access.pcrf = "west".into();
    let mut nameless = desire(1, 1, START);
    nameless.access.apn = Some(String::new());
    let unsponsored = Desire { terms: Terms { usage_bytes: Some(1), ..terms() }, ..desire(1, 1, START) };
    let mut seen = Vec::new();
    for wanted in [tall, two, many, none, mixed, nowhere, nameless, unsponsored] {
        let mut world = World::asked(wanted);
        assert_eq!((world.requests.len(), world.machine.sessions_len()), (0, 0));
        seen.extend(world.take_words());
        world.until(at(40));
        assert_eq!(world.words(), [""; 0], "said once");
    }
    expect![[r#"
        1 refused: above 4,294,967,295 bit/s, which this PCRF does not take
        1 refused: 10.0.0.1 and 10.0.0.2: a session on Rx is of one address
        1 refused: 9 flows; the PCRF takes 8
        1 refused: no flow is bound yet: a session on Rx needs one
        1 refused: 10.0.0.1 and 2001:db8::1 are not of one family
        1 refused: "west" is none of our PCRFs
        1 refused: the access's APN or IP domain has no name, or one of more than 100 bytes
        1 refused: the tier wants usage reports without a sponsor: on Rx only sponsored usage is reported"#]]
    .assert_eq(&seen.join("\n"));
}

#[test]
fn rates_above_32_bits_where_the_pcrf_takes_them() {
    let pcrf = Pcrf { takes_extended_bw: true, ..Pcrf::of_realm("example") };
    let mut world = World::new(settings_of(pcrf));
    world.desire(with_schedule(desire(1, 1, START), START, &[(60, 5_000_000_000)]));
    let text = dump(&world.requests[0].1);
    assert!(text.contains("Max-Requested-Bandwidth-DL 4294967295"), "{text}");
    assert!(text.contains("Extended-Max-Requested-BW-DL 5000000"), "{text}");
    assert!(text.contains("Feature-List-ID 2"), "{text}");
}

#[test]
fn sponsored_usage_is_metered_once_and_granted_again() {
    let mut world = World::active_with(sponsored());
    let report = |n, up, down| numbered(rar(ID, &[11], |w| usage(w, up, down)), n);
    assert_eq!(world.ask(report(1, 1_000, 50_000)), 2001);
    let grants = |bytes: &[u8]| {
        let sponsored = Message::parse(bytes).unwrap().find(SPONSORED_CONNECTIVITY_DATA).unwrap();
        sponsored.find(GRANTED_SERVICE_UNIT).is_some()
    };
    assert_eq!(world.asks(), ["update 0 5000000"]);
    assert!(grants(&world.requests[0].1), "the next threshold");
    world.accept_one();
    // Sent again over another way: answered, not counted.
    assert_eq!(world.ask(report(1, 1_000, 50_000)), 2001);
    assert_eq!((world.requests.len(), world.counters().duplicates), (0, 1));
    assert_eq!(world.ask(report(2, 0, 7)), 2001);
    world.accept_one();
    let bytes: Vec<_> = world.readings().iter().map(|r| (r.sold.bytes, r.reverse.bytes)).collect();
    assert_eq!(bytes, [(50_000, 1_000), (50_007, 1_000)]);
    assert_eq!(world.record(ID).unwrap().usage_seen, [1, 2]);
    // A change of rate says the sponsor, and does not start the threshold anew.
    let mut wanted = Desire { terms: sponsored(), ..desire(1, 1, START) };
    wanted.desired.attempt = 2;
    world.desire(wanted);
    assert!(!grants(&world.requests[0].1));
    world.accept_one();
    // The rest comes with the end.
    world.release(1);
    world.answer_one(OK, |w| usage(w, 5, 100));
    let last = world.readings().last().map(|r| (r.sold.bytes, r.reverse.bytes, r.last));
    assert_eq!(last, Some((50_107, 1_005, true)));
    assert_eq!(world.words().last().unwrap(), "1 removed");
}

#[test]
fn a_sponsor_without_usage_reports() {
    let sponsor = Sponsor { sponsor: "shop".into(), provider: "peers.example".into() };
    let terms = Terms { sponsor: Some(sponsor), floor: Floor::None, ..terms() };
    let mut world = World::asked(Desire { terms, ..desire(1, 1, START) });
    let text = dump(&world.requests[0].1);
    assert!(text.contains("Sponsor-Identity shop") && !text.contains("Granted-Service-Unit"), "{text}");
    assert!(!text.contains("Specific-Action 11") && !text.contains("Min-Requested"), "{text}");
    // A PCRF that does not name the feature is counted, and served all the same.
    world.answer_one(OK, |_| ());
    assert_eq!((world.words(), world.counters().features_missing), (vec!["1 accepted".to_owned()], 1));
}

#[test]
fn nothing_leaves_before_its_session_is_recorded() {
    let mut world = World::new(settings());
    world.is_store_up = false;
    world.desire(desire(1, 1, START));
    assert!(matches!(&world.facts[..], [Fact::Opened(session)] if session.session_id == ID));
    assert_eq!(world.requests.len(), 0);
    world.gate.durable(world.mark);
    world.carry();
    assert_eq!(world.requests.len(), 1);
}

#[test]
fn later_requests_go_to_whoever_answered() {
    let mut world = World::asked(desire(1, 1, START));
    let (id, bytes) = world.requests.pop_front().unwrap();
    assert!(Message::parse(&bytes).unwrap().find(DESTINATION_HOST).is_none());
    world.answer_from("two.example", id, &bytes, OK, features);
    world.release(1);
    let message = Message::parse(&world.requests[0].1).unwrap();
    assert_eq!(message.text(DESTINATION_HOST), Some("two.example"));
}

#[test]
fn an_answer_that_is_not_awaited_changes_nothing() {
    let mut world = World::active();
    let (before, facts) = (world.machine.sessions_len(), world.facts.len());
    let request = from_pcrf(command::AA, ID, |_| ());
    world.answer_to(RequestId(999), &request, experimental(5065), |_| ());
    assert_eq!((world.machine.sessions_len(), world.facts.len()), (before, facts));
    assert_eq!(world.counters().late, 1);
}

#[test]
fn a_repeated_desire_hears_again_what_holds() {
    let mut world = World::active();
    world.desire(desire(1, 1, START));
    assert_eq!((world.take_words(), world.requests.len()), (vec!["1 active".to_owned()], 0));
    // Older attempts are stale.
    let mut older = desire(1, 1, START);
    older.desired.attempt = 0;
    older.desired.flows.clear();
    world.desire(Desire { known: Known::New, ..older });
    assert_eq!((world.words(), world.requests.len()), (vec![], 0));
}
