//! Admission: what fits, at what price, and what would fit instead. Pure functions of the state.

use crate::config::TierDef;
use crate::limits;
use crate::offer::{Need, Offer, QuoteRequest, Terms, Variant};
use crate::refusal::{Code, Refusal};
use crate::state::{Route, State};
use std::ops::Range;
use tollway_billing::{ChargeLine, PriceSegment};
use tollway_model::money::Currency;
use tollway_model::{
    AccessId, Amount, BitsPerSecond, Direction, PoolId, Schedule, Segment, TierId, Timestamp, Window,
};
use tollway_policy::SubscriberRef;

/// Rates below this need the floor of the return path, above it three per cent.
const RETURN_KNEE_BPS: u64 =
    tollway_model::rate::RETURN_PATH_BPS_MIN * 100 / tollway_model::rate::RETURN_PATH_PERCENT;

/// Steps of the search for the level to which slots are filled; 2^64 levels.
const LEVEL_STEPS: u32 = 64;

/// One question: a tier on an access, a direction, a window.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub state: &'a State,
    pub access: AccessId,
    pub subscriber: Option<SubscriberRef>,
    pub direction: Direction,
    pub tier: TierId,
    pub revision: u32,
    pub def: &'a TierDef,
    pub currency: Currency,
}

/// Consecutive slots of a window that are planned and priced as one; at most 64 a window.
struct Group {
    slots: Range<u64>,
    /// The part of the window in these slots.
    window: Window,
}

/// Why something does not fit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Lack {
    pub pool: PoolId,
    pub direction: Direction,
    /// First instant from which the blocking slots are behind.
    pub frees: Timestamp,
    pub free_bps: u64,
}

impl Ask<'_> {
    fn route(&self) -> &Route {
        self.state.routes.get(&self.access).expect("a configured access has a route")
    }

    fn packet(&self) -> u32 {
        self.def.shape.packet_bytes
    }

    fn groups(&self, window: Window) -> Vec<Group> {
        let length = self.state.slot_length();
        let slots = length.slots_of(window);
        let size = (slots.end - slots.start).div_ceil(limits::SEGMENTS_MAX as u64).max(1);
        let mut groups = Vec::with_capacity(limits::SEGMENTS_MAX);
        let mut at = slots.start;
        while at < slots.end {
            let end = slots.end.min(at + size);
            let whole = Window::new(Timestamp(at * length.ms()), Timestamp(end * length.ms()));
            groups.push(Group { slots: at..end, window: whole.intersect(window) });
            at = end;
        }
        groups
    }

    /// Highest IP rate that fits in every slot of a range, both directions considered; at most the tier's.
    fn free_rate(&self, slots: &Range<u64>) -> BitsPerSecond {
        let free = |side: Direction| {
            let pools = self.route().pools(side).iter();
            let class = pools.map(|p| self.state.calendar(*p, side).free(slots.clone())).min().unwrap_or(0);
            BitsPerSecond(class).ip_rate(self.packet())
        };
        let mut rate = self.with_return(free(self.direction), free(self.direction.opposite()));
        // The knee of the return path and two roundings may leave the last bit too much.
        while rate.0 > 0 && !self.rate_fits(slots, rate) {
            rate = BitsPerSecond(rate.0 - 1);
        }
        rate
    }

    /// Highest IP rate that the tier sells where so much is left in the sold direction and on the way back.
    fn with_return(&self, sold: BitsPerSecond, back: BitsPerSecond) -> BitsPerSecond {
        let by_return = if back.0 < tollway_model::rate::RETURN_PATH_BPS_MIN {
            0
        } else {
            (back.0.saturating_mul(100) / tollway_model::rate::RETURN_PATH_PERCENT).max(RETURN_KNEE_BPS)
        };
        sold.min(BitsPerSecond(by_return)).min(self.def.rate_max)
    }

    fn rate_fits(&self, slots: &Range<u64>, rate: BitsPerSecond) -> bool {
        Direction::BOTH.into_iter().all(|side| {
            let class = self.class_of(side, rate);
            self.route().pools(side).iter().all(|p| self.state.calendar(*p, side).fits(slots.clone(), class))
        })
    }

    fn class_of(&self, side: Direction, rate: BitsPerSecond) -> u64 {
        let rate = if side == self.direction { rate } else { rate.return_path() };
        rate.class_rate(self.packet()).0
    }

    /// Whether a whole schedule fits, and if not, what is in the way.
    pub fn lack(&self, schedule: &Schedule) -> Option<Lack> {
        let length = self.state.slot_length();
        let mut worst: Option<Lack> = None;
        for segment in schedule.segments() {
            let slots = length.slots_of(segment.window);
            for side in Direction::BOTH {
                let class = self.class_of(side, segment.rate);
                for pool in self.route().pools(side) {
                    let calendar = self.state.calendar(*pool, side);
                    if calendar.fits(slots.clone(), class) {
                        continue;
                    }
                    let last = calendar.last_lack(slots.clone(), class).unwrap_or(slots.start);
                    let frees = Timestamp((last + 1) * length.ms());
                    if worst.as_ref().is_none_or(|w| w.frees < frees) {
                        let free_bps = calendar.free(slots.clone());
                        worst = Some(Lack { pool: *pool, direction: side, frees, free_bps });
                    }
                }
            }
        }
        worst
    }

    /// Prices a schedule that was planned on this ask.
    fn offer(&self, window: Window, schedule: Schedule, need: Need, variant: Variant) -> Offer {
        let (charge_by, bytes) = match need {
            Need::Rate(_) => (self.def.rate_offers, None),
            Need::Bytes(bytes) => (self.def.bytes_offers, Some(bytes)),
        };
        let terms = Terms {
            kind: self.def.kind,
            charge_by,
            shape: self.def.shape,
            start_grace_ms: u64::from(self.def.start_grace_s) * 1000,
            unseen_free_ms: u64::from(self.def.unseen_free_s) * 1000,
            gap_ms_max: u64::from(self.def.gap_s_max) * 1000,
            notice_ms: u64::from(self.def.notice_s) * 1000,
            cancel_fee_ppm: self.def.cancel_fee_ppm,
            overhead_ppm: self.def.overhead_ppm,
            charge_unconfirmed: self.def.charge_unconfirmed,
        };
        let unit = charge_by.unit();
        let segments = self.price(window, &schedule, unit.base_price(&self.def.tariff));
        let line = ChargeLine::new(unit, segments, self.def.tariff.setup);
        let total = Amount { micros: line.worst_case(), currency: self.currency };
        Offer {
            index: 0,
            variant,
            tier: self.tier,
            tier_revision: self.revision,
            access: self.access,
            subscriber: self.subscriber,
            direction: self.direction,
            window,
            schedule,
            bytes,
            terms,
            segments: line.segments,
            setup: line.setup,
            total,
        }
    }

    /// Frozen price segments: the curve's mean multiplier between the utilisation before and after, slot by
    /// slot (for windows above 64 slots: by group, at the group's mean commitment).
    fn price(
        &self,
        window: Window,
        schedule: &Schedule,
        unit_price: tollway_model::Micros,
    ) -> Vec<PriceSegment> {
        let calendar = self.state.calendar(self.route().price, self.direction);
        let on_sale = calendar.on_sale();
        let mut segments: Vec<PriceSegment> = Vec::new();
        let mut before_last: Option<(u64, u64, u32)> = None;
        for group in self.groups(window) {
            let rate = schedule.rate_at(group.window.from);
            if rate.0 == 0 {
                continue;
            }
            let count = u128::from(group.slots.end - group.slots.start);
            let before = u64::try_from(calendar.sum(group.slots.clone()) / count.max(1)).unwrap_or(u64::MAX);
            let after = before.saturating_add(rate.class_rate(self.packet()).0);
            let multiplier_ppm = match before_last {
                Some((b, a, ppm)) if b == before && a == after => ppm,
                Some(_) | None => self.def.tariff.curve.mean_ppm(before, after, on_sale),
            };
            before_last = Some((before, after, multiplier_ppm));
            match segments.last_mut() {
                Some(last)
                    if last.window.until == group.window.from
                        && last.rate == rate
                        && last.multiplier_ppm == multiplier_ppm =>
                {
                    last.window.until = group.window.until;
                }
                Some(_) | None => {
                    segments.push(PriceSegment { window: group.window, rate, unit_price, multiplier_ppm });
                }
            }
        }
        segments
    }

    /// An offer for exactly this need in this window, if it fits.
    pub fn plan(&self, window: Window, need: Need, variant: Variant) -> Option<Offer> {
        let schedule = match need {
            Need::Rate(rate) => {
                let schedule = Schedule::constant(window, rate);
                (self.lack(&schedule).is_none()).then_some(schedule)?
            }
            Need::Bytes(bytes) => self.fill(window, bytes)?,
        };
        Some(self.offer(window, schedule, need, variant))
    }

    /// IP bits × ms that `bytes` of payload need with the tier's overhead.
    fn bit_ms(&self, bytes: u64) -> u128 {
        let scaled = u128::from(bytes) * (1_000_000 + u128::from(self.def.overhead_ppm));
        scaled.div_ceil(1_000_000) * 8 * 1000
    }

    /// Cheapest slots first: with a convex price the cheapest filling raises every slot to one level of
    /// utilisation, so the level is searched and each slot filled up to it, under the access's cap.
    fn fill(&self, window: Window, bytes: u64) -> Option<Schedule> {
        let need = self.bit_ms(bytes);
        let calendar = self.state.calendar(self.route().price, self.direction);
        let parts: Vec<(Window, u64, u64)> = self
            .groups(window)
            .into_iter()
            .map(|group| {
                let free = self.free_rate(&group.slots).0;
                let free = if free < self.def.rate_min.0 { 0 } else { free };
                (group.window, free, calendar.max(group.slots))
            })
            .collect();
        let most: u128 = parts.iter().map(|(w, free, _)| u128::from(*free) * u128::from(w.len_ms())).sum();
        if most < need {
            return None;
        }
        let rate_at = |level: u64, free: u64, committed: u64| {
            let room = BitsPerSecond(level.saturating_sub(committed)).ip_rate(self.packet()).0;
            let rate = room.min(free);
            if rate > 0 { rate.max(self.def.rate_min.0).min(free) } else { 0 }
        };
        let carried = |level: u64| -> u128 {
            parts
                .iter()
                .map(|(w, free, committed)| {
                    u128::from(rate_at(level, *free, *committed)) * u128::from(w.len_ms())
                })
                .sum()
        };
        let (mut low, mut high) = (0u64, calendar.on_sale().saturating_add(calendar.on_sale()).max(1));
        for _ in 0..LEVEL_STEPS {
            if low >= high {
                break;
            }
            let middle = low + (high - low) / 2;
            if carried(middle) >= need { high = middle } else { low = middle + 1 }
        }
        if carried(high) < need {
            return None;
        }
        let segments = parts.iter().map(|(window, free, committed)| Segment {
            window: *window,
            rate: BitsPerSecond(rate_at(high, *free, *committed)),
        });
        Schedule::from_segments(segments)
    }

    /// Highest constant rate that fits the whole window.
    fn rate_free(&self, window: Window) -> BitsPerSecond {
        self.free_rate(&self.state.slot_length().slots_of(window))
    }

    /// Payload bytes that fit the window at most.
    fn bytes_free(&self, window: Window) -> u64 {
        let most: u128 = self
            .groups(window)
            .into_iter()
            .map(|group| {
                let free = self.free_rate(&group.slots).0;
                let free = if free < self.def.rate_min.0 { 0 } else { free };
                u128::from(free) * u128::from(group.window.len_ms())
            })
            .sum();
        let ip_bytes = most / 8_000;
        u64::try_from(ip_bytes * 1_000_000 / (1_000_000 + u128::from(self.def.overhead_ppm)))
            .unwrap_or(u64::MAX)
    }

    /// Whether the need could be met with nothing sold at all.
    pub fn is_feasible_when_empty(&self, window: Window, need: Need) -> bool {
        let cap = |side: Direction| {
            let pools = self.route().pools(side).iter();
            let class = pools.map(|p| self.state.calendar(*p, side).on_sale()).min().unwrap_or(0);
            BitsPerSecond(class).ip_rate(self.packet())
        };
        let most = self.with_return(cap(self.direction), cap(self.direction.opposite()));
        match need {
            Need::Rate(rate) => rate <= most,
            Need::Bytes(bytes) => u128::from(most.0) * u128::from(window.len_ms()) >= self.bit_ms(bytes),
        }
    }

    /// Offers that would be granted if taken at once: later, slower, fewer bytes.
    pub fn counter_offers(&self, window: Window, need: Need) -> Vec<Offer> {
        let near: Vec<Offer> = match need {
            Need::Rate(rate) => {
                [self.later_rate(window, rate), self.slower(window)].into_iter().flatten().collect()
            }
            Need::Bytes(bytes) => {
                [self.later_deadline(window, bytes), self.fewer_bytes(window)].into_iter().flatten().collect()
            }
        };
        if !near.is_empty() {
            return near;
        }
        // Neither alone would do: later and slower, or later and fewer bytes.
        let far = match need {
            Need::Rate(rate) => self.later_rate(window, rate.min(self.most_when_empty())),
            Need::Bytes(_) => self.fewer_bytes(Window::new(window.from, self.latest_end(window))),
        };
        far.into_iter().collect()
    }

    /// Highest rate that an empty network would carry; zero below the tier's least.
    pub fn most_when_empty(&self) -> BitsPerSecond {
        let (mut low, mut high) = (0, self.def.rate_max.0);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let whole = Window::new(Timestamp::ZERO, Timestamp::from_secs(1));
            if self.is_feasible_when_empty(whole, Need::Rate(BitsPerSecond(middle))) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        if low < self.def.rate_min.0 { BitsPerSecond::ZERO } else { BitsPerSecond(low) }
    }

    /// Where a counter-offer may end at the latest.
    fn latest_end(&self, window: Window) -> Timestamp {
        let longest = limits::LATER_AHEAD_MS.max(window.len_ms()).min(limits::WINDOW_MS_MAX);
        window.from.plus_ms(longest)
    }

    /// The same rate for as long, from the first start at which it fits: each try jumps behind the last slot
    /// that was in the way.
    fn later_rate(&self, window: Window, rate: BitsPerSecond) -> Option<Offer> {
        if rate.0 == 0 {
            return None;
        }
        let mut from = window.from;
        for _ in 0..limits::LATER_TRIES_MAX {
            let moved = Window::new(from, from.plus_ms(window.len_ms()));
            let Some(lack) = self.lack(&Schedule::constant(moved, rate)) else {
                return self.plan(moved, Need::Rate(rate), Variant::Later);
            };
            if lack.frees <= from || lack.frees.ms_since(window.from) > limits::LATER_AHEAD_MS {
                return None;
            }
            from = lack.frees;
        }
        None
    }

    fn slower(&self, window: Window) -> Option<Offer> {
        let rate = self.rate_free(window);
        if rate < self.def.rate_min {
            return None;
        }
        self.plan(window, Need::Rate(rate), Variant::Slower)
    }

    /// The same bytes by a later deadline: the window is doubled until they fit, then narrowed.
    fn later_deadline(&self, window: Window, bytes: u64) -> Option<Offer> {
        let slot_ms = self.state.slot_length().ms();
        let longest = self.latest_end(window).ms_since(window.from);
        let with = |len: u64| Window::new(window.from, window.from.plus_ms(len));
        let (mut short, mut long) = (window.len_ms(), window.len_ms());
        loop {
            long = (long * 2).min(longest);
            if self.bytes_free(with(long)) >= bytes {
                break;
            }
            if long == longest {
                return None;
            }
            short = long;
        }
        while long - short > slot_ms.max(long / 64) {
            let middle = short + (long - short) / 2;
            if self.bytes_free(with(middle)) >= bytes { long = middle } else { short = middle }
        }
        self.plan(with(long), Need::Bytes(bytes), Variant::Later)
    }

    fn fewer_bytes(&self, window: Window) -> Option<Offer> {
        let bytes = self.bytes_free(window);
        if bytes == 0 {
            return None;
        }
        self.plan(window, Need::Bytes(bytes), Variant::FewerBytes)
    }
}

/// The window that a request means, or what is wrong with it.
pub(crate) fn window_of(now: Timestamp, request: &QuoteRequest) -> Result<Window, Refusal> {
    const DAY_MS: u64 = 86_400_000;
    let refused = |message: String, fix: &str| Err(Refusal::new(Code::OutOfRange, message).fix(fix));
    let from = request.start.map_or(now, |start| start.resolve(now));
    let until = request.end.resolve(now);
    if until <= now {
        return refused(
            "the end lies in the past".to_owned(),
            "name a later `end`, or say with `end_in_s` how many seconds from now",
        );
    }
    if from < now {
        return refused("the start lies in the past".to_owned(), "leave `start` out to start now");
    }
    let window = Window::new(from, until);
    if window.is_empty() {
        return refused(
            "the end must lie after the start".to_owned(),
            "name an earlier `start` or a later `end`",
        );
    }
    if window.len_ms() < limits::WINDOW_MS_MIN {
        let message = format!("a window lasts at least {} s", limits::WINDOW_MS_MIN / 1000);
        return refused(message, "name an earlier `start` or a later `end`");
    }
    if window.len_ms() > limits::WINDOW_MS_MAX {
        let message = format!("a window lasts at most {} days", limits::WINDOW_MS_MAX / DAY_MS);
        return refused(message, "ask for a shorter window, and for the rest with a quote of its own");
    }
    if until.ms_since(now) > limits::HORIZON_MS {
        let message = format!("a window ends at most {} days ahead", limits::HORIZON_MS / DAY_MS);
        return refused(message, "name an earlier `end`, or ask again when it is nearer");
    }
    Ok(window)
}
