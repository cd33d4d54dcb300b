//! A reservation: three orthogonal things, never one enum. The *promise* (what the customer was told), the
//! *leg* (what the enforcement point does), the *money* (four sums of the ledger). The same fold serves the
//! engine and the projections, so that what is read is what was decided.

use crate::config::AccessDef;
pub use crate::leg::{Leg, LegState, Reach};
use crate::limits;
use crate::offer::{Offer, Terms, Variant};
use crate::record::{Ended, Fact, Held, Record, UsageFact};
use minicbor::{Decode, Encode};
use tollway_billing::{ChargeLine, HoldId};
use tollway_model::{
    AccessId, Amount, CustomerId, Direction, Flow, LegId, Micros, ReservationId, Schedule, Slot, SlotLength,
    TierId, Timestamp, Window,
};
use tollway_policy::{DesiredLeg, MobileAccess, PolicyReport, Reading, Side, SlotReading, SubscriberRef};

#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
#[cbor(index_only)]
pub enum EndReason {
    /// The window came to its end.
    #[n(0)]
    Completed,
    #[n(1)]
    Cancelled,
    /// The hold was not confirmed in time.
    #[n(2)]
    Expired,
    /// It could not be kept: never installed within the tier's grace.
    #[n(3)]
    Terminated,
}

impl EndReason {
    pub const fn as_str(self) -> &'static str {
        match self {
            EndReason::Completed => "completed",
            EndReason::Cancelled => "cancelled",
            EndReason::Expired => "expired",
            EndReason::Terminated => "terminated",
        }
    }
}

/// How a promise ends that no enforcement point made so: the code that the end's detail begins with.
pub const NOT_INSTALLED: &str = "NOT_INSTALLED";

#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
pub enum Promise {
    #[n(0)]
    Held {
        #[n(0)]
        expires: Timestamp,
    },
    #[n(1)]
    Booked,
    #[n(2)]
    Running,
    #[n(3)]
    Ended {
        #[n(0)]
        reason: EndReason,
        #[n(1)]
        at: Timestamp,
    },
}

impl Promise {
    pub const fn as_str(self) -> &'static str {
        match self {
            Promise::Held { .. } => "held",
            Promise::Booked => "booked",
            Promise::Running => "running",
            Promise::Ended { .. } => "ended",
        }
    }

    pub const fn is_live(self) -> bool {
        !matches!(self, Promise::Ended { .. })
    }

    pub const fn is_confirmed(self) -> bool {
        matches!(self, Promise::Booked | Promise::Running)
    }
}

/// Where the meter stands.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Meter {
    #[n(0)]
    pub incarnation: u64,
    #[n(1)]
    pub seq: u64,
    #[n(2)]
    pub sold: Reading,
    #[n(3)]
    pub reverse: Reading,
    /// Readings account for all time before this.
    #[n(4)]
    pub covered_until: Timestamp,
    /// The slot of the last reading, and what of it was kept and charged.
    #[n(5)]
    pub slot: Slot,
    #[n(6)]
    pub slot_kept_ms: u64,
    #[n(7)]
    pub slot_charged_bytes: u64,
    #[n(8)]
    pub excused_ms: u64,
    #[n(9)]
    pub seen: bool,
    #[n(10)]
    pub last_seen: bool,
    /// Layer-3 bytes over all lives of the counters.
    #[n(11)]
    pub metered_bytes: u64,
    #[n(12)]
    pub metered_reverse_bytes: u64,
    #[n(13)]
    pub past: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug, Default)]
pub struct Money {
    /// Still reserved.
    #[n(0)]
    pub held: Micros,
    #[n(1)]
    pub posted: Micros,
    #[n(2)]
    pub voided: Micros,
    #[n(3)]
    pub refunded: Micros,
}

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Reservation {
    #[n(0)]
    pub id: ReservationId,
    #[n(1)]
    pub customer: CustomerId,
    #[n(2)]
    pub access: AccessId,
    #[n(3)]
    pub tier: TierId,
    #[n(4)]
    pub tier_revision: u32,
    #[n(5)]
    pub direction: Direction,
    #[n(6)]
    pub window: Window,
    /// Promised IP rate by time.
    #[n(7)]
    pub schedule: Schedule,
    #[n(8)]
    pub bytes: Option<u64>,
    #[n(9)]
    pub terms: Terms,
    #[n(10)]
    pub line: ChargeLine,
    /// What was held at the start: the most that is ever charged.
    #[n(11)]
    pub total: Amount,
    #[n(12)]
    pub promise: Promise,
    #[n(13)]
    pub leg: Leg,
    #[n(14)]
    pub flows: Vec<Flow>,
    #[n(15)]
    pub meter: Meter,
    #[n(16)]
    pub money: Money,
    #[n(17)]
    pub settled: bool,
    #[n(18)]
    pub created: Timestamp,
    #[n(19)]
    pub variant: Variant,
    /// Why it ended, in more than a word.
    #[n(20)]
    pub end_detail: Option<String>,
    /// Whose line it is, where the access is a family.
    #[n(21)]
    pub subscriber: Option<SubscriberRef>,
}

impl Reservation {
    /// The reservation that a `Held` record makes.
    pub fn open(at: Timestamp, held: &Held) -> Reservation {
        let offer: &Offer = &held.offer;
        Reservation {
            id: held.reservation,
            customer: held.customer,
            access: offer.access,
            tier: offer.tier,
            tier_revision: offer.tier_revision,
            direction: offer.direction,
            window: offer.window,
            schedule: offer.schedule.clone(),
            bytes: offer.bytes,
            terms: offer.terms,
            line: offer.charge_line(),
            total: offer.total,
            promise: Promise::Held { expires: held.expires },
            leg: Leg { state: LegState::Absent, attempt: 0, since: at, reason: None, reach: Reach::Unheard },
            flows: Vec::new(),
            meter: Meter {
                incarnation: 0,
                seq: 0,
                sold: Reading::default(),
                reverse: Reading::default(),
                covered_until: offer.window.from,
                slot: Slot(0),
                slot_kept_ms: 0,
                slot_charged_bytes: 0,
                excused_ms: 0,
                seen: false,
                last_seen: false,
                metered_bytes: 0,
                metered_reverse_bytes: 0,
                past: Vec::new(),
            },
            money: Money { held: offer.total.micros, ..Money::default() },
            settled: false,
            created: at,
            variant: offer.variant,
            end_detail: None,
            subscriber: offer.subscriber,
        }
    }

    /// The line of a family of learnt accesses that this is sold on.
    pub(crate) fn mobile_access(&self, access: &AccessDef) -> Option<MobileAccess> {
        Some(MobileAccess { subscriber: self.subscriber?, apn: access.apn()?.to_owned() })
    }

    pub const fn hold_id(&self) -> HoldId {
        HoldId { reservation: self.id, n: 0 }
    }

    pub const fn leg_id(&self) -> LegId {
        LegId { reservation: self.id, index: 0 }
    }

    /// Whether every record about money has come: nothing more can be charged.
    pub fn may_settle(&self) -> bool {
        let Promise::Ended { .. } = self.promise else { return false };
        if self.settled {
            return false;
        }
        self.meter.last_seen || (self.leg.state == LegState::Absent && !self.leg.was_active())
    }

    /// Most that the charge line may come to: what it has posted and what is still held.
    fn cap(&self) -> Micros {
        Micros(self.line.posted().0 + self.money.held.0)
    }

    /// First instant at which something is to be in force: the cheapest slots of a transfer may lie long
    /// after the start of its window.
    pub(crate) fn first_in_force(&self) -> Timestamp {
        self.schedule.window().map_or(self.window.from, |window| window.from)
    }

    /// How long after a refusal the leg is asked for again.
    pub(crate) fn retry_ms(&self) -> u64 {
        if self.leg.was_active() { limits::LEG_RETRY_LATER_MS } else { limits::LEG_RETRY_MS }
    }

    /// How long the enforcement point has from then on.
    pub(crate) fn start_grace_ms(&self) -> u64 {
        self.terms.start_grace_ms.max(limits::START_GRACE_MS_MIN)
    }

    /// What the enforcement point should make so, but for its road.
    pub(crate) fn desired(&self, access: &AccessDef) -> DesiredLeg {
        let packet = self.terms.shape.packet_bytes;
        let sold = self.schedule.map_rates(|rate| rate.class_rate(packet));
        let back = self.schedule.map_rates(|rate| rate.return_path().class_rate(packet));
        let (up, down) = match self.direction {
            Direction::Up => (sold, back),
            Direction::Down => (back, sold),
        };
        DesiredLeg {
            leg: self.leg_id(),
            attempt: self.leg.attempt,
            enforcement_point: access.enforcement_point.clone(),
            direction: self.direction,
            up: Side { port: access.up.port.clone(), schedule: up },
            down: Side { port: access.down.port.clone(), schedule: down },
            flows: self.flows.clone(),
            shape: self.terms.shape,
            valid_until: self.window.until,
            road: None,
        }
    }

    /// The part of the window in which something can be owed: up to the end, if it came earlier.
    fn owed_window(&self) -> Window {
        match self.promise {
            Promise::Ended { at, .. } => Window::new(self.window.from, self.window.until.min(at)),
            Promise::Held { .. } | Promise::Booked | Promise::Running => self.window,
        }
    }

    /// Judges one reading at `now`. `None` for what changes nothing: repeats and readings of past lives. A
    /// reading of a slot that has not come yet, or of an earlier one than the last, only meters.
    pub fn judge(&self, now: Timestamp, reading: &SlotReading, slot_length: SlotLength) -> Option<UsageFact> {
        let same_life = reading.incarnation == self.meter.incarnation;
        if self.settled
            || reading.leg != self.leg_id()
            || reading.attempt > self.leg.attempt
            || (same_life && reading.seq <= self.meter.seq)
            || self.meter.past.contains(&reading.incarnation)
        {
            return None;
        }
        let metered = UsageFact {
            reading: reading.clone(),
            delivered_bytes: advance(same_life, self.meter.sold.bytes, reading.sold.bytes),
            reverse_bytes: advance(same_life, self.meter.reverse.bytes, reading.reverse.bytes),
            promised_bytes: 0,
            kept_ms: 0,
            excused_ms: 0,
            charged_bytes: 0,
            segment: 0,
            posted: Micros::ZERO,
            covered_until: self.meter.covered_until,
            is_placed: false,
            covers_from: None,
            unconfirmed_ms: 0,
        };
        let happened = now.plus_ms(limits::CLOCK_TOLERANCE_MS);
        if reading.slot < self.meter.slot || reading.slot > slot_length.slot_of(happened) {
            return Some(metered);
        }
        let in_slot = slot_length
            .window_of(reading.slot)
            .intersect(self.owed_window())
            .intersect(Window::new(Timestamp::ZERO, happened));
        Some(self.accrual(metered, in_slot))
    }

    /// What a reading accrues for the part of its slot that is owed and has happened.
    fn accrual(&self, metered: UsageFact, in_slot: Window) -> UsageFact {
        let reading = &metered.reading;
        let same_slot = reading.slot == self.meter.slot;
        let segment = self.line.segment_at(in_slot.from).filter(|_| !in_slot.is_empty());
        // Since the last reading, when slots were missed.
        let missed = Some(self.meter.covered_until).filter(|from| !same_slot && *from < in_slot.from);
        let promised = if same_slot {
            self.schedule.bytes_in(in_slot).saturating_sub(self.meter.slot_charged_bytes)
        } else {
            self.schedule.bytes_in(Window::new(missed.unwrap_or(in_slot.from), in_slot.until))
        };
        let kept_before = if same_slot { self.meter.slot_kept_ms } else { 0 };
        let owed = segment.map_or(0, |_| in_slot.len_ms().saturating_sub(kept_before));
        let active = u64::from(reading.active_ms).min(owed);
        let unconfirmed = u64::from(reading.unconfirmed_ms).min(owed - active);
        let paid = if self.terms.charge_unconfirmed { active + unconfirmed } else { active };
        let unseen = !reading.seen && !self.meter.seen;
        let budget = self.terms.unseen_free_ms.saturating_sub(self.meter.excused_ms);
        let excused = if unseen { paid.min(budget) } else { 0 };
        let kept = paid - excused;
        let charged_bytes = share(metered.delivered_bytes, paid, active + unconfirmed).min(promised);
        let index = segment.unwrap_or(0);
        UsageFact {
            promised_bytes: promised,
            kept_ms: kept,
            excused_ms: excused,
            charged_bytes,
            segment: u32::try_from(index).unwrap_or(0),
            posted: self.line.preview(index, kept, charged_bytes, self.cap()),
            covered_until: self.meter.covered_until.max(in_slot.until),
            is_placed: true,
            covers_from: missed,
            unconfirmed_ms: unconfirmed,
            ..metered
        }
    }

    /// Applies one record that names this reservation.
    pub fn fold(&mut self, at: Timestamp, record: &Record) {
        match record {
            Record::HoldExpired { .. } => {
                self.end(at, EndReason::Expired);
                self.settle(self.money.held);
            }
            Record::Confirmed { missing, .. } => {
                self.promise = Promise::Booked;
                self.send(at);
                if let Some(point) = missing {
                    self.leg.reach = Reach::Untold;
                    self.leg.reason =
                        Some(clip(&format!("no agent for enforcement point {point} is connected")));
                }
            }
            Record::LegsTold(_) if self.leg.reach == Reach::Untold => {
                self.leg.reach = Reach::Unheard;
                self.set_leg(at, LegState::Sent, None);
            }
            Record::FlowsBound { flows, .. } => {
                self.flows.clone_from(flows);
                self.meter.seen = false;
                if self.promise.is_confirmed() {
                    self.leg.attempt += 1;
                    if !(self.leg.state.is_in_force() || self.leg.state == LegState::Lost) {
                        let reason = self.leg.reason.take();
                        self.set_leg(at, LegState::Sent, reason);
                    }
                }
            }
            Record::Started { .. } => self.promise = Promise::Running,
            Record::LegRetried { attempt, .. } => {
                self.leg.attempt = *attempt;
                // Until it answers again, what it said last is what is known.
                let reason = self.leg.reason.take();
                self.set_leg(at, LegState::Sent, reason);
            }
            Record::Ended(ended) => self.fold_ended(at, ended),
            Record::Settled { voided, .. } => self.settle(*voided),
            Record::MarketMade(_)
            | Record::Configured(_)
            | Record::Quoted(_)
            | Record::Held(_)
            | Record::Reported(_)
            | Record::ToppedUp { .. }
            | Record::Answered(_)
            | Record::LegsTold(_) => {}
        }
    }

    /// Applies one fact of a report batch that names this reservation.
    pub fn fold_fact(&mut self, at: Timestamp, fact: &Fact) {
        match fact {
            Fact::Leg { report, .. } => self.fold_report(at, report),
            Fact::Usage(usage) => self.fold_usage(usage),
            Fact::Port(..) | Fact::Session(_) => {}
        }
    }

    fn fold_ended(&mut self, at: Timestamp, ended: &Ended) {
        self.end(at, ended.reason);
        self.end_detail.clone_from(&ended.detail);
        self.money.posted.0 += ended.fee.0;
        self.money.held.0 -= ended.fee.0;
        if self.leg.reach == Reach::Untold {
            // Nobody has it, so nobody will say that it is gone.
            let reason = self.leg.reason.take();
            self.set_leg(at, LegState::Absent, reason);
        } else if self.leg.state != LegState::Absent {
            self.set_leg(at, LegState::Removing, None);
        }
    }

    fn fold_report(&mut self, at: Timestamp, report: &PolicyReport) {
        self.leg.reached(match report {
            PolicyReport::Accepted => Reach::Accepted,
            PolicyReport::Active { .. } | PolicyReport::Unconfirmed { .. } if self.is_wanted() => {
                Reach::Active
            }
            PolicyReport::Active { .. } | PolicyReport::Unconfirmed { .. } => Reach::Accepted,
            PolicyReport::Refused { .. }
            | PolicyReport::Removed { .. }
            | PolicyReport::Lost { .. }
            | PolicyReport::Withdrawn { .. } => Reach::Unheard,
        });
        let removing = self.leg.state == LegState::Removing;
        match report {
            PolicyReport::Removed { .. } if removing => self.set_leg(at, LegState::Absent, None),
            PolicyReport::Removed { at: when } => {
                // An adapter's clock may run ahead a little, not at will.
                let when = (*when).min(at);
                if when.plus_ms(limits::CLOCK_TOLERANCE_MS) >= self.window.until {
                    self.set_leg(when, LegState::Absent, None);
                } else {
                    self.set_leg(when, LegState::Lost, Some("removed by the enforcement point".to_owned()));
                }
            }
            PolicyReport::Accepted
            | PolicyReport::Active { .. }
            | PolicyReport::Refused { .. }
            | PolicyReport::Lost { .. }
            | PolicyReport::Unconfirmed { .. }
            | PolicyReport::Withdrawn { .. }
                if removing || self.leg.state == LegState::Absent => {}
            PolicyReport::Accepted => {
                if matches!(self.leg.state, LegState::Sent | LegState::Refused) {
                    self.set_leg(at, LegState::Accepted, None);
                }
            }
            PolicyReport::Active { at: when } => {
                self.in_force((*when).min(at), LegState::Active);
            }
            PolicyReport::Unconfirmed { at: when } => {
                self.in_force((*when).min(at), LegState::Unconfirmed);
            }
            PolicyReport::Refused { reason } if self.leg.state.is_in_force() => {
                self.set_leg(at, LegState::Lost, Some(clip(reason)));
            }
            PolicyReport::Refused { reason } => self.set_leg(at, LegState::Refused, Some(clip(reason))),
            PolicyReport::Lost { at: when, reason } | PolicyReport::Withdrawn { at: when, reason } => {
                self.set_leg((*when).min(at), LegState::Lost, Some(clip(reason)))
            }
        }
    }

    fn fold_usage(&mut self, usage: &UsageFact) {
        self.leg.reached(Reach::Accepted);
        let reading = &usage.reading;
        let meter = &mut self.meter;
        if reading.incarnation != meter.incarnation {
            if meter.seq > 0 {
                if meter.past.len() == limits::PAST_INCARNATIONS_MAX {
                    meter.past.remove(0);
                }
                meter.past.push(meter.incarnation);
            }
            meter.incarnation = reading.incarnation;
        }
        meter.seq = reading.seq;
        meter.sold = reading.sold;
        meter.reverse = reading.reverse;
        if usage.is_placed && reading.slot > meter.slot {
            meter.slot = reading.slot;
            meter.slot_kept_ms = 0;
            meter.slot_charged_bytes = 0;
        }
        let unpaid = if self.terms.charge_unconfirmed { 0 } else { usage.unconfirmed_ms };
        meter.slot_kept_ms += usage.kept_ms + usage.excused_ms + unpaid;
        meter.slot_charged_bytes += usage.charged_bytes;
        meter.excused_ms += usage.excused_ms;
        meter.seen |= reading.seen;
        // A leg that lives again after a last reading has a later one to come.
        meter.last_seen = reading.last;
        meter.metered_bytes = meter.metered_bytes.saturating_add(usage.delivered_bytes);
        meter.metered_reverse_bytes = meter.metered_reverse_bytes.saturating_add(usage.reverse_bytes);
        meter.covered_until = usage.covered_until;
        let cap = self.cap();
        let posted = self.line.accrue(usage.segment as usize, usage.kept_ms, usage.charged_bytes, cap);
        assert_eq!(posted, usage.posted, "a usage fact posts what its line says: {}", self.id);
        self.money.posted.0 += posted.0;
        self.money.held.0 -= posted.0;
    }

    fn in_force(&mut self, since: Timestamp, state: LegState) {
        if self.leg.state != state {
            // Nothing was promised for the time in which it was not in force.
            self.meter.covered_until = self.meter.covered_until.max(since);
            self.set_leg(since, state, None);
        }
    }

    /// Whether the enforcement point should have it.
    fn is_wanted(&self) -> bool {
        !matches!(self.leg.state, LegState::Removing | LegState::Absent)
    }

    fn send(&mut self, at: Timestamp) {
        self.leg.attempt += 1;
        self.set_leg(at, LegState::Sent, None);
    }

    fn end(&mut self, at: Timestamp, reason: EndReason) {
        self.promise = Promise::Ended { reason, at };
    }

    fn settle(&mut self, voided: Micros) {
        self.money.voided.0 += voided.0;
        self.money.held.0 -= voided.0;
        self.settled = true;
        assert_eq!(self.money.held, Micros::ZERO, "a settled reservation holds nothing: {}", self.id);
    }

    fn set_leg(&mut self, at: Timestamp, state: LegState, reason: Option<String>) {
        self.leg.state = state;
        self.leg.since = at;
        self.leg.reason = reason;
    }
}

/// The part of some bytes that goes with a part of the time.
fn share(bytes: u64, ms: u64, of_ms: u64) -> u64 {
    match (u128::from(bytes) * u128::from(ms)).checked_div(u128::from(of_ms)) {
        Some(part) => u64::try_from(part).unwrap_or(u64::MAX),
        None => 0,
    }
}

/// How far a counter went; one that starts anew or fell counts from zero.
const fn advance(same_life: bool, before: u64, now: u64) -> u64 {
    if same_life && now >= before { now - before } else { now }
}

/// Bounds a text that came from outside, at a character boundary.
pub fn clip(text: &str) -> String {
    let mut end = text.len().min(limits::REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
