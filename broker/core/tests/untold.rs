//! Legs that no enforcement point was told of, or that none answered: how they end, whose money comes back when.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use expect_test::{Expect, expect};
use support::*;
use tollway_billing::AccountId;
use tollway_core::offer::Need;
use tollway_core::record::{Fact, UsageFact};
use tollway_core::reservation::{LegState, Promise, Reach};
use tollway_core::{Command, Engine, Envelope, Input, Record, Reservation, limits};
use tollway_model::{BitsPerSecond, Currency, Micros, Slot};
use tollway_policy::{PolicyCommand, PolicyReport, Report};

const MBIT: Need = Need::Rate(BitsPerSecond(1_000_000));

fn says(reservation: &Reservation, report: PolicyReport) -> Report {
    Report::Leg { leg: reservation.leg_id(), attempt: reservation.leg.attempt, report }
}

fn usage(envelope: &Envelope) -> Option<&UsageFact> {
    let Record::Reported(reported) = &envelope.record else { return None };
    reported.facts.iter().find_map(|fact| if let Fact::Usage(usage) = fact { Some(usage) } else { None })
}

fn refused() -> PolicyReport {
    PolicyReport::Refused { reason: "no such port".into() }
}

/// How it ended and why, what the leg is, and what is still held.
fn told(world: &World, reservation: &Reservation) -> String {
    let now = world.get(reservation.id);
    let Promise::Ended { reason, .. } = now.promise else { return now.promise.as_str().to_owned() };
    let wallet = AccountId::wallet(SHOP, Currency::EUR);
    let ledger = &world.engine.state().ledger;
    assert_eq!(now.settled, ledger.held(wallet) == Micros::ZERO);
    assert_eq!(now.settled, ledger.balance(wallet).0 == 10_000_000 && now.money.held == Micros::ZERO);
    let detail = now.end_detail.as_deref().unwrap_or("-");
    let leg = now.leg.state.as_str();
    format!("{}: {detail}; {leg}, {}", reason.as_str(), if now.settled { "settled" } else { "held" })
}

/// A leg of a minute, what happened to it at its start, and how it stands after its grace.
fn check(at_start: impl FnOnce(&mut World) -> Reservation, want: Expect) -> (World, Reservation) {
    let mut world = World::new();
    let reservation = at_start(&mut world);
    world.now = T0.plus_ms(10_000);
    world.input(Input::Tick);
    want.assert_eq(&told(&world, &reservation));
    (world, reservation)
}

#[test]
fn without_an_agent_the_end_says_so_and_the_money_is_back_at_once() {
    let (world, _) = check(
        |world| {
            world.agent_leaves();
            world.confirmed(MBIT, 60)
        },
        expect![
            "terminated: NOT_INSTALLED: no agent for enforcement point router1 was connected; absent, settled"
        ],
    );
    assert_eq!(world.commands, [], "there was nobody to tell");
}

/// It may have been enforced, and a last reading may come: only its removal or the long wait frees the money.
#[test]
fn an_agent_that_was_told_and_is_silent_is_waited_for() {
    let silent =
        expect!["terminated: NOT_INSTALLED: enforcement point router1 did not answer; removing, held"];
    let (mut world, reservation) = check(|world| world.confirmed(MBIT, 60), silent);
    assert!(matches!(world.commands.last(), Some(PolicyCommand::Release { .. })));
    world.report(vec![says(&reservation, PolicyReport::Removed { at: world.now })]);
    assert!(told(&world, &reservation).ends_with("absent, settled"));
    let later =
        expect!["terminated: NOT_INSTALLED: enforcement point router1 did not answer; removing, held"];
    let (mut world, reservation) = check(
        |world| {
            world.agent_leaves();
            let reservation = world.confirmed(MBIT, 60);
            assert_eq!(world.get(reservation.id).leg.reach, Reach::Untold);
            world.agent_connects();
            assert_eq!(world.sets.last().unwrap().len(), 1);
            assert_eq!(world.get(reservation.id).leg.reach, Reach::Unheard);
            world.agent_leaves();
            reservation
        },
        later,
    );
    world.now = world.now.plus_ms(limits::SETTLE_MS_MAX);
    world.input(Input::Tick);
    assert!(told(&world, &reservation).ends_with("removing, settled"));
}

#[test]
fn a_refusal_is_the_reason_also_while_the_leg_is_asked_for_again() {
    let want = || {
        expect!["terminated: NOT_INSTALLED: enforcement point router1 refused: no such port; removing, held"]
    };
    for asked_again in [false, true] {
        check(
            |world| {
                let reservation = world.confirmed(MBIT, 60);
                if asked_again {
                    world.report(vec![says(&reservation, refused())]);
                } else {
                    world.now = T0.plus_ms(9_500);
                    world.report(vec![says(&reservation, refused())]);
                }
                reservation
            },
            want(),
        );
    }
}

/// A window shorter than the grace is not called completed when nothing can have been in force.
#[test]
fn a_short_window_without_an_agent_is_not_completed() {
    let mut world = World::new();
    world.agent_leaves();
    let reservation = world.confirmed(MBIT, 6);
    world.now = T0.plus_ms(6_000);
    world.input(Input::Tick);
    assert!(told(&world, &reservation).starts_with("terminated: NOT_INSTALLED"));
}

#[test]
fn who_cancels_what_nobody_was_told_of_has_the_money_at_once() {
    let mut world = World::new();
    world.agent_leaves();
    let reservation = world.confirmed(MBIT, 60);
    world.reservation(SHOP, Command::Cancel { reservation: reservation.id });
    expect!["cancelled: -; absent, settled"].assert_eq(&told(&world, &reservation));
}

/// What was not told at the confirmation is told when its agent comes, and lives as ever.
#[test]
fn an_agent_that_comes_in_time_is_told_and_the_leg_lives() {
    let mut world = World::new();
    world.agent_leaves();
    let reservation = world.confirmed(MBIT, 60);
    let leg = &world.get(reservation.id).leg;
    assert_eq!(leg.reason.as_deref(), Some("no agent for enforcement point router1 is connected"));
    world.now = T0.plus_ms(9_000);
    world.agent_connects();
    assert_eq!(world.get(reservation.id).leg.reason, None);
    world.active(&reservation);
    world.now = T0.plus_ms(20_000);
    world.input(Input::Tick);
    assert_eq!(world.get(reservation.id).promise, Promise::Running);
    // The end of an older connection says nothing about the newer one.
    world.input(Input::AdapterConnected { enforcement_point: "router1".into(), connection: 2 });
    world.agent_leaves();
    let (offer, _) = world.offer(MBIT, 60);
    let second = world.reservation(SHOP, Command::Take { offer });
    world.reservation(SHOP, Command::Confirm { reservation: second.id, flows: None });
    assert_eq!(world.get(second.id).leg.reach, Reach::Unheard);
}

/// Whatever an enforcement point has of a leg that nobody told it of: it is told to remove it, that is counted,
/// and nobody pays.
#[test]
fn a_late_sign_of_life_is_told_to_go_counted_and_never_charged() {
    let slot = Slot(T0.ms() / 5_000 + 1);
    let late: [fn(&Reservation, Slot) -> Report; 3] = [
        |r, _| says(r, PolicyReport::Accepted),
        |r, _| says(r, PolicyReport::Active { at: T0 }),
        |r, slot| reading(r, 1, slot, 600_000, false),
    ];
    for (index, late) in late.into_iter().enumerate() {
        let mut world = World::new();
        world.agent_leaves();
        let reservation = world.confirmed(MBIT, 60);
        world.now = T0.plus_ms(10_000);
        world.input(Input::Tick);
        world.agent_connects();
        let before = world.get(reservation.id).money;
        world.report(vec![late(&reservation, slot)]);
        assert_eq!(world.get(reservation.id).money, before, "{index}");
        let Some(PolicyCommand::Release { leg, .. }) = world.commands.last() else { panic!("{index}") };
        assert_eq!(*leg, reservation.leg_id());
        assert_eq!(world.engine.strays().get("router1"), Some(&1));
        // What is gone already needs nothing; neither does what says so in the same batch.
        let (removed, last) =
            (says(&reservation, PolicyReport::Removed { at: T0 }), reading(&reservation, 2, slot, 1, true));
        world.report(vec![late(&reservation, slot), last]);
        world.report(vec![late(&reservation, slot), removed]);
        assert_eq!(world.engine.strays().get("router1"), Some(&1));
        assert_eq!(world.commands.len(), 1);
    }
}

/// Whom a process has told before it ended is not told anew by the next one, and the same is owed.
#[test]
fn what_was_told_is_in_the_journal() {
    let mut world = World::new();
    world.agent_leaves();
    let untold = world.confirmed(MBIT, 60);
    let twin = |world: &World| {
        let mut twin = Engine::new();
        world.journal.iter().for_each(|envelope| twin.replay(envelope));
        twin
    };
    assert!(twin(&world).state() == world.engine.state());
    let mut next = twin(&world);
    next.handle(T0.plus_ms(10_000), Input::Tick);
    assert!(next.state().reservation(untold.id).unwrap().settled);
    world.agent_connects();
    assert!(twin(&world).state() == world.engine.state());
    let mut next = twin(&world);
    next.handle(T0.plus_ms(10_000), Input::Tick);
    assert_eq!(next.state().reservation(untold.id).unwrap().leg.state, LegState::Removing);
}

/// Slots that no reading tells of: the next one says since when its promise is counted.
#[test]
fn a_reading_after_missed_slots_says_what_it_covers() {
    let mut world = World::new();
    let reservation = world.confirmed(Need::Rate(BitsPerSecond(8_000_000)), 60);
    world.active(&reservation);
    let first = T0.ms() / 5_000;
    let mut covers = Vec::new();
    for (seq, slot) in [(1, 0), (2, 3), (3, 3), (4, 4)] {
        world.now = T0.plus_ms((slot + 1) * 5_000);
        world.report(vec![reading(&reservation, seq, Slot(first + slot), seq * 1_000_000, false)]);
        let Some(fact) = world.journal.iter().rev().find_map(usage) else { panic!("no fact") };
        covers.push((slot, fact.promised_bytes, fact.covers_from.map(|from| from.ms_since(T0))));
    }
    let sold =
        [(0, 5_000_000, None), (3, 15_000_000, Some(5_000)), (3, 4_000_000, None), (4, 5_000_000, None)];
    assert_eq!(covers, sold);
}
