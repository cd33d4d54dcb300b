//! Corners that were wrong once: silence at a start, what is forgotten, whose currency, whose money.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use support::*;
use tollway_core::offer::Need;
use tollway_core::reservation::{EndReason, LegState, Promise};
use tollway_core::{Code, Command, Input, Reply, limits};
use tollway_model::{BitsPerSecond, Currency, OfferId, Slot};
use tollway_policy::{PolicyReport, Report};

const MBIT: Need = Need::Rate(BitsPerSecond(1_000_000));

fn says(reservation: &tollway_core::Reservation, report: PolicyReport) -> Report {
    Report::Leg { leg: reservation.leg_id(), attempt: reservation.leg.attempt, report }
}

/// Its router is away for a night: the money is settled without it, nothing else happens, it comes back and
/// tells the end of a leg that the broker is about to forget.
#[test]
fn a_report_about_what_is_forgotten_with_it_is_no_fact() {
    let mut world = World::new();
    let reservation = world.confirmed(MBIT, 60);
    world.active(&reservation);
    for later in [60_000, 60_000 + limits::SETTLE_MS_MAX] {
        world.now = T0.plus_ms(later);
        world.input(Input::Tick);
    }
    let settled = world.get(reservation.id);
    assert!(settled.settled && settled.leg.state == LegState::Removing);
    world.now = world.now.plus_ms(limits::ENDED_KEPT_MS);
    let at = T0.plus_ms(60_000);
    world.report(vec![says(&reservation, PolicyReport::Removed { at })]);
    assert!(world.engine.state().reservation(reservation.id).is_none());
    assert_eq!(world.engine.state().last_batch("router1"), 2);
}

/// The enforcement point took the leg and follows its schedule by itself: a broker or a link that is away
/// over the start breaks no promise.
#[test]
fn an_accepted_leg_outlives_silence_at_its_start() {
    let mut world = World::new();
    let reservation = world.confirmed(MBIT, 600);
    world.report(vec![says(&reservation, PolicyReport::Accepted)]);
    world.now = T0.plus_ms(60_000);
    world.input(Input::Tick);
    assert_eq!(world.get(reservation.id).promise, Promise::Running);
    let at = T0.plus_ms(1_000);
    world.report(vec![says(&reservation, PolicyReport::Active { at })]);
    assert_eq!(world.get(reservation.id).leg.state, LegState::Active);
}

#[test]
fn a_leg_that_is_first_refused_after_its_grace_is_not_asked_for_ever() {
    let mut world = World::new();
    let reservation = world.confirmed(MBIT, 3_600);
    world.report(vec![says(&reservation, PolicyReport::Accepted)]);
    world.now = T0.plus_ms(1_000_000);
    world.report(vec![says(&reservation, PolicyReport::Refused { reason: "no".into() })]);
    world.now = world.now.plus_ms(limits::LEG_RETRY_MS);
    world.input(Input::Tick);
    let ended = world.get(reservation.id);
    assert!(matches!(ended.promise, Promise::Ended { reason: EndReason::Terminated, .. }), "{ended:?}");
}

/// A number of euros is no price in dollars.
#[test]
fn a_tier_is_sold_in_its_tariffs_currency_only() {
    let mut world = World::new();
    let mut other = config();
    let mut dollars = other.customers[0].clone();
    dollars.name = "dollars".into();
    dollars.currency = Currency::parse("USD").unwrap();
    other.customers.push(dollars);
    assert!(matches!(world.configure(other), Reply::Configured { .. }));
    let customer = world.engine.state().config.customer_id("dollars").unwrap();
    let (_, offer) = world.offer(MBIT, 60);
    assert_eq!(offer.total.currency, Currency::EUR);
    let request = world.request_for(MBIT, 60);
    assert_eq!(world.code(customer, Command::Quote(request)), Code::OutOfRange);
}

/// Named again later, the customer would get a new number and an empty wallet.
#[test]
fn a_customer_with_money_is_not_removed() {
    let mut world = World::new();
    let mut without = config();
    without.customers.retain(|customer| customer.name != "rival");
    let Reply::Refused(refusal) = world.configure(without) else { panic!("its money is gone") };
    assert_eq!(refusal.code, Code::ConfigurationRefused);
    assert!(refusal.message.contains("rival"), "{}", refusal.message);
}

/// A leg that lives again after a last reading has a later one to come.
#[test]
fn only_the_last_reading_of_all_settles() {
    let mut world = World::new();
    let reservation = world.confirmed(MBIT, 600);
    world.active(&reservation);
    let first = T0.ms() / 5_000;
    for (seq, last) in [(1, true), (2, false)] {
        world.now = T0.plus_ms(seq * 5_000);
        world.report(vec![reading(&reservation, seq, Slot(first + seq - 1), seq * 600_000, last)]);
    }
    world.now = T0.plus_ms(12_000);
    world.reservation(SHOP, Command::Cancel { reservation: reservation.id });
    assert!(!world.get(reservation.id).settled, "the rest of the last slot is still to be read");
    world.report(vec![reading(&reservation, 3, Slot(first + 2), 1_500_000, true)]);
    let settled = world.get(reservation.id);
    assert!(settled.settled);
    assert_eq!(settled.meter.metered_bytes, 1_500_000);
}

/// Time before the leg was in force promised nothing that a later slot could be charged for.
#[test]
fn bytes_above_a_slots_promise_are_not_charged_to_time_before_the_leg_was_active() {
    let mut world = World::new();
    let (offer, _) = world.offer(Need::Bytes(50_000_000), 600);
    let held = world.reservation(SHOP, Command::Take { offer });
    world.now = T0.plus_ms(20_000);
    let reservation =
        world.reservation(SHOP, Command::Confirm { reservation: held.id, flows: Some(vec![flow(1)]) });
    world.active(&reservation);
    let slot = world.now.ms() / 5_000;
    world.now = world.now.plus_ms(5_000);
    // An idle link: the class borrows far above its rate.
    world.report(vec![reading(&reservation, 1, Slot(slot), 9_000_000, false)]);
    let seen = world.get(reservation.id);
    let promised = seen.schedule.bytes_in(tollway_model::Window::new(T0.plus_ms(20_000), world.now));
    assert!(seen.meter.slot_charged_bytes <= promised, "{} of {promised}", seen.meter.slot_charged_bytes);
    assert!(seen.meter.slot_charged_bytes > 0);
}

/// What one customer holds is looked at where it changes, not slot by slot.
#[test]
fn the_hold_share_is_judged_at_the_fullest_slot() {
    let mut world = World::new();
    let mut tight = config();
    tight.pools[0].hold_share_ppm = 200_000;
    assert!(matches!(world.configure(tight), Reply::Configured { .. }));
    // A fifth of 19.4 Mbit/s of class rate may be held beyond the first hold.
    for (start_s, seconds, rate, fits) in [
        (600u64, 60u64, 2_000_000u64, true),
        (900, 60, 3_800_000, true),
        (630, 30, 1_900_000, false),
        (500, 1_000, 1_000_000, false),
        (660, 240, 3_800_000, true),
        (550, 55, 1_500_000, true),
    ] {
        let mut request = world.request_for(Need::Rate(BitsPerSecond(rate)), start_s + seconds);
        request.start = Some(tollway_core::offer::When::In(start_s * 1_000));
        let Reply::Quote(quote) = world.command(SHOP, Command::Quote(request)) else { panic!("no quote") };
        let take = Command::Take { offer: OfferId { quote: quote.id, index: 0 } };
        match world.command(SHOP, take) {
            Reply::Reservation(held) => assert!(fits, "{start_s} s: {:?}", held.window),
            Reply::Refused(refusal) => {
                assert!(!fits && refusal.code == Code::HoldShare, "{start_s} s: {refusal:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A deficit is over when what was sold is.
#[test]
fn a_deficit_ends_with_what_was_sold() {
    let mut world = World::new();
    world.confirmed(Need::Rate(BitsPerSecond(15_000_000)), 60);
    let mut small = config();
    small.pools[0].up = BitsPerSecond(10_000_000);
    let Reply::Configured { deficits, .. } = world.configure(small.clone()) else { panic!("refused") };
    assert_eq!(deficits.len(), 1);
    world.now = T0.plus_ms(3_600_000);
    world.input(Input::Tick);
    let Reply::Configured { deficits, .. } = world.configure(small) else { panic!("refused") };
    assert_eq!(deficits, []);
}

/// The way back is part of what is sold: a thin one is not something to wait for.
#[test]
fn what_the_return_path_never_carries_is_not_called_exhausted() {
    let mut world = World::new();
    let mut thin = config();
    thin.pools[0].down = BitsPerSecond(200_000);
    assert!(matches!(world.configure(thin), Reply::Configured { .. }));
    // Three per cent of 10 Mbit/s are more than the 100 kbit/s that are on sale downwards.
    for need in [Need::Rate(BitsPerSecond(10_000_000)), Need::Bytes(70_000_000)] {
        let Reply::Refused(refusal) = world.quote(need, 60) else { panic!("{need:?} fits?") };
        assert_eq!(refusal.code, Code::DeadlineInfeasible, "{need:?}: {}", refusal.message);
        assert!(!refusal.offers.is_empty(), "{need:?}");
    }
}

/// A refusal that lasts as long as a window costs few records.
#[test]
fn a_leg_that_was_in_force_is_not_asked_for_every_second() {
    let mut world = World::new();
    let reservation = world.confirmed(MBIT, 3_600);
    world.active(&reservation);
    let lost = PolicyReport::Lost { at: T0, reason: "gone".into() };
    world.report(vec![
        says(&reservation, lost),
        says(&reservation, PolicyReport::Refused { reason: "no".into() }),
    ]);
    world.now = T0.plus_ms(limits::LEG_RETRY_LATER_MS - 1);
    world.input(Input::Tick);
    assert_eq!(world.get(reservation.id).leg.attempt, reservation.leg.attempt);
    world.now = T0.plus_ms(limits::LEG_RETRY_LATER_MS);
    world.input(Input::Tick);
    assert_eq!(world.get(reservation.id).leg.attempt, reservation.leg.attempt + 1);
}
