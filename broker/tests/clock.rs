//! A wall clock that jumps while the broker runs.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use support::{Dir, options, settings};
use tollway::clock::{Kernel, Reading, Source};
use tollway::driver::{self, Lane, Stopped, Unavailable};
use tollway_core::offer::{Need, QuoteRequest, When};
use tollway_core::{Command, Input};
use tollway_model::{BitsPerSecond, Direction};

/// The kernel's clocks, the wall clock ahead by so many microseconds.
#[derive(Clone, Default)]
struct Ahead(Arc<AtomicU64>);

impl Source for Ahead {
    fn read(&self) -> Reading {
        let kernel = Kernel.read();
        Reading { wall_us: kernel.wall_us + self.0.load(Ordering::SeqCst), ..kernel }
    }
}

/// Not only when there is time to look: under load there never is.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_admitted_from_the_very_jump_on() {
    let dir = Dir::new("jump");
    let clock = Ahead::default();
    let options = driver::Options { clock: Box::new(clock.clone()), ..options(&settings()) };
    let started = driver::start(dir.path(), options).await.unwrap();
    let snapshot = started.handle.snapshot();
    let customer = snapshot.config.customer_id("shop-pos").unwrap();
    let access = snapshot.config.access_id("shop").unwrap();
    let quote = || {
        let need = Need::Rate(BitsPerSecond(1_000_000));
        let (direction, end) = (Direction::Up, When::In(60_000));
        let command = Command::Quote(QuoteRequest {
            access,
            direction,
            tier: None,
            need,
            start: None,
            end,
            subscriber: None,
        });
        let make = |request| Input::Client { request, customer, key: None, command };
        started.handle.submit(Lane::Quote, make)
    };
    quote().await.unwrap();
    clock.0.store(120_000_000, Ordering::SeqCst);
    assert!(matches!(quote().await, Err(Unavailable::Stalled { .. })));
    clock.0.store(0, Ordering::SeqCst);
    quote().await.unwrap();
    started.stop.send_replace(true);
    assert!(matches!(started.driver.await.unwrap(), Stopped::Gracefully));
    started.reader.close().await;
}
