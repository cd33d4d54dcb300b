//! A simulated customer's app: it asks for quotes, takes offers, confirms, binds flows, cancels; it retries
//! with the same key, walks away from holds, hoards, and sends values that no honest program would.

use crate::actor::{Actor, Body, Context, Link, Message, Published, Shown};
use crate::gx;
use crate::options::Faults;
use crate::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use tollway_core::config::parse_line;
use tollway_core::offer::{Need, Offer, QuoteRequest, When};
use tollway_core::reservation::Promise;
use tollway_core::{Command, IdempotencyKey, Reply};
use tollway_model::{
    AccessId, BitsPerSecond, CustomerId, Direction, Flow, OfferId, Protocol, QuoteId, ReservationId, TierId,
    Timestamp,
};
use tollway_policy::SubscriberRef;

/// No answer so long after asking: ask again, with the same key.
const RETRY_MS: u64 = 4_000;

/// Windows that end later are not taken.
const NEAR_MS: u64 = 900_000;

/// Tries are the low digits of a wire id.
const TRIES: u64 = 1 << 20;

struct Pending {
    key: Option<IdempotencyKey>,
    command: Command,
    customer: CustomerId,
    tries: u64,
    again: Timestamp,
}

pub struct Client {
    name: String,
    accesses: Vec<String>,
    pending: BTreeMap<u64, Pending>,
    asked: u64,
    offers: Vec<(OfferId, Timestamp)>,
    held: Vec<ReservationId>,
    confirmed: Vec<ReservationId>,
    seen: BTreeSet<ReservationId>,
    /// Whose line a reservation is on, at the mobile gateway.
    lines: BTreeMap<ReservationId, SubscriberRef>,
    wrong: Option<String>,
    act_at: Timestamp,
    /// Takes all it has at the next step.
    grabs: bool,
}

impl Client {
    pub fn new(name: &str, accesses: &[&str]) -> Client {
        Client {
            name: name.to_owned(),
            accesses: accesses.iter().map(|a| (*a).to_owned()).collect(),
            pending: BTreeMap::new(),
            asked: 0,
            offers: Vec::new(),
            held: Vec::new(),
            confirmed: Vec::new(),
            seen: BTreeSet::new(),
            lines: BTreeMap::new(),
            wrong: None,
            act_at: Timestamp(0),
            grabs: false,
        }
    }

    fn ask(&mut self, context: &mut Context<'_>, command: Command) {
        let Some(customer) = context.published.customers.get(&self.name).copied() else { return };
        self.asked += 1;
        let keyless = matches!(command, Command::Quote(_)) && context.rng.chance(300_000);
        let key = (!keyless).then(|| key_of(&self.name, self.asked, &command));
        let again = context.now;
        self.pending.insert(self.asked, Pending { key, command, customer, tries: 0, again });
        self.send_due(context);
    }

    /// Sends what was never sent, and again what had no answer in time.
    fn send_due(&mut self, context: &mut Context<'_>) {
        for (ask, pending) in &mut self.pending {
            if pending.again > context.now {
                continue;
            }
            pending.again = context.now.plus_ms(RETRY_MS);
            pending.tries += 1;
            context.send(Message::Request {
                wire: ask * TRIES + pending.tries,
                key: pending.key,
                body: Body::Client { customer: pending.customer, command: pending.command.clone() },
            });
        }
    }

    fn act(&mut self, context: &mut Context<'_>) {
        self.offers.retain(|(_, until)| *until > context.now);
        if context.strikes(&format!("{} is hostile", self.name)) {
            let command = hostile(context.rng, context.published);
            return self.ask(context, command);
        }
        if context.strikes(&format!("{} reuses a key", self.name)) {
            return self.reuse_key(context);
        }
        if std::mem::take(&mut self.grabs) {
            for (offer, _) in self.offers.split_off(self.offers.len().saturating_sub(18)) {
                self.ask(context, Command::Take { offer });
            }
            return;
        }
        if context.strikes(&format!("{} hoards", self.name)) {
            self.grabs = true;
            let count = if context.rng.chance(300_000) { 70 } else { 18 };
            return self.ask_for_crumbs(context, count);
        }
        let walks_away = context.strikes(&format!("{} walks away", self.name));
        match context.rng.below(100) {
            0..=39 => {
                if let Some(request) = self.need(context) {
                    self.ask(context, Command::Quote(request));
                }
            }
            40..=64 if !self.offers.is_empty() => {
                let last = self.offers.len() - 1;
                let index = if context.rng.chance(600_000) {
                    last
                } else {
                    usize::try_from(context.rng.below(last as u64 + 1)).unwrap_or(0)
                };
                let (offer, _) = self.offers.swap_remove(index);
                self.ask(context, Command::Take { offer });
            }
            65..=84 if !self.held.is_empty() => {
                let reservation = self.held.remove(0);
                if !walks_away {
                    let flows = context.rng.chance(700_000).then(|| self.flows(context.rng, reservation));
                    self.ask(context, Command::Confirm { reservation, flows });
                }
            }
            85..=92 => {
                if let Some(reservation) = context.rng.pick(&self.confirmed).copied() {
                    let flows = self.flows(context.rng, reservation);
                    self.ask(context, Command::BindFlows { reservation, flows });
                }
            }
            93..=97 => {
                let index = context.rng.below(self.confirmed.len() as u64 + self.held.len() as u64);
                let all: Vec<ReservationId> = self.confirmed.iter().chain(&self.held).copied().collect();
                if let Some(reservation) = all.get(usize::try_from(index).unwrap_or(0)).copied() {
                    self.ask(context, Command::Cancel { reservation });
                }
            }
            _ => {}
        }
    }

    /// Many small quotes at once, to be taken at the next step.
    fn ask_for_crumbs(&mut self, context: &mut Context<'_>, count: u32) {
        for _ in 0..count {
            if let Some(request) = self.need(context) {
                let need = Need::Rate(BitsPerSecond(64_000));
                self.ask(context, Command::Quote(QuoteRequest { need, ..request }));
            }
        }
    }

    fn need(&self, context: &mut Context<'_>) -> Option<QuoteRequest> {
        let name = context.rng.pick(&self.accesses)?;
        let (access, subscriber) = find(context.published, name)?;
        let rng = &mut *context.rng;
        let now = context.now.0;
        let start = match rng.below(4) {
            0 | 1 => None,
            // Equal starts are common: apps ask on round minutes.
            2 => Some(When::At(Timestamp((now / 60_000 + 1 + rng.below(3)) * 60_000))),
            _ => Some(When::In(rng.below(120_000))),
        };
        let from = match start {
            None => now,
            Some(When::At(at)) => at.0,
            Some(When::In(ms)) => now + ms,
        };
        let length =
            if rng.chance(100_000) { rng.between(5_000, 600_000) } else { rng.between(8_000, 90_000) };
        let need = if rng.chance(400_000) {
            Need::Bytes(rng.skewed(27) + 1)
        } else {
            Need::Rate(BitsPerSecond(rng.between(100_000, 9_000_000)))
        };
        let tier = if rng.chance(700_000) && subscriber.is_none() {
            rng.pick(&context.published.tiers).copied()
        } else {
            None
        };
        let direction = if rng.chance(500_000) { Direction::Up } else { Direction::Down };
        Some(QuoteRequest {
            access,
            direction,
            tier,
            need,
            start,
            end: When::At(Timestamp(from + length)),
            subscriber,
        })
    }

    /// For devices at ports, or for the subscriber on whose line it was bought: mostly at the right address.
    fn flows(&self, rng: &mut Rng, of: ReservationId) -> Vec<Flow> {
        let mut flows = flows(rng);
        let Some(own) = self.lines.get(&of) else { return flows };
        if flows.is_empty() && rng.chance(800_000) {
            flows.push(flow(rng));
        }
        for flow in &mut flows {
            let subscriber = if rng.chance(50_000) { 1 + rng.below(gx::SUBSCRIBERS) } else { own.0 };
            flow.device = gx::address(subscriber, u8::from(rng.chance(100_000))).into();
        }
        flows
    }

    /// The key of an earlier request, for another one: answered with a refusal, and with nothing done.
    fn reuse_key(&mut self, context: &mut Context<'_>) {
        let Some(customer) = context.published.customers.get(&self.name).copied() else { return };
        let used = context.rng.below(self.asked) + 1;
        let command = Command::Cancel { reservation: ReservationId(context.rng.skewed(6)) };
        let mut key = key_of(&self.name, used, &command);
        key.request ^= 1;
        self.asked += 1;
        let again = context.now;
        self.pending.insert(self.asked, Pending { key: Some(key), command, customer, tries: 0, again });
        self.send_due(context);
    }

    fn answered(&mut self, context: &Context<'_>, command: &Command, reply: Reply) {
        match reply {
            Reply::Quote(quote) => self.remember(context.now, quote.id, &quote.offers),
            Reply::Refused(refusal) => {
                if let Some(id) = refusal.quote {
                    self.remember(context.now, id, &refusal.offers);
                }
                if matches!(command, Command::Confirm { .. } | Command::Cancel { .. }) {
                    self.reread(command);
                }
            }
            Reply::Reservation(reservation) => {
                let id = reservation.id;
                self.lines.extend(reservation.subscriber.map(|subscriber| (id, subscriber)));
                self.held.retain(|held| *held != id);
                self.confirmed.retain(|confirmed| *confirmed != id);
                if matches!(command, Command::Take { .. }) && !self.seen.insert(id) {
                    self.wrong = Some(format!("{} was given {id} twice", self.name));
                }
                match reservation.promise {
                    Promise::Held { .. } => self.held.push(id),
                    Promise::Booked | Promise::Running => self.confirmed.push(id),
                    Promise::Ended { .. } => {}
                }
            }
            Reply::ToppedUp { .. } | Reply::Configured { .. } => {
                self.wrong = Some(format!("{} got the NOC's answer", self.name));
            }
        }
    }

    /// A verb that was refused: what it named may be over, or the verb was wrong and may be tried again.
    fn reread(&mut self, command: &Command) {
        if let Command::Confirm { reservation, flows: Some(_) } = command {
            self.held.push(*reservation);
            if self.held.len() > 40 {
                self.held.remove(0);
            }
        }
        if let Command::Cancel { reservation } = command {
            self.confirmed.retain(|confirmed| confirmed != reservation);
        }
    }

    /// Offers are kept a while longer than they live; windows far ahead are left alone, so that runs end.
    fn remember(&mut self, now: Timestamp, quote: QuoteId, offers: &[Offer]) {
        let near = offers.iter().filter(|offer| offer.window.until.ms_since(now) <= NEAR_MS);
        let until = now.plus_ms(125_000);
        self.offers.extend(near.map(|offer| (OfferId { quote, index: offer.index }, until)));
        while self.offers.len() > 40 {
            self.offers.remove(0);
        }
    }

    fn next_wake(&self, context: &Context<'_>) -> Timestamp {
        let soonest = self.pending.values().map(|pending| pending.again).min().unwrap_or(Timestamp(u64::MAX));
        if context.faults.are_on() { soonest.min(self.act_at) } else { soonest }
    }
}

/// An access at a port, or a line of a family.
fn find(published: &Published, name: &str) -> Option<(AccessId, Option<SubscriberRef>)> {
    if let Some(access) = published.accesses.get(name) {
        return Some((*access, None));
    }
    let (family, subscriber) = parse_line(name)?;
    Some((*published.families.get(family)?, Some(subscriber)))
}

/// The shell hashes customer, operation and the client's text.
pub fn key_of(name: &str, number: u64, command: &Command) -> IdempotencyKey {
    let mut key = [0u8; 16];
    key[..8].copy_from_slice(&crate::rng::Digest::of(name.as_bytes()).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    IdempotencyKey { key, request: crate::rng::Digest::of(format!("{command:?}").as_bytes()) }
}

/// Few addresses and ports, so that flows of different customers meet; some of them are nobody's.
pub fn flows(rng: &mut Rng) -> Vec<Flow> {
    let count = if rng.chance(20_000) { 9 } else { rng.below(3) };
    (0..count).map(|_| flow(rng)).collect()
}

fn flow(rng: &mut Rng) -> Flow {
    let third = if rng.chance(20_000) { 99 } else { 0 };
    let device = Ipv4Addr::new(10, 10, third, byte(rng, 3)).into();
    Flow {
        protocol: if rng.chance(700_000) { Protocol::Tcp } else { Protocol::Udp },
        device: if rng.chance(10_000) { IpAddr::from([0u16; 8]) } else { device },
        device_port: rng.chance(750_000).then(|| 40_000 + port(rng, 6)),
        remote: Ipv4Addr::new(10, 20, 0, byte(rng, 2)).into(),
        remote_port: if rng.chance(10_000) { 0 } else { 443 + port(rng, 3) },
    }
}

fn byte(rng: &mut Rng, below: u64) -> u8 {
    u8::try_from(rng.below(below)).unwrap_or(0)
}

fn port(rng: &mut Rng, below: u64) -> u16 {
    u16::try_from(rng.below(below)).unwrap_or(0)
}

/// Well-formed and absurd.
pub fn hostile(rng: &mut Rng, published: &Published) -> Command {
    let when = |rng: &mut Rng| match rng.below(5) {
        0 => When::At(Timestamp(rng.next())),
        1 => When::In(rng.next()),
        2 => When::In(u64::MAX),
        3 => When::At(Timestamp(0)),
        _ => When::In(rng.skewed(33)),
    };
    let access = match rng.below(3) {
        0 => AccessId(u32::MAX),
        _ => {
            let all: Vec<AccessId> = published.accesses.values().copied().collect();
            rng.pick(&all).copied().unwrap_or_default()
        }
    };
    let reservation = ReservationId(if rng.chance(300_000) { rng.next() } else { rng.skewed(7) });
    match rng.below(5) {
        0 | 1 => Command::Quote(QuoteRequest {
            access,
            direction: Direction::Up,
            tier: rng.chance(300_000).then_some(TierId(u32::MAX)),
            need: match rng.below(6) {
                0 => Need::Rate(BitsPerSecond(0)),
                1 => Need::Rate(BitsPerSecond(u64::MAX)),
                2 => Need::Bytes(u64::MAX),
                3 => Need::Bytes(0),
                4 => Need::Bytes(rng.next()),
                _ => Need::Rate(BitsPerSecond(rng.skewed(63))),
            },
            start: rng.chance(500_000).then(|| when(rng)),
            end: when(rng),
            subscriber: None,
        }),
        2 => Command::Take {
            offer: OfferId {
                quote: QuoteId(rng.skewed(9)),
                index: u32::try_from(rng.skewed(31)).unwrap_or(0),
            },
        },
        3 => Command::Confirm { reservation, flows: Some(flows(rng)) },
        _ => Command::Cancel { reservation },
    }
}

impl Actor for Client {
    fn name(&self) -> &str {
        &self.name
    }

    fn link(&self) -> Link {
        Link::Datagrams
    }

    fn register(&self, faults: &mut Faults) {
        for (what, ppm_max) in
            [("is hostile", 200_000), ("reuses a key", 100_000), ("hoards", 15_000), ("walks away", 700_000)]
        {
            faults.register(&format!("{} {what}", self.name), ppm_max);
        }
    }

    fn step(&mut self, context: &mut Context<'_>) {
        self.send_due(context);
        if context.faults.are_on() && self.act_at <= context.now {
            self.act_at = context.now.plus_ms(context.rng.between(50, 4_000));
            self.act(context);
        }
        let next = self.next_wake(context);
        context.wake_at(next);
    }

    fn on_message(&mut self, context: &mut Context<'_>, message: Message) {
        match message {
            Message::Reply { wire, reply } => {
                if let Some(pending) = self.pending.remove(&(wire / TRIES)) {
                    self.answered(context, &pending.command, reply);
                }
            }
            Message::Unavailable { wire } => {
                if let Some(pending) = self.pending.get_mut(&(wire / TRIES)) {
                    pending.again = context.now.plus_ms(context.rng.between(500, 3_000));
                }
            }
            Message::Request { .. }
            | Message::Connect { .. }
            | Message::Reports { .. }
            | Message::Desired { .. }
            | Message::Policy(_)
            | Message::Ack { .. }
            | Message::Broken { .. } => {}
        }
        let next = self.next_wake(context);
        context.wake_at(next);
    }

    fn check(&self) -> Result<(), String> {
        self.wrong.clone().map_or(Ok(()), Err)
    }

    fn show(&self) -> Shown {
        Shown { unanswered: self.pending.len(), ..Shown::default() }
    }
}
