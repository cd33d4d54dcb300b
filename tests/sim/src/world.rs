//! The loop: one event after the other, in the order of their times; every step is audited.

use crate::actor::{Actor, Context, Link, Message, Published, Shown};
use crate::agent::Agent;
use crate::audit::Auditor;
use crate::client::Client;
use crate::driver::{self, Desk, Driver, Node};
use crate::gx::{self, Gx};
use crate::market;
use crate::network::{Sent, Wire};
use crate::noc::Noc;
use crate::options::{Faults, Options};
use crate::rng::Rng;
use crate::trace::Trace;
use std::collections::BTreeMap;
use tollway_core::config::AccessDef;
use tollway_core::{Engine, IdempotencyKey, Input, RequestId};
use tollway_model::{Amount, Currency, CustomerId, SlotLength, Timestamp};

/// 2027-01-15, some minutes before a day ends, so that runs cross midnight.
const START: Timestamp = Timestamp(1_800_057_300_000);

/// Liveness is demanded so long after the faults have stopped.
const CALM_MS: u64 = 90_000;

/// Last readings are awaited by the engine for six hours.
const SETTLE_MS: u64 = 7 * 3_600_000;

/// No run needs more events than this after its faults; a livelock is a failure.
const EVENTS_AFTER_MAX: u64 = 60_000;

/// One in so many events compares the engine with a replayed one.
const REPLAY_EVERY: u64 = 60;

enum Event {
    Wake(Node),
    ToBroker { node: Node, generation: u64, message: Message },
    ToActor { node: Node, generation: u64, message: Message },
    Broker,
}

pub struct World {
    now: Timestamp,
    /// What the broker's clock is ahead of true time, and its last value: it never goes back.
    offset_ms: i64,
    clock: Timestamp,
    events: BTreeMap<(Timestamp, u64), Event>,
    order: u64,
    actors: Vec<Box<dyn Actor>>,
    rngs: Vec<Rng>,
    wires: Vec<Wire>,
    wakes: Vec<Timestamp>,
    broker_wake: Timestamp,
    driver: Driver,
    driver_rng: Rng,
    rng: Rng,
    faults: Faults,
    auditor: Auditor,
    published: Published,
    pub trace: Trace,
    traced: usize,
    pub steps: u64,
}

/// The actors of the first capabilities. A later crate adds its own here.
fn actors(options: &Options, slot: SlotLength) -> Vec<Box<dyn Actor>> {
    let seed = options.seed;
    let mut rng = Rng::stream(seed, "actors");
    let mut actors: Vec<Box<dyn Actor>> = Vec::new();
    for point in market::POINTS {
        let offset = i64::try_from(rng.below(2_000)).unwrap_or(0) - 1_000;
        let eager = rng.chance(500_000);
        actors.push(Box::new(Agent::new(point, slot, offset, eager)));
    }
    for (name, accesses) in market::CUSTOMERS {
        actors.push(Box::new(Client::new(name, accesses)));
    }
    if options.mobile {
        let lines: Vec<String> = (1..=gx::SUBSCRIBERS).map(|n| format!("{}/{n}", gx::APN)).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        actors.push(Box::new(Client::new(market::PHONE, &lines)));
        actors.push(Box::new(Gx::new(seed, slot, options.bug)));
    }
    actors.push(Box::new(Noc::new(options.mobile)));
    actors
}

/// What makes the market: its configuration, some money.
fn first_inputs(slot: SlotLength, mobile: bool, rng: &mut Rng) -> Vec<Input> {
    let request = RequestId(0);
    let mut inputs = vec![
        Input::MakeMarket { name: "sim".to_owned(), slot_length: slot },
        Input::Configure { request, base: 0, config: market::config_of(mobile) },
    ];
    for n in 1..=if mobile { 4u8 } else { 3 } {
        let poor = rng.chance(250_000);
        let micros = if poor { rng.skewed(20) } else { rng.between(5_000_000, 90_000_000) };
        let micros = i64::try_from(micros + 1).unwrap_or(1);
        inputs.push(Input::TopUp {
            request,
            key: Some(IdempotencyKey { key: [n; 16], request: 0 }),
            customer: CustomerId(u32::from(n)),
            amount: Amount::new(micros, Currency::EUR),
            actor: "ops".to_owned(),
            reason: format!("opening {n}"),
        });
    }
    inputs
}

impl World {
    pub fn new(options: &Options) -> World {
        let seed = options.seed;
        let mut rng = Rng::stream(seed, "world");
        let secs = if rng.chance(700_000) { 5 } else { 60 };
        let slot = SlotLength::from_secs(secs).expect("it divides a day");
        let actors = actors(options, slot);
        let wires: Vec<Wire> = actors.iter().map(|a| Wire::new(seed, a.name(), a.link())).collect();
        let mut faults = Faults::of_seed(seed);
        for (name, ppm_max) in driver::FAULTS {
            faults.register(name, ppm_max);
        }
        faults.register("broker's clock steps", 8_000);
        actors.iter().for_each(|actor| actor.register(&mut faults));
        wires.iter().for_each(|wire| wire.register(&mut faults));
        let rngs = actors.iter().map(|a| Rng::stream(seed, a.name())).collect();
        let first = first_inputs(slot, options.mobile, &mut rng);
        let mut world = World {
            now: START,
            offset_ms: 0,
            clock: START,
            events: BTreeMap::new(),
            order: 0,
            rngs,
            wakes: vec![START; actors.len()],
            broker_wake: START,
            actors,
            wires,
            driver: Driver::new(options.bug, first),
            driver_rng: Rng::stream(seed, "driver"),
            rng,
            faults,
            auditor: Auditor::default(),
            published: Published::default(),
            trace: Trace::new(options.trace),
            traced: 0,
            steps: 0,
        };
        world.push(START, Event::Broker);
        for node in 0..world.actors.len() {
            world.wake(node, START.plus_ms(100 + node as u64));
        }
        world
    }

    pub fn drawn(&self) -> String {
        self.faults.to_string()
    }

    pub fn figures(&self) -> String {
        format!(
            "{} rebuilds={} torn={}",
            self.auditor.figures(),
            self.driver.rebuilds,
            self.driver.store.torn_dropped
        )
    }

    pub fn counted(&self) -> BTreeMap<String, u64> {
        self.auditor.counted().clone()
    }

    pub fn records(&self) -> usize {
        self.driver.store.journal().len()
    }

    /// The whole run: faults, calm, the end.
    ///
    /// # Errors
    /// Says which check broke.
    pub fn drive(&mut self, steps: u64) -> Result<(), String> {
        while self.steps < steps {
            self.step()?;
            if self.rng.below(REPLAY_EVERY) == 0 {
                self.with_driver(|driver, desk| driver.compare_with_replay(desk));
                self.audited()?;
            }
        }
        self.trace.note(self.now, "the faults stop");
        self.faults.stop();
        for node in 0..self.actors.len() {
            self.wake(node, self.now.plus_ms(1));
        }
        while self.driver.engine().is_none() {
            self.run_until(self.now.plus_ms(CALM_MS), steps)?;
        }
        self.run_until(self.now.plus_ms(CALM_MS), steps)?;
        self.demand(steps, |world, engine, shown| world.auditor.calm(engine, shown, world.clock))?;
        let last =
            self.driver.engine().into_iter().flat_map(|e| e.state().reservations().map(|r| r.window.until));
        let end = last.max().unwrap_or(self.now).max(self.now).plus_ms(SETTLE_MS);
        self.run_until(end, steps)?;
        self.with_driver(|driver, desk| driver.compare_with_replay(desk));
        self.audited()?;
        self.demand(steps, |world, engine, shown| world.auditor.over(engine, shown))?;
        let digest = self.driver.store.digest();
        self.trace.note(self.now, &format!("journal {digest:016x}"));
        Ok(())
    }

    /// Settles the broker, then asks.
    fn demand(
        &mut self,
        steps: u64,
        ask: impl FnOnce(&mut World, &Engine, &BTreeMap<String, Shown>),
    ) -> Result<(), String> {
        let mut patience = 1_000;
        while !self.driver.is_settled() && patience > 0 {
            self.run_until(self.now.plus_ms(20), steps)?;
            patience -= 1;
        }
        let shown: BTreeMap<String, Shown> =
            self.actors.iter().map(|actor| (actor.name().to_owned(), actor.show())).collect();
        // The engine is lent out of the driver for as long as the question lasts.
        let driver = std::mem::replace(&mut self.driver, Driver::new(None, Vec::new()));
        match driver.engine() {
            Some(engine) => ask(self, engine, &shown),
            None => self.auditor.fail("liveness: the broker is not up".to_owned()),
        }
        self.driver = driver;
        self.audited()
    }

    fn run_until(&mut self, end: Timestamp, steps: u64) -> Result<(), String> {
        while self.events.first_key_value().is_some_and(|((at, _), _)| *at <= end) {
            self.step()?;
            if self.steps > steps + EVENTS_AFTER_MAX {
                return Err("liveness: the run does not come to an end".to_owned());
            }
        }
        self.now = self.now.max(end);
        self.advance_clock();
        self.with_driver(|driver, desk| driver.work(desk));
        self.audited()
    }

    fn advance_clock(&mut self) {
        let clock = Timestamp(self.now.0.saturating_add_signed(self.offset_ms));
        self.clock = self.clock.max(clock);
    }

    fn push(&mut self, at: Timestamp, event: Event) {
        self.order += 1;
        self.events.insert((at.max(self.now), self.order), event);
    }

    fn wake(&mut self, node: Node, at: Timestamp) {
        if at.0 < u64::MAX
            && let Some(wake) = self.wakes.get_mut(node)
        {
            let at = at.max(self.now);
            *wake = at;
            self.push(at, Event::Wake(node));
        }
    }

    /// One event.
    fn step(&mut self) -> Result<(), String> {
        let Some(((at, _), event)) = self.events.pop_first() else {
            return Err("nothing will ever happen again".to_owned());
        };
        self.now = at;
        if self.faults.strikes(&mut self.rng, "broker's clock steps") {
            let step = i64::try_from(self.rng.below(30_000)).unwrap_or(0) - 15_000;
            self.offset_ms = (self.offset_ms + step).clamp(-15_000, 15_000);
            self.auditor.clocks_part();
        }
        self.advance_clock();
        self.steps += 1;
        match event {
            Event::Wake(node) if self.wakes.get(node) != Some(&at) => self.steps -= 1,
            Event::Wake(node) => {
                self.trace.step(at, "wakes", self.actors[node].name(), "");
                self.act(node, |actor, context| actor.step(context));
            }
            Event::ToActor { node, generation, message } => {
                if self.wires[node].generation == generation {
                    self.trace.message(at, "->", self.actors[node].name(), &message);
                    self.act(node, |actor, context| actor.on_message(context, message));
                }
            }
            Event::ToBroker { node, generation, message } => {
                if self.wires[node].generation == generation {
                    self.trace.message(at, "<-", self.actors[node].name(), &message);
                    self.auditor.note_carried(self.carried());
                    self.with_driver(|driver, desk| driver.arrive(desk, node, message));
                }
            }
            Event::Broker if self.broker_wake != at => self.steps -= 1,
            Event::Broker => {
                self.broker_wake = Timestamp(u64::MAX);
                self.trace.step(at, "turns", "broker", "");
                self.with_driver(|driver, desk| driver.work(desk));
            }
        }
        self.audited()
    }

    fn carried(&self) -> BTreeMap<tollway_model::LegId, u64> {
        let agents = self.actors.iter().filter(|actor| actor.link() == Link::Stream);
        agents.flat_map(|actor| actor.show().carried).collect()
    }

    fn audited(&mut self) -> Result<(), String> {
        match self.auditor.broken() {
            Some(what) => Err(what.to_owned()),
            None => Ok(()),
        }
    }

    fn act(&mut self, node: Node, what: impl FnOnce(&mut dyn Actor, &mut Context<'_>)) {
        let Some(actor) = self.actors.get_mut(node) else { return };
        let mut context = Context {
            now: self.now,
            rng: &mut self.rngs[node],
            faults: &self.faults,
            published: &self.published,
            sent: Vec::new(),
            wake: None,
        };
        what(actor.as_mut(), &mut context);
        let (sent, wake) = (context.sent, context.wake);
        if let Err(broken) = actor.check() {
            self.auditor.fail(broken);
        }
        if let Some(at) = wake {
            self.wake(node, at);
        }
        for message in sent {
            self.carry(node, 0, message);
        }
    }

    /// Hands a message to the network.
    fn carry(&mut self, node: Node, way: usize, message: Message) {
        match self.wires[node].send(&self.faults, self.now, way, message) {
            Sent::Parcels(parcels) => {
                for parcel in parcels {
                    let (generation, message) = (parcel.generation, parcel.message);
                    let event = if way == 0 {
                        Event::ToBroker { node, generation, message }
                    } else {
                        Event::ToActor { node, generation, message }
                    };
                    self.push(parcel.at, event);
                }
            }
            Sent::Broken => self.break_connection(node),
        }
    }

    fn break_connection(&mut self, node: Node) {
        self.wires[node].generation += 1;
        self.with_driver(|driver, desk| driver.disconnect(desk, node));
        let generation = self.wires[node].generation;
        let at = self.now.plus_ms(50);
        self.trace.step(self.now, "breaks", self.actors[node].name(), "");
        self.push(
            at,
            Event::ToActor { node, generation, message: Message::Broken { connection: generation } },
        );
    }

    fn with_driver(&mut self, what: impl FnOnce(&mut Driver, &mut Desk<'_>)) {
        let mut desk = Desk {
            now: self.now,
            clock: self.clock,
            rng: &mut self.driver_rng,
            faults: &self.faults,
            auditor: &mut self.auditor,
            sent: Vec::new(),
            has_crashed: false,
            notes: Vec::new(),
        };
        what(&mut self.driver, &mut desk);
        let (sent, has_crashed, notes) = (desk.sent, desk.has_crashed, desk.notes);
        for note in &notes {
            self.trace.note(self.now, note);
            self.auditor.count(note.trim_end_matches(|c: char| c.is_ascii_digit()));
        }
        let journal = self.driver.store.journal();
        journal.iter().skip(self.traced).for_each(|envelope| self.trace.record(envelope));
        self.traced = journal.len();
        for (node, message) in sent {
            self.carry(node, 1, message);
        }
        if has_crashed {
            for node in 0..self.actors.len() {
                if self.actors[node].link() == Link::Stream {
                    self.break_connection(node);
                }
            }
        }
        self.look();
        let offset = self.offset_ms;
        let next = self.driver.next_wake(self.now, |due| Timestamp(due.0.saturating_add_signed(-offset)));
        if next.0 < u64::MAX && next != self.broker_wake {
            self.broker_wake = next;
            self.push(next, Event::Broker);
        }
    }

    /// The auditor's look at a broker whose memory is all durable.
    fn look(&mut self) {
        if !self.driver.is_settled() {
            return;
        }
        let Some(engine) = self.driver.engine() else { return };
        self.auditor.settled(engine, self.clock);
        let config = &engine.state().config;
        if config.revision != self.published.revision {
            let named = |is_meant: &dyn Fn(&AccessDef) -> bool| {
                let meant = config.accesses.iter().filter(|(_, access)| is_meant(access));
                meant.map(|(id, access)| (access.name.clone(), *id)).collect()
            };
            self.published = Published {
                revision: config.revision,
                config: config.to_def(),
                customers: config.customers.iter().map(|(id, c)| (c.name.clone(), *id)).collect(),
                accesses: named(&|access| access.apn().is_none()),
                families: named(&|access| access.apn().is_some()),
                tiers: config
                    .tiers
                    .iter()
                    .filter(|(_, t)| t.on_sale && t.def.fits(None))
                    .map(|(id, _)| *id)
                    .collect(),
            };
        }
    }
}
