//! One reservation's life through the engine, and what must not happen on the way.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use support::*;
use tollway_billing::AccountId;
use tollway_core::offer::{Need, QuoteRequest, When};
use tollway_core::reservation::{EndReason, LegState, Promise};
use tollway_core::{Code, Command, Engine, Envelope, IdempotencyKey, Input, Reply, RequestId};
use tollway_model::{BitsPerSecond, Currency, Direction, Flow, Micros, OfferId, Slot, Timestamp};
use tollway_policy::{PolicyCommand, PolicyReport, Report};

const FORTY_MB: Need = Need::Bytes(40_000_000);

#[test]
fn forty_megabytes_in_twenty_seconds() {
    let mut world = World::new();
    let (_, offer) = world.offer(FORTY_MB, 20);
    assert!(offer.schedule.bytes_in(offer.window) >= 43_200_000);
    assert!(offer.schedule.rate_max().0 < 17_400_000);
    let reservation = world.confirmed(FORTY_MB, 20);
    assert_eq!(reservation.promise, Promise::Running);
    let Some(PolicyCommand::Desire(desired)) = world.commands.last() else { panic!("no command") };
    assert_eq!(desired.flows.len(), 1);
    assert_eq!(desired.valid_until, reservation.window.until);
    assert!(desired.up.schedule.rate_max().0 > desired.down.schedule.rate_max().0);
    world.active(&reservation);
    let first = world.now.ms() / 5_000;
    for k in 0..4 {
        world.now = Timestamp((first + k + 1) * 5_000);
        let bytes = (k + 1) * 10_800_000;
        world.report(vec![reading(&reservation, k + 1, Slot(first + k), bytes, k == 3)]);
    }
    world.now = T0.plus_ms(20_001);
    world.input(Input::Tick);
    let ended = world.get(reservation.id).clone();
    assert!(matches!(ended.promise, Promise::Ended { reason: EndReason::Completed, .. }));
    assert!(ended.settled);
    // 43.2 MB of layer-3 bytes at 0.05 EUR a GB, at the multiplier of each segment.
    assert!(ended.money.posted.0 >= 2_160, "{:?}", ended.money);
    assert_eq!(ended.money.posted.0 + ended.money.voided.0, ended.total.micros.0);
    let wallet = AccountId::wallet(SHOP, Currency::EUR);
    let ledger = &world.engine.state().ledger;
    assert_eq!(ledger.balance(wallet).0, 10_000_000 - ended.money.posted.0);
    assert_eq!(ledger.held(wallet), Micros::ZERO);
}

#[test]
fn a_replayed_engine_is_the_same() {
    let mut world = World::new();
    let reservation = world.confirmed(Need::Rate(BitsPerSecond(8_000_000)), 600);
    world.active(&reservation);
    world.quote(FORTY_MB, 3);
    let (offer, _) = world.offer(Need::Rate(BitsPerSecond(1_000_000)), 60);
    world.reservation(SHOP, Command::Take { offer });
    world.now = T0.plus_ms(130_000);
    world.input(Input::Tick);
    let mut twin = Engine::new();
    for envelope in &world.journal {
        let bytes = minicbor::to_vec(envelope).unwrap();
        let decoded: Envelope = minicbor::decode(&bytes).unwrap();
        assert_eq!(&decoded, envelope);
        twin.replay(&decoded);
    }
    twin.handle(world.now, Input::Tick);
    assert_eq!(twin.take_records(), []);
    assert!(twin.state() == world.engine.state());
}

#[test]
fn refusals_carry_offers_that_are_granted() {
    let mut world = World::new();
    world.confirmed(Need::Rate(BitsPerSecond(15_000_000)), 60);
    for need in [Need::Rate(BitsPerSecond(10_000_000)), Need::Bytes(60_000_000)] {
        let Reply::Refused(refusal) = world.quote(need, 40) else { panic!("it fits?") };
        assert_eq!(refusal.code, Code::CapacityExhausted, "{need:?}");
        assert!(refusal.offers.len() == 2, "{need:?}: {refusal:?}");
        let quote = refusal.quote.unwrap();
        let offer = OfferId { quote, index: u32::try_from(refusal.offers.len()).unwrap() - 1 };
        let held = world.reservation(SHOP, Command::Take { offer });
        world.reservation(SHOP, Command::Cancel { reservation: held.id });
    }
    let Reply::Refused(refusal) = world.quote(Need::Bytes(10_000_000_000), 20) else { panic!("it fits?") };
    assert_eq!(refusal.code, Code::DeadlineInfeasible);
}

#[test]
fn an_unconfirmed_hold_expires_and_gives_everything_back() {
    let mut world = World::new();
    let (offer, _) = world.offer(Need::Rate(BitsPerSecond(15_000_000)), 600);
    let held = world.reservation(SHOP, Command::Take { offer });
    assert!(world.engine.state().committed(tollway_model::PoolId(1), Direction::Up, T0) > 0);
    assert_eq!(world.engine.poll_timeout(), Some((T0.plus_ms(120_000), "hold expires")));
    world.now = T0.plus_ms(120_000);
    assert_eq!(world.code(SHOP, Command::Confirm { reservation: held.id, flows: None }), Code::WrongState);
    let expired = world.get(held.id);
    assert!(matches!(expired.promise, Promise::Ended { reason: EndReason::Expired, .. }));
    assert_eq!(expired.money.voided, expired.total.micros);
    assert_eq!(world.engine.state().committed(tollway_model::PoolId(1), Direction::Up, world.now), 0);
}

#[test]
fn a_leg_that_is_never_installed_ends_and_costs_nothing() {
    let mut world = World::new();
    let reservation = world.confirmed(Need::Rate(BitsPerSecond(1_000_000)), 60);
    let leg = reservation.leg_id();
    world.report(vec![Report::Leg {
        leg,
        attempt: 1,
        report: PolicyReport::Refused { reason: "no".into() },
    }]);
    assert_eq!(world.get(reservation.id).leg.state, LegState::Refused);
    world.now = T0.plus_ms(1_000);
    world.input(Input::Tick);
    assert_eq!(world.get(reservation.id).leg.attempt, 2);
    world.now = T0.plus_ms(10_000);
    world.input(Input::Tick);
    let ended = world.get(reservation.id);
    assert!(matches!(ended.promise, Promise::Ended { reason: EndReason::Terminated, .. }));
    assert!(matches!(world.commands.last(), Some(PolicyCommand::Release { .. })));
    world.report(vec![Report::Leg { leg, attempt: 2, report: PolicyReport::Removed { at: T0 } }]);
    let ended = world.get(reservation.id);
    assert!(ended.settled);
    assert_eq!(ended.money.voided, ended.total.micros);
}

#[test]
fn repeats_and_lies_charge_nothing() {
    let mut world = World::new();
    let reservation = world.confirmed(Need::Rate(BitsPerSecond(8_000_000)), 60);
    world.active(&reservation);
    let slot = Slot(T0.ms() / 5_000);
    world.now = T0.plus_ms(5_000);
    world.report(vec![reading(&reservation, 1, slot, 5_000_000, false)]);
    let before = world.get(reservation.id).clone();
    assert!(before.money.posted > Micros::ZERO);
    let repeated = reading(&reservation, 1, slot, 5_000_000, false);
    world.report(vec![repeated.clone(), repeated]);
    let mut other = reading(&reservation, 2, slot, 5_000_000, false);
    if let Report::Usage(reading) = &mut other {
        reading.attempt = 9;
    }
    world.report(vec![other]);
    assert_eq!(world.get(reservation.id), &before);
    // A second reading of the same slot keeps no more time than the slot has.
    world.report(vec![reading(&reservation, 2, slot, 5_000_000, false)]);
    assert_eq!(world.get(reservation.id).money, before.money);
}

#[test]
fn unseen_flows_are_free_for_a_while() {
    let mut world = World::new();
    let reservation = world.confirmed(Need::Rate(BitsPerSecond(8_000_000)), 600);
    world.active(&reservation);
    let first = T0.ms() / 5_000;
    for k in 0..26 {
        world.now = T0.plus_ms((k + 1) * 5_000);
        let mut unseen = reading(&reservation, k + 1, Slot(first + k), 0, false);
        if let Report::Usage(reading) = &mut unseen {
            reading.seen = false;
        }
        world.report(vec![unseen]);
        let posted = world.get(reservation.id).money.posted;
        assert_eq!(posted > Micros::ZERO, k >= 24, "slot {k}");
    }
}

#[test]
fn strangers_flows_and_endpoints_are_refused() {
    let mut world = World::new();
    let reservation = world.confirmed(Need::Rate(BitsPerSecond(1_000_000)), 60);
    let request = QuoteRequest {
        access: LINE,
        direction: Direction::Up,
        tier: None,
        need: Need::Rate(BitsPerSecond(64_000)),
        start: None,
        end: When::In(30_000),
        subscriber: None,
    };
    let Reply::Quote(quote) = world.command(RIVAL, Command::Quote(request)) else { panic!("refused") };
    let held = world.reservation(RIVAL, Command::Take { offer: OfferId { quote: quote.id, index: 0 } });
    let confirm = |flow: Flow| Command::Confirm { reservation: held.id, flows: Some(vec![flow]) };
    assert_eq!(world.code(RIVAL, confirm(flow(40_000))), Code::FlowConflict);
    let mut wildcard = flow(1);
    wildcard.device_port = None;
    assert_eq!(world.code(RIVAL, confirm(wildcard)), Code::FlowConflict);
    let mut stranger = flow(1);
    stranger.device = "10.99.0.1".parse().unwrap();
    assert_eq!(world.code(RIVAL, confirm(stranger)), Code::EndpointNotAllowed);
    assert_eq!(world.code(RIVAL, Command::Cancel { reservation: reservation.id }), Code::NotFound);
    world.reservation(SHOP, Command::Cancel { reservation: reservation.id });
    world.reservation(RIVAL, confirm(flow(40_000)));
}

#[test]
fn capacity_that_shrinks_becomes_a_deficit() {
    let mut world = World::new();
    let reservation = world.confirmed(Need::Rate(BitsPerSecond(15_000_000)), 60);
    let mut smaller = config();
    smaller.pools[0].up = BitsPerSecond(20_000_000);
    let Reply::Configured { deficits, .. } = world.configure(smaller.clone()) else { panic!("refused") };
    assert_eq!(deficits.len(), 1);
    assert!(deficits[0].runs[0].excess_bps > 5_000_000);
    assert!(matches!(world.quote(Need::Rate(BitsPerSecond(64_000)), 30), Reply::Refused(_)));
    assert_eq!(world.get(reservation.id).promise, Promise::Running);
    smaller.accesses.clear();
    smaller.customers.clear();
    let Reply::Refused(refusal) = world.configure(smaller) else { panic!("applied") };
    assert_eq!(refusal.code, Code::ConfigurationRefused);
    assert!(refusal.message.contains(&reservation.id.to_string()), "{}", refusal.message);
}

#[test]
fn the_same_key_gets_the_same_answer() {
    let mut world = World::new();
    let (offer, _) = world.offer(Need::Rate(BitsPerSecond(1_000_000)), 60);
    let key = Some(IdempotencyKey { key: [1; 16], request: 5 });
    let take =
        Input::Client { request: RequestId(900), customer: SHOP, key, command: Command::Take { offer } };
    world.input(take.clone());
    let seq = world.journal.last().unwrap().seq;
    let records = world.journal.len();
    world.input(take);
    assert_eq!(world.repeats, [seq]);
    assert_eq!(world.journal.len(), records);
    let other = Some(IdempotencyKey { key: [1; 16], request: 6 });
    let command = Command::Take { offer };
    world.input(Input::Client { request: RequestId(901), customer: SHOP, key: other, command });
    assert!(matches!(world.replies.last(), Some(Reply::Refused(r)) if r.code == Code::KeyReused));
}

#[test]
fn hoarding_is_bounded() {
    let mut world = World::new();
    for n in 0..17 {
        let (offer, _) = world.offer(Need::Rate(BitsPerSecond(64_000)), 60);
        let reply = world.command(SHOP, Command::Take { offer });
        match reply {
            Reply::Reservation(_) => assert!(n < 16),
            Reply::Refused(refusal) => assert_eq!((refusal.code, n), (Code::TooMany, 16)),
            other => panic!("{other:?}"),
        }
    }
    for n in 0..64 {
        let reply = world.quote(Need::Rate(BitsPerSecond(64_000)), 60);
        assert_eq!(matches!(reply, Reply::Quote(_)), n < 63, "{n}");
    }
    let mut greedy = World::new();
    let mut share = config();
    share.pools[0].hold_share_ppm = 250_000;
    greedy.configure(share);
    let (offer, _) = greedy.offer(Need::Rate(BitsPerSecond(10_000_000)), 60);
    greedy.reservation(SHOP, Command::Take { offer });
    let (offer, _) = greedy.offer(Need::Rate(BitsPerSecond(1_000_000)), 60);
    assert_eq!(greedy.code(SHOP, Command::Take { offer }), Code::HoldShare);
}

#[test]
fn money_that_is_not_there_is_not_held() {
    let mut world = World::new();
    let mut dear = config();
    dear.tiers[0].tariff.mbps_hour = Micros(1_000_000_000);
    world.configure(dear);
    let (offer, priced) = world.offer(Need::Rate(BitsPerSecond(10_000_000)), 600);
    assert!(priced.total.micros.0 > 10_000_000);
    assert_eq!(world.code(SHOP, Command::Take { offer }), Code::InsufficientFunds);
}

#[test]
fn values_outside_what_is_sold_are_refused() {
    let mut world = World::new();
    for need in [
        Need::Rate(BitsPerSecond(0)),
        Need::Rate(BitsPerSecond(u64::MAX)),
        Need::Bytes(0),
        Need::Bytes(u64::MAX),
    ] {
        let Reply::Refused(refusal) = world.quote(need, 60) else { panic!("{need:?}") };
        assert_eq!(refusal.code, Code::OutOfRange, "{need:?}");
    }
    for seconds in [0, 1, 86_400 * 32, 86_400 * 365 * 10, u64::MAX / 1000] {
        let Reply::Refused(refusal) = world.quote(FORTY_MB, seconds) else { panic!("{seconds}") };
        assert_eq!(refusal.code, Code::OutOfRange, "{seconds}");
    }
}
