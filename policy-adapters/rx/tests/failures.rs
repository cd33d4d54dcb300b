//! What goes wrong, row by row of the table in docs/rx.md, on bytes of the codec both ways.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use expect_test::expect;
use support::*;
use tollway_diameter::avp::ietf::{DESTINATION_HOST, ERROR_MESSAGE};
use tollway_diameter::avp::tgpp::{
    ACCEPTABLE_SERVICE_INFO, MAX_REQUESTED_BANDWIDTH_DL, MAX_REQUESTED_BANDWIDTH_UL, SPECIFIC_ACTION,
};
use tollway_diameter::machine::Failure;
use tollway_diameter::{Message, Writer, application, command};
use tollway_model::Timestamp;
use tollway_rx::limits::{BACK_OFF_MS_MAX, COPY_MS, REPAIR_MS_MAX, REPAIR_MS_MIN};
use tollway_rx::{AfSession, Closed, Desire, Input, Known, Pcrf, Terms};

fn attempt(mut desire: Desire, attempt: u32) -> Desire {
    desire.desired.attempt = attempt;
    desire
}

#[test]
fn a_silent_pcrf_is_asked_again_under_the_same_session() {
    let mut world = World::asked(desire(1, 1, START));
    for pause_s in [1, 2, 4] {
        world.fail_one(Failure::Timeout);
        assert_eq!(world.requests.len(), 0, "no storm");
        world.until(world.now.plus_ms(pause_s * 1_000 - 1));
        assert_eq!(world.requests.len(), 0);
        world.until(world.now.plus_ms(1));
        assert_eq!(world.asks(), ["initial 0 5000000"], "the first one may have been taken");
    }
    assert_eq!(world.words(), [""; 0], "never taken for refused");
    world.fail_one(Failure::NoRoute);
    // It comes back before the pause is over. Nobody answered yet, so it may be anyone's.
    world.input(Input::PeerUp { origin_host: Some(HOST.into()) });
    world.accept_one();
    assert_eq!(world.words(), ["1 accepted"]);
    world.until(at(60));
    assert_eq!((world.requests.len(), world.counters().opened), (0, 1));
}

#[test]
fn released_while_the_answer_is_out() {
    for (outcome, expected) in [(OK, vec!["end 0"]), (experimental(5063), vec![])] {
        let mut world = World::asked(desire(1, 1, START));
        world.release(1);
        assert_eq!(world.asks(), ["initial 0 5000000"], "one request of a session at a time");
        world.answer_one(outcome, |_| ());
        assert_eq!(world.asks(), expected);
        if !expected.is_empty() {
            world.accept_one();
        }
        assert_eq!(world.words(), ["1 removed"], "neither accepted nor refused: nobody waits for it");
    }
    // Without an answer it may be there.
    let mut world = World::asked(desire(1, 1, START));
    world.release(1);
    world.fail_one(Failure::Timeout);
    world.until(at(1));
    assert_eq!(world.asks(), ["end 0"]);
    world.answer_one(base(5002), |_| ());
    assert_eq!(world.words(), ["1 removed"]);
    // What never left needs no end.
    let mut world = World::asked(desire(1, 1, START));
    world.release(1);
    world.fail_one(Failure::NoRoute);
    assert_eq!((world.asks(), world.words()), (vec![], vec!["1 removed".to_owned()]));
}

#[test]
fn refusals_have_their_reasons() {
    let mut seen = Vec::new();
    let plain: fn(&mut Writer) = |_| ();
    let offer: fn(&mut Writer) = |w| {
        w.group(ACCEPTABLE_SERVICE_INFO, |w| {
            w.u32(MAX_REQUESTED_BANDWIDTH_DL, 2_000_000);
            w.u32(MAX_REQUESTED_BANDWIDTH_UL, 100_000);
        });
    };
    let words: fn(&mut Writer) = |w| w.text(ERROR_MESSAGE, "quota\nof the evening");
    for (outcome, fill) in [
        (experimental(5061), plain),
        (experimental(5062), plain),
        (experimental(5063), offer),
        (experimental(5064), plain),
        (experimental(5065), plain),
        (experimental(5067), plain),
        (experimental(5068), plain),
        (experimental(4261), plain),
        (experimental(5999), plain),
        (base(5012), words),
        (base(5002), plain),
    ] {
        let mut world = World::asked(desire(1, 1, START));
        world.answer_one(outcome, fill);
        assert_eq!((world.closed(), world.machine.sessions_len()), (vec![Closed::Refused], 0));
        seen.extend(world.take_words());
        world.until(at(60));
        assert_eq!((world.requests.len(), world.words()), (0, vec![]), "only a new attempt asks again");
        world.desire(attempt(desire(1, 1, START), 2));
        assert_eq!(world.asks(), ["initial 1 5000000"], "under another session");
    }
    expect![[r#"
        1 refused: the PCRF answered 5061: invalid service information
        1 refused: the PCRF answered 5062: filter restrictions
        1 refused: the PCRF answered 5063: requested service not authorised offered 100000/2000000
        1 refused: the PCRF answered 5064: duplicated AF session
        1 refused: the PCRF answered 5065: the device has no session in the network
        1 refused: the PCRF answered 5067: unauthorised sponsored data connectivity
        1 refused: the PCRF answered 5068: temporary network failure
        1 refused: the PCRF answered 4261: requested service temporarily not authorised
        1 refused: the PCRF answered 5999
        1 refused: the PCRF answered 5012 (quota of the evening)
        1 refused: the PCRF answered 5002"#]]
    .assert_eq(&seen.join("\n"));
}

#[test]
fn refused_after_an_unanswered_copy_it_is_ended_to_be_sure() {
    let mut world = World::asked(desire(1, 1, START));
    world.fail_one(Failure::Timeout);
    world.until(at(1));
    world.answer_one(experimental(5064), |_| ());
    assert_eq!(world.asks(), ["end 0"]);
    world.accept_one();
    assert_eq!(world.words(), ["1 refused: the PCRF answered 5064: duplicated AF session"]);
    assert_eq!(world.machine.sessions_len(), 0);
}

#[test]
fn the_refusal_of_an_older_attempt_says_nothing_of_the_newer_one() {
    let mut world = World::asked(desire(1, 1, START));
    world.desire(attempt(desire(1, 1, START), 2));
    world.answer_one(experimental(5063), |_| ());
    assert_eq!((world.words(), world.asks()), (vec![], vec!["initial 1 5000000".to_owned()]));
}

#[test]
fn a_refused_change_loses_the_promise_and_keeps_what_was() {
    let mut world = World::new(settings());
    world.desire(with_schedule(desire(1, 1, START), START, &[(60, 2_000_000), (600, 5_000_000)]));
    world.accept_one();
    world.ask(rar(ID, &[8], |_| ()));
    world.facts.clear();
    world.until(at(60));
    world.answer_one(experimental(5063), |_| ());
    assert_eq!(world.words(), ["1 lost: the PCRF answered 5063: requested service not authorised"]);
    world.until(at(69));
    assert_eq!(world.requests.len(), 0, "no storm, and no end of what is there");
    world.until(at(70));
    assert_eq!(world.asks(), ["update 0 5000000"]);
    world.answer_one(experimental(5063), |_| ());
    world.until(at(89));
    assert_eq!((world.requests.len(), world.words().len()), (0, 1), "told once, the pause doubled");
    world.until(at(90));
    world.accept_one();
    world.ask(rar(ID, &[8], |_| ()));
    let active: u32 = world.readings().iter().map(|reading| reading.active_ms).sum();
    assert_eq!(
        (&world.words()[1..], active),
        (&["1 accepted".to_owned(), "1 active".to_owned()][..], 60_000)
    );
}

#[test]
fn repairs_are_doubled_to_a_bound() {
    let mut world = World::active();
    let mut expected = REPAIR_MS_MIN;
    for low in 0..8 {
        world.ask(asr(&format!("af.example;100;{low};rx"), 0));
        world.accept_one();
        let lost = world.now;
        while world.requests.is_empty() {
            let due = world.machine.poll_timeout().unwrap();
            world.until(due);
        }
        assert_eq!(world.now.ms_since(lost), expected);
        expected = (expected * 2).min(REPAIR_MS_MAX);
        world.accept_one();
    }
    assert_eq!(expected, REPAIR_MS_MAX);
}

#[test]
fn aaa_5002_of_a_session_that_was_there() {
    let mut world = World::active();
    world.input(Input::PeerUp { origin_host: Some(HOST.into()) });
    assert_eq!(world.asks(), ["update 0 5000000"]);
    world.answer_one(base(5002), |_| ());
    assert_eq!(
        (world.words(), world.closed()),
        (vec!["1 lost: the PCRF does not know the session".into()], vec![Closed::Unknown])
    );
    assert_eq!(world.asks(), ["initial 1 5000000"], "the promise is made good without being asked");
}

#[test]
fn a_busy_pcrf_is_left_in_peace() {
    for code in [3004, 3002] {
        let mut world = World::new(settings());
        (1..=3).for_each(|n| world.desire(desire(n, n, START)));
        assert_eq!(world.requests.len(), 3);
        let (first, second) = (world.requests.pop_front().unwrap(), world.requests.pop_front().unwrap());
        for (id, bytes) in [first, second] {
            world.answer_to(id, &bytes, base(code), |_| ());
        }
        // The third is still out; a fourth waits with the rest.
        world.desire(desire(4, 4, START));
        assert_eq!((world.requests.len(), world.machine.queue_len("east")), (1, 1));
        world.until(at(1).plus_ms(0));
        assert_eq!(world.requests.len(), 4, "one pause for answers of one moment");
        while !world.requests.is_empty() {
            world.accept_one();
        }
        assert_eq!(world.words().len(), 4);
        assert_eq!((world.counters().busy, world.words()[0].as_str()), (2, "3 accepted"));
    }
}

#[test]
fn pauses_are_doubled_to_a_bound_and_then_the_host_is_not_insisted_on() {
    let mut world = World::active();
    world.release(1);
    let mut hosts = Vec::new();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let message = Message::parse(&world.requests[0].1).unwrap();
        hosts.push(message.text(DESTINATION_HOST).is_some());
        world.answer_one(base(3002), |_| ());
        let since = world.now;
        while world.requests.is_empty() {
            let due = world.machine.poll_timeout().unwrap();
            world.until(due);
        }
        pauses.push(world.now.ms_since(since) / 1_000);
    }
    assert_eq!(hosts, [true, true, false, false, false, false, false, false]);
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 32, BACK_OFF_MS_MAX / 1_000]);
    // An end is asked for until somebody says that it is one.
    assert_eq!(world.words(), [""; 0]);
    world.answer_one(base(5002), |_| ());
    assert_eq!(world.words(), ["1 removed"]);
}

#[test]
fn an_end_that_is_refused_is_given_up_in_the_end() {
    // A real PCRF says 5012 to a session that it does not know.
    let mut world = World::active();
    world.release(1);
    for n in 1..=3 {
        assert_eq!(world.asks(), ["end 0"], "{n}");
        world.answer_one(base(5012), |_| ());
        world.until(world.now.plus_ms(4_000));
    }
    assert_eq!((world.words(), world.closed()), (vec!["1 removed".to_owned()], vec![Closed::GivenUp]));
    assert_eq!((world.requests.len(), world.counters().given_up), (0, 1));
}

#[test]
fn answers_that_cannot_be_read_are_no_answers() {
    for fault in 0..3 {
        let mut world = World::asked(desire(1, 1, START));
        let (id, bytes) = world.requests.pop_front().unwrap();
        match fault {
            // Of another session.
            0 => {
                let other = from_pcrf(command::AA, "af.example;100;9;rx", |_| ());
                world.answer_to(id, &other, OK, |_| ());
            }
            // Result-Code of three bytes.
            1 => world.answer_to(id, &bytes, base(5004), |w| {
                w.raw(tollway_diameter::avp::ietf::ORIGIN_STATE_ID.key, 0x40, b"abc");
            }),
            // An answer from a hop that is none of the known kinds.
            _ => world.answer_to(id, &bytes, base(3005), |_| ()),
        }
        assert_eq!(world.words(), [""; 0]);
        world.until(at(1));
        assert_eq!(world.asks(), ["initial 0 5000000"], "{fault}");
    }
}

#[test]
fn an_aborted_session_is_answered_and_ended() {
    let mut world = World::active();
    world.now = at(5);
    assert_eq!(world.ask(asr(ID, 2)), 2001);
    assert_eq!(world.asks(), ["end 0"]);
    let lost = ["1 lost: the PCRF aborted the session: insufficient bearer resources"];
    assert_eq!(world.words(), lost);
    // Asked once more meanwhile: answered, one end.
    assert_eq!(world.ask(asr(ID, 2)), 2001);
    world.accept_one();
    world.until(at(14));
    assert_eq!((world.requests.len(), world.words().len()), (0, 1));
    world.until(at(15));
    assert_eq!(world.asks(), ["initial 1 5000000"], "asked again, under another session");
    // Never active: refused, and left to the engine.
    let mut world = World::asked(desire(1, 1, START));
    world.accept_one();
    world.ask(asr(ID, 4));
    let refused = "1 refused: the PCRF aborted the session: sponsored data connectivity disallowed";
    assert_eq!(world.words(), ["1 accepted", refused]);
    world.accept_one();
    world.until(at(100));
    assert_eq!((world.requests.len(), world.machine.sessions_len()), (0, 0));
}

#[test]
fn what_a_pcrf_reports_of_resources() {
    let mut seen = Vec::new();
    for action in [2, 3, 4, 7, 8, 9, 11, 16, 77] {
        for is_active in [true, false] {
            let mut world = if is_active { World::active() } else { World::asked(desire(1, 1, START)) };
            if !is_active {
                world.accept_one();
                world.facts.clear();
            }
            assert_eq!(world.ask(rar(ID, &[action], |_| ())), 2001);
            let was = if is_active { "active" } else { "accepted" };
            let (words, asks) = (world.words().join(", "), world.asks().join(", "));
            seen.push(format!("{action} {was}: {words}; {asks}"));
        }
    }
    expect![[r#"
        2 active: 1 lost: loss of bearer; 
        2 accepted: 1 lost: loss of bearer; 
        3 active: 1 active; 
        3 accepted: 1 active; 
        4 active: 1 lost: release of bearer; end 0
        4 accepted: 1 refused: release of bearer; end 0
        7 active: 1 lost: out of credit; 
        7 accepted: 1 lost: out of credit; 
        8 active: 1 active; 
        8 accepted: 1 active; 
        9 active: 1 lost: failed allocation of resources; end 0
        9 accepted: 1 refused: failed allocation of resources; end 0
        11 active: ; 
        11 accepted: ; 
        16 active: ; 
        16 accepted: ; 
        77 active: ; 
        77 accepted: ; "#]]
    .assert_eq(&seen.join("\n"));
}

#[test]
fn one_of_several_flows_is_released() {
    let mut world = World::new(settings());
    let mut wanted = desire(1, 1, START);
    wanted.desired.flows = vec![flow(1, 1), flow(1, 2)];
    world.desire(wanted);
    world.accept_one();
    world.ask(rar(ID, &[8], |_| ()));
    world.facts.clear();
    world.ask(rar(ID, &[4], |w| component(w, 2)));
    assert_eq!((world.words(), world.requests.len()), (vec!["1 lost: release of bearer".to_owned()], 0));
    // The other one goes on; later the whole is asked for again in the same session.
    world.until(at(10));
    assert_eq!(world.asks(), ["update 0 5000000"]);
    world.accept_one();
    world.ask(rar(ID, &[8], |w| component(w, 2)));
    assert_eq!(world.words().last().unwrap(), "1 active");
}

#[test]
fn what_a_copy_that_comes_late_brings_back_is_put_right() {
    let mut world = World::new(settings());
    let mut wanted = desire(1, 1, START);
    wanted.desired.flows = vec![flow(1, 1), flow(1, 2)];
    world.desire(wanted.clone());
    let (_, late) = world.fail_one(Failure::Timeout);
    wanted.desired.flows.pop();
    world.desire(attempt(wanted, 2));
    world.until(at(1));
    let mut pcrf = PcrfState::default();
    let (id, bytes) = world.requests.pop_front().unwrap();
    assert_eq!(pcrf.take(&bytes), 2001);
    world.answer_to(id, &bytes, OK, features);
    assert_eq!(pcrf.take(&late), 2001);
    assert_eq!(pcrf.sessions[ID].len(), 2);
    let due = at(1).plus_ms(COPY_MS);
    world.until(Timestamp(due.ms() - 1));
    assert_eq!(world.requests.len(), 0);
    world.until(due);
    let (id, bytes) = world.requests.pop_front().unwrap();
    assert_eq!((ask(&bytes).as_str(), pcrf.take(&bytes)), ("update 0 5000000", 2001));
    assert_eq!(pcrf.sessions[ID].len(), 1);
    world.answer_to(id, &bytes, OK, features);
    // Once is enough, and nobody is told anything.
    world.until(at(600));
    assert_eq!((world.requests.len(), world.words()), (0, vec!["1 accepted".to_owned()]));
    assert_eq!(world.record(ID).unwrap().components, 1);
}

#[test]
fn a_report_overtakes_the_answer() {
    let mut world = World::asked(desire(1, 1, START));
    world.ask(rar(ID, &[8], |_| ()));
    world.accept_one();
    assert_eq!((world.words(), world.requests.len()), (vec!["1 accepted".into(), "1 active".into()], 0));
}

#[test]
fn sessions_that_are_none() {
    let mut world = World::new(settings());
    // Not ours.
    for id in ["other;1;2", "af.example;1;rx", "af.example.org;1;2;rx"] {
        assert_eq!((world.ask(rar(id, &[2], |_| ())), world.ask(asr(id, 0))), (5002, 5002));
    }
    assert_eq!((world.requests.len(), world.counters().reported_unknown), (0, 6));
    // Named like ours, as after an AAR that came late: ended, never adopted.
    assert_eq!(world.ask(rar("af.example;99;4;rx", &[8], |_| ())), 5002);
    assert_eq!(world.asks(), ["end 4"]);
    assert_eq!(world.ask(rar("af.example;99;4;rx", &[11], |w| usage(w, 0, 5))), 5002);
    world.accept_one();
    assert_eq!((world.machine.sessions_len(), world.counters().strays, world.facts.len()), (0, 1, 0));
}

#[test]
fn requests_that_are_not_taken() {
    let mut world = World::active();
    let aar = from_pcrf(command::AA, ID, |_| ());
    let no_cause = from_pcrf(command::ABORT_SESSION, ID, |_| ());
    let many = rar(ID, &[2; 33], |_| ());
    let unknown = rar(ID, &[2], |w| w.raw(tollway_diameter::Key { vendor: 9, code: 9 }, 0xc0, b"x"));
    let other = {
        let mut w = Writer::request(command::RE_AUTH, application::GX);
        w.u32(SPECIFIC_ACTION, 2);
        w.finish().unwrap()
    };
    let codes = [aar, no_cause, many, unknown, other].map(|bytes| world.ask(bytes));
    assert_eq!(codes, [3001, 5005, 5009, 5001, 3007]);
    assert_eq!((world.words(), world.requests.len()), (vec![], 0), "bad input changes nothing");
    assert_eq!(world.counters().malformed, 5);
}

#[test]
fn a_pcrf_that_restarted_has_no_sessions() {
    let mut world = World::active();
    world.now = at(10);
    world.input(Input::Restarted { origin_host: "other.example".into() });
    assert_eq!(world.words(), [""; 0]);
    world.input(Input::Restarted { origin_host: HOST.into() });
    assert_eq!(
        (world.words(), world.closed()),
        (vec!["1 lost: the PCRF restarted".into()], vec![Closed::Restarted])
    );
    assert_eq!(world.asks(), ["initial 1 5000000"]);
    world.accept_one();
    world.until(at(200));
    let active: u32 = world.readings().iter().map(|reading| reading.active_ms).sum();
    assert_eq!(active, 10_000, "the seconds until then count, none after");
}

#[test]
fn a_request_that_crosses_a_restart_of_the_pcrf() {
    // The first AAR is sent again to the restarted PCRF, which then has the session.
    let pcrf = Pcrf { host: Some(HOST.into()), ..Pcrf::of_realm("example") };
    let mut world = World::new(settings_of(pcrf));
    world.desire(desire(1, 1, START));
    world.input(Input::Restarted { origin_host: HOST.into() });
    assert_eq!((world.asks(), world.closed()), (vec!["initial 0 5000000".to_owned()], vec![]));
    world.accept_one();
    assert_eq!((world.words(), world.requests.len()), (vec!["1 accepted".to_owned()], 0));
    // A change is answered with 5002.
    world.desire(attempt(desire(1, 1, START), 2));
    world.input(Input::Restarted { origin_host: HOST.into() });
    world.answer_one(base(5002), |_| ());
    assert_eq!(world.words()[1..], ["1 lost: the PCRF restarted"]);
    assert_eq!(world.asks(), ["initial 1 5000000"]);
}

#[test]
fn our_restart_finds_out_what_there_is_and_ends_what_is_not_wanted() {
    let mut world = World::of(settings());
    world.now = at(100);
    let restore = |world: &mut World, id: &str, n, is_answered| {
        world.input(Input::Restore(Box::new(record(id, n, is_answered))));
    };
    restore(&mut world, "af.example;99;1;rx", 1, true);
    restore(&mut world, "af.example;99;2;rx", 2, false);
    restore(&mut world, "af.example;99;3;rx", 3, true);
    restore(&mut world, "af.example;99;4;rx", 4, true);
    restore(&mut world, "af.example;99;4;rx", 5, true);
    let elsewhere = tollway_rx::Access { pcrf: "gone".into(), apn: None, ip_domain: None };
    let gone = AfSession { access: elsewhere, ..record("af.example;99;7;rx", 7, true) };
    world.input(Input::Restore(Box::new(gone)));
    let terms = sponsored();
    world.desire(Desire { known: Known::Active, terms: terms.clone(), ..desire(1, 1, START) });
    world.desire(desire(2, 2, START));
    world.input(Input::Release { leg: leg(3), attempt: 2 });
    // Nobody speaks of 4. Another one was active and has no session.
    world.desire(Desire { known: Known::Active, ..desire(6, 6, START) });
    assert_eq!(world.ask(rar("af.example;99;1;rx", &[2], |_| ())), 3004, "not known yet what there is");
    assert_eq!(
        (world.requests.len(), world.words()),
        (0, vec!["6 lost: the session ended while nobody watched".to_owned()])
    );
    world.facts.clear();
    world.input(Input::Ready);
    let mut asks = world.asks();
    asks.sort();
    assert_eq!(asks, ["end 3", "end 4", "initial 0 5000000", "initial 2 5000000", "update 1 5000000"]);
    let update = world.requests.iter().find(|(_, bytes)| ask(bytes).starts_with("update")).unwrap();
    assert_eq!(dump(&update.1).matches("Flow-Status 4").count(), 2, "components of the earlier life");
    while !world.requests.is_empty() {
        world.accept_one();
    }
    let mut words = world.take_words();
    words.sort();
    assert_eq!(words, ["1 accepted", "2 accepted", "3 removed", "6 accepted"]);
    assert_eq!(world.machine.sessions_len(), 3);
    // Usage that was counted in the earlier life is not counted again.
    let report = |n| numbered(rar("af.example;99;1;rx", &[11], |w| usage(w, 0, 9)), n);
    assert_eq!((world.ask(report(4)), world.ask(report(5))), (2001, 2001));
    assert_eq!(world.readings().iter().map(|r| r.sold.bytes).collect::<Vec<_>>(), [9]);
}

#[test]
fn a_release_of_a_leg_that_nobody_knows() {
    let mut world = World::new(settings());
    world.release(1);
    assert_eq!((world.words(), world.requests.len()), (vec!["1 removed".to_owned()], 0));
}

#[test]
fn usage_without_a_direction_and_of_a_session_that_is_ending() {
    let terms = Terms { usage_bytes: Some(5), ..sponsored() };
    let mut world = World::active_with(terms);
    let total = |bytes| {
        numbered(
            rar(ID, &[11], |w| {
                w.group(tollway_diameter::avp::tgpp::SPONSORED_CONNECTIVITY_DATA, |w| {
                    w.group(tollway_diameter::avp::ietf::USED_SERVICE_UNIT, |w| {
                        w.u64(tollway_diameter::avp::ietf::CC_TOTAL_OCTETS, bytes);
                    });
                });
            }),
            bytes as u32,
        )
    };
    world.ask(total(70));
    world.accept_one();
    world.release(1);
    world.ask(total(30));
    world.accept_one();
    assert_eq!(world.readings().last().map(|r| (r.sold.bytes, r.last)), Some((100, true)));
    assert_eq!(world.counters().usage_undirected, 2);
}

#[test]
fn an_answer_that_comes_after_its_session_was_closed() {
    let mut world = World::active();
    world.desire(attempt(desire(1, 1, START), 2));
    let (id, bytes) = world.fail_one(Failure::Timeout);
    world.input(Input::Restarted { origin_host: HOST.into() });
    assert_eq!(world.asks(), ["initial 1 5000000"]);
    world.answer_to(id, &bytes, OK, |_| ());
    assert_eq!((world.counters().late, world.words()), (1, vec!["1 lost: the PCRF restarted".to_owned()]));
}
