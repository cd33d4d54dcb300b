//! What goes wrong, one test for each way, on bytes of the codec both ways.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use support::*;
use tollway_diameter::Message;
use tollway_diameter::avp::tgpp::{CHARGING_RULE_REMOVE, USAGE_MONITORING_INFORMATION};
use tollway_diameter::machine::Failure;
use tollway_gx::{Closed, Input, Known};
use tollway_model::Timestamp;
use tollway_policy::{MobileAccess, Session, SubscriberRef};

fn release(world: &mut World, reservation: u64) {
    let access = desire(reservation, 1, START).access;
    world.input(Input::Release { leg: leg(reservation), attempt: 9, access });
}

#[test]
fn peer_restarts() {
    let mut world = World::active();
    world.now = at(10);
    world.input(Input::Restarted { origin_host: GATEWAY.into() });
    assert_eq!(world.words(), ["1 lost: the gateway restarted"]);
    assert_eq!(world.closed(), [Closed::Restarted.as_str()]);
    assert_eq!(world.machine.sessions_len(), 0);
    // The seconds until then count, none after; nothing is sent to the dead session.
    world.until(at(200));
    let active: u32 = world.readings().iter().map(|reading| reading.active_ms).sum();
    assert_eq!((active, world.requests.len()), (10_000, 0));
    // Attached anew at the same address, the promise is made good without being asked.
    assert_eq!(world.ask(attach(1, "pcef.example;2;1")), 2001);
    assert_eq!(world.rules_of_next().0, ["tw-1-0"]);
}

#[test]
fn silent_peer() {
    let mut world = World::attached();
    world.input(Input::Desire(Box::new(desire(1, 1, START))));
    for pause_s in [1, 2, 4] {
        world.fail_one(Failure::Timeout);
        assert_eq!(world.requests.len(), 0, "no storm");
        world.until(world.now.plus_ms(pause_s * 1_000 - 1));
        assert_eq!(world.requests.len(), 0);
        world.until(world.now.plus_ms(1));
        assert_eq!(world.rules_of_next().0, ["tw-1-0"], "asked again, never taken for failed");
    }
    assert_eq!(world.words(), [""; 0]);
    world.fail_one(Failure::NoRoute);
    // It comes back before the pause is over: every session is driven to what should hold at once.
    world.input(Input::PeerUp { origin_host: Some(GATEWAY.into()) });
    world.accept_one();
    assert_eq!(world.words(), ["1 accepted"]);
    world.until(at(100));
    assert_eq!(world.requests.len(), 0);
}

#[test]
fn duplicate_ccr_i_and_ccr_u() {
    let mut world = World::new(settings());
    let first = world.ask_for(attach(1, &session(1)));
    let second = world.ask_for(attach(1, &session(1)));
    assert_eq!(first, second);
    assert_eq!((world.machine.sessions_len(), world.facts.len()), (1, 1));
    world.input(Input::Desire(Box::new(desire(1, 1, START))));
    world.accept_one();
    world.facts.clear();
    let report = |number| ccr(2, number, &session(1), |w| usage(w, "tw-1-0", 1_000, 50_000));
    let answers = [world.ask_for(report(1)), world.ask_for(report(1))];
    assert_eq!(answers[0], answers[1], "the threshold is granted again");
    assert!(Message::parse(&answers[0]).unwrap().find(USAGE_MONITORING_INFORMATION).is_some());
    let bytes: Vec<_> = world.readings().iter().map(|r| (r.sold.bytes, r.reverse.bytes)).collect();
    assert_eq!(bytes, [(50_000, 1_000)]);
    assert_eq!(world.counters().duplicates, 2);
    // A later one that overtook an earlier one: both count.
    world.ask(report(3));
    world.ask(report(2));
    assert_eq!(world.readings().last().unwrap().sold.bytes, 150_000);
}

#[test]
fn raa_5002() {
    let mut world = World::attached();
    for reservation in 1..=3 {
        world.input(Input::Desire(Box::new(desire(reservation, 1, START))));
    }
    world.raa(base(5002), |_| ());
    assert_eq!(world.closed(), [Closed::Unknown.as_str()]);
    assert_eq!(world.machine.sessions_len(), 0);
    world.until(at(600));
    assert_eq!((world.requests.len(), world.counters().pushes), (0, 1), "no storm");
    assert_eq!(world.words().len(), 3, "each leg is told once: {:?}", world.words());
    assert_eq!(world.ask(ccr(2, 1, &session(1), |_| ())), 5002);
}

#[test]
fn raa_5002_of_an_active_leg() {
    let mut world = World::active();
    world.input(Input::PeerUp { origin_host: None });
    world.raa(base(5002), |_| ());
    assert_eq!(world.words(), ["1 lost: the gateway does not know the session"]);
}

#[test]
fn experimental_5142() {
    let mut world = World::attached();
    world.input(Input::Desire(Box::new(desire(1, 1, START))));
    world.raa(experimental(5142), |w| rule_report(w, "tw-1-0", 1, Some(10)));
    assert_eq!(world.words(), ["1 refused: inactive: resource allocation failure (10)"]);
    world.until(at(50));
    assert_eq!(world.requests.len(), 0, "only a new attempt asks again");
    let mut again = desire(1, 1, START);
    again.desired.attempt = 2;
    world.input(Input::Desire(Box::new(again)));
    // Without a word of which rule, all of the RAR is refused.
    world.raa(experimental(5142), |_| ());
    assert_eq!(world.words()[1], "1 refused: the gateway answered 5142");
    assert_eq!(world.readings().len(), 0, "nothing accrues");
}

#[test]
fn charging_rule_report_inactive() {
    let mut world = World::active();
    world.now = at(30);
    let report = ccr(2, 2, &session(1), |w| rule_report(w, "tw-1-0", 1, Some(10)));
    assert_eq!(world.ask(report), 2001);
    assert_eq!(world.words(), ["1 lost: inactive: resource allocation failure (10)"]);
    assert_eq!(world.requests.len(), 0);
    world.until(at(40));
    assert_eq!(world.rules_of_next().0, ["tw-1-0"], "repaired after a pause");
    world.accept_one();
    world.now = at(42);
    world.ask(ccr(2, 3, &session(1), |w| rule_report(w, "tw-1-0", 0, None)));
    assert_eq!(world.words()[1..], ["1 accepted", "1 active"]);
    world.until(at(60));
    let active: u32 = world.readings().iter().map(|reading| reading.active_ms).sum();
    assert_eq!(active, 30_000 + 18_000, "nothing accrues from that second until it is back");
}

#[test]
fn charging_rule_report_temporarily_inactive() {
    let mut world = World::active();
    world.ask(ccr(2, 2, &session(1), |w| rule_report(w, "tw-1-0", 2, Some(10))));
    world.until(at(500));
    assert_eq!(world.words(), ["1 lost: temporarily inactive: resource allocation failure (10)"]);
    assert_eq!(world.requests.len(), 0, "the gateway keeps the rule: it is not sent again");
    world.ask(ccr(2, 3, &session(1), |w| rule_report(w, "tw-1-0", 0, None)));
    assert_eq!(world.words()[1], "1 active");
}

#[test]
fn ccr_t_crossing_rar() {
    let mut world = World::attached();
    world.input(Input::Desire(Box::new(desire(1, 1, START))));
    assert_eq!(world.ask(ccr(3, 1, &session(1), |_| ())), 2001);
    let before = world.facts.len();
    world.raa(base(5002), |_| ());
    assert_eq!((world.facts.len(), world.counters().push_late), (before, 1));
    assert_eq!(world.closed(), [Closed::Ended.as_str()]);
    world.until(at(100));
    assert_eq!(world.requests.len(), 0);
}

#[test]
fn ccr_t_before_ccr_u() {
    let mut world = World::active();
    assert_eq!(world.ask(ccr(3, 3, &session(1), |w| usage(w, "tw-1-0", 1, 2_000))), 2001);
    assert_eq!(world.words(), ["1 lost: the session ended"]);
    assert_eq!(world.readings().last().unwrap().sold.bytes, 2_000, "the usage in a CCR-T counts");
    let facts = world.facts.len();
    assert_eq!(world.ask(ccr(2, 2, &session(1), |w| rule_report(w, "tw-1-0", 0, None))), 5002);
    assert_eq!((world.machine.sessions_len(), world.facts.len()), (0, facts), "not resurrected");
}

#[test]
fn ccr_u_of_an_unknown_session() {
    let mut world = World::attached();
    for kind in [2, 3] {
        assert_eq!(world.ask(ccr(kind, 1, "nobody;1;1", |_| ())), 5002);
    }
    // The same Session-Id of another gateway is another session.
    assert_eq!(world.ask(ccr_from("other.example", 2, 1, &session(1), |_| ())), 5002);
    assert_eq!((world.facts.len(), world.counters().session_unknown), (0, 3));
}

#[test]
fn rar_answered_after_its_timeout() {
    let mut world = World::attached();
    world.input(Input::Desire(Box::new(desire(1, 1, START))));
    let (id, rar) = world.requests.front().cloned().unwrap();
    world.fail_one(Failure::Timeout);
    world.raa_to(id, &rar, OK, |_| ());
    assert_eq!((world.words(), world.counters().push_late), (vec![], 1));
    world.until(at(1));
    world.accept_one();
    assert_eq!(world.words(), ["1 accepted"]);
}

#[test]
fn same_rule_installed_three_times() {
    let mut world = World::active();
    let mut pcef = Pcef::default();
    for _ in 0..3 {
        world.input(Input::PeerUp { origin_host: Some(GATEWAY.into()) });
        pcef.take(&world.requests[0].1.clone());
        world.accept_one();
    }
    assert_eq!((pcef.effects, world.words().len()), (1, 0), "one effect, and nothing new to say");
}

#[test]
fn too_busy_backs_off() {
    let mut world = World::attached();
    world.input(Input::Desire(Box::new(desire(1, 1, START))));
    for pause_s in [1, 2, 4, 8, 16, 32, 32] {
        world.raa(base(3004), |_| ());
        let busy = world.now;
        while world.requests.is_empty() {
            let due = world.machine.poll_timeout().unwrap();
            world.until(due);
        }
        assert_eq!(world.now.ms_since(busy), pause_s * 1_000);
    }
    world.accept_one();
    assert_eq!((world.words(), world.counters().push_busy), (vec!["1 accepted".to_owned()], 7));
}

#[test]
fn our_kill_9_with_1000_sessions() {
    let mut pcef = Pcef::default();
    let mut world = World::new(settings());
    for n in 1..=1_000 {
        world.ask(attach(n, &session(n)));
        world.input(Input::Desire(Box::new(desire(n, n, START))));
    }
    // One of them ends in the very moment: the gateway still holds its rule.
    let learnt: Vec<Session> = world.opened();
    while world.now < at(6) {
        world.until(world.now.plus_ms(100));
        while let Some((_, rar)) = world.requests.front().cloned() {
            pcef.take(&rar);
            world.accept_one();
        }
    }
    assert_eq!((pcef.rules.len(), pcef.effects), (1_000, 1_000));

    let mut world = World::of(settings(), Everybody);
    world.now = at(60);
    learnt.into_iter().for_each(|learnt| world.input(Input::Restore(Box::new(learnt))));
    for n in 1..1_000 {
        let known = Known::Active;
        world.input(Input::Desire(Box::new(tollway_gx::Desire { known, ..desire(n, n, START) })));
    }
    let access = MobileAccess { subscriber: SubscriberRef(1_000), ..desire(1_000, 1, START).access };
    world.input(Input::Release { leg: leg(1_000), attempt: 2, access });
    assert_eq!(world.requests.len(), 0, "nothing is pushed before all is known");
    world.input(Input::Ready);
    let restart = world.now;
    while world.now < restart.plus_ms(5_000) {
        world.until(world.now.plus_ms(50));
        while let Some((_, rar)) = world.requests.front().cloned() {
            pcef.take(&rar);
            world.accept_one();
        }
    }
    assert_eq!((pcef.rules.len(), pcef.effects), (999, 1_001), "all right within 5 s, none twice");
    assert_eq!((world.counters().pushes, world.counters().strays), (1_000, 0));
    let lost = world.words().into_iter().filter(|word| word.contains("lost")).count();
    assert_eq!(lost, 0);
    assert!(world.words().contains(&"1000 removed".to_owned()));
}

#[test]
fn stray_rules_are_removed_and_not_adopted() {
    let mut world = World::attached();
    let answer = world.ask_for(ccr(2, 1, &session(1), |w| rule_report(w, "tw-99-0", 0, None)));
    assert_eq!(rules(&answer).1, ["tw-99-0"]);
    let answer = world.ask_for(ccr(2, 2, &session(1), |w| rule_report(w, "standing-all", 0, None)));
    assert!(Message::parse(&answer).unwrap().find(CHARGING_RULE_REMOVE).is_none(), "not ours to remove");
}

#[test]
fn a_release_while_its_install_is_on_its_way_leaves_nothing_behind() {
    let mut world = World::attached();
    world.input(Input::Desire(Box::new(desire(1, 1, START))));
    release(&mut world, 1);
    assert_eq!(world.words(), [""; 0]);
    world.accept_one();
    assert_eq!(world.rules_of_next(), (vec![], vec!["tw-1-0".to_owned()]));
    world.fail_one(Failure::Timeout);
    world.until(at(1));
    assert_eq!(world.rules_of_next().1, ["tw-1-0"], "not heard of: asked again");
    world.raa(experimental(5142), |w| rule_report(w, "tw-1-0", 1, Some(1)));
    assert_eq!(world.words(), ["1 removed"]);
    assert!(world.readings().last().unwrap().last);
}

#[test]
fn a_report_that_overtakes_its_raa_counts() {
    let mut world = World::attached();
    world.input(Input::Desire(Box::new(desire(1, 1, START))));
    world.ask(ccr(2, 1, &session(1), |w| rule_report(w, "tw-1-0", 0, None)));
    world.accept_one();
    assert_eq!(world.words(), ["1 accepted", "1 active"]);
    world.until(Timestamp(at(300).ms()));
    assert_eq!(world.requests.len(), 0);
}

#[test]
fn a_gateway_that_lies_about_the_session_is_not_believed() {
    let mut world = World::attached();
    world.input(Input::Desire(Box::new(desire(1, 1, START))));
    let (id, rar) = world.requests.pop_front().unwrap();
    let other = String::from_utf8_lossy(&rar).contains(&session(1));
    assert!(other);
    let swapped: Vec<u8> = {
        let mut bytes = rar.clone();
        let at = bytes.windows(session(1).len()).position(|w| w == session(1).as_bytes()).unwrap();
        bytes[at + session(1).len() - 1] = b'9';
        bytes
    };
    world.raa_to(id, &swapped, OK, |_| ());
    assert_eq!((world.words(), world.counters().malformed), (vec![], 1));
    world.until(at(1));
    assert_eq!(world.requests.len(), 1);
}
