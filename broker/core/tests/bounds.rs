//! Every bound of `limits.rs` is reached by a test: those of the engine's inputs here, holds and quotes in
//! `life.rs`.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use support::*;
use tollway_core::offer::{Need, QuoteRequest, When};
use tollway_core::{Code, Command, IdempotencyKey, Input, Reply, RequestId, limits};
use tollway_model::{BitsPerSecond, Direction, Micros, OfferId, Slot, Timestamp};
use tollway_policy::{PolicyReport, Report};

#[test]
fn nine_flows_are_one_too_many() {
    let mut world = World::new();
    let reservation = world.confirmed(Need::Rate(BitsPerSecond(1_000_000)), 60);
    let flows = |n: u16| (0..n).map(|k| flow(50_000 + k)).collect::<Vec<_>>();
    let most = u16::try_from(limits::FLOWS_MAX).unwrap();
    let bind = |flows| Command::BindFlows { reservation: reservation.id, flows };
    assert_eq!(world.code(SHOP, bind(flows(most + 1))), Code::OutOfRange);
    assert_eq!(world.get(reservation.id).flows.len(), 1);
    assert_eq!(world.reservation(SHOP, bind(flows(most))).flows.len(), limits::FLOWS_MAX);
}

#[test]
fn a_schedule_has_at_most_64_segments() {
    let mut world = World::new();
    // A ragged calendar: every second slot of an hour is half full.
    for k in 0..60u64 {
        let start = T0.plus_ms(60_000 * k);
        let request = QuoteRequest {
            access: LINE,
            direction: Direction::Up,
            tier: None,
            need: Need::Rate(BitsPerSecond(1_000_000 + k * 100_000)),
            start: Some(When::At(start)),
            end: When::At(start.plus_ms(30_000)),
            subscriber: None,
        };
        let Reply::Quote(quote) = world.command(SHOP, Command::Quote(request)) else { panic!("refused") };
        let offer = OfferId { quote: quote.id, index: 0 };
        let held = world.reservation(SHOP, Command::Take { offer });
        world.reservation(SHOP, Command::Confirm { reservation: held.id, flows: None });
    }
    let (_, offer) = world.offer(Need::Bytes(4_000_000_000), 3_600);
    assert!(offer.schedule.segments().len() <= limits::SEGMENTS_MAX);
    assert!(offer.segments.len() <= limits::SEGMENTS_MAX);
    assert!(offer.schedule.segments().len() > 8, "{}", offer.schedule.segments().len());
}

#[test]
fn keys_are_bounded_and_a_day_later_free_again() {
    let mut world = World::new();
    let take = |world: &mut World, n: usize| {
        let mut key = [0u8; 16];
        key[..8].copy_from_slice(&n.to_be_bytes());
        let key = Some(IdempotencyKey { key, request: 1 });
        // A refusal that is stored: the cheapest answer there is.
        let offer = OfferId { quote: tollway_model::QuoteId(9), index: 0 };
        world.engine.handle(
            world.now,
            Input::Client { request: RequestId(1), customer: SHOP, key, command: Command::Take { offer } },
        );
        drop(world.engine.take_records());
        let mut code = None;
        while let Some(output) = world.engine.poll_output() {
            if let tollway_core::Output::Reply { reply: Reply::Refused(refusal), .. } = output {
                code = Some(refusal.code);
            }
        }
        code
    };
    for n in 0..limits::KEYS_PER_CUSTOMER_MAX {
        assert_eq!(take(&mut world, n), Some(Code::QuoteExpired));
    }
    assert_eq!(take(&mut world, usize::MAX), Some(Code::TooMany));
    assert_eq!(world.engine.state().keys_kept(), limits::KEYS_PER_CUSTOMER_MAX);
    world.now = T0.plus_ms(limits::KEY_LIFE_MS + 1);
    assert_eq!(take(&mut world, usize::MAX), Some(Code::QuoteExpired));
    assert_eq!(world.engine.state().keys_kept(), 1);
}

#[test]
fn quotes_that_are_over_do_not_count() {
    let mut world = World::new();
    for _ in 0..limits::OPEN_QUOTES_MAX {
        world.offer(Need::Rate(BitsPerSecond(64_000)), 60);
    }
    assert!(matches!(world.quote(Need::Rate(BitsPerSecond(64_000)), 60), Reply::Refused(_)));
    world.now = T0.plus_ms(limits::QUOTE_LIFE_MS + 1);
    world.offer(Need::Rate(BitsPerSecond(64_000)), 60);
    assert_eq!(world.engine.state().quotes_open(), 1);
}

#[test]
fn texts_from_outside_are_clipped() {
    let mut world = World::new();
    let reservation = world.confirmed(Need::Rate(BitsPerSecond(1_000_000)), 60);
    let reason = "é".repeat(limits::REASON_BYTES_MAX);
    let leg = reservation.leg_id();
    world.report(vec![Report::Leg { leg, attempt: 1, report: PolicyReport::Refused { reason } }]);
    let kept = world.get(reservation.id).leg.reason.clone().unwrap();
    assert!(kept.len() <= limits::REASON_BYTES_MAX && kept.starts_with('é'));
}

#[test]
fn counter_lives_are_remembered_within_bounds() {
    let mut world = World::new();
    let reservation = world.confirmed(Need::Rate(BitsPerSecond(1_000_000)), 600);
    world.active(&reservation);
    let first = T0.ms() / 5_000;
    for life in 0..20u64 {
        world.now = T0.plus_ms((life + 1) * 5_000);
        let mut report = reading(&reservation, 1, Slot(first + life), 100_000, false);
        if let Report::Usage(reading) = &mut report {
            reading.incarnation = 100 + life;
        }
        world.report(vec![report]);
    }
    let meter = &world.get(reservation.id).meter;
    assert_eq!(meter.past.len(), limits::PAST_INCARNATIONS_MAX);
    assert_eq!(meter.metered_bytes, 20 * 100_000);
}

#[test]
fn a_last_reading_that_never_comes_is_not_awaited_for_ever() {
    let mut world = World::new();
    let reservation = world.confirmed(Need::Rate(BitsPerSecond(1_000_000)), 60);
    world.active(&reservation);
    world.now = T0.plus_ms(60_000);
    world.input(Input::Tick);
    assert!(!world.get(reservation.id).settled);
    world.now = T0.plus_ms(60_000 + limits::SETTLE_MS_MAX);
    world.input(Input::Tick);
    let settled = world.get(reservation.id);
    assert!(settled.settled);
    assert_eq!(settled.money.voided, settled.total.micros);
    assert_eq!(settled.money.posted, Micros::ZERO);
    let settled_at = world.now;
    world.now = settled_at.plus_ms(limits::ENDED_KEPT_MS);
    world.offer(Need::Rate(BitsPerSecond(64_000)), 60);
    assert!(world.engine.state().reservation(reservation.id).is_none());
}

#[test]
fn readings_of_the_future_and_of_slots_gone_by_accrue_nothing() {
    let mut world = World::new();
    let reservation = world.confirmed(Need::Rate(BitsPerSecond(1_000_000)), 600);
    world.active(&reservation);
    let first = T0.ms() / 5_000;
    for (seq, slot) in [(1, first + 1), (2, first + 100), (3, u64::MAX)] {
        world.report(vec![reading(&reservation, seq, Slot(slot), 5_000, false)]);
    }
    assert_eq!(world.get(reservation.id).line.numerator(), 0);
    assert_eq!(world.get(reservation.id).meter.metered_bytes, 5_000);
    for (seq, slot) in [(4, first), (5, first + 1), (6, first), (7, first + 1)] {
        world.now = world.now.max(Timestamp((slot + 1) * 5_000));
        world.report(vec![reading(&reservation, seq, Slot(slot), seq * 10_000, false)]);
        let posted = world.get(reservation.id).line.numerator();
        if seq == 5 {
            world.request = u64::try_from(posted / 1_000_000_000).unwrap();
        }
    }
    let after = world.get(reservation.id).line.numerator() / 1_000_000_000;
    assert_eq!(u64::try_from(after).unwrap(), world.request, "slots gone by accrued again");
}

#[test]
fn an_offer_of_bytes_is_not_sold_too_late_to_carry_them() {
    let mut world = World::new();
    let need = Need::Bytes(40_000_000);
    let (offer, _) = world.offer(need, 20);
    world.now = T0.plus_ms(500);
    let held = world.reservation(SHOP, Command::Take { offer });
    world.now = T0.plus_ms(2_000);
    assert_eq!(world.code(SHOP, Command::Confirm { reservation: held.id, flows: None }), Code::QuoteExpired);
    world.reservation(SHOP, Command::Cancel { reservation: held.id });
    let (offer, _) = world.offer(need, 20);
    world.now = T0.plus_ms(4_000);
    assert_eq!(world.code(SHOP, Command::Take { offer }), Code::QuoteExpired);
}

#[test]
fn what_fits_nowhere_near_is_offered_later_and_slower() {
    let mut world = World::new();
    world.top_up(SHOP, 100_000_000);
    // All that is on sale, for a minute.
    let Reply::Refused(refusal) = world.quote(Need::Rate(BitsPerSecond(25_000_000)), 60) else {
        panic!("it fits?")
    };
    let most = refusal.offers[0].schedule.rate_max();
    world.confirmed(Need::Rate(most), 60);
    for need in [Need::Rate(BitsPerSecond(25_000_000)), Need::Bytes(10_000_000_000_000)] {
        let Reply::Refused(refusal) = world.quote(need, 30) else { panic!("it fits?") };
        assert_eq!(refusal.code, Code::DeadlineInfeasible, "{need:?}");
        assert_eq!(refusal.offers.len(), 1, "{need:?}");
        let offer = OfferId { quote: refusal.quote.unwrap(), index: 0 };
        let held = world.reservation(SHOP, Command::Take { offer });
        world.reservation(SHOP, Command::Cancel { reservation: held.id });
    }
}

#[test]
fn a_customer_without_room_for_keys_may_still_cancel() {
    let mut world = World::new();
    let reservation = world.confirmed(Need::Rate(BitsPerSecond(1_000_000)), 60);
    let key = |n: usize| {
        let mut key = [0u8; 16];
        key[..8].copy_from_slice(&n.to_be_bytes());
        Some(IdempotencyKey { key, request: 1 })
    };
    let offer = OfferId { quote: tollway_model::QuoteId(999), index: 0 };
    for n in 0..limits::KEYS_PER_CUSTOMER_MAX {
        let command = Command::Take { offer };
        world
            .engine
            .handle(world.now, Input::Client { request: RequestId(1), customer: SHOP, key: key(n), command });
    }
    while world.engine.poll_output().is_some() {}
    let command = Command::Cancel { reservation: reservation.id };
    let request = RequestId(2);
    world.input(Input::Client { request, customer: SHOP, key: key(usize::MAX), command });
    assert!(matches!(world.replies.last(), Some(Reply::Reservation(_))), "{:?}", world.replies.last());
}

#[test]
fn counter_offers_leave_out_what_the_hold_share_would_refuse() {
    let mut world = World::new();
    let mut share = config();
    share.pools[0].hold_share_ppm = 250_000;
    world.configure(share);
    let (offer, _) = world.offer(Need::Rate(BitsPerSecond(10_000_000)), 60);
    world.reservation(SHOP, Command::Take { offer });
    let Reply::Refused(refusal) = world.quote(Need::Rate(BitsPerSecond(15_000_000)), 600) else {
        panic!("it fits?")
    };
    for offer in &refusal.offers {
        let offer = OfferId { quote: refusal.quote.unwrap(), index: offer.index };
        let held = world.reservation(SHOP, Command::Take { offer });
        world.reservation(SHOP, Command::Cancel { reservation: held.id });
    }
}
