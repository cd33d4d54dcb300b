//! The bill, with all that an outsider needs to recompute it: frozen unit prices, what each slot added, one
//! numerator and its scale. A line comes to `round_half_even(numerator / scale) + setup_micros`, at most what was
//! held.

use super::Names;
use super::page_in::next;
use crate::api::instant::Instant;
use crate::store::Page;
use serde::Serialize;
use std::collections::BTreeMap;
use tollway_billing::Unit;
use tollway_core::Reservation;
use tollway_core::record::UsageFact;
use tollway_model::{Slot, SlotLength, Timestamp};
use utoipa::ToSchema;

/// A stretch of the schedule at one frozen price.
#[derive(Serialize, ToSchema)]
pub struct ChargeSegmentView {
    pub from: Instant,
    pub until: Instant,
    pub rate_bps: u64,
    pub unit_price_micros: i64,
    pub multiplier_ppm: u32,
}

/// What one slot added to the numerator: `kept_ms` counts for `mbps_hour`, `bytes` for `gb`.
#[derive(Serialize, ToSchema)]
pub struct SlotChargeView {
    pub slot_from: Instant,
    /// Before `slot_from` when slots before this one had no reading: `bytes` are then of all time from here to the
    /// slot's end.
    pub covers_from: Instant,
    /// Index into `segments`.
    pub segment: u32,
    pub kept_ms: u64,
    pub bytes: u64,
    /// Time in which a peer had accepted it that never says whether it is in force: charged, and then part of
    /// `kept_ms`, only where `charge_unconfirmed` is true. A slot that had some is told even if nothing counts.
    pub unconfirmed_ms: u64,
}

/// A charge line. The numerator is the sum over the `slots` of all pages of `rate_bps × kept_ms` (`mbps_hour`) or `bytes`
/// (`gb`), times `unit_price_micros × multiplier_ppm` of the slot's segment.
#[derive(Serialize, ToSchema)]
pub struct ChargeLineView {
    pub segments: Vec<ChargeSegmentView>,
    /// `mbps_hour` or `gb`.
    pub unit: String,
    /// A decimal integer; it may be wider than 64 bits.
    pub scale: String,
    /// A decimal integer; it may be wider than 64 bits.
    pub numerator: String,
    /// Setup as it was charged: with the first slot that counts, else 0.
    pub setup_micros: i64,
    pub posted_micros: i64,
    /// A page of them. A slot whose readings lie on two pages stands on both, each with its part.
    pub slots: Vec<SlotChargeView>,
}

/// What has been charged so far, and whether that is final.
#[derive(Serialize, ToSchema)]
pub struct ChargesView {
    pub tier: String,
    /// The tier's revision that was sold: `GET /tiers?tier=…&revision=…` shows it.
    pub tier_revision: u32,
    /// `reserved` or `delivered`.
    pub charge_by: String,
    /// Unconfirmed time is charged like active time.
    pub charge_unconfirmed: bool,
    pub lines: Vec<ChargeLineView>,
    /// A fee for cancelling after the tier's notice.
    pub cancel_fee_micros: i64,
    /// The lines and the fee.
    pub total_micros: i64,
    /// What was held at first: the most that is ever charged.
    pub held_at_first_micros: i64,
    /// What is still held of it.
    pub held_micros: i64,
    /// What was given back of it.
    pub voided_micros: i64,
    pub currency: String,
    pub settled: bool,
    /// Pass as `after` to read the next `slots`; null at the end. All else is the same on every page.
    pub next: Option<String>,
}

pub fn charges_view(
    names: Names<'_>,
    reservation: &Reservation,
    facts: &Page<UsageFact>,
    slot_length: SlotLength,
) -> ChargesView {
    let line = &reservation.line;
    // Nothing counted yet, on whichever page: then no setup either.
    let setup = if line.numerator() == 0 { 0 } else { line.setup.get() };
    // Inside, the line's numerator carries the setup too; it is a whole number of its scale.
    let numerator = line.numerator() - i128::from(setup).saturating_mul(line.unit.scale());
    let segments = line
        .segments
        .iter()
        .map(|s| ChargeSegmentView {
            from: Instant(s.window.from),
            until: Instant(s.window.until),
            rate_bps: s.rate.get(),
            unit_price_micros: s.unit_price.get(),
            multiplier_ppm: s.multiplier_ppm,
        })
        .collect();
    ChargesView {
        tier: names.tier(reservation.tier),
        tier_revision: reservation.tier_revision,
        charge_by: reservation.terms.charge_by.as_str().to_owned(),
        charge_unconfirmed: reservation.terms.charge_unconfirmed,
        lines: vec![ChargeLineView {
            segments,
            unit: line.unit.as_str().to_owned(),
            scale: line.unit.scale().to_string(),
            numerator: numerator.to_string(),
            setup_micros: setup,
            posted_micros: line.posted().get(),
            slots: slots(&facts.rows, line.unit, slot_length),
        }],
        cancel_fee_micros: reservation.money.posted.get() - line.posted().get(),
        total_micros: reservation.money.posted.get(),
        held_at_first_micros: reservation.total.micros.get(),
        held_micros: reservation.money.held.get(),
        voided_micros: reservation.money.voided.get(),
        currency: reservation.total.currency.to_string(),
        settled: reservation.settled,
        next: next([facts.end], facts.has_more),
    }
}

#[derive(Default)]
struct SlotSum {
    covers_from: Option<Timestamp>,
    kept_ms: u64,
    bytes: u64,
    unconfirmed_ms: u64,
}

/// A slot may have been read several times; what is charged of it is their sum. Slots in which nothing counts
/// for this unit and nothing was unconfirmed are left away.
fn slots(facts: &[UsageFact], unit: Unit, slot_length: SlotLength) -> Vec<SlotChargeView> {
    let mut sums: BTreeMap<(Slot, u32), SlotSum> = BTreeMap::new();
    for fact in facts {
        let counts = match unit {
            Unit::MbpsHour => fact.kept_ms > 0,
            Unit::Gb => fact.charged_bytes > 0,
        };
        if counts || fact.unconfirmed_ms > 0 {
            let sum = sums.entry((fact.reading.slot, fact.segment)).or_default();
            sum.covers_from = sum.covers_from.or(fact.covers_from);
            sum.kept_ms = sum.kept_ms.saturating_add(fact.kept_ms);
            sum.unconfirmed_ms = sum.unconfirmed_ms.saturating_add(fact.unconfirmed_ms);
            sum.bytes = sum.bytes.saturating_add(fact.charged_bytes);
        }
    }
    sums.into_iter()
        .map(|((slot, segment), sum)| SlotChargeView {
            slot_from: Instant(slot_length.start_of(slot)),
            covers_from: Instant(sum.covers_from.unwrap_or(slot_length.start_of(slot))),
            segment,
            kept_ms: sum.kept_ms,
            bytes: sum.bytes,
            unconfirmed_ms: sum.unconfirmed_ms,
        })
        .collect()
}
