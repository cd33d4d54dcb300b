//! A gateway and the adapter that speaks Gx to it, as one actor: the real session machine behind its real gate, over
//! real bytes. The adapter lives in the broker: its connection to the engine breaks when the broker dies, and then
//! the machine is gone with all that it knew. The gateway lives on.

mod gateway;
mod message;
mod shell;

pub use message::{APN, address};

use crate::actor::{Actor, Context, Link, Message, Shown};
use crate::options::{Bug, Faults};
use crate::rng::Rng;
use gateway::Gateway;
use shell::{Left, Shell};
use std::collections::VecDeque;
use tollway_model::{SlotLength, Timestamp};
use tollway_policy::{DesiredLeg, Session};

pub const POINT: &str = "gx";

/// Subscribers at the gateway, numbered from 1.
pub const SUBSCRIBERS: u64 = 4;

/// No desired set so long after asking for a connection: ask again.
const CONNECT_MS: u64 = 4_000;

/// A peer is back so long after its connection broke.
const RECONNECT_MS: u64 = 700;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Engine {
    Away { retry: Timestamp },
    Asked { connection: u64, since: Timestamp },
    Up { connection: u64 },
}

/// A frame between adapter and gateway, in order.
struct Parcel {
    at: Timestamp,
    bytes: Vec<u8>,
    is_repeat: bool,
}

pub struct Gx {
    engine: Engine,
    connections: u64,
    shell: Shell,
    gateway: Gateway,
    to_gateway: VecDeque<Parcel>,
    to_adapter: VecDeque<Parcel>,
    /// The peer connection is down until then.
    down_until: Timestamp,
    /// The gateway does not read until then.
    silent_until: Timestamp,
    wrong: Option<String>,
    act_at: Timestamp,
}

impl Gx {
    pub fn new(seed: u64, slot: SlotLength, bug: Option<Bug>) -> Gx {
        let mut rng = Rng::stream(seed, "gx kind");
        let (is_kept, is_full) = (rng.chance(500_000), rng.chance(800_000));
        Gx {
            engine: Engine::Away { retry: Timestamp(0) },
            connections: 0,
            shell: Shell::new(slot, is_kept, is_full, bug),
            gateway: Gateway::new(is_kept, is_full),
            to_gateway: VecDeque::new(),
            to_adapter: VecDeque::new(),
            down_until: Timestamp(0),
            silent_until: Timestamp(0),
            wrong: None,
            act_at: Timestamp(0),
        }
    }

    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.wrong.is_none() {
            self.wrong = Some(what());
        }
    }

    fn desired(
        &mut self,
        context: &mut Context<'_>,
        legs: Vec<DesiredLeg>,
        sessions: Vec<Session>,
        acked: u64,
    ) {
        let missing = self
            .gateway
            .answered()
            .find(|id| !sessions.iter().any(|session| session.name.session_id == **id))
            .map(str::to_owned);
        self.expect(missing.is_none(), || {
            format!("invariant 1: session {missing:?} was answered and no record knows it")
        });
        self.shell.begin(context.now, legs, sessions, acked);
    }

    /// What subscribers and the network do.
    fn misfortunes(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        if self.act_at <= now {
            self.act_at = now.plus_ms(context.rng.between(200, 6_000));
            let subscriber = 1 + context.rng.below(SUBSCRIBERS);
            if !self.gateway.is_there(subscriber) {
                let variant = u8::from(context.rng.chance(100_000));
                self.gateway.attach(now, subscriber, variant);
            }
            if context.strikes("gx subscribers attach anew") {
                self.gateway.attach(now, subscriber, 0);
            }
            if context.strikes("gx subscribers leave") {
                self.gateway.detach(now, subscriber);
            }
            if context.strikes("gx subscribers travel") {
                self.gateway.travel(subscriber);
            }
            if context.strikes("gx rules fail") {
                self.gateway.fail(now, context.rng);
            }
        }
        if context.strikes("gx gateway is silent") {
            self.silent_until = now.plus_ms(context.rng.between(500, 12_000));
        }
        let has_restarted = context.strikes("gx gateway restarts");
        if has_restarted {
            self.gateway.restart();
            self.shell.restarted();
        }
        if has_restarted || context.strikes("gx peer breaks") {
            self.to_gateway.clear();
            self.to_adapter.clear();
            self.down_until = now.plus_ms(RECONNECT_MS);
            self.shell.peer_lost(now);
        }
    }

    fn delay(&self, context: &mut Context<'_>) -> u64 {
        if context.strikes("gx frames are late") {
            context.rng.between(100, 7_000)
        } else {
            context.rng.between(1, 20)
        }
    }

    fn post(&mut self, context: &mut Context<'_>, bytes: Vec<u8>, is_repeat: bool, is_down: bool) {
        let at = context.now.plus_ms(self.delay(context)).max(self.down_until);
        let queue = if is_down { &mut self.to_gateway } else { &mut self.to_adapter };
        let at = queue.back().map_or(at, |last| at.max(last.at));
        queue.push_back(Parcel { at, bytes, is_repeat });
    }

    fn read_at_gateway(&mut self, context: &mut Context<'_>) {
        while self.silent_until <= context.now
            && let Some(parcel) = self.to_gateway.pop_front_if(|parcel| parcel.at <= context.now)
        {
            let Ok(message) = tollway_diameter::Message::parse(&parcel.bytes) else {
                self.wrong = Some("the adapter sent bytes that are no message".to_owned());
                return;
            };
            if message.is_request() {
                let refused = context.strikes("gx installs are refused");
                let raa = self.gateway.told_to(context.now, context.rng, &message, refused);
                if !context.strikes("gx answers are lost") {
                    self.post(context, raa, false, false);
                }
            } else {
                self.gateway.answered_with(context.now, context.rng, &message);
            }
        }
    }

    fn read_at_adapter(&mut self, context: &mut Context<'_>) {
        while let Some(parcel) = self.to_adapter.pop_front_if(|parcel| parcel.at <= context.now) {
            self.shell.hear(context.now, parcel.bytes, parcel.is_repeat);
            self.carry_out(context);
        }
    }

    /// What the adapter says to the engine and to the gateway.
    fn carry_out(&mut self, context: &mut Context<'_>) {
        for left in self.shell.take_left() {
            match left {
                Left::Reports(number, reports) => {
                    if let Some(leg) = shell::removed(&reports).find(|leg| self.gateway.holds_quietly(*leg)) {
                        self.expect(false, || {
                            format!("invariant 6: {leg} is said to be removed and the gateway holds its rule")
                        });
                    }
                    context.send(Message::Reports { enforcement_point: POINT.to_owned(), number, reports });
                }
                Left::Frame(bytes) => {
                    if !context.strikes("gx answers are lost") {
                        self.post(context, bytes, false, true);
                    }
                }
                Left::TooEarly(number) => self.expect(false, || {
                    format!("invariant 1: a message left to the gateway and batch {number} is not durable")
                }),
            }
        }
    }

    fn connect(&mut self, context: &mut Context<'_>) {
        let ask = match self.engine {
            Engine::Away { retry } => retry <= context.now,
            Engine::Asked { since, .. } => context.now.ms_since(since) >= CONNECT_MS,
            Engine::Up { .. } => false,
        };
        if ask {
            self.connections += 1;
            self.engine = Engine::Asked { connection: self.connections, since: context.now };
            let enforcement_point = POINT.to_owned();
            context.send(Message::Connect { enforcement_point, connection: self.connections });
        }
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        if context.faults.are_on() {
            self.misfortunes(context);
        }
        if self.down_until <= now {
            self.shell.peer_is_up(now);
        }
        self.gateway.follow(now);
        self.read_at_gateway(context);
        self.read_at_adapter(context);
        self.shell.tick(now);
        self.carry_out(context);
        for (bytes, is_repeat) in self.gateway.due(now) {
            if !context.strikes("gx answers are lost") {
                self.post(context, bytes, is_repeat, false);
            }
        }
        self.connect(context);
        context.wake_at(self.next_wake(context));
    }

    fn next_wake(&self, context: &Context<'_>) -> Timestamp {
        let now = context.now;
        let mut next = self.gateway.next_due(now);
        let mut at = |when: Timestamp| next = next.min(when);
        match self.engine {
            Engine::Away { retry } => at(retry),
            Engine::Asked { since, .. } => at(since.plus_ms(CONNECT_MS)),
            Engine::Up { .. } => {}
        }
        if context.faults.are_on() {
            at(self.act_at);
        }
        if self.down_until > now {
            at(self.down_until);
        }
        self.to_adapter.front().into_iter().for_each(|parcel| at(parcel.at));
        self.to_gateway.front().into_iter().for_each(|parcel| at(parcel.at.max(self.silent_until)));
        self.shell.next_due().into_iter().for_each(at);
        next.max(now.plus_ms(1))
    }
}

impl Actor for Gx {
    fn name(&self) -> &str {
        POINT
    }

    fn link(&self) -> Link {
        Link::Stream
    }

    fn register(&self, faults: &mut Faults) {
        for (what, ppm_max) in [
            ("gx subscribers attach anew", 200_000),
            ("gx subscribers leave", 150_000),
            ("gx subscribers travel", 100_000),
            ("gx rules fail", 300_000),
            ("gx gateway is silent", 20_000),
            ("gx gateway restarts", 8_000),
            ("gx peer breaks", 20_000),
            ("gx frames are late", 100_000),
            ("gx installs are refused", 300_000),
            ("gx answers are lost", 150_000),
        ] {
            faults.register(what, ppm_max);
        }
    }

    fn step(&mut self, context: &mut Context<'_>) {
        self.go_on(context);
    }

    fn on_message(&mut self, context: &mut Context<'_>, message: Message) {
        let now = context.now;
        match message {
            Message::Desired { connection, legs, sessions, acked } => {
                let expected = matches!(self.engine,
                    Engine::Asked { connection: c, .. } | Engine::Up { connection: c } if c == connection);
                if expected {
                    self.engine = Engine::Up { connection };
                    self.desired(context, legs, sessions, acked);
                }
            }
            Message::Policy(command) => self.shell.command(now, command),
            Message::Ack { number } => self.shell.acked(now, number),
            Message::Broken { .. } => {
                self.shell.end();
                let retry = now.plus_ms(context.rng.between(50, 2_000));
                self.engine = Engine::Away { retry };
            }
            Message::Request { .. }
            | Message::Connect { .. }
            | Message::Reports { .. }
            | Message::Reply { .. }
            | Message::Unavailable { .. } => {}
        }
        self.go_on(context);
    }

    fn check(&self) -> Result<(), String> {
        self.wrong.clone().map_or(Ok(()), Err)
    }

    fn show(&self) -> Shown {
        Shown {
            legs: self.gateway.held().collect(),
            carried: self.gateway.told().clone(),
            // What is told of a session that ended, or too late, is nobody's.
            inexact: self.gateway.told().keys().copied().collect(),
            ..Shown::default()
        }
    }
}
