//! A broker in this process, on a directory of its own.
#![allow(dead_code, clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tollway::config::{self, Settings};
use tollway::driver::{self, Lane, Options, Started, Stopped, Unavailable};
use tollway::store::{Error, Loaded, SqliteStore, Store};
use tollway_core::offer::{Need, Quote, QuoteRequest, When};
use tollway_core::{Command, Envelope, IdempotencyKey, Input, Reply, Reservation};
use tollway_model::{AccessId, Amount, BitsPerSecond, Currency, CustomerId, Direction, OfferId, Seq};

pub const CONFIG: &str = include_str!("broker.toml");
pub const SHOP_TOKEN: &str = "shop-token";
pub const NOC_TOKEN: &str = "noc-token";
pub const AGENT_TOKEN: &str = "agent-token";

/// Longest wait for anything in these tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A fresh directory, removed when dropped.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new(name: &str) -> Dir {
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tollway-{name}-{}-{unique}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn settings() -> Settings {
    settings_on(0, 0)
}

pub fn settings_on(http: u16, grpc: u16) -> Settings {
    config::parse("broker.toml", &config_text(http, grpc)).unwrap()
}

/// The configuration with its ports and keys put in.
pub fn config_text(http: u16, grpc: u16) -> String {
    let hash = |token: &str| tollway::auth::sha256_hex(&tollway::auth::token_sha256(token));
    CONFIG
        .replace("127.0.0.1:7410", &format!("127.0.0.1:{http}"))
        .replace("127.0.0.1:7420", &format!("127.0.0.1:{grpc}"))
        .replace("{shop}", &hash(SHOP_TOKEN))
        .replace("{noc}", &hash(NOC_TOKEN))
        .replace("{agent}", &hash(AGENT_TOKEN))
}

pub fn options(settings: &Settings) -> Options {
    Options {
        market: settings.market.clone(),
        config: settings.def.clone(),
        clock: Box::new(tollway::clock::Kernel),
        accept_clock: false,
        new_market_key: false,
    }
}

pub struct Broker {
    pub started: Started,
    pub customer: CustomerId,
    pub access: AccessId,
}

impl Broker {
    pub async fn start(dir: &Path) -> Broker {
        Broker::of(driver::start(dir, options(&settings())).await.unwrap())
    }

    /// On a store that fails as told.
    pub async fn start_faulty(dir: &Path) -> (Broker, Faults) {
        Broker::start_faulty_with(dir, &settings()).await
    }

    pub async fn start_faulty_with(dir: &Path, settings: &Settings) -> (Broker, Faults) {
        let faults = Faults::default();
        let inner = SqliteStore::open(dir).await.unwrap();
        let store = Faulty { inner, faults: faults.clone() };
        let started = driver::start_on(dir, store, options(settings)).await.unwrap();
        (Broker::of(started), faults)
    }

    pub fn of(started: Started) -> Broker {
        let snapshot = started.handle.snapshot();
        let customer = snapshot.config.customer_id("shop-pos").unwrap();
        let access = snapshot.config.access_id("shop").unwrap();
        Broker { started, customer, access }
    }

    pub async fn stop(self) {
        self.started.stop.send_replace(true);
        assert!(matches!(self.started.driver.await.unwrap(), Stopped::Gracefully));
    }

    pub async fn client(&self, lane: Lane, key: u64, command: Command) -> Result<Reply, Unavailable> {
        let customer = self.customer;
        let key = Some(key_of(key));
        self.started.handle.submit(lane, |request| Input::Client { request, customer, key, command }).await
    }

    pub async fn top_up(&self, key: u64, micros: i64) -> Result<Reply, Unavailable> {
        let customer = self.customer;
        self.started
            .handle
            .submit(Lane::Noc, |request| Input::TopUp {
                request,
                key: Some(key_of(key)),
                customer,
                amount: Amount::new(micros, Currency::EUR),
                actor: "test".to_owned(),
                reason: format!("number {key}"),
            })
            .await
    }

    pub async fn quote(&self, key: u64, rate_bps: u64, start_s: u64, seconds: u64) -> Quote {
        let request = QuoteRequest {
            access: self.access,
            direction: Direction::Up,
            tier: None,
            need: Need::Rate(BitsPerSecond(rate_bps)),
            start: (start_s > 0).then_some(When::In(start_s * 1_000)),
            end: When::In((start_s + seconds) * 1_000),
            subscriber: None,
        };
        match self.client(Lane::Quote, key, Command::Quote(request)).await.unwrap() {
            Reply::Quote(quote) => quote,
            other => panic!("no quote: {other:?}"),
        }
    }

    pub async fn hold(&self, key: u64, rate_bps: u64, start_s: u64, seconds: u64) -> Reservation {
        let quote = self.quote(key, rate_bps, start_s, seconds).await;
        let offer = OfferId { quote: quote.id, index: quote.offers[0].index };
        reservation(self.client(Lane::Reserve, key + 1, Command::Take { offer }).await.unwrap())
    }

    pub async fn confirm(&self, key: u64, held: &Reservation) -> Reservation {
        let command = Command::Confirm { reservation: held.id, flows: None };
        reservation(self.client(Lane::Confirm, key, command).await.unwrap())
    }

    pub async fn cancel(&self, key: u64, of: &Reservation) -> Reservation {
        let command = Command::Cancel { reservation: of.id };
        reservation(self.client(Lane::Urgent, key, command).await.unwrap())
    }

    /// A little of everything: top-ups, holds, confirmations, cancellations, refusals; at least so many
    /// records.
    pub async fn work(&self, records: u64) -> Seq {
        let mut key = 1_000_000;
        self.top_up(key, 50_000_000).await.unwrap();
        for round in 1.. {
            key += 20;
            let held = self.hold(key, 70_000 + round * 10, 30, 60).await;
            if round % 3 != 0 {
                let booked = self.confirm(key + 2, &held).await;
                if round % 3 == 1 {
                    self.cancel(key + 3, &booked).await;
                    // A refusal is an answer too.
                    let again = Command::Cancel { reservation: booked.id };
                    self.client(Lane::Urgent, key + 4, again).await.unwrap();
                }
            } else {
                self.cancel(key + 5, &held).await;
            }
            self.top_up(key + 6, round as i64).await.unwrap();
            if round % 2 == 0 && round % 3 == 2 {
                let last = self.last_seq().await;
                if last.0 >= records {
                    return last;
                }
            }
            if round > records {
                panic!("{records} records do not come together");
            }
        }
        Seq(0)
    }

    /// Last durable record as the snapshot has it, when it has caught up with an empty driver.
    pub async fn last_seq(&self) -> Seq {
        let mut seen = self.started.handle.snapshot().gauges.last_seq;
        let mut still = 0;
        until("the snapshot settles", || {
            let now = self.started.handle.snapshot().gauges.last_seq;
            still = if now == seen { still + 1 } else { 0 };
            seen = now;
            still > 15
        })
        .await;
        seen
    }
}

/// What becomes of an append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It did not land, and said so.
    Lost,
    /// It landed and said that it did not.
    Landed,
}

/// What the store does next; shared with the test.
#[derive(Clone)]
pub struct Faults {
    /// Of the next appends, in order.
    pub appends: Arc<Mutex<VecDeque<Fault>>>,
    /// Appends that were begun.
    pub begun: Arc<AtomicU64>,
    /// So many probes fail.
    pub probes: Arc<AtomicU64>,
    /// Appends wait while it is `true`.
    pub held: tokio::sync::watch::Sender<bool>,
}

impl Default for Faults {
    fn default() -> Faults {
        let held = tokio::sync::watch::Sender::new(false);
        Faults { appends: Arc::default(), begun: Arc::default(), probes: Arc::default(), held }
    }
}

impl Faults {
    pub fn next(&self, fault: Fault) {
        self.appends.lock().unwrap().push_back(fault);
    }
}

struct Faulty {
    inner: SqliteStore,
    faults: Faults,
}

fn broken(doing: &'static str) -> Error {
    Error::Io { doing, source: sqlx::Error::WorkerCrashed }
}

impl Store for Faulty {
    fn epoch(&self) -> u64 {
        self.inner.epoch()
    }

    async fn load(&mut self, each: &mut (dyn FnMut(Envelope) + Send)) -> Result<Loaded, Error> {
        self.inner.load(each).await
    }

    async fn append(&mut self, batch: &[Envelope]) -> Result<(), Error> {
        self.faults.begun.fetch_add(1, Ordering::SeqCst);
        let _ = self.faults.held.subscribe().wait_for(|held| !*held).await;
        let fault = self.faults.appends.lock().unwrap().pop_front();
        if fault != Some(Fault::Lost) {
            self.inner.append(batch).await?;
        }
        if fault.is_none() { Ok(()) } else { Err(broken("append")) }
    }

    async fn probe(&mut self) -> Result<(), Error> {
        let less = |left: u64| left.checked_sub(1);
        if self.faults.probes.try_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            return Err(broken("probe"));
        }
        self.inner.probe().await
    }

    async fn close(self) {
        self.inner.close().await;
    }
}

pub fn reservation(reply: Reply) -> Reservation {
    match reply {
        Reply::Reservation(reservation) => *reservation,
        other => panic!("no reservation: {other:?}"),
    }
}

pub fn key_of(number: u64) -> IdempotencyKey {
    let mut key = [0u8; 16];
    key[8..].copy_from_slice(&number.to_be_bytes());
    IdempotencyKey { key, request: number }
}

/// Looks every 10 ms until it is so; panics when it never is.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited too long until {what}");
        drop(tokio::time::timeout(Duration::from_millis(10), std::future::pending::<()>()).await);
    }
}
