//! Garbage in every field of every input: nothing panics, no invariant breaks, and a replayed engine is the
//! same (invariant 8).
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test fails by panicking")]

mod support;

use support::{Counter, T0, config, first};
use tollway_core::offer::Need;
use tollway_core::{ConfigDef, Engine, IdempotencyKey, Input, RequestId};
use tollway_model::{
    Amount, BitsPerSecond, Currency, CustomerId, Direction, LegId, ReservationId, Slot, Timestamp, Window,
};
use tollway_policy::{PolicyReport, PortReading, Reading, Report, SlotReading};
use tollway_sim::actor::Published;
use tollway_sim::rng::Rng;
use tollway_sim::{flows, hostile, market};

const INPUTS: u32 = 30_000;

fn number(rng: &mut Rng) -> u64 {
    match rng.below(5) {
        0 => u64::MAX,
        1 => 0,
        2 => rng.next(),
        _ => rng.skewed(40),
    }
}

fn narrow(rng: &mut Rng) -> u32 {
    u32::try_from(number(rng) & u64::from(u32::MAX)).unwrap()
}

fn leg(rng: &mut Rng) -> LegId {
    let reservation = ReservationId(if rng.chance(800_000) { rng.skewed(8) } else { number(rng) });
    LegId { reservation, index: if rng.chance(900_000) { 0 } else { narrow(rng) } }
}

fn reading(rng: &mut Rng) -> Reading {
    Reading { bytes: number(rng), packets: number(rng), drops: number(rng) }
}

fn report(rng: &mut Rng, now: Timestamp) -> Report {
    let near = Slot(now.0 / 5_000 + rng.below(4) - 1);
    match rng.below(3) {
        0 => Report::Usage(SlotReading {
            leg: leg(rng),
            attempt: if rng.chance(700_000) { 1 } else { narrow(rng) },
            incarnation: rng.below(12),
            seq: number(rng),
            slot: if rng.chance(700_000) { near } else { Slot(number(rng)) },
            sold: reading(rng),
            reverse: reading(rng),
            active_ms: narrow(rng),
            busy_ms: narrow(rng),
            gap_ms_max: narrow(rng),
            seen: rng.chance(500_000),
            last: rng.chance(100_000),
            at: Timestamp(number(rng)),
            unconfirmed_ms: 0,
        }),
        1 => Report::Leg {
            leg: leg(rng),
            attempt: if rng.chance(700_000) { 1 } else { narrow(rng) },
            report: match rng.below(5) {
                0 => PolicyReport::Accepted,
                1 => PolicyReport::Active { at: Timestamp(number(rng)) },
                2 => PolicyReport::Refused { reason: "ü".repeat(500) },
                3 => PolicyReport::Removed { at: Timestamp(number(rng)) },
                _ => PolicyReport::Lost { at: Timestamp(number(rng)), reason: String::new() },
            },
        },
        _ => Report::Port(PortReading {
            port: String::new(),
            direction: Direction::Down,
            slot: Slot(number(rng)),
            incarnation: number(rng),
            default_class: reading(rng),
            default_rate_min: BitsPerSecond(number(rng)),
            backlog_bytes: number(rng),
            direct_packets: number(rng),
            up: false,
            delivered_bytes: number(rng),
            busy_ms: narrow(rng),
        }),
    }
}

fn broken(rng: &mut Rng) -> ConfigDef {
    let mut config = config(40_000_000, 500_000, 3);
    match rng.below(8) {
        0 => config.pools[0].up = BitsPerSecond(number(rng)),
        1 => config.pools[0].sell_share_ppm = narrow(rng),
        2 => config.tiers[0].rate_max = BitsPerSecond(number(rng)),
        3 => config.tiers[0].shape.packet_bytes = narrow(rng),
        4 => {
            let tier = &mut config.tiers[0];
            tier.overhead_ppm = narrow(rng);
            tier.cancel_fee_ppm = narrow(rng);
            tier.notice_s = narrow(rng);
            tier.start_grace_s = narrow(rng);
            tier.unseen_free_s = narrow(rng);
        }
        5 => config.tiers.push(market::tier("dear", 1_000_000_000)),
        6 => config.accesses[0].up.pools.push("core".into()),
        _ => config.customers.truncate(1),
    }
    config
}

fn input(rng: &mut Rng, now: Timestamp, published: &Published, revision: u64, last_batch: u64) -> Input {
    let request = RequestId(rng.next());
    let customer = CustomerId(if rng.chance(900_000) { 1 + narrow(rng) % 3 } else { narrow(rng) });
    let key =
        rng.chance(300_000).then(|| IdempotencyKey { key: [narrow(rng) as u8; 16], request: rng.below(3) });
    match rng.below(20) {
        0 => Input::Configure { request, base: revision, config: broken(rng) },
        1 => Input::TopUp {
            request,
            key,
            customer,
            amount: Amount::new(number(rng) as i64, Currency::EUR),
            actor: "x".repeat(2_000),
            reason: "ß".repeat(400),
        },
        2 if rng.chance(500_000) => {
            Input::AdapterDisconnected { enforcement_point: "router1".into(), connection: number(rng) }
        }
        2 => Input::AdapterConnected { enforcement_point: "router1".into(), connection: number(rng) },
        3..=6 => {
            let enforcement_point = if rng.chance(900_000) { "router1" } else { "" }.to_owned();
            let number = if rng.chance(990_000) { last_batch + 1 } else { rng.below(last_batch + 1) };
            let reports = (0..rng.below(6)).map(|_| report(rng, now)).collect();
            Input::Reports { enforcement_point, number, reports }
        }
        7 => Input::Tick,
        8 | 9 => {
            let reservation = ReservationId(rng.skewed(8));
            let command = tollway_core::Command::Confirm { reservation, flows: Some(flows(rng)) };
            Input::Client { request, customer, key, command }
        }
        _ => Input::Client { request, customer, key, command: hostile(rng, published) },
    }
}

/// Something for the garbage to hit.
fn sell(rng: &mut Rng, counter: &mut Counter) {
    let customer = CustomerId(1 + narrow(rng) % 3);
    let from = counter.now.plus_ms(rng.below(20_000));
    let window = Window::new(from, from.plus_ms(rng.between(5_000, 60_000)));
    let need = if rng.chance(500_000) {
        Need::Rate(BitsPerSecond(rng.between(1_000, 3_000_000)))
    } else {
        Need::Bytes(rng.between(1, 3_000_000))
    };
    let reply = counter.quote(customer, Direction::Up, window, need);
    let Some((offer, _)) = first(&reply) else { return };
    if let Ok(reservation) = counter.take(customer, offer)
        && rng.chance(800_000)
    {
        counter.confirm(customer, &reservation);
        if rng.chance(100_000) {
            counter.cancel(customer, &reservation);
        }
    }
}

#[test]
fn garbage_never_panics_and_replays_to_the_same() {
    for seed in 0..4 {
        let mut rng = Rng::stream(seed, "hostile");
        let mut counter = Counter::new(5, config(40_000_000, 500_000, 3));
        counter.keeps_journal = true;
        counter.journal = std::mem::take(&mut counter.records);
        let mut published = Published::default();
        published.accesses.insert("till".into(), support::LINE);
        for n in 0..INPUTS / 4 {
            counter.now = counter.now.plus_ms(rng.skewed(13));
            let revision = counter.engine.state().config.revision;
            if rng.chance(50_000) {
                sell(&mut rng, &mut counter);
            }
            let last_batch = counter.engine.state().last_batch("router1");
            let input = input(&mut rng, counter.now, &published, revision, last_batch);
            let shown = format!("{input:?}");
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| counter.input(input)));
            assert!(result.is_ok(), "seed {seed}, input {n}: {shown}");
            if n % 64 == 0
                && let Err(why) = counter.engine.check_invariants()
            {
                panic!("seed {seed}, input {n}: {why} after {shown}");
            }
        }
        let mut twin = Engine::new();
        counter.journal.iter().for_each(|envelope| twin.replay(envelope));
        twin.handle(counter.now, Input::Tick);
        counter.input(Input::Tick);
        assert!(twin.state() == counter.engine.state(), "seed {seed}: the replayed engine is another");
        assert!(counter.now > T0 && counter.engine.last_seq().0 > 1_000);
    }
}
