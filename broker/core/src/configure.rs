//! Configuration: the difference between what is in force and what is wanted, as one record. A difference
//! that would break a promise is refused with the names; capacity that shrinks below what is sold is a
//! `Deficit`, recorded with it.

use crate::calendar::Calendar;
use crate::config::{
    AccessDef, Change, ConfigDef, CustomerDef, EndpointDef, PoolDef, TierDef, TierKind, parse_every,
    parse_line,
};
use crate::decide::{Answer, Decided, Decision};
use crate::record::{Configured, Deficit, DeficitRun, Record};
use crate::refusal::{Code, Refusal};
use crate::reservation::Reservation;
use crate::state::State;
use std::collections::{BTreeMap, BTreeSet};
use tollway_model::{AccessId, Amount, CustomerId, Direction, PoolId, ReservationId, Slot, TierId};

/// Reservations that are named in one sentence.
const NAMED_MAX: usize = 8;

/// One promise, or one wallet, that a wanted configuration would break.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// What of the configuration it is, and what stands on it.
    pub what: String,
    /// The reservations that stand on it, in order of id.
    pub users: Vec<ReservationId>,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)?;
        for (index, id) in self.users.iter().take(NAMED_MAX).enumerate() {
            write!(f, "{} {id}", if index == 0 { ":" } else { "," })?;
        }
        match self.users.len().saturating_sub(NAMED_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// What a configuration would break if it were submitted now: for whoever names reservations otherwise than the
/// engine does.
pub fn broken_by(state: &State, wanted: &ConfigDef) -> Vec<Broken> {
    let (mut changes, mut broken) = (Vec::new(), Vec::new());
    diff_pools(state, wanted, &mut changes, &mut broken);
    diff_accesses(state, wanted, &mut changes, &mut broken);
    diff_customers(state, wanted, &mut changes, &mut broken);
    broken
}

pub(crate) fn decide(state: &State, base: u64, wanted: &ConfigDef) -> Decided {
    let refused = |message: String| Err(Refusal::new(Code::ConfigurationRefused, message));
    if base != state.config.revision {
        return refused(format!("made from revision {base}, in force is {}", state.config.revision));
    }
    if let Err(message) = check(wanted) {
        return refused(message);
    }
    let mut changes = Vec::new();
    let mut broken = Vec::new();
    diff_pools(state, wanted, &mut changes, &mut broken);
    diff_tiers(state, wanted, &mut changes);
    diff_accesses(state, wanted, &mut changes, &mut broken);
    diff_customers(state, wanted, &mut changes, &mut broken);
    if !broken.is_empty() {
        let broken: Vec<String> = broken.iter().map(Broken::to_string).collect();
        return refused(format!("would break promises: {}", broken.join("; ")));
    }
    let count = u32::try_from(changes.len()).unwrap_or(u32::MAX);
    let answer = Answer::Configured { changes: count };
    if changes.is_empty() {
        return Ok(Decision { records: Vec::new(), answer });
    }
    let deficits = deficits(state, &changes);
    let configured = Configured { revision: state.config.revision + 1, changes, deficits };
    Ok(Decision { records: vec![Record::Configured(configured)], answer })
}

/// References and names, so that the state never holds a dangling one. Files are checked with line numbers
/// before they come here; this is the engine's own guard.
fn check(wanted: &ConfigDef) -> Result<(), String> {
    let mut names = BTreeSet::new();
    let all = [("pool", wanted.pools.iter().map(|p| &p.name).collect::<Vec<_>>())]
        .into_iter()
        .chain([("tier", wanted.tiers.iter().map(|t| &t.name).collect())])
        .chain([("access", wanted.accesses.iter().map(|a| &a.name).collect())])
        .chain([("customer", wanted.customers.iter().map(|c| &c.name).collect())]);
    for (kind, list) in all {
        for name in list {
            if !names.insert((kind, name.as_str())) {
                return Err(format!("{kind} {name} is named twice"));
            }
        }
    }
    for pool in &wanted.pools {
        if pool.sell_share_ppm > 1_000_000 || pool.hold_share_ppm > 1_000_000 {
            return Err(format!("pool {}: a share is at most 1000000 ppm", pool.name));
        }
    }
    for tier in &wanted.tiers {
        let is_asked_for = tier.gx.is_some() || tier.rx.is_some();
        if is_asked_for && tier.kind != TierKind::Target {
            return Err(format!(
                "tier {}: what a gateway is asked for can be no more than a target: make its kind `target`",
                tier.name
            ));
        }
        if !tier.tariff.is_bounded() || tier.shape.packet_bytes < 64 || tier.rate_min > tier.rate_max {
            return Err(format!(
                "tier {}: a price, the packet size or the rates are out of range",
                tier.name
            ));
        }
    }
    let mut apns = BTreeSet::new();
    for access in &wanted.accesses {
        check_road(access, &mut apns)?;
        for direction in Direction::BOTH {
            let side = access.side(direction);
            if let Some(pool) = side.pools.iter().find(|pool| !names.contains(&("pool", pool.as_str()))) {
                return Err(format!("access {}: there is no pool {pool}", access.name));
            }
            if side.pools.iter().collect::<BTreeSet<_>>().len() != side.pools.len() {
                return Err(format!("access {}: a pool is named twice in one direction", access.name));
            }
            if !side.pools.contains(&access.price_pool) {
                return Err(format!("access {}: its price pool is one of its pools both ways", access.name));
            }
        }
    }
    let by_name: BTreeMap<_, _> = wanted.accesses.iter().map(|a| (a.name.as_str(), a)).collect();
    for access in &wanted.accesses {
        let family = parse_every(&access.name).or_else(|| parse_line(&access.name).map(|(name, _)| name));
        if let Some(family) = family.filter(|name| by_name.get(name).is_some_and(|a| a.apn().is_some())) {
            return Err(format!("access {}: its name is one that {family} gives to its lines", access.name));
        }
    }
    for customer in &wanted.customers {
        for endpoint in &customer.endpoints {
            endpoint.configured(&by_name).map_err(|why| format!("customer {}: {why}", customer.name))?;
        }
    }
    Ok(())
}

/// An APN is one family's at an enforcement point.
fn check_road<'a>(access: &'a AccessDef, apns: &mut BTreeSet<(&'a str, &'a str)>) -> Result<(), String> {
    let Some(apn) = access.apn() else { return Ok(()) };
    if apn.is_empty() || apn.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(format!("access {}: write its APN in lower case", access.name));
    }
    if !apns.insert((&access.enforcement_point, apn)) {
        return Err(format!("access {}: APN {apn} is another access's already", access.name));
    }
    Ok(())
}

/// Live, not yet settled, or still committed for the rest of the slot in which they ended.
fn open(state: &State) -> impl Iterator<Item = &Reservation> {
    let now = state.slot_length().slot_of(state.last_at).0;
    state
        .reservations
        .values()
        .filter(move |r| r.promise.is_live() || !r.settled || state.committed_until(r) > now)
}

fn diff_pools(state: &State, wanted: &ConfigDef, changes: &mut Vec<Change>, broken: &mut Vec<Broken>) {
    for (id, def) in &state.config.pools {
        if wanted.pools.iter().any(|p| p.name == def.name) {
            continue;
        }
        let users = open(state).filter(|r| {
            let route = state.routes.get(&r.access);
            route.is_some_and(|route| route.up.contains(id) || route.down.contains(id))
        });
        let users: Vec<ReservationId> = users.map(|r| r.id).collect();
        if users.is_empty() {
            changes.push(Change::PoolRemoved(*id));
        } else {
            broken.push(Broken { what: format!("pool {} is removed and in use", def.name), users });
        }
    }
    let mut next = state.config.next_pool;
    for def in &wanted.pools {
        match state.config.pool_id(&def.name) {
            Some(id) if state.config.pools.get(&id) == Some(def) => {}
            Some(id) => changes.push(Change::Pool(id, def.clone())),
            None => {
                next += 1;
                changes.push(Change::Pool(PoolId(next), PoolDef::clone(def)));
            }
        }
    }
}

fn diff_tiers(state: &State, wanted: &ConfigDef, changes: &mut Vec<Change>) {
    for (id, tier) in &state.config.tiers {
        if tier.on_sale && !wanted.tiers.iter().any(|t| t.name == tier.def.name) {
            changes.push(Change::TierWithdrawn(*id));
        }
    }
    let mut next = state.config.next_tier;
    for def in &wanted.tiers {
        match state.config.tier_id(&def.name).and_then(|id| state.config.tiers.get(&id).map(|t| (id, t))) {
            Some((_, tier)) if tier.on_sale && *tier.def == *def => {}
            Some((id, tier)) => changes.push(Change::Tier(id, tier.revision + 1, TierDef::clone(def))),
            None => {
                next += 1;
                changes.push(Change::Tier(TierId(next), 1, TierDef::clone(def)));
            }
        }
    }
}

fn diff_accesses(state: &State, wanted: &ConfigDef, changes: &mut Vec<Change>, broken: &mut Vec<Broken>) {
    let users = |id: AccessId| -> Vec<ReservationId> {
        open(state).filter(|r| r.access == id).map(|r| r.id).collect()
    };
    for (id, def) in &state.config.accesses {
        if wanted.accesses.iter().any(|a| a.name == def.name) {
            continue;
        }
        let users = users(*id);
        if users.is_empty() {
            changes.push(Change::AccessRemoved(*id));
        } else {
            broken.push(Broken { what: format!("access {} is removed and in use", def.name), users });
        }
    }
    let mut next = state.config.next_access;
    for def in &wanted.accesses {
        let Some(id) = state.config.access_id(&def.name) else {
            next += 1;
            changes.push(Change::Access(AccessId(next), AccessDef::clone(def)));
            continue;
        };
        let Some(before) = state.config.accesses.get(&id).filter(|before| *before != def) else { continue };
        let moved = before.enforcement_point != def.enforcement_point
            || before.up != def.up
            || before.down != def.down
            || before.road != def.road;
        let users = users(id);
        if moved && !users.is_empty() {
            let what = format!("access {} is enforced elsewhere and in use", def.name);
            broken.push(Broken { what, users });
        } else {
            changes.push(Change::Access(id, def.clone()));
        }
    }
}

fn diff_customers(state: &State, wanted: &ConfigDef, changes: &mut Vec<Change>, broken: &mut Vec<Broken>) {
    let users = |id: CustomerId, gone: &dyn Fn(&AccessDef, &Reservation) -> bool| -> Vec<ReservationId> {
        let of = open(state).filter(|r| {
            let access = state.config.accesses.get(&r.access);
            r.customer == id && access.is_some_and(|a| gone(a, r))
        });
        of.map(|r| r.id).collect()
    };
    for (id, def) in &state.config.customers {
        if wanted.customers.iter().any(|c| c.name == def.name) {
            continue;
        }
        let users = users(*id, &|_, _| true);
        let wallet = tollway_billing::AccountId::wallet(*id, def.currency);
        let balance = Amount { micros: state.ledger.balance(wallet), currency: def.currency };
        if !users.is_empty() {
            broken.push(Broken {
                what: format!("customer {} is removed and has reservations", def.name),
                users,
            });
        } else if balance.micros.0 != 0 {
            // Named again it would be another customer with an empty wallet.
            let what =
                format!("customer {} is removed and has {balance}: keep it, without endpoints", def.name);
            broken.push(Broken { what, users });
        } else {
            changes.push(Change::CustomerRemoved(*id));
        }
    }
    let mut next = state.config.next_customer;
    for def in &wanted.customers {
        let Some(id) = state.config.customer_id(&def.name) else {
            next += 1;
            changes.push(Change::Customer(CustomerId(next), CustomerDef::clone(def)));
            continue;
        };
        let Some(before) = state.config.customers.get(&id).filter(|before| *before != def) else { continue };
        let gone = |access: &AccessDef, of: &Reservation| {
            let covers = |endpoint: &EndpointDef| endpoint.covers(access, of.subscriber);
            before.currency != def.currency || !def.endpoints.iter().any(covers)
        };
        let users = users(id, &gone);
        let wallet = tollway_billing::AccountId::wallet(id, before.currency);
        if !users.is_empty() {
            broken.push(Broken { what: format!("customer {} loses what is in use", def.name), users });
        } else if before.currency != def.currency && state.ledger.balance(wallet).0 != 0 {
            let what =
                format!("customer {} gets another currency and has money in {}", def.name, before.currency);
            broken.push(Broken { what, users });
        } else {
            changes.push(Change::Customer(id, def.clone()));
        }
    }
}

/// What the changed pools will have sold and not have.
fn deficits(state: &State, changes: &[Change]) -> Vec<Deficit> {
    let mut found = Vec::new();
    for change in changes {
        let Change::Pool(id, def) = change else { continue };
        for direction in Direction::BOTH {
            let Some(calendar) = state.calendars.get(&(*id, direction)) else { continue };
            let mut shrunk: Calendar = calendar.clone();
            shrunk.set_on_sale(def.on_sale(direction).0);
            found.extend(deficit(state, *id, direction, &shrunk));
        }
    }
    found
}

/// What is sold and not there now: less than was recorded when it began, as what was sold comes to its end.
pub(crate) fn deficits_left(state: &State) -> Vec<Deficit> {
    let known = state.deficits.keys().filter_map(|key| state.calendars.get_key_value(key));
    known.filter_map(|((pool, direction), calendar)| deficit(state, *pool, *direction, calendar)).collect()
}

fn deficit(state: &State, pool: PoolId, direction: Direction, calendar: &Calendar) -> Option<Deficit> {
    let now = state.slot_length().slot_of(state.last_at).0;
    let runs = runs(calendar.excess().filter(|(slot, _)| *slot >= now));
    (!runs.is_empty()).then_some(Deficit { pool, direction, runs })
}

fn runs(excess: impl Iterator<Item = (u64, u64)>) -> Vec<DeficitRun> {
    let mut runs: Vec<DeficitRun> = Vec::new();
    for (slot, bps) in excess {
        match runs.last_mut() {
            Some(run) if run.until == Slot(slot) => {
                run.until = Slot(slot + 1);
                run.excess_bps = run.excess_bps.max(bps);
            }
            Some(_) | None => {
                runs.push(DeficitRun { from: Slot(slot), until: Slot(slot + 1), excess_bps: bps });
            }
        }
    }
    runs
}
