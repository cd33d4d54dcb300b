//! The gate and the lanes, on a store that loses commits, lands them in silence, or takes its time.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use support::{Broker, Dir, Fault, until};
use tollway::clock::{Kernel, Reading, Source};
use tollway::driver::handle::LANE_REQUESTS_MAX;
use tollway::driver::{self, Lane, Unavailable};
use tollway_core::offer::{Need, QuoteRequest, When};
use tollway_core::{Command, Reply};
use tollway_model::{BitsPerSecond, Currency, Direction, ReservationId};

/// As many answers as may wait for their records (`driver::gate`).
const OUTPUTS_WAITING: usize = 4_096;

async fn balance(broker: &Broker) -> i64 {
    broker.started.reader.wallet(broker.customer, Currency::EUR).await.unwrap().balance.micros.0
}

async fn ready(broker: &Broker) {
    until("the store takes records again", || broker.started.handle.readiness().is_ok()).await;
}

fn request(broker: &Broker) -> QuoteRequest {
    QuoteRequest {
        access: broker.access,
        direction: Direction::Up,
        tier: None,
        need: Need::Rate(BitsPerSecond(100_000)),
        start: None,
        end: When::In(60_000),
        subscriber: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_lost_or_lands_in_silence_has_one_effect_under_its_key() {
    for (fault, after_failure) in [(Fault::Lost, 0), (Fault::Landed, 7)] {
        let dir = Dir::new("fault");
        let (broker, faults) = Broker::start_faulty(dir.path()).await;
        faults.next(fault);
        let failed = broker.top_up(1, 7).await;
        assert!(matches!(failed, Err(Unavailable::Stalled { .. })), "{failed:?}");
        ready(&broker).await;
        assert_eq!(balance(&broker).await, after_failure, "{fault:?}");
        for _ in 0..2 {
            let Reply::ToppedUp { balance, .. } = broker.top_up(1, 7).await.unwrap() else {
                panic!("no balance")
            };
            assert_eq!(balance.micros.0, 7);
        }
        assert_eq!(balance(&broker).await, 7, "{fault:?}");
        // What is answered after it is durable like before.
        broker.top_up(2, 1).await.unwrap();
        assert_eq!(balance(&broker).await, 8);
        broker.stop().await;
        tollway::store::verify(dir.path()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_everyone_is_told_at_once_and_readiness_says_why() {
    let dir = Dir::new("away");
    let (broker, faults) = Broker::start_faulty(dir.path()).await;
    broker.top_up(1, 7).await.unwrap();
    faults.probes.store(3, Ordering::SeqCst);
    faults.next(Fault::Lost);
    assert!(broker.top_up(2, 7).await.is_err());
    let reasons = broker.started.handle.readiness().unwrap_err();
    assert!(reasons[0].contains("the store takes no records"), "{reasons:?}");
    let told = tokio::time::timeout(Duration::from_secs(1), broker.top_up(3, 7)).await.unwrap();
    assert!(matches!(told, Err(Unavailable::Stalled { .. })), "{told:?}");
    assert_eq!(balance(&broker).await, 7, "what is committed can be read");
    ready(&broker).await;
    broker.top_up(3, 7).await.unwrap();
    assert_eq!(balance(&broker).await, 14);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_before_it_is_durable_refusals_included() {
    let dir = Dir::new("gate");
    let (broker, faults) = Broker::start_faulty(dir.path()).await;
    let broker = Arc::new(broker);
    faults.begun.store(0, Ordering::SeqCst);
    faults.held.send_replace(true);
    let topping = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { broker.top_up(1, 7).await }
    });
    until("the store has begun the top-up's append", || faults.begun.load(Ordering::SeqCst) == 1).await;
    // Decided after the top-up: whatever it is, it may rest on it, so it waits with it.
    let cancel = Command::Cancel { reservation: ReservationId(99) };
    let early = Duration::from_millis(200);
    let refused = tokio::time::timeout(early, broker.client(Lane::Quote, 2, cancel.clone())).await;
    assert!(refused.is_err(), "{refused:?}");
    assert!(!topping.is_finished());
    assert_eq!(balance(&broker).await, 0);
    faults.held.send_replace(false);
    topping.await.unwrap().unwrap();
    assert!(matches!(broker.client(Lane::Quote, 2, cancel).await.unwrap(), Reply::Refused(_)));
    let broker = Arc::into_inner(broker).unwrap();
    assert_eq!(balance(&broker).await, 7);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_lane_sheds_at_once_and_others_go_on() {
    let dir = Dir::new("lanes");
    let (broker, faults) = Broker::start_faulty(dir.path()).await;
    let broker = Arc::new(broker);
    faults.held.send_replace(true);
    let topping = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { broker.top_up(1, 7).await }
    });
    let waits =
        |lane: Lane| broker.started.handle.waiting().iter().find(|(l, _)| *l == lane).map_or(0, |(_, n)| *n);
    // Refusals make no records: what bounds them is how many may wait for the top-up's.
    let unknown = |lane: Lane, key: u64| {
        let broker = Arc::clone(&broker);
        let cancel = Command::Cancel { reservation: ReservationId(99) };
        tokio::spawn(async move { broker.client(lane, key, cancel).await })
    };
    let mut asked = Vec::new();
    let begun = std::time::Instant::now();
    while asked.len() < OUTPUTS_WAITING + LANE_REQUESTS_MAX || waits(Lane::Quote) < LANE_REQUESTS_MAX {
        asked.push(unknown(Lane::Quote, 1_000 + asked.len() as u64));
        tokio::task::yield_now().await;
        assert!(begun.elapsed() < support::PATIENCE, "the lane fills");
    }
    // The driver takes nothing more: the lane stays full.
    let mut full = 0;
    let begun = std::time::Instant::now();
    while full < 20 {
        for _ in 0..64 {
            asked.push(unknown(Lane::Quote, 1_000 + asked.len() as u64));
        }
        drop(tokio::time::timeout(Duration::from_millis(5), std::future::pending::<()>()).await);
        full = if waits(Lane::Quote) == LANE_REQUESTS_MAX { full + 1 } else { 0 };
        assert!(begun.elapsed() < support::PATIENCE, "the lane stays full");
    }
    let cancel = Command::Cancel { reservation: ReservationId(99) };
    let shed = tokio::time::timeout(Duration::from_secs(1), broker.client(Lane::Quote, 1, cancel)).await;
    assert_eq!(shed.unwrap(), Err(Unavailable::Busy { retry_after_s: 1 }));
    // The lane before it is open, and is served first.
    let urgent = unknown(Lane::Urgent, 5);
    until("the urgent one waits", || waits(Lane::Urgent) == 1).await;
    assert!(!topping.is_finished());
    faults.held.send_replace(false);
    topping.await.unwrap().unwrap();
    assert!(urgent.await.unwrap().is_ok());
    for asked in asked {
        let answer = asked.await.unwrap();
        assert!(matches!(answer, Ok(_) | Err(Unavailable::Busy { .. })), "{answer:?}");
    }
    Arc::into_inner(broker).unwrap().stop().await;
}

/// The kernel's clocks, with a wall clock that somebody sets.
struct Stepped(Arc<AtomicI64>);

impl Source for Stepped {
    fn read(&self) -> Reading {
        let reading = Kernel.read();
        let wall_us = reading.wall_us.saturating_add_signed(self.0.load(Ordering::SeqCst));
        Reading { wall_us, ..reading }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_by_minutes_expires_nothing_and_admits_nothing_new() {
    let dir = Dir::new("clock");
    let step = Arc::new(AtomicI64::new(0));
    let mut options = support::options(&support::settings());
    options.clock = Box::new(Stepped(Arc::clone(&step)));
    let broker = Broker::of(driver::start(dir.path(), options).await.unwrap());
    broker.top_up(1, 9_000_000).await.unwrap();
    let held = broker.hold(10, 100_000, 600, 60).await;
    step.store(86_400_000_000, Ordering::SeqCst);
    until("the step is seen", || broker.started.handle.readiness().is_err()).await;
    let command = Command::Quote(request(&broker));
    let refused = broker.client(Lane::Quote, 20, command.clone()).await;
    assert!(
        matches!(&refused, Err(Unavailable::Stalled { reason, .. }) if reason.contains("wall clock")),
        "{refused:?}"
    );
    // A day has not passed: the hold is still there and may be confirmed.
    assert!(broker.confirm(21, &held).await.promise.is_confirmed());
    step.store(0, Ordering::SeqCst);
    until("the clock is right again", || broker.started.handle.readiness().is_ok()).await;
    broker.client(Lane::Quote, 22, command).await.unwrap();
    broker.stop().await;

    // At a start, a wall clock far before the last record is refused, or accepted.
    step.store(-600_000_000, Ordering::SeqCst);
    let mut options = support::options(&support::settings());
    options.clock = Box::new(Stepped(Arc::clone(&step)));
    let error = driver::start(dir.path(), options).await.err().unwrap().to_string();
    assert!(error.contains("--accept-clock"), "{error}");
    let mut options = support::options(&support::settings());
    options.clock = Box::new(Stepped(Arc::clone(&step)));
    options.accept_clock = true;
    let broker = Broker::of(driver::start(dir.path(), options).await.unwrap());
    broker.top_up(30, 1).await.unwrap();
    broker.stop().await;
    tollway::store::verify(dir.path()).await.unwrap();
}
