//! Invariant 3: money is conserved; what is charged is at most what was held; what was not active never
//! accrues. The auditor rates every usage fact again, in exact integers, from the frozen price alone.

use super::SKEW_MS;
use std::collections::BTreeMap;
use tollway_billing::{AccountId, PriceSegment, Unit};
use tollway_core::record::{Ended, Fact, Held, UsageFact};
use tollway_core::{Engine, Envelope, Record};
use tollway_model::{Currency, CustomerId, LegId, ReservationId, Slot, SlotLength, Timestamp, Window};

#[derive(Default)]
struct Wallet {
    topped_up: i128,
    paid: i128,
    held: i128,
}

/// One reservation's line, rated by the auditor.
struct Line {
    customer: CustomerId,
    window: Window,
    unit: Unit,
    segments: Vec<PriceSegment>,
    setup: i128,
    total: i128,
    numerator: i128,
    posted: i128,
    fee: i128,
    promised_bytes: u128,
    charged_bytes: u128,
    metered: u64,
    kept: BTreeMap<Slot, u64>,
    notice_ms: u64,
    fee_ppm: i128,
    charge_unconfirmed: bool,
    is_confirmed: bool,
    ended: Option<Timestamp>,
    is_settled: bool,
    is_timed_out: bool,
}

#[derive(Default)]
pub struct Money {
    slot: Option<SlotLength>,
    wallets: BTreeMap<CustomerId, Wallet>,
    lines: BTreeMap<ReservationId, Line>,
}

impl Money {
    pub fn fold(&mut self, envelope: &Envelope, carried: &BTreeMap<LegId, u64>) -> Result<(), String> {
        match &envelope.record {
            Record::MarketMade(market) => self.slot = Some(market.slot_length),
            Record::ToppedUp { customer, amount, .. } => {
                if amount.micros.0 <= 0 {
                    return Err(format!("a top-up of {amount} was taken"));
                }
                self.wallets.entry(*customer).or_default().topped_up += i128::from(amount.micros.0);
            }
            Record::Held(held) => self.held(held)?,
            Record::Confirmed { reservation, .. } => self.line(*reservation)?.is_confirmed = true,
            Record::HoldExpired { reservation } => self.give_back(*reservation, None)?,
            Record::Ended(ended) => self.ended(envelope.at, ended)?,
            Record::Settled { reservation, voided, timed_out } => {
                self.give_back(*reservation, Some(i128::from(voided.0)))?;
                self.line(*reservation)?.is_timed_out = *timed_out;
            }
            Record::Reported(reported) => {
                for fact in &reported.facts {
                    if let Fact::Usage(usage) = fact {
                        self.used(envelope.at, usage)?;
                        self.was_carried(usage, carried)?;
                    }
                }
            }
            Record::Configured(_)
            | Record::Quoted(_)
            | Record::FlowsBound { .. }
            | Record::Started { .. }
            | Record::LegRetried { .. }
            | Record::LegsTold(_)
            | Record::Answered(_) => {}
        }
        Ok(())
    }

    fn line(&mut self, id: ReservationId) -> Result<&mut Line, String> {
        self.lines.get_mut(&id).ok_or_else(|| format!("{id} has no money"))
    }

    fn held(&mut self, held: &Held) -> Result<(), String> {
        let offer = &held.offer;
        let unit = offer.terms.charge_by.unit();
        let worst: i128 = offer.segments.iter().map(|s| worst(s, unit)).sum();
        let setup = i128::from(offer.setup.0);
        let total = half_even(worst + setup * scale(unit), scale(unit));
        if total != i128::from(offer.total.micros.0) {
            return Err(format!("{} holds {}, its lines say {total}", held.reservation, offer.total));
        }
        let wallet = self.wallets.entry(held.customer).or_default();
        wallet.held += total;
        if wallet.topped_up - wallet.paid < wallet.held {
            return Err(format!("invariant 3: {} holds money that is not there", held.reservation));
        }
        let bit_ms: u128 = offer
            .schedule
            .segments()
            .iter()
            .map(|s| u128::from(s.rate.0) * u128::from(s.window.len_ms()))
            .sum();
        let line = Line {
            customer: held.customer,
            window: offer.window,
            unit,
            segments: offer.segments.clone(),
            setup,
            total,
            numerator: 0,
            posted: 0,
            fee: 0,
            promised_bytes: bit_ms / 8_000,
            charged_bytes: 0,
            metered: 0,
            kept: BTreeMap::new(),
            notice_ms: offer.terms.notice_ms,
            fee_ppm: i128::from(offer.terms.cancel_fee_ppm),
            charge_unconfirmed: offer.terms.charge_unconfirmed,
            is_confirmed: false,
            ended: None,
            is_settled: false,
            is_timed_out: false,
        };
        self.lines.insert(held.reservation, line);
        Ok(())
    }

    fn ended(&mut self, at: Timestamp, ended: &Ended) -> Result<(), String> {
        let id = ended.reservation;
        let line = self.line(id)?;
        let left = line.total - line.posted;
        let late = at.plus_ms(line.notice_ms) >= line.window.from;
        let cancelled = ended.reason == tollway_core::reservation::EndReason::Cancelled;
        let want = if cancelled && line.is_confirmed && late {
            half_even(left * line.fee_ppm, 1_000_000)
        } else {
            0
        };
        let fee = i128::from(ended.fee.0);
        if fee != want || fee > left {
            return Err(format!("invariant 3: {id} ends at a fee of {fee}, {want} is due"));
        }
        line.fee = fee;
        line.ended = Some(at);
        let customer = line.customer;
        self.pay(customer, fee);
        Ok(())
    }

    fn pay(&mut self, customer: CustomerId, micros: i128) {
        let wallet = self.wallets.entry(customer).or_default();
        wallet.paid += micros;
        wallet.held -= micros;
    }

    fn give_back(&mut self, id: ReservationId, voided: Option<i128>) -> Result<(), String> {
        let line = self.line(id)?;
        let rest = line.total - line.posted - line.fee;
        if line.is_settled || voided.is_some_and(|voided| voided != rest) {
            return Err(format!("invariant 3: {id} gives back {voided:?}, {rest} is left"));
        }
        line.is_settled = true;
        let customer = line.customer;
        self.wallets.entry(customer).or_default().held -= rest;
        Ok(())
    }

    fn used(&mut self, at: Timestamp, usage: &UsageFact) -> Result<(), String> {
        let id = usage.reading.leg.reservation;
        let length = self.slot.unwrap_or(SlotLength::from_secs(60).expect("60 divides a day"));
        let line = self.line(id)?;
        let broken = |what: String| Err(format!("invariant 3: {id}, {:?}: {what}", usage.reading.slot));
        if line.is_settled {
            return broken("usage after the money was final".to_owned());
        }
        line.metered = line.metered.saturating_add(usage.delivered_bytes);
        let quantity = match line.unit {
            Unit::MbpsHour => usage.kept_ms,
            Unit::Gb => usage.charged_bytes,
        };
        if usage.kept_ms > 0 || usage.charged_bytes > 0 || usage.excused_ms > 0 {
            line.check_slot(at, usage, length).or_else(broken)?;
        }
        let posted = line.rate(usage, quantity);
        if posted != i128::from(usage.posted.0) {
            return broken(format!("posts {:?}, the auditor's rating says {posted}", usage.posted));
        }
        line.posted += posted;
        if line.posted + line.fee > line.total {
            return broken("more is charged than was held".to_owned());
        }
        let customer = line.customer;
        self.pay(customer, posted);
        Ok(())
    }

    /// Nothing is metered that a truthful device did not carry.
    fn was_carried(&mut self, usage: &UsageFact, carried: &BTreeMap<LegId, u64>) -> Result<(), String> {
        let leg = usage.reading.leg;
        let metered = self.line(leg.reservation)?.metered;
        match carried.get(&leg) {
            Some(bytes) if metered > *bytes => {
                Err(format!("invariant 3: {leg} carried {bytes} bytes, {metered} were metered"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The engine's ledger says the same as the journal.
    pub fn agrees(&self, engine: &Engine) -> Result<(), String> {
        let ledger = &engine.state().ledger;
        let mut revenue = 0;
        for (customer, wallet) in &self.wallets {
            let account = AccountId::wallet(*customer, Currency::EUR);
            let (balance, held) = (i128::from(ledger.balance(account).0), i128::from(ledger.held(account).0));
            revenue += wallet.paid;
            if (balance, held) != (wallet.topped_up - wallet.paid, wallet.held) {
                return Err(format!(
                    "invariant 3: {customer} has {balance} and holds {held}, the journal says {} and {}",
                    wallet.topped_up - wallet.paid,
                    wallet.held
                ));
            }
        }
        if i128::from(ledger.balance(AccountId::revenue(Currency::EUR)).0) != revenue {
            return Err(format!("invariant 3: the revenue is not {revenue}"));
        }
        Ok(())
    }

    pub fn is_final(&self) -> Result<(), String> {
        let open = self.lines.iter().find(|(_, line)| !line.is_settled);
        open.map_or(Ok(()), |(id, _)| Err(format!("liveness: the money of {id} is not final")))
    }

    pub fn metered(&self, id: ReservationId) -> Option<u64> {
        self.lines.get(&id).map(|line| line.metered)
    }

    pub fn timed_out(&self, id: ReservationId) -> bool {
        self.lines.get(&id).is_some_and(|line| line.is_timed_out)
    }

    pub fn figures(&self) -> String {
        let paid: i128 = self.wallets.values().map(|w| w.paid).sum();
        format!("paid={paid}µ")
    }
}

impl Line {
    /// A slot accrues once, when it was, while the promise stood.
    fn check_slot(&mut self, at: Timestamp, usage: &UsageFact, length: SlotLength) -> Result<(), String> {
        let reading = &usage.reading;
        let slot = length.window_of(reading.slot);
        let inside = slot.intersect(self.window);
        if slot.from.ms_since(at) > SKEW_MS {
            return Err("accrues before it was".to_owned());
        }
        if self.ended.is_some_and(|ended| slot.from.ms_since(ended) > SKEW_MS) {
            return Err("accrues after the end".to_owned());
        }
        let unconfirmed = if self.charge_unconfirmed { reading.unconfirmed_ms } else { 0 };
        let payable = u64::from(reading.active_ms) + u64::from(unconfirmed);
        if payable == 0 || usage.kept_ms + usage.excused_ms > payable {
            return Err(format!("keeps {} ms of {payable} payable ones", usage.kept_ms));
        }
        let kept = self.kept.entry(reading.slot).or_default();
        *kept += usage.kept_ms + usage.excused_ms;
        if *kept > inside.len_ms() {
            return Err(format!("accrues {kept} ms of {}", inside.len_ms()));
        }
        let segment = self.segments.get(usage.segment as usize);
        if segment.is_none_or(|s| !s.window.contains(inside.from)) {
            return Err(format!("is priced by segment {}", usage.segment));
        }
        if usage.charged_bytes > usage.delivered_bytes {
            return Err("charges bytes that were not delivered".to_owned());
        }
        self.charged_bytes += u128::from(usage.charged_bytes);
        let slots = u128::try_from(self.kept.len()).unwrap_or(0);
        if self.charged_bytes > self.promised_bytes + slots {
            return Err(format!("charges {} of {} promised bytes", self.charged_bytes, self.promised_bytes));
        }
        Ok(())
    }

    /// One more quantity on the line: `total = round_half_even(numerator / scale)`, capped by what is held.
    fn rate(&mut self, usage: &UsageFact, quantity: u64) -> i128 {
        let Some(segment) = self.segments.get(usage.segment as usize) else { return 0 };
        if quantity == 0 {
            return 0;
        }
        let price = i128::from(segment.unit_price.0) * i128::from(segment.multiplier_ppm);
        let added = match self.unit {
            Unit::MbpsHour => i128::from(segment.rate.0) * i128::from(quantity) * price,
            Unit::Gb => i128::from(quantity) * price,
        };
        if self.numerator == 0 && self.posted == 0 {
            self.numerator += self.setup * scale(self.unit);
        }
        self.numerator += added;
        let due = half_even(self.numerator, scale(self.unit)).min(self.total - self.fee);
        (due - self.posted).max(0)
    }
}

/// The unit's denominator times a million (ppm): Mbit/s-hours in bit·ms/s, or GB in bytes.
fn scale(unit: Unit) -> i128 {
    match unit {
        Unit::MbpsHour => 1_000_000 * 3_600_000 * 1_000_000,
        Unit::Gb => 1_000_000_000 * 1_000_000,
    }
}

fn worst(segment: &PriceSegment, unit: Unit) -> i128 {
    let price = i128::from(segment.unit_price.0) * i128::from(segment.multiplier_ppm);
    let ms = i128::from(segment.window.len_ms());
    match unit {
        Unit::MbpsHour => i128::from(segment.rate.0) * ms * price,
        Unit::Gb => i128::from(segment.rate.0) * ms / 8_000 * price,
    }
}

fn half_even(numerator: i128, denominator: i128) -> i128 {
    let (quotient, twice) = (numerator / denominator, numerator % denominator * 2);
    match twice.cmp(&denominator) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + quotient % 2,
    }
}
