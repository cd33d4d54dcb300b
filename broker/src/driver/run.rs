//! The driver's loop.

use super::gate::Gate;
use super::handle::{From, Job, Lanes, Readiness, STALLED_RETRY_S, Unavailable};
use super::poison;
use super::snapshot::Snapshot;
use super::writer::Writer;
use crate::agents::Hub;
use crate::clock::{Clock, Health, seconds};
use crate::store::{BATCH_RECORDS_MAX, Error, Reader};
use crate::telemetry::legs::LegWatch;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tollway_core::{Command, Engine, Input, Output, Reply, RequestId};
use tollway_model::{Seq, Timestamp};
use tonic::Status;

/// Inputs handled between two looks at the append in flight.
const INPUTS_PER_TURN_MAX: usize = 256;

/// How old the snapshot may be while nothing happens, and how often it is made while much does.
const SNAPSHOT_MS_MIN: u64 = 100;
const SNAPSHOT_MS_MAX: u64 = 1_000;

/// Waiting between two tries to rebuild from a store that takes no records.
const RETRY_MS_MIN: u64 = 200;
const RETRY_MS_MAX: u64 = 2_000;

/// How long a stop waits for what is under way.
const DRAIN_MS_MAX: u64 = 10_000;

/// Longest sleep: the clocks are compared that often.
const LOOK_MS_MAX: u64 = 1_000;

/// Why the driver ended.
#[derive(Debug)]
pub enum Stopped {
    /// As asked; everything decided is durable.
    Gracefully,
    /// The store said something that no waiting mends.
    Store(Error),
}

type Waiting = oneshot::Sender<Result<Reply, Unavailable>>;
type InFlight = oneshot::Receiver<Result<Seq, Error>>;

pub(super) struct Driver {
    pub(super) engine: Box<Engine>,
    pub(super) gate: Gate,
    pub(super) writer: Writer,
    pub(super) reader: Reader,
    pub(super) clock: Clock,
    pub(super) lanes: Lanes,
    pub(super) hub: Arc<Hub>,
    pub(super) legs: LegWatch,
    pub(super) waiting: HashMap<RequestId, Waiting>,
    /// Newest connection of each agent that this engine has answered; reports of others are not taken.
    pub(super) connected: HashMap<String, u64>,
    pub(super) snapshot: watch::Sender<Arc<Snapshot>>,
    pub(super) draft: Option<Snapshot>,
    pub(super) snapshot_at: Instant,
    /// Something was committed since the last draft.
    pub(super) dirty: bool,
    pub(super) readiness: watch::Sender<Readiness>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) distrusted: Option<i64>,
    pub(super) alarmed: bool,
}

/// What woke the loop.
enum Woken {
    Appended(Result<Seq, Error>),
    Job(Option<Job>),
    Timer,
    Stop,
}

impl Driver {
    pub(super) async fn run(mut self) -> Stopped {
        let mut in_flight: Option<InFlight> = None;
        let mut stopping: Option<Instant> = None;
        loop {
            self.begin_append(&mut in_flight);
            self.release();
            if let Some(deadline) = stopping
                && (self.is_drained(in_flight.as_ref()) || Instant::now() >= deadline)
            {
                return self.stopped().await;
            }
            let woken = self.wait(&mut in_flight, stopping).await;
            match woken {
                Woken::Appended(Ok(last)) => {
                    self.gate.committed(last);
                    self.legs.committed();
                    self.dirty = true;
                    self.take_snapshot();
                }
                Woken::Appended(Err(error)) => {
                    in_flight = None;
                    if let Err(error) = self.recover(error, stopping.is_some()).await {
                        self.writer.close().await;
                        return Stopped::Store(error);
                    }
                }
                Woken::Job(Some(job)) => self.turn(job),
                Woken::Job(None) | Woken::Stop => {
                    if stopping.is_none() {
                        tracing::info!("stopping: finishing what is under way");
                        self.lanes.close();
                        stopping = Some(Instant::now() + Duration::from_millis(DRAIN_MS_MAX));
                    }
                }
                Woken::Timer => self.look(),
            }
        }
    }

    async fn wait(&mut self, in_flight: &mut Option<InFlight>, stopping: Option<Instant>) -> Woken {
        let timer = tokio::time::sleep(self.until_timer());
        let room = self.gate.has_room();
        let drained = stopping.is_some() && self.lanes.is_empty();
        tokio::select! {
            biased;
            appended = landed(in_flight), if in_flight.is_some() => {
                *in_flight = None;
                Woken::Appended(appended)
            }
            () = stop_asked(&mut self.stop), if stopping.is_none() => Woken::Stop,
            job = self.lanes.next(), if room && !drained => Woken::Job(job),
            () = timer => Woken::Timer,
        }
    }

    /// Handles this job and others that wait, by priority, as long as there is room in the next batch.
    fn turn(&mut self, first: Job) {
        self.take(first);
        for _ in 1..INPUTS_PER_TURN_MAX {
            if !self.gate.has_room() {
                break;
            }
            let Some(job) = self.lanes.next_now() else { break };
            self.take(job);
        }
    }

    fn take(&mut self, job: Job) {
        match job.from {
            From::Client(request, reply) => {
                // Jobs that never stop coming leave no time for `look`.
                self.watch_clock();
                if let Some(error_ms) = self.distrusted.filter(|_| admits(&job.input)) {
                    let _ = reply.send(Err(stalled(clock_reason(error_ms))));
                    return;
                }
                self.waiting.insert(request, reply);
            }
            From::Agent { connection } => {
                if !self.is_current(&job.input, connection) {
                    return;
                }
            }
        }
        self.handle(job.input);
    }

    fn is_current(&mut self, input: &Input, connection: u64) -> bool {
        match input {
            Input::AdapterConnected { enforcement_point, .. } => {
                let newest = self.connected.entry(enforcement_point.clone()).or_default();
                *newest = connection.max(*newest);
                *newest == connection
            }
            Input::AdapterDisconnected { enforcement_point, .. }
            | Input::Reports { enforcement_point, .. } => {
                self.connected.get(enforcement_point) == Some(&connection)
            }
            Input::MakeMarket { .. }
            | Input::Configure { .. }
            | Input::Client { .. }
            | Input::TopUp { .. }
            | Input::Tick => true,
        }
    }

    fn handle(&mut self, input: Input) {
        let now = self.now();
        handle_into(&mut self.engine, &mut self.gate, now, input);
    }

    fn now(&mut self) -> Timestamp {
        self.clock.now().max(self.engine.last_at())
    }

    fn begin_append(&mut self, in_flight: &mut Option<InFlight>) {
        if in_flight.is_none() && self.gate.waiting() > 0 {
            let batch = self.gate.next_batch(BATCH_RECORDS_MAX);
            self.legs.look(self.engine.state(), &batch);
            *in_flight = Some(self.writer.append(batch));
        }
    }

    /// Lets go what rests on durable records only.
    fn release(&mut self) {
        while let Some(output) = self.gate.release() {
            match output {
                Output::Reply { request, reply, .. } => self.answer(request, Ok(reply)),
                Output::Repeat { request, at, .. } => self.repeat(request, at),
                output @ (Output::Policy { .. } | Output::DesiredSet { .. } | Output::Ack { .. }) => {
                    let now = self.now();
                    self.hub.deliver(now, output);
                }
            }
        }
        let durable = self.gate.durable();
        if let Some(draft) = self.draft.take_if(|draft| draft.gauges.last_seq <= durable) {
            self.snapshot.send_replace(Arc::new(draft));
        }
    }

    fn answer(&mut self, request: RequestId, reply: Result<Reply, Unavailable>) {
        if let Some(waiting) = self.waiting.remove(&request) {
            // The caller may have gone away; what was decided stays decided.
            let _ = waiting.send(reply);
        }
    }

    /// The answer of the key's first request, from the journal.
    fn repeat(&mut self, request: RequestId, at: Seq) {
        let Some(waiting) = self.waiting.remove(&request) else { return };
        let reader = self.reader.clone();
        tokio::spawn(async move {
            let answer = reader.answer(at).await.map_err(|error| {
                tracing::warn!(%error, "a stored answer could not be read");
                stalled("the stored answer of this key cannot be read".to_owned())
            });
            let _ = waiting.send(answer);
        });
    }

    /// Time has passed: timers, clocks, the snapshot.
    fn look(&mut self) {
        let now = self.now();
        self.watch_clock();
        if self.engine.poll_timeout().is_some_and(|(due, _)| due <= now) {
            self.handle(Input::Tick);
        }
        self.take_snapshot();
    }

    fn until_timer(&mut self) -> Duration {
        let mut look = Duration::from_millis(LOOK_MS_MAX);
        if self.dirty && self.draft.is_none() {
            look = Duration::from_millis(SNAPSHOT_MS_MIN).saturating_sub(self.snapshot_at.elapsed());
        }
        if !self.gate.has_room() {
            return look;
        }
        let Some((due, _)) = self.engine.poll_timeout() else { return look };
        let now = self.now();
        look.min(Duration::from_millis(due.ms_since(now)))
    }

    fn take_snapshot(&mut self) {
        let due_ms = if self.dirty { SNAPSHOT_MS_MIN } else { SNAPSHOT_MS_MAX };
        if self.draft.is_some() || self.snapshot_at.elapsed() < Duration::from_millis(due_ms) {
            return;
        }
        self.dirty = false;
        let now = self.now();
        let before = self.snapshot.borrow().clone();
        let (error_ms, epoch) = (self.clock.error_ms(), self.hub.epoch());
        self.draft = Snapshot::take(&self.engine, Some(&before), now, error_ms, epoch);
        if let Some(draft) = &mut self.draft {
            draft.gauges.leg_counts = self.legs.counts().clone();
        }
        self.snapshot_at = Instant::now();
    }

    fn watch_clock(&mut self) {
        self.clock.now();
        let (alarm, distrusted) = match self.clock.health() {
            Health::Good => (None, None),
            Health::Stepped { error_ms } => (Some(error_ms), None),
            Health::Distrusted { error_ms } => (Some(error_ms), Some(error_ms)),
        };
        if let (Some(error_ms), false) = (alarm, self.alarmed) {
            let away_s = seconds(error_ms);
            tracing::warn!(away_s, "the wall clock stepped away from the engine's");
        }
        self.alarmed = alarm.is_some();
        if distrusted.is_some() != self.distrusted.is_some() {
            let reasons = distrusted.map(clock_reason).into_iter().collect();
            self.readiness.send_replace(reasons);
        }
        self.distrusted = distrusted;
    }

    fn is_drained(&self, in_flight: Option<&InFlight>) -> bool {
        in_flight.is_none() && self.lanes.is_empty() && self.gate.is_empty()
    }

    async fn stopped(mut self) -> Stopped {
        let left: Vec<RequestId> = self.waiting.keys().copied().collect();
        for request in left {
            self.answer(request, Err(Unavailable::Stopping));
        }
        self.hub.evict_all(&Status::unavailable("the broker is stopping: connect again"));
        // Readers first: the last connection to close puts the log into the database file, if it may write.
        self.reader.close().await;
        self.writer.close().await;
        Stopped::Gracefully
    }

    /// Memory is ahead of disk: forgets it and begins again from what the store holds.
    async fn recover(&mut self, error: Error, stopping: bool) -> Result<(), Error> {
        if !error.may_pass() {
            return Err(error);
        }
        let (reason, trouble) = stall(&error, self.reader.dir());
        tracing::warn!("{trouble}; agents go on enforcing, waiting for the store");
        self.readiness.send_replace(vec![reason.clone()]);
        self.forget(&reason);
        let mut wait_ms = RETRY_MS_MIN;
        loop {
            self.turn_away(&reason, wait_ms).await;
            match self.rebuild(&reason).await {
                Ok(()) => break,
                Err(error) if error.may_pass() && !(stopping || *self.stop.borrow()) => {
                    tracing::debug!(%error, "the store still takes no records");
                    wait_ms = (wait_ms * 2).min(RETRY_MS_MAX);
                }
                Err(error) => return Err(error),
            }
        }
        tracing::info!(last = self.gate.durable().0, "the store takes records again");
        // Whoever connected meanwhile was not answered.
        self.hub.evict_all(&Status::unavailable("the broker began again from its journal: connect again"));
        self.readiness.send_replace(Vec::new());
        self.distrusted = None;
        self.look();
        Ok(())
    }

    /// Drops what was decided and never became durable.
    fn forget(&mut self, reason: &str) {
        let left: Vec<RequestId> = self.waiting.keys().copied().collect();
        for request in left {
            self.answer(request, Err(stalled(reason.to_owned())));
        }
        self.draft = None;
        self.legs.dropped();
        self.connected.clear();
        self.gate = Gate::new(self.gate.durable());
        *self.engine = Engine::new();
        self.hub.evict_all(&Status::unavailable("the broker's store takes no records: connect again"));
    }

    /// Answers everyone at once while the store is waited for.
    async fn turn_away(&mut self, reason: &str, ms: u64) {
        let over = Instant::now() + Duration::from_millis(ms);
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(over) => return,
                job = self.lanes.next() => match job {
                    Some(job) => refuse(job, reason),
                    None => {
                        tokio::time::sleep_until(over).await;
                        return;
                    }
                },
            }
        }
    }

    async fn rebuild(&mut self, reason: &str) -> Result<(), Error> {
        let rebuilding = self.writer.rebuild();
        tokio::pin!(rebuilding);
        let (engine, loaded) = loop {
            tokio::select! {
                biased;
                rebuilt = &mut rebuilding => break rebuilt?,
                Some(job) = self.lanes.next() => refuse(job, reason),
            }
        };
        self.engine = engine;
        self.gate = Gate::new(loaded.last);
        Ok(())
    }
}

/// Whether an input could sell something new. What ends or keeps a promise is served by any clock.
fn admits(input: &Input) -> bool {
    match input {
        Input::Client { command, .. } => match command {
            Command::Quote(_) | Command::Take { .. } => true,
            Command::Confirm { .. } | Command::BindFlows { .. } | Command::Cancel { .. } => false,
        },
        Input::Configure { .. } => true,
        Input::MakeMarket { .. }
        | Input::TopUp { .. }
        | Input::AdapterConnected { .. }
        | Input::AdapterDisconnected { .. }
        | Input::Reports { .. }
        | Input::Tick => false,
    }
}

/// Hands an input to the engine and everything it makes to the gate. What is due by itself goes before it, as
/// an input of its own: a timer that panics is not the fault of whoever came next.
pub(super) fn handle_into(engine: &mut Engine, gate: &mut Gate, now: Timestamp, input: Input) {
    if engine.poll_timeout().is_some_and(|(due, _)| due <= now) && !matches!(input, Input::Tick) {
        step(engine, gate, now, Input::Tick);
    }
    step(engine, gate, now, input);
}

fn step(engine: &mut Engine, gate: &mut Gate, now: Timestamp, input: Input) {
    poison::set_current(Some(input.clone()));
    engine.handle(now, input);
    poison::set_current(None);
    let group = engine.take_records();
    let outputs: Vec<Output> = std::iter::from_fn(|| engine.poll_output()).collect();
    gate.push(group, outputs);
}

fn refuse(job: Job, reason: &str) {
    match job.from {
        From::Client(_, reply) => {
            let _ = reply.send(Err(stalled(reason.to_owned())));
        }
        // Its connection was ended; it keeps its reports until they are acknowledged.
        From::Agent { .. } => {}
    }
}

/// Why the store is waited for: to customers, and to whoever can mend it.
fn stall(error: &Error, dir: &Path) -> (String, String) {
    let what = "the store takes no records";
    if let Error::Full { .. } = error {
        let trouble = format!("no space left in {}: make room, it goes on by itself", dir.display());
        return (format!("{what}: storage is full"), trouble);
    }
    let trouble = format!("{what} in {}: {}", dir.display(), crate::api::error::chain(error));
    (what.to_owned(), trouble)
}

fn stalled(reason: String) -> Unavailable {
    Unavailable::Stalled { reason, retry_after_s: STALLED_RETRY_S }
}

fn clock_reason(error_ms: i64) -> String {
    format!(
        "the wall clock is {} s away from the broker's: nothing new is admitted until it is right \
         again or a restart accepts it",
        seconds(error_ms)
    )
}

async fn landed(in_flight: &mut Option<InFlight>) -> Result<Seq, Error> {
    match in_flight {
        Some(in_flight) => in_flight.await.expect("the writer answers every append"),
        None => std::future::pending().await,
    }
}

async fn stop_asked(stop: &mut watch::Receiver<bool>) {
    // Without anyone left who could ask, nobody asks.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollway_core::offer::{Need, QuoteRequest, When};
    use tollway_model::{
        AccessId, Amount, BitsPerSecond, Currency, CustomerId, Direction, OfferId, SlotLength,
    };

    fn client(command: Command) -> Input {
        Input::Client { request: RequestId(1), customer: CustomerId(1), key: None, command }
    }

    #[test]
    fn what_is_due_is_an_input_of_its_own() {
        let hash = "0".repeat(64);
        let text = include_str!("../../tests/support/broker.toml");
        let text = text.replace("{shop}", &hash).replace("{noc}", &"1".repeat(64));
        let settings =
            crate::config::parse("broker.toml", &text.replace("{agent}", &"2".repeat(64))).unwrap();
        let (mut engine, mut gate) = (Engine::new(), Gate::new(Seq(0)));
        let mut at = |ms: u64, input: Input| {
            let before = engine.last_seq();
            handle_into(&mut engine, &mut gate, Timestamp(ms), input);
            while gate.release().is_some() {}
            let sizes: Vec<usize> =
                std::iter::from_fn(|| Some(gate.next_batch(1).len()).filter(|n| *n > 0)).collect();
            gate.committed(engine.last_seq().max(before));
            (sizes, engine.last_seq())
        };
        let slot_length = SlotLength::from_secs(5).unwrap();
        at(1_000, Input::MakeMarket { name: "lab".to_owned(), slot_length });
        at(1_000, Input::Configure { request: RequestId(1), base: 0, config: settings.def });
        let top_up = || Input::TopUp {
            request: RequestId(1),
            key: None,
            customer: CustomerId(1),
            amount: Amount::new(9_000_000, Currency::EUR),
            actor: "test".to_owned(),
            reason: "test".to_owned(),
        };
        at(1_000, top_up());
        let request = QuoteRequest {
            access: AccessId(1),
            direction: Direction::Up,
            tier: None,
            need: Need::Rate(BitsPerSecond(1_000_000)),
            start: None,
            end: When::In(600_000),
            subscriber: None,
        };
        at(1_000, client(Command::Quote(request)));
        let offer = OfferId { quote: tollway_model::QuoteId(1), index: 0 };
        let (taken, _) = at(1_000, client(Command::Take { offer }));
        assert_eq!(taken, [1], "it is held");
        // The hold has expired when the next input comes.
        let (groups, _) = at(300_000, top_up());
        assert_eq!(groups, [1, 1], "the expiry for itself, then the input");
    }
}
