//! The simulated NOC: it tops wallets up, shrinks and widens pools, revises tiers, removes accesses, and
//! submits configurations that must be refused.

use crate::actor::{Actor, Body, Context, Link, Message, Shown};
use crate::market;
use crate::options::Faults;
use std::collections::BTreeMap;
use tollway_core::{ConfigDef, IdempotencyKey};
use tollway_model::{Amount, BitsPerSecond, Currency, CustomerId, Timestamp};

const RETRY_MS: u64 = 4_000;
const TRIES: u64 = 1 << 20;

struct Pending {
    key: Option<IdempotencyKey>,
    body: Body,
    tries: u64,
    again: Timestamp,
}

#[derive(Default)]
pub struct Noc {
    mobile: bool,
    pending: BTreeMap<u64, Pending>,
    asked: u64,
    act_at: Timestamp,
}

impl Noc {
    pub fn new(mobile: bool) -> Noc {
        Noc { mobile, ..Noc::default() }
    }

    fn ask(&mut self, context: &mut Context<'_>, body: Body) {
        self.asked += 1;
        let key = match &body {
            Body::TopUp { .. } => {
                let mut key = [0xee; 16];
                key[8..].copy_from_slice(&self.asked.to_be_bytes());
                Some(IdempotencyKey { key, request: self.asked })
            }
            Body::Client { .. } | Body::Configure { .. } => None,
        };
        self.pending.insert(self.asked, Pending { key, body, tries: 0, again: context.now });
        self.send_due(context);
    }

    fn next_wake(&self, context: &Context<'_>) -> Timestamp {
        let soonest = self.pending.values().map(|pending| pending.again).min().unwrap_or(Timestamp(u64::MAX));
        if context.faults.are_on() { soonest.min(self.act_at) } else { soonest }
    }

    fn send_due(&mut self, context: &mut Context<'_>) {
        for (ask, pending) in &mut self.pending {
            if pending.again <= context.now {
                pending.again = context.now.plus_ms(RETRY_MS);
                pending.tries += 1;
                let wire = ask * TRIES + pending.tries;
                context.send(Message::Request { wire, key: pending.key, body: pending.body.clone() });
            }
        }
    }

    fn top_up(&mut self, context: &mut Context<'_>, customer: CustomerId) {
        let hostile = context.strikes("noc tops up absurdly");
        let micros = match (hostile, context.rng.below(3)) {
            (true, 0) => i64::MAX,
            (true, 1) => -5,
            (true, _) => 0,
            (false, _) => i64::try_from(context.rng.between(1, 3_000_000)).unwrap_or(1),
        };
        let currency = match Currency::parse("USD") {
            Some(usd) if context.strikes("noc tops up absurdly") => usd,
            _ => Currency::EUR,
        };
        let reason = format!("order {}", self.asked + 1);
        let amount = Amount::new(micros, currency);
        self.ask(context, Body::TopUp { customer, amount, actor: "ops".to_owned(), reason });
    }

    fn edit(&mut self, context: &mut Context<'_>) -> ConfigDef {
        let mut config = context.published.config.clone();
        let rng = &mut *context.rng;
        match rng.below(8) {
            0..=2 => {
                let factor = rng.between(1, 12);
                let index = usize::try_from(rng.below(config.pools.len() as u64)).unwrap_or(0);
                if let Some(pool) = config.pools.get_mut(index) {
                    pool.up = BitsPerSecond(5_000_000 * factor);
                    pool.sell_share_ppm = if rng.chance(300_000) { 300_000 } else { 700_000 };
                }
            }
            3 => {
                if let Some(tier) = config.tiers.first_mut() {
                    *tier = market::tier("gold", i64::try_from(rng.between(10_000, 3_000_000)).unwrap_or(1));
                }
            }
            4 if config.tiers.len() > 1 => {
                config.tiers.pop();
            }
            4 => config.tiers.push(market::tier("silver", 700_000)),
            5 => toggle_spare(&mut config),
            6 => move_till(&mut config),
            _ => config = market::config_of(self.mobile),
        }
        config
    }

    fn break_config(&mut self, context: &mut Context<'_>) -> ConfigDef {
        let mut config = context.published.config.clone();
        match context.rng.below(7) {
            0 => config.pools.push(market::pool("core", 1, 1)),
            1 => config.pools.clear(),
            2 => config.accesses.clear(),
            3 => config.pools.iter_mut().for_each(|p| p.sell_share_ppm = u32::MAX),
            4 => config.tiers.iter_mut().for_each(|t| t.shape.packet_bytes = 0),
            5 => config.customers.truncate(1),
            _ => config.accesses.iter_mut().for_each(|a| {
                let again = a.up.pools.clone();
                a.up.pools.extend(again);
            }),
        }
        config
    }
}

fn toggle_spare(config: &mut ConfigDef) {
    let before = config.accesses.len();
    config.accesses.retain(|a| a.name != "spare");
    if config.accesses.len() < before {
        config.customers.iter_mut().for_each(|c| c.endpoints.retain(|e| e.access != "spare"));
    } else {
        config.accesses.push(market::spare());
        if let Some(bulk) = market::config().customers.pop() {
            config.customers.retain(|c| c.name != bulk.name);
            config.customers.push(bulk);
        }
    }
}

/// The access `till` goes to another pool: refused while it is in use.
fn move_till(config: &mut ConfigDef) {
    for access in config.accesses.iter_mut().filter(|a| a.name == "till") {
        let other = if access.price_pool == "core" { "west" } else { "core" };
        other.clone_into(&mut access.price_pool);
        access.up.pools = vec![other.to_owned()];
        access.down.pools = vec![other.to_owned()];
    }
}

impl Actor for Noc {
    fn name(&self) -> &str {
        "noc"
    }

    fn link(&self) -> Link {
        Link::Datagrams
    }

    fn register(&self, faults: &mut Faults) {
        for (name, ppm_max) in [
            ("noc tops up absurdly", 100_000),
            ("noc edits", 250_000),
            ("noc submits nonsense", 100_000),
            ("noc works from an old revision", 100_000),
        ] {
            faults.register(name, ppm_max);
        }
    }

    fn step(&mut self, context: &mut Context<'_>) {
        if context.faults.are_on() && self.act_at <= context.now {
            self.act_at = context.now.plus_ms(context.rng.between(1_000, 20_000));
            let customers: Vec<CustomerId> = context.published.customers.values().copied().collect();
            if context.rng.chance(400_000)
                && let Some(customer) = context.rng.pick(&customers).copied()
            {
                self.top_up(context, customer);
            }
            let stale = u64::from(context.strikes("noc works from an old revision"));
            let base = context.published.revision.saturating_sub(stale);
            if context.strikes("noc submits nonsense") {
                let config = self.break_config(context);
                self.ask(context, Body::Configure { base, config });
            } else if context.strikes("noc edits") {
                let config = self.edit(context);
                self.ask(context, Body::Configure { base, config });
            }
        }
        self.send_due(context);
        context.wake_at(self.next_wake(context));
    }

    fn on_message(&mut self, context: &mut Context<'_>, message: Message) {
        match message {
            Message::Reply { wire, .. } => {
                self.pending.remove(&(wire / TRIES));
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
        context.wake_at(self.next_wake(context));
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn show(&self) -> Shown {
        Shown { unanswered: self.pending.len(), ..Shown::default() }
    }
}
