//! What the meters said, as they said it.

use super::Names;
use super::page_in::next;
use crate::api::instant::Instant;
use crate::store::Page;
use serde::Serialize;
use tollway_core::Reservation;
use tollway_core::record::UsageFact;
use tollway_model::SlotLength;
use utoipa::ToSchema;

/// One cumulative reading. Bytes are layer-3 bytes since this incarnation began, not since the reading
/// before.
#[derive(Serialize, ToSchema)]
pub struct ReadingView {
    pub slot_from: Instant,
    /// One life of the counters; a new one starts from zero. A name to compare, not to count with.
    pub incarnation: String,
    pub seq: u64,
    pub bytes: u64,
    pub packets: u64,
    /// Packets dropped in the class's queue.
    pub drops: u64,
    pub reverse_bytes: u64,
    pub active_ms: u32,
    /// Time in which a peer had accepted it that never says whether it is in force.
    pub unconfirmed_ms: u32,
    /// Time with backlog.
    pub busy_ms: u32,
    /// Longest silence under demand.
    pub gap_ms_max: u32,
    /// A packet has matched the flow set.
    pub seen: bool,
    /// The leg is gone; no reading follows.
    pub last: bool,
    pub at: Instant,
}

/// A page of readings, in the order in which they were taken in.
#[derive(Serialize, ToSchema)]
pub struct UsageView {
    pub reservation_id: String,
    pub slot_s: u32,
    pub readings: Vec<ReadingView>,
    /// Layer-3 bytes over all incarnations, sold direction: of all readings, whichever page this is.
    pub metered_bytes: u64,
    pub metered_reverse_bytes: u64,
    /// Pass as `after` to read on; null at the end.
    pub next: Option<String>,
}

pub fn usage_view(
    names: Names<'_>,
    reservation: &Reservation,
    facts: &Page<UsageFact>,
    slot_length: SlotLength,
) -> UsageView {
    UsageView {
        reservation_id: names.ids.reservation(reservation.id),
        slot_s: slot_length.secs(),
        readings: facts.rows.iter().map(|fact| reading_view(fact, slot_length)).collect(),
        metered_bytes: reservation.meter.metered_bytes,
        metered_reverse_bytes: reservation.meter.metered_reverse_bytes,
        next: next([facts.end], facts.has_more),
    }
}

fn reading_view(fact: &UsageFact, slot_length: SlotLength) -> ReadingView {
    let reading = &fact.reading;
    ReadingView {
        slot_from: Instant(slot_length.start_of(reading.slot)),
        incarnation: reading.incarnation.to_string(),
        seq: reading.seq,
        bytes: reading.sold.bytes,
        packets: reading.sold.packets,
        drops: reading.sold.drops,
        reverse_bytes: reading.reverse.bytes,
        active_ms: reading.active_ms,
        unconfirmed_ms: reading.unconfirmed_ms,
        busy_ms: reading.busy_ms,
        gap_ms_max: reading.gap_ms_max,
        seen: reading.seen,
        last: reading.last,
        at: Instant(reading.at),
    }
}
