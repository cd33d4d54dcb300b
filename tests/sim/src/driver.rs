//! A model of the broker's driver: bounded batches, one append in flight while the next batch is computed,
//! the gate, the rebuild after a failed append, crashes at the worst moments.

use crate::actor::{Body, Message};
use crate::audit::Auditor;
use crate::options::{Bug, Faults};
use crate::plant::Plant;
use crate::rng::Rng;
use crate::store::{Fate, Store, StoreError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tollway_core::{Engine, Envelope, IdempotencyKey, Input, Output, RequestId};
use tollway_model::{ReservationId, Timestamp};

/// Records of one append.
pub const BATCH_RECORDS_MAX: usize = 256;

pub type Node = usize;

/// What the driver works with in one step.
pub struct Desk<'a> {
    /// True time: appends and restarts take it.
    pub now: Timestamp,
    /// The broker's clock.
    pub clock: Timestamp,
    pub rng: &'a mut Rng,
    pub faults: &'a Faults,
    pub auditor: &'a mut Auditor,
    pub sent: Vec<(Node, Message)>,
    /// Every connection is closed.
    pub has_crashed: bool,
    pub notes: Vec<String>,
}

impl Desk<'_> {
    fn strikes(&mut self, fault: &str) -> bool {
        self.faults.strikes(self.rng, fault)
    }
}

struct Append {
    records: Vec<Envelope>,
    due: Timestamp,
}

enum Process {
    /// No process, or one that waits for its disk.
    Down {
        until: Timestamp,
    },
    Up(Box<Live>),
}

#[derive(Default)]
struct Live {
    plant: Plant,
    epoch: u64,
    /// Records of whole inputs, not yet appended.
    queued: Vec<Envelope>,
    in_flight: Option<Append>,
    waiting: VecDeque<Output>,
    inbox: VecDeque<(Node, Message)>,
}

#[derive(Clone, Copy)]
struct Asked {
    node: Node,
    wire: u64,
    key: Option<IdempotencyKey>,
}

pub struct Driver {
    process: Process,
    pub store: Store,
    bug: Option<Bug>,
    uncounted: BTreeSet<ReservationId>,
    requests: BTreeMap<RequestId, Asked>,
    next_request: u64,
    /// Connections by enforcement point.
    connections: BTreeMap<String, (Node, u64)>,
    zombie: Option<(u64, Vec<Envelope>)>,
    first: Vec<Input>,
    pub rebuilds: u64,
}

pub const FAULTS: [(&str, u32); 9] = [
    ("crash after an output", 15_000),
    ("crash in the commit", 40_000),
    ("crash at an expiry", 60_000),
    ("crash anywhere", 4_000),
    ("commit is lost", 30_000),
    ("commit lands and errs", 30_000),
    ("disk is full", 15_000),
    ("commit is slow", 200_000),
    ("zombie", 500_000),
];

impl Driver {
    /// `first` are the inputs that make the market.
    pub fn new(bug: Option<Bug>, first: Vec<Input>) -> Driver {
        Driver {
            process: Process::Down { until: Timestamp(0) },
            store: Store::default(),
            bug,
            uncounted: BTreeSet::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            connections: BTreeMap::new(),
            zombie: None,
            first,
            rebuilds: 0,
        }
    }

    pub fn engine(&self) -> Option<&Engine> {
        match &self.process {
            Process::Up(live) => Some(live.plant.engine()),
            Process::Down { .. } => None,
        }
    }

    /// Everything that the engine knows is durable.
    pub fn is_settled(&self) -> bool {
        match &self.process {
            Process::Up(live) => live.queued.is_empty() && live.in_flight.is_none() && live.inbox.is_empty(),
            Process::Down { .. } => false,
        }
    }

    /// The broker learns of it at once, or is away and knows of no connection when it is back.
    pub fn disconnect(&mut self, desk: &mut Desk<'_>, node: Node) {
        let gone: Vec<_> = self.connections.extract_if(.., |_, (n, _)| *n == node).collect();
        for (enforcement_point, (_, connection)) in gone {
            self.step(desk, Input::AdapterDisconnected { enforcement_point, connection });
        }
    }

    pub fn arrive(&mut self, desk: &mut Desk<'_>, node: Node, message: Message) {
        match &mut self.process {
            Process::Up(live) => live.inbox.push_back((node, message)),
            Process::Down { .. } => {
                if let Message::Request { wire, .. } = message {
                    desk.sent.push((node, Message::Unavailable { wire }));
                }
            }
        }
        self.work(desk);
    }

    /// One turn: what is due, then what has come, then what may leave.
    pub fn work(&mut self, desk: &mut Desk<'_>) {
        if let Process::Down { until } = self.process {
            if until > desk.now {
                return;
            }
            self.start(desk);
        }
        if desk.strikes("crash anywhere") {
            return self.crash(desk, "anywhere");
        }
        self.complete(desk);
        self.tick(desk);
        self.take_in(desk);
        self.begin(desk);
        self.let_out(desk);
    }

    pub fn next_wake(&self, now: Timestamp, to_true: impl Fn(Timestamp) -> Timestamp) -> Timestamp {
        match &self.process {
            Process::Down { until } => *until,
            Process::Up(live) => {
                let append = live.in_flight.as_ref().map(|append| append.due);
                let timer = live.plant.engine().poll_timeout().map(|(due, _)| to_true(due));
                let next = [append, timer].into_iter().flatten().min();
                next.unwrap_or(Timestamp(u64::MAX)).max(now.plus_ms(1))
            }
        }
    }

    fn live(&mut self) -> Option<&mut Live> {
        match &mut self.process {
            Process::Up(live) => Some(live),
            Process::Down { .. } => None,
        }
    }

    fn start(&mut self, desk: &mut Desk<'_>) {
        let epoch = self.store.open();
        if let Some((old, records)) = self.zombie.take() {
            let written = self.store.append(old, &records, Fate::Lands);
            desk.auditor.expect(written == Err(StoreError::Fenced), || {
                format!("a zombie of epoch {old} wrote into epoch {epoch}")
            });
            desk.notes.push("a zombie is fenced".to_owned());
        }
        let journal = match self.store.load() {
            Ok(journal) => journal,
            Err(why) => return desk.auditor.fail(format!("the store does not load: {why}")),
        };
        desk.auditor.expect(journal == self.store.journal(), || "the store loads another journal".to_owned());
        let is_new = journal.is_empty();
        self.rebuilds += u64::from(!is_new);
        let plant = Plant::rebuild(journal, self.bug, &self.uncounted);
        let live = Live { plant, epoch, ..Live::default() };
        self.process = Process::Up(Box::new(live));
        desk.notes.push(format!("started in epoch {epoch}"));
        desk.auditor.rebuilt(self.store.journal(), self.engine());
        self.step(desk, Input::Tick);
        if is_new {
            for input in self.first.clone() {
                self.step(desk, input);
            }
        }
    }

    fn crash(&mut self, desk: &mut Desk<'_>, when: &str) {
        if let Process::Up(live) = &mut self.process
            && let Some(append) = live.in_flight.take()
            && desk.faults.strikes(desk.rng, "zombie")
        {
            self.zombie = Some((live.epoch, append.records));
        }
        self.keep_uncounted();
        let down = if desk.rng.chance(60_000) {
            desk.rng.between(10_000, 60_000)
        } else {
            desk.rng.between(50, 4_000)
        };
        self.process = Process::Down { until: desk.now.plus_ms(down) };
        self.requests.clear();
        self.connections.clear();
        desk.has_crashed = true;
        desk.notes.push(format!("crash {when}"));
    }

    fn keep_uncounted(&mut self) {
        if let Process::Up(live) = &self.process {
            self.uncounted = live.plant.uncounted().clone();
        }
    }

    /// Memory is ahead of disk: the engine and all waiting outputs go, whoever waits is told to try again.
    fn stall(&mut self, desk: &mut Desk<'_>, error: StoreError) {
        self.keep_uncounted();
        let until = desk.now.plus_ms(desk.rng.between(100, 5_000));
        self.process = Process::Down { until };
        for (_, asked) in std::mem::take(&mut self.requests) {
            desk.sent.push((asked.node, Message::Unavailable { wire: asked.wire }));
        }
        // A later batch on a kept connection would make the lost ones repeats.
        self.connections.clear();
        desk.has_crashed = true;
        desk.notes.push(format!("store {error:?}"));
    }

    /// The append in flight is over, one way or another.
    fn complete(&mut self, desk: &mut Desk<'_>) {
        let now = desk.now;
        let Some(live) = self.live() else { return };
        if live.in_flight.as_ref().is_none_or(|append| append.due > now) {
            return;
        }
        let Some(append) = live.in_flight.take() else { return };
        let epoch = live.epoch;
        if desk.strikes("crash in the commit") {
            let fates = [Fate::Lands, Fate::Refused(StoreError::Io), Fate::Torn];
            let fate = desk.rng.pick(&fates).copied().unwrap_or(Fate::Torn);
            let _unseen = self.store.append(epoch, &append.records, fate);
            self.note_durable(desk);
            return self.crash(desk, "in the commit");
        }
        let fate = if desk.strikes("commit is lost") {
            Fate::Refused(StoreError::Io)
        } else if desk.strikes("commit lands and errs") {
            Fate::LandsWithError(StoreError::Io)
        } else if desk.strikes("disk is full") {
            Fate::Refused(StoreError::Full)
        } else {
            Fate::Lands
        };
        let written = self.store.append(epoch, &append.records, fate);
        self.note_durable(desk);
        if let Err(error) = written {
            self.stall(desk, error);
        }
    }

    fn note_durable(&mut self, desk: &mut Desk<'_>) {
        desk.auditor.durable(self.store.journal());
    }

    /// Timers that are due.
    fn tick(&mut self, desk: &mut Desk<'_>) {
        let clock = desk.clock;
        let Some(live) = self.live() else { return };
        if live.plant.engine().poll_timeout().is_none_or(|(due, _)| due > clock) {
            return;
        }
        if desk.strikes("crash at an expiry") {
            if desk.rng.chance(500_000) {
                self.step(desk, Input::Tick);
                self.begin(desk);
            }
            return self.crash(desk, "at an expiry");
        }
        self.step(desk, Input::Tick);
    }

    fn take_in(&mut self, desk: &mut Desk<'_>) {
        loop {
            let Some(live) = self.live() else { return };
            if live.queued.len() >= BATCH_RECORDS_MAX {
                return;
            }
            let Some((node, message)) = live.inbox.pop_front() else { return };
            if let Some(input) = self.input_of(node, message) {
                self.step(desk, input);
            }
        }
    }

    fn input_of(&mut self, node: Node, message: Message) -> Option<Input> {
        match message {
            Message::Request { wire, key, body } => {
                self.next_request += 1;
                let request = RequestId(self.next_request);
                self.requests.insert(request, Asked { node, wire, key });
                Some(match body {
                    Body::Client { customer, command } => Input::Client { request, customer, key, command },
                    Body::Configure { base, config } => Input::Configure { request, base, config },
                    Body::TopUp { customer, amount, actor, reason } => {
                        Input::TopUp { request, key, customer, amount, actor, reason }
                    }
                })
            }
            Message::Connect { enforcement_point, connection } => {
                self.connections.insert(enforcement_point.clone(), (node, connection));
                Some(Input::AdapterConnected { enforcement_point, connection })
            }
            Message::Reports { enforcement_point, number, reports } => {
                let is_connected = self.connections.get(&enforcement_point).is_some_and(|(n, _)| *n == node);
                is_connected.then_some(Input::Reports { enforcement_point, number, reports })
            }
            Message::Reply { .. }
            | Message::Unavailable { .. }
            | Message::Desired { .. }
            | Message::Policy(_)
            | Message::Ack { .. }
            | Message::Broken { .. } => None,
        }
    }

    fn step(&mut self, desk: &mut Desk<'_>, input: Input) {
        let Some(live) = self.live() else { return };
        let (records, outputs) = live.plant.handle(desk.clock, input);
        live.queued.extend(records);
        live.waiting.extend(outputs);
        let checked = live.plant.engine().check_invariants();
        if let Err(broken) = checked {
            desk.auditor.fail(format!("the engine's own invariant: {broken}"));
        }
    }

    /// Starts the next append; whole inputs only, so that an answer never lands without its effect.
    fn begin(&mut self, desk: &mut Desk<'_>) {
        let slow = desk.strikes("commit is slow");
        let due = desk.now.plus_ms(if slow { desk.rng.between(50, 3_000) } else { desk.rng.between(1, 8) });
        let Some(live) = self.live() else { return };
        if live.in_flight.is_none() && !live.queued.is_empty() {
            let records = std::mem::take(&mut live.queued);
            live.in_flight = Some(Append { records, due });
        }
    }

    /// The gate.
    fn let_out(&mut self, desk: &mut Desk<'_>) {
        let durable = self.store.durable();
        let mut has_left = false;
        loop {
            let Some(live) = self.live() else { return };
            let is_open = live.plant.gate_is_open();
            let may_leave = live.waiting.front().is_some_and(|output| is_open || output.after() <= durable);
            if !may_leave {
                break;
            }
            let Some(output) = live.waiting.pop_front() else { break };
            has_left = true;
            self.deliver(desk, output);
        }
        if has_left && desk.strikes("crash after an output") {
            self.crash(desk, "after an output");
        }
    }

    fn deliver(&mut self, desk: &mut Desk<'_>, output: Output) {
        let asked = match &output {
            Output::Reply { request, .. } | Output::Repeat { request, .. } => self.requests.remove(request),
            Output::Policy { .. } | Output::DesiredSet { .. } | Output::Ack { .. } => None,
        };
        desk.auditor.left(&output, asked.and_then(|asked| asked.key), &self.store);
        match output {
            Output::Reply { reply, .. } => {
                if let Some(asked) = asked {
                    desk.sent.push((asked.node, Message::Reply { wire: asked.wire, reply }));
                }
            }
            Output::Repeat { at, .. } => {
                let reply = self.store.answer(at).cloned();
                if let (Some(asked), Some(reply)) = (asked, reply) {
                    desk.sent.push((asked.node, Message::Reply { wire: asked.wire, reply }));
                }
            }
            Output::Policy { command, .. } => {
                if let Some((node, _)) = self.connections.get(command.enforcement_point()) {
                    desk.sent.push((*node, Message::Policy(command)));
                }
            }
            Output::DesiredSet { enforcement_point, connection, legs, sessions, acked, .. } => {
                if let Some((node, current)) = self.connections.get(&enforcement_point)
                    && *current == connection
                {
                    desk.sent.push((*node, Message::Desired { connection, legs, sessions, acked }));
                }
            }
            Output::Ack { enforcement_point, number, .. } => {
                if let Some((node, _)) = self.connections.get(&enforcement_point) {
                    desk.sent.push((*node, Message::Ack { number }));
                }
            }
        }
    }

    /// A fresh engine from the journal and the live one, both given the time, must be one.
    pub fn compare_with_replay(&mut self, desk: &mut Desk<'_>) {
        let is_understated = self.live().is_some_and(|live| !live.plant.uncounted().is_empty());
        if !self.is_settled() || is_understated {
            return self.work(desk);
        }
        let mut twin = Engine::new();
        self.store.journal().iter().for_each(|envelope| twin.replay(envelope));
        twin.handle(desk.clock, Input::Tick);
        self.step(desk, Input::Tick);
        let Some(live) = self.live() else { return };
        let records = twin.take_records();
        if records != live.queued {
            let (a, b) = (names(&records), names(&live.queued));
            desk.auditor.fail(format!("replay differs: the replayed engine makes {a}, the live one {b}"));
        } else if twin.state() != live.plant.engine().state() {
            let why = difference(twin.state(), live.plant.engine().state());
            desk.auditor.fail(format!("replay differs: {why}"));
        }
        self.work(desk);
    }
}

fn names(records: &[Envelope]) -> String {
    let list: Vec<String> = records.iter().map(|e| format!("{}:{}", e.seq, e.record.kind().1)).collect();
    format!("[{}]", list.join(" "))
}

/// Where two states part, in words.
fn difference(replayed: &tollway_core::State, live: &tollway_core::State) -> String {
    if replayed.ledger != live.ledger {
        return "the ledgers are not the same".to_owned();
    }
    if replayed.config != live.config {
        return "the configurations are not the same".to_owned();
    }
    for reservation in live.reservations() {
        if replayed.reservation(reservation.id) != Some(reservation) {
            return format!("{} is not the same", reservation.id);
        }
    }
    let (a, b) = (format!("{replayed:?}"), format!("{live:?}"));
    let at = a.bytes().zip(b.bytes()).position(|(x, y)| x != y).unwrap_or(0);
    let around = |text: &str| text.chars().skip(at.saturating_sub(80)).take(200).collect::<String>();
    format!("...{}... against ...{}...", around(&a), around(&b))
}
