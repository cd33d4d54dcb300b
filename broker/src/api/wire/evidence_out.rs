//! Delivered against promised: when the leg was in force, and what each slot's readings said.

use super::page_in::next;
use crate::api::instant::Instant;
use crate::store::{LegInterval, Page};
use serde::Serialize;
use std::collections::BTreeMap;
use tollway_core::record::UsageFact;
use tollway_model::{Slot, SlotLength, Timestamp};
use utoipa::ToSchema;

/// A stretch in which the leg was in one state.
#[derive(Serialize, ToSchema)]
pub struct IntervalView {
    pub from: Instant,
    /// Null: it still is.
    pub until: Option<Instant>,
    pub state: String,
    pub reason: Option<String>,
}

/// One slot: layer-3 bytes promised and delivered, and what was kept of it.
#[derive(Serialize, ToSchema)]
pub struct SlotEvidenceView {
    pub slot_from: Instant,
    /// Before `slot_from` when slots before this one had no reading: `promised_bytes` and `delivered_bytes` are then of
    /// all time from here to the slot's end.
    pub covers_from: Instant,
    pub promised_bytes: u64,
    pub delivered_bytes: u64,
    pub active_ms: u64,
    /// Longest silence under demand.
    pub gap_ms_max: u32,
    /// Time that counts as kept and is charged for.
    pub kept_ms: u64,
    /// Time in which a peer had accepted it that never says whether it is in force. Part of `kept_ms` only where the
    /// offer said `charge_unconfirmed`.
    pub unconfirmed_ms: u64,
    /// `in_force` when it was for some of the slot, `unconfirmed` when for some of it nobody will ever say,
    /// `not_in_force` when it was not.
    pub verdict: String,
    /// Why time in force does not count: `flow_not_seen`, the flow set had matched nothing yet.
    pub excused: Option<String>,
}

/// A page of intervals and one of slots. A slot whose readings lie on two pages stands on both: its figures
/// add up, but for `promised_bytes` and `gap_ms_max`, where the larger one counts. An interval may be parted so, too.
#[derive(Serialize, ToSchema)]
pub struct EvidenceView {
    pub intervals: Vec<IntervalView>,
    pub readings: Vec<SlotEvidenceView>,
    /// Pass as `after` to read both lists on; null at the end of both.
    pub next: Option<String>,
}

#[derive(Default)]
struct SlotSum {
    covers_from: Option<Timestamp>,
    promised: u64,
    delivered: u64,
    active_ms: u64,
    gap_ms_max: u32,
    kept_ms: u64,
    unconfirmed_ms: u64,
    excused_ms: u64,
}

impl SlotSum {
    const fn verdict(&self) -> &'static str {
        if self.unconfirmed_ms > 0 {
            "unconfirmed"
        } else if self.active_ms > 0 {
            "in_force"
        } else {
            "not_in_force"
        }
    }
}

pub fn evidence_view(
    intervals: &Page<LegInterval>,
    facts: &Page<UsageFact>,
    slot_length: SlotLength,
) -> EvidenceView {
    EvidenceView {
        intervals: intervals
            .rows
            .iter()
            .map(|interval| IntervalView {
                from: Instant(interval.from),
                until: interval.until.map(Instant),
                state: interval.state.clone(),
                reason: interval.reason.clone(),
            })
            .collect(),
        readings: slots(&facts.rows, slot_length),
        next: next([intervals.end, facts.end], intervals.has_more || facts.has_more),
    }
}

/// A slot may have been read several times. The first reading of it carries the slot's whole promise; what
/// the later ones carry is what was then left of it.
fn slots(facts: &[UsageFact], slot_length: SlotLength) -> Vec<SlotEvidenceView> {
    let mut sums: BTreeMap<Slot, SlotSum> = BTreeMap::new();
    for fact in facts {
        let sum = sums.entry(fact.reading.slot).or_default();
        // Only the first reading of a slot has time before it to tell.
        sum.covers_from = sum.covers_from.or(fact.covers_from);
        sum.promised = sum.promised.max(fact.promised_bytes);
        sum.delivered = sum.delivered.saturating_add(fact.delivered_bytes);
        sum.active_ms = sum.active_ms.saturating_add(u64::from(fact.reading.active_ms));
        sum.gap_ms_max = sum.gap_ms_max.max(fact.reading.gap_ms_max);
        sum.kept_ms = sum.kept_ms.saturating_add(fact.kept_ms);
        sum.unconfirmed_ms = sum.unconfirmed_ms.saturating_add(fact.unconfirmed_ms);
        sum.excused_ms = sum.excused_ms.saturating_add(fact.excused_ms);
    }
    sums.into_iter()
        .map(|(slot, sum)| SlotEvidenceView {
            slot_from: Instant(slot_length.start_of(slot)),
            covers_from: Instant(sum.covers_from.unwrap_or(slot_length.start_of(slot))),
            promised_bytes: sum.promised,
            delivered_bytes: sum.delivered,
            active_ms: sum.active_ms.min(slot_length.ms()),
            gap_ms_max: sum.gap_ms_max,
            kept_ms: sum.kept_ms,
            unconfirmed_ms: sum.unconfirmed_ms,
            verdict: sum.verdict().to_owned(),
            excused: (sum.excused_ms > 0).then(|| "flow_not_seen".to_owned()),
        })
        .collect()
}
