//! The engine's state. Only `apply` changes it, and only from records.

use crate::calendar::Calendar;
use crate::config::{AccessDef, ConfigDef, CustomerDef, PoolDef, RoadDef, TierDef, line_name, parse_line};
use crate::floor::{PortFloor, PortKey};
use crate::learnt::Learnt;
use crate::limits;
use crate::offer::Quote;
use crate::record::MarketMade;
use crate::reservation::{Promise, Reservation};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use tollway_billing::Ledger;
use tollway_model::{
    AccessId, CustomerId, Direction, Flow, PoolId, Protocol, QuoteId, ReservationId, Seq, SlotLength, TierId,
    Timestamp,
};
use tollway_policy::{DesiredLeg, Road, SubscriberRef};

/// A tier as it is sold now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TierEntry {
    pub revision: u32,
    pub def: Arc<TierDef>,
    pub on_sale: bool,
}

/// The configuration in force, with the ids that the market gave to its names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    pub revision: u64,
    pub pools: BTreeMap<PoolId, PoolDef>,
    pub tiers: BTreeMap<TierId, TierEntry>,
    pub accesses: BTreeMap<AccessId, AccessDef>,
    pub customers: BTreeMap<CustomerId, CustomerDef>,
    pub(crate) tier_revisions: BTreeMap<(TierId, u32), Arc<TierDef>>,
    pub(crate) next_pool: u32,
    pub(crate) next_tier: u32,
    pub(crate) next_access: u32,
    pub(crate) next_customer: u32,
}

impl Config {
    pub fn pool_id(&self, name: &str) -> Option<PoolId> {
        self.pools.iter().find(|(_, p)| p.name == name).map(|(id, _)| *id)
    }

    pub fn tier_id(&self, name: &str) -> Option<TierId> {
        self.tiers.iter().find(|(_, t)| t.def.name == name).map(|(id, _)| *id)
    }

    pub fn access_id(&self, name: &str) -> Option<AccessId> {
        self.accesses.iter().find(|(_, a)| a.name == name).map(|(id, _)| *id)
    }

    /// An access by its name: a configured one, or a line of a family, whether it was ever seen or not.
    pub fn find_access(&self, name: &str) -> Option<(AccessId, Option<SubscriberRef>)> {
        let configured = self.access_id(name).map(|id| (id, None));
        configured.or_else(|| {
            let (family, subscriber) = parse_line(name)?;
            let (id, _) = self.accesses.iter().find(|(_, a)| a.name == family && a.apn().is_some())?;
            Some((*id, Some(subscriber)))
        })
    }

    /// The name of an access or of a line of it; `None` when it was removed since.
    pub fn access_name(&self, id: AccessId, subscriber: Option<SubscriberRef>) -> Option<String> {
        let def = self.accesses.get(&id)?;
        Some(subscriber.map_or_else(|| def.name.clone(), |subscriber| line_name(&def.name, subscriber)))
    }

    pub fn customer_id(&self, name: &str) -> Option<CustomerId> {
        self.customers.iter().find(|(_, c)| c.name == name).map(|(id, _)| *id)
    }

    /// A tier as it was at a revision.
    pub fn tier_revision(&self, id: TierId, revision: u32) -> Option<&Arc<TierDef>> {
        self.tier_revisions.get(&(id, revision))
    }

    /// The configuration as one definition, names only.
    pub fn to_def(&self) -> ConfigDef {
        ConfigDef {
            pools: self.pools.values().cloned().collect(),
            tiers: self.tiers.values().filter(|t| t.on_sale).map(|t| (*t.def).clone()).collect(),
            accesses: self.accesses.values().cloned().collect(),
            customers: self.customers.values().cloned().collect(),
        }
    }
}

/// The pools of an access, resolved.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Route {
    pub up: Vec<PoolId>,
    pub down: Vec<PoolId>,
    pub price: PoolId,
}

impl Route {
    pub fn pools(&self, direction: Direction) -> &[PoolId] {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }
}

/// What happens to whom when a timer is due. Ordered by reservation first, so that equal instants have one
/// order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Timer {
    pub reservation: ReservationId,
    pub what: Due,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Due {
    HoldExpires,
    Starts,
    Retries,
    GraceEnds,
    Ends,
    SettlesAnyway,
}

impl Due {
    pub const fn as_str(self) -> &'static str {
        match self {
            Due::HoldExpires => "hold expires",
            Due::Starts => "reservation starts",
            Due::Retries => "leg is retried",
            Due::GraceEnds => "start grace ends",
            Due::Ends => "reservation ends",
            Due::SettlesAnyway => "last reading is overdue",
        }
    }
}

/// What became of a quote that was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Taken {
    pub customer: CustomerId,
    pub reservation: ReservationId,
    /// Told until then to whoever takes it again.
    pub until: Timestamp,
}

/// Where an answered key points.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeyEntry {
    pub at: Seq,
    pub request: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeyExpiry {
    pub due: Timestamp,
    pub key: [u8; 16],
    pub customer: CustomerId,
    pub reservation: Option<ReservationId>,
}

/// What a flow is indexed by; the device port is compared within.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct FlowKey {
    pub protocol: Protocol,
    pub device: IpAddr,
    pub remote: IpAddr,
    pub remote_port: u16,
}

impl FlowKey {
    pub fn of(flow: &Flow) -> FlowKey {
        FlowKey {
            protocol: flow.protocol,
            device: flow.device,
            remote: flow.remote,
            remote_port: flow.remote_port,
        }
    }
}

/// A pool's use in one direction at an instant, in bit/s of class rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolUse {
    pub pool: PoolId,
    pub direction: Direction,
    pub committed_bps: u64,
    pub on_sale_bps: u64,
    pub capacity_bps: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    pub market: Option<MarketMade>,
    pub config: Config,
    pub ledger: Ledger,
    pub(crate) last_seq: Seq,
    pub(crate) last_at: Timestamp,
    pub(crate) calendars: BTreeMap<(PoolId, Direction), Calendar>,
    pub(crate) routes: BTreeMap<AccessId, Route>,
    pub(crate) quotes: BTreeMap<QuoteId, Quote>,
    pub(crate) quotes_of: BTreeMap<CustomerId, usize>,
    pub(crate) taken: BTreeMap<QuoteId, Taken>,
    pub(crate) next_quote: u64,
    pub(crate) reservations: BTreeMap<ReservationId, Reservation>,
    pub(crate) next_reservation: u64,
    pub(crate) open_holds: BTreeMap<CustomerId, BTreeSet<ReservationId>>,
    pub(crate) timers: BTreeSet<(Timestamp, Timer)>,
    pub(crate) flows: BTreeMap<FlowKey, Vec<ReservationId>>,
    pub(crate) keys: HashMap<[u8; 16], KeyEntry>,
    pub(crate) key_expiries: VecDeque<KeyExpiry>,
    pub(crate) keys_of: BTreeMap<CustomerId, usize>,
    /// Last batch number taken from each enforcement point.
    pub(crate) batches: BTreeMap<String, u64>,
    /// Settled reservations in the order in which they are forgotten.
    pub(crate) forget: VecDeque<(Timestamp, ReservationId)>,
    pub(crate) deficits: BTreeMap<(PoolId, Direction), Vec<crate::record::DeficitRun>>,
    /// What the ports' meters said of everyone else's floor.
    pub(crate) floors: BTreeMap<PortKey, PortFloor>,
    pub(crate) learnt: Learnt,
}

impl State {
    /// Live reservations and those that ended a short while ago.
    pub fn reservation(&self, id: ReservationId) -> Option<&Reservation> {
        self.reservations.get(&id)
    }

    pub fn reservations(&self) -> impl Iterator<Item = &Reservation> {
        self.reservations.values()
    }

    pub fn open_holds(&self) -> usize {
        self.open_holds.values().map(BTreeSet::len).sum()
    }

    pub fn quotes_open(&self) -> usize {
        self.quotes.len()
    }

    pub fn keys_kept(&self) -> usize {
        self.keys.len()
    }

    /// Keys of a customer whose answers are still kept. Those that are over are forgotten with the next
    /// record, so they are counted one by one only when the bound seems reached.
    pub(crate) fn keys_alive(&self, customer: CustomerId, now: Timestamp) -> usize {
        let counted = self.keys_of.get(&customer).copied().unwrap_or(0);
        if counted < limits::KEYS_PER_CUSTOMER_MAX {
            return counted;
        }
        self.key_expiries.iter().filter(|e| e.customer == customer && e.due > now).count()
    }

    /// Every port that has reported, with what everyone else was left there.
    pub fn floors(&self) -> &BTreeMap<PortKey, PortFloor> {
        &self.floors
    }

    pub fn deficits(&self) -> &BTreeMap<(PoolId, Direction), Vec<crate::record::DeficitRun>> {
        &self.deficits
    }

    /// Last batch number that is durable for an enforcement point.
    pub fn last_batch(&self, enforcement_point: &str) -> u64 {
        self.batches.get(enforcement_point).copied().unwrap_or(0)
    }

    /// Length of a slot; a market that is not made yet has none, and admits nothing.
    pub fn slot_length(&self) -> SlotLength {
        let fallback = SlotLength::from_secs(60).expect("60 divides a day");
        self.market.as_ref().map_or(fallback, |market| market.slot_length)
    }

    /// Commitment of a pool at an instant, in bit/s of class rate.
    pub fn committed(&self, pool: PoolId, direction: Direction, at: Timestamp) -> u64 {
        let slot = self.slot_length().slot_of(at);
        self.calendars.get(&(pool, direction)).map_or(0, |c| c.committed(slot.0))
    }

    /// Every pool in both directions at an instant.
    pub fn utilisation(&self, now: Timestamp) -> Vec<PoolUse> {
        let slot = self.slot_length().slot_of(now);
        self.calendars
            .iter()
            .map(|(&(pool, direction), calendar)| PoolUse {
                pool,
                direction,
                committed_bps: calendar.committed(slot.0),
                on_sale_bps: calendar.on_sale(),
                capacity_bps: self.config.pools.get(&pool).map_or(0, |p| p.capacity(direction).0),
            })
            .collect()
    }

    pub(crate) fn calendar(&self, pool: PoolId, direction: Direction) -> &Calendar {
        self.calendars.get(&(pool, direction)).expect("a configured pool has a calendar in both directions")
    }

    /// Accesses that were learnt, with their sessions.
    pub fn learnt(&self) -> &Learnt {
        &self.learnt
    }

    /// What the enforcement point of a reservation should make so.
    pub(crate) fn desired(&self, reservation: &Reservation, access: &AccessDef) -> DesiredLeg {
        let tier = self.config.tier_revision(reservation.tier, reservation.tier_revision);
        let is_active = reservation.leg.state.is_in_force();
        let road = match (&access.road, tier) {
            (Some(RoadDef::Gx { .. }), Some(tier)) => reservation
                .mobile_access(access)
                .zip(tier.gx.clone())
                .map(|(access, terms)| Road::Gx { access, terms, is_active }),
            (Some(RoadDef::Rx { apn }), Some(tier)) => {
                tier.rx.clone().map(|terms| Road::Rx { apn: apn.clone(), terms, is_active })
            }
            (None, _) | (Some(_), None) => None,
        };
        DesiredLeg { road, ..reservation.desired(access) }
    }

    /// Another live reservation at the same enforcement point that one of these flows would overlap.
    pub(crate) fn flow_conflict(&self, own: &Reservation, flow: &Flow) -> bool {
        let point = |of: &Reservation| self.config.accesses.get(&of.access).map(|a| &a.enforcement_point);
        // An address of a session is its subscriber's only while it lasts, and in its APN: what was bound on
        // another line says nothing about this one.
        let is_there = |other: &Reservation| match own.subscriber {
            Some(_) => (other.access, other.subscriber) == (own.access, own.subscriber),
            None => other.subscriber.is_none() && point(other) == point(own),
        };
        self.flows.get(&FlowKey::of(flow)).into_iter().flatten().filter(|id| **id != own.id).any(|id| {
            self.reservations.get(id).is_some_and(|other| {
                other.promise.is_live()
                    && other.window.overlaps(own.window)
                    && is_there(other)
                    && other.flows.iter().any(|f| f.overlaps(flow))
            })
        })
    }

    /// Slots of a reservation that its commitments still cover, one past the last.
    pub(crate) fn committed_until(&self, reservation: &Reservation) -> u64 {
        let length = self.slot_length();
        let end = length.slots_of(reservation.window).end;
        match reservation.promise {
            Promise::Held { .. } | Promise::Booked | Promise::Running => end,
            Promise::Ended { at, .. } if reservation.leg.attempt > 0 => end.min(length.slot_of(at).0 + 1),
            Promise::Ended { .. } => 0,
        }
    }

    /// Commitments that a schedule makes: pool, direction, slots, class rate.
    pub(crate) fn commitments<'a>(
        &'a self,
        access: AccessId,
        direction: Direction,
        schedule: &'a tollway_model::Schedule,
        packet_bytes: u32,
    ) -> impl Iterator<Item = (PoolId, Direction, std::ops::Range<u64>, u64)> + 'a {
        let length = self.slot_length();
        let route = self.routes.get(&access);
        Direction::BOTH.into_iter().flat_map(move |side| {
            let pools = route.map_or(&[][..], |r| r.pools(side));
            pools.iter().flat_map(move |pool| {
                schedule.segments().iter().map(move |segment| {
                    let rate = if side == direction { segment.rate } else { segment.rate.return_path() };
                    (*pool, side, length.slots_of(segment.window), rate.class_rate(packet_bytes).0)
                })
            })
        })
    }

    /// Whether the next record, if it is of this instant, forgets a settled reservation.
    pub(crate) fn is_forgotten_at(&self, at: Timestamp, id: ReservationId) -> bool {
        self.forget.iter().take_while(|(due, _)| *due <= at).any(|(_, gone)| *gone == id)
    }

    /// Drops what is over by `at`: quotes, keys, settled reservations, past days. A function of records and
    /// their times alone, so that replay does the same.
    pub(crate) fn forget_until(&mut self, at: Timestamp) {
        while let Some((id, quote)) = self.quotes.first_key_value()
            && quote.valid_until < at
        {
            let (id, customer) = (*id, quote.customer);
            self.quotes.remove(&id);
            self.count_quote(customer, false);
        }
        while self.taken.first_key_value().is_some_and(|(_, taken)| taken.until <= at) {
            self.taken.pop_first();
        }
        while self.forget.front().is_some_and(|(due, _)| *due <= at) {
            if let Some((_, id)) = self.forget.pop_front() {
                self.reservations.remove(&id);
            }
        }
        while self.key_expiries.front().is_some_and(|e| e.due <= at) {
            let Some(expiry) = self.key_expiries.pop_front() else { break };
            if expiry.reservation.is_some_and(|id| self.reservations.contains_key(&id)) {
                let due = at.plus_ms(limits::KEY_LIFE_MS);
                self.key_expiries.push_back(KeyExpiry { due, ..expiry });
                continue;
            }
            self.keys.remove(&expiry.key);
            if let Some(count) = self.keys_of.get_mut(&expiry.customer) {
                *count = count.saturating_sub(1);
            }
        }
        if self.slot_length().slot_of(at).0 / self.slot_length().slots_per_day()
            != self.slot_length().slot_of(self.last_at).0 / self.slot_length().slots_per_day()
        {
            let slot = self.slot_length().slot_of(at).0;
            self.calendars.values_mut().for_each(|c| c.forget_before(slot));
        }
    }

    pub(crate) fn count_quote(&mut self, customer: CustomerId, more: bool) {
        let count = self.quotes_of.entry(customer).or_default();
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
    }
}
