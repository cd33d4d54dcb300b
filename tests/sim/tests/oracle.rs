//! Admission against oracles, through the engine's public inputs only.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use support::{Counter, T0, config, first};
use tollway_core::offer::{Need, Offer};
use tollway_core::{Code, Record, Reply, Reservation};
use tollway_model::{
    BitsPerSecond, CustomerId, Direction, OfferId, PoolId, ReservationId, Timestamp, Window,
};
use tollway_sim::rng::Rng;

const UP: usize = 0;

fn side(direction: Direction) -> usize {
    match direction {
        Direction::Up => UP,
        Direction::Down => 1,
    }
}

/// Sold class rate of one pool by step (a second, or a slot) and direction.
struct Sold {
    step_ms: u64,
    bps: [Vec<u64>; 2],
    offers: BTreeMap<ReservationId, Offer>,
}

impl Sold {
    fn new(step_ms: u64, steps: usize) -> Sold {
        Sold { step_ms, bps: [vec![0; steps], vec![0; steps]], offers: BTreeMap::new() }
    }

    fn steps(&self, window: Window) -> std::ops::Range<usize> {
        let from = window.from.ms_since(T0) / self.step_ms;
        let until = window.until.ms_since(T0).div_ceil(self.step_ms);
        usize::try_from(from).unwrap()..usize::try_from(until).unwrap()
    }

    fn each(&mut self, offer: &Offer, from: Timestamp, change: impl Fn(&mut u64, u64)) {
        for segment in offer.schedule.segments() {
            let window = Window::new(segment.window.from.max(from), segment.window.until);
            if window.is_empty() {
                continue;
            }
            let steps = self.steps(window);
            for direction in Direction::BOTH {
                let rate = if direction == offer.direction { segment.rate.0 } else { back(segment.rate.0) };
                self.bps[side(direction)][steps.clone()].iter_mut().for_each(|bps| change(bps, class(rate)));
            }
        }
    }

    fn fits(&self, direction: Direction, window: Window, rate: u64, on_sale: u64) -> bool {
        Direction::BOTH.into_iter().all(|way| {
            let own = class(if way == direction { rate } else { back(rate) });
            self.bps[side(way)][self.steps(window)].iter().all(|bps| bps + own <= on_sale)
        })
    }

    /// Follows the engine's records: what is held, what has ended. Returns what is now sold most.
    fn follow(&mut self, counter: &mut Counter) {
        for envelope in std::mem::take(&mut counter.records) {
            match envelope.record {
                Record::Held(held) => {
                    self.each(&held.offer, Timestamp(0), |bps, own| *bps += own);
                    self.offers.insert(held.reservation, held.offer);
                }
                Record::HoldExpired { reservation } => self.end(reservation, Timestamp(0)),
                Record::Ended(ended) => {
                    let step = envelope.at.0.div_ceil(self.step_ms) * self.step_ms;
                    self.end(ended.reservation, Timestamp(step));
                }
                _ => {}
            }
        }
    }

    fn end(&mut self, id: ReservationId, at: Timestamp) {
        if let Some(offer) = self.offers.remove(&id) {
            self.each(&offer, at, |bps, own| *bps -= own);
        }
    }

    fn peak(&self) -> u64 {
        self.bps.iter().flatten().copied().max().unwrap_or(0)
    }
}

/// Class rate of an IP rate in packets of 1,500 bytes, by hand.
fn class(ip_bps: u64) -> u64 {
    u64::try_from((u128::from(ip_bps) * 1514).div_ceil(1500)).unwrap()
}

fn back(ip_bps: u64) -> u64 {
    (ip_bps * 3 / 100).max(64_000)
}

fn direction(rng: &mut Rng) -> Direction {
    if rng.chance(500_000) { Direction::Up } else { Direction::Down }
}

#[test]
fn a_hundred_thousand_requests_never_pass_the_per_second_oracle() {
    const ON_SALE: u64 = 20_000_000;
    const HORIZON_S: u64 = 7_200;
    let mut rng = Rng::stream(1, "per second");
    let mut counter = Counter::new(5, config(40_000_000, 500_000, 300));
    let mut sold = Sold::new(1_000, 40_000);
    let mut open: Vec<(CustomerId, Reservation)> = Vec::new();
    let (mut granted, mut refused) = (0u32, 0u32);
    for n in 0..100_000u64 {
        counter.now = counter.now.plus_ms(rng.below(40));
        let customer = CustomerId(u32::try_from(n % 300).unwrap() + 1);
        let from = counter.now.plus_ms(rng.below(HORIZON_S * 1_000));
        let window = Window::new(from, from.plus_ms(5_000 + rng.below(1_200_000)));
        let need = if rng.chance(250_000) {
            Need::Bytes(1 + rng.below(30_000_000))
        } else {
            Need::Rate(BitsPerSecond(rng.between(1_000, 6_000_000)))
        };
        let way = direction(&mut rng);
        let reply = counter.quote(customer, way, window, need);
        match first(&reply) {
            Some((offer, _)) => {
                let reservation = counter.take(customer, offer).unwrap();
                if rng.chance(900_000) {
                    counter.confirm(customer, &reservation);
                }
                open.push((customer, reservation));
                granted += 1;
            }
            None => refused += 1,
        }
        sold.follow(&mut counter);
        assert!(sold.peak_in(window) <= ON_SALE, "request {n}: {} is sold", sold.peak_in(window));
        while open.len() > 150 || (!open.is_empty() && rng.chance(100_000)) {
            let index = usize::try_from(rng.below(open.len() as u64)).unwrap();
            let (customer, reservation) = open.swap_remove(index);
            counter.cancel(customer, &reservation);
            sold.follow(&mut counter);
        }
    }
    assert!(sold.peak() <= ON_SALE);
    println!("{granted} granted, {refused} refused");
    assert!(granted > 20_000 && refused > 5_000, "{granted} granted, {refused} refused");
}

impl Sold {
    fn peak_in(&self, window: Window) -> u64 {
        let steps = self.steps(window);
        self.bps.iter().flat_map(|bps| &bps[steps.clone()]).copied().max().unwrap_or(0)
    }
}

/// A debug engine checks itself after each step while it is small, slot by slot: a minute's work on windows
/// of weeks. These reservations, far behind the horizon of the test, are more than it calls small.
fn grow_up(counter: &mut Counter) {
    for n in 0..65u64 {
        let customer = CustomerId(u32::try_from(n % 60).unwrap() + 1);
        let from = T0.plus_ms(60 * 86_400_000 + n * 60_000);
        let window = Window::new(from, from.plus_ms(5_000));
        let reply = counter.quote(customer, Direction::Up, window, Need::Rate(BitsPerSecond(1_000)));
        let reservation = counter.take(customer, first(&reply).unwrap().0).unwrap();
        counter.confirm(customer, &reservation);
    }
    counter.records.clear();
}

#[test]
fn a_thousand_cases_on_thirty_days_are_the_per_slot_oracle() {
    const ON_SALE: u64 = 50_000_000;
    const SLOTS: u64 = 30 * 1_440;
    let mut rng = Rng::stream(2, "per slot");
    let (mut fits, mut lacks) = (0, 0);
    for _ in 0..20 {
        let mut counter = Counter::new(60, config(100_000_000, 500_000, 60));
        grow_up(&mut counter);
        let mut sold = Sold::new(60_000, 31 * 1_440);
        for n in 0..50u32 {
            let customer = CustomerId(n + 1);
            let from = T0.plus_ms(rng.below(SLOTS - 20) * 60_000 + rng.below(60_000));
            let room = T0.plus_ms(SLOTS * 60_000).ms_since(from);
            let length = if rng.chance(500_000) { rng.below(room) } else { rng.below(room.min(86_400_000)) };
            let window = Window::new(from, from.plus_ms(length.max(5_000)));
            let rate = rng.between(1_000, 30_000_000);
            let way = direction(&mut rng);
            let expected = sold.fits(way, window, rate, ON_SALE);
            let reply = counter.quote(customer, way, window, Need::Rate(BitsPerSecond(rate)));
            let offer = first(&reply);
            assert_eq!(offer.is_some(), expected, "{rate} in {window:?}: {reply:?}");
            if let Some((offer, _)) = offer {
                let reservation = counter.take(customer, offer).unwrap();
                counter.confirm(customer, &reservation);
                fits += 1;
            } else {
                lacks += 1;
            }
            sold.follow(&mut counter);
        }
    }
    println!("{fits} fit, {lacks} do not");
    assert_eq!(fits + lacks, 1_000);
    assert!(fits > 200 && lacks > 200, "{fits} fit, {lacks} do not");
}

#[test]
fn two_clients_race_for_the_last_slot_and_one_wins() {
    let mut rng = Rng::stream(3, "race");
    let mut counter = Counter::new(5, config(10_000_000, 1_000_000, 2));
    let (shop, rival) = (CustomerId(1), CustomerId(2));
    let mut wins = [0u32; 2];
    for round in 0..10_000 {
        counter.now = counter.now.plus_ms(5_000);
        let window = Window::new(counter.now.plus_ms(60_000), counter.now.plus_ms(65_000));
        let need = Need::Rate(BitsPerSecond(rng.between(5_200_000, 9_000_000)));
        let mut offers: Vec<(CustomerId, OfferId)> = [shop, rival]
            .into_iter()
            .map(|customer| {
                let reply = counter.quote(customer, Direction::Up, window, need);
                (customer, first(&reply).expect("both are offered it").0)
            })
            .collect();
        if rng.chance(500_000) {
            offers.reverse();
        }
        let results: Vec<_> = offers.iter().map(|(who, offer)| (*who, counter.take(*who, *offer))).collect();
        let [(winner, Ok(held)), (_, Err(refusal))] = &results[..] else {
            panic!("round {round}: {results:?}");
        };
        assert_eq!(refusal.code, Code::CapacityExhausted);
        wins[usize::try_from(winner.0).unwrap() - 1] += 1;
        assert!(counter.cancel(*winner, held));
        counter.records.clear();
    }
    assert!(wins[0] > 4_000 && wins[1] > 4_000, "{wins:?}");
}

/// ESnet's OSCARS keeps one of the reservations that start at the same instant in its sweep and calls 9,000
/// free; the truth is 5,000.
#[test]
fn oscars_five_equal_starts_leave_half() {
    let mut counter = Counter::new(60, config(10_000_000, 1_000_000, 8));
    let window = Window::new(T0.plus_ms(600_000), T0.plus_ms(4_200_000));
    let thousand = BitsPerSecond(1_000_000).ip_rate(1_500);
    assert_eq!(class(thousand.0), 1_000_000);
    for n in 1..=5 {
        let reply = counter.quote(CustomerId(n), Direction::Up, window, Need::Rate(thousand));
        let reservation = counter.take(CustomerId(n), first(&reply).unwrap().0).unwrap();
        counter.confirm(CustomerId(n), &reservation);
    }
    let state = counter.engine.state();
    assert_eq!(state.committed(PoolId(1), Direction::Up, window.from), 5_000_000);
    let half = BitsPerSecond(5_000_000).ip_rate(1_500);
    let too_much = counter.quote(CustomerId(6), Direction::Up, window, Need::Rate(BitsPerSecond(half.0 + 1)));
    assert!(matches!(too_much, Reply::Refused(refusal) if refusal.code == Code::CapacityExhausted));
    let fits = counter.quote(CustomerId(7), Direction::Up, window, Need::Rate(half));
    let reservation = counter.take(CustomerId(7), first(&fits).unwrap().0).unwrap();
    counter.confirm(CustomerId(7), &reservation);
    let nothing = counter.quote(CustomerId(8), Direction::Up, window, Need::Rate(BitsPerSecond(1_000)));
    assert!(matches!(nothing, Reply::Refused(_)));
}

#[test]
fn counter_offers_are_granted_if_taken_at_once() {
    let mut rng = Rng::stream(5, "counter-offers");
    let mut counter = Counter::new(60, config(40_000_000, 500_000, 200));
    let mut open: Vec<(CustomerId, Reservation)> = Vec::new();
    let (mut refused, mut taken, mut without) = (0u32, 0u32, 0u32);
    while refused < 5_000 {
        counter.now = counter.now.plus_ms(rng.below(4_000));
        let customer = CustomerId(u32::try_from(rng.below(200)).unwrap() + 1);
        let from = counter.now.plus_ms(rng.below(14_400_000));
        let length = if rng.chance(100_000) { rng.below(86_400_000) } else { rng.below(3_600_000) };
        let window = Window::new(from, from.plus_ms(5_000 + length));
        let need = if rng.chance(500_000) {
            Need::Bytes(1 + rng.below(2_000_000_000))
        } else {
            Need::Rate(BitsPerSecond(rng.between(1_000, 25_000_000)))
        };
        let way = direction(&mut rng);
        let reply = counter.quote(customer, way, window, need);
        let offer = match &reply {
            Reply::Quote(quote) => OfferId { quote: quote.id, index: 0 },
            Reply::Refused(refusal) => {
                assert!(
                    matches!(refusal.code, Code::CapacityExhausted | Code::DeadlineInfeasible),
                    "{refusal:?}"
                );
                refused += 1;
                let Some(offer) = rng.pick(&refusal.offers) else {
                    without += 1;
                    continue;
                };
                taken += 1;
                OfferId { quote: refusal.quote.expect("offers belong to a quote"), index: offer.index }
            }
            other => panic!("{other:?}"),
        };
        let result = counter.take(customer, offer);
        let reservation = result.unwrap_or_else(|refusal| panic!("{need:?} in {window:?}: {refusal:?}"));
        counter.confirm(customer, &reservation);
        open.push((customer, reservation));
        while open.len() > 40 || (!open.is_empty() && rng.chance(150_000)) {
            let (customer, reservation) =
                open.swap_remove(usize::try_from(rng.below(open.len() as u64)).unwrap());
            counter.cancel(customer, &reservation);
        }
        counter.records.clear();
    }
    println!("{refused} refused, {taken} counter-offers taken, {without} refusals had none");
    assert!(taken > 3_000, "{refused} refused, {taken} taken, {without} without");
}
