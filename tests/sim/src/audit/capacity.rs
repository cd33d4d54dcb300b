//! Invariants 2 and 9: at no instant is more sold of a pool and direction than its share allows. An event
//! sweep over exact milliseconds; a deficit may stand, but nothing may be added to it.

use super::book::Book;
use std::collections::BTreeMap;
use tollway_core::record::Held;
use tollway_core::{Envelope, Record};
use tollway_model::{Direction, PoolId, ReservationId, Timestamp};

#[derive(Clone, Copy)]
struct Span {
    id: ReservationId,
    from: Timestamp,
    until: Timestamp,
    bps: u64,
}

#[derive(Default)]
pub struct Capacity {
    sold: BTreeMap<(PoolId, Direction), Vec<Span>>,
    peak_ppm: u64,
}

impl Capacity {
    pub fn fold(&mut self, envelope: &Envelope, book: &Book) -> Result<(), String> {
        match &envelope.record {
            Record::Held(held) => self.held(envelope.at, held, book),
            Record::HoldExpired { reservation } => {
                self.cut(*reservation, Timestamp(0));
                Ok(())
            }
            Record::Ended(ended) => {
                self.cut(ended.reservation, envelope.at);
                Ok(())
            }
            Record::MarketMade(_)
            | Record::Configured(_)
            | Record::Quoted(_)
            | Record::Confirmed { .. }
            | Record::FlowsBound { .. }
            | Record::Started { .. }
            | Record::LegRetried { .. }
            | Record::LegsTold(_)
            | Record::Reported(_)
            | Record::Settled { .. }
            | Record::ToppedUp { .. }
            | Record::Answered(_) => Ok(()),
        }
    }

    fn held(&mut self, at: Timestamp, held: &Held, book: &Book) -> Result<(), String> {
        let offer = &held.offer;
        let packet = offer.terms.shape.packet_bytes;
        for side in Direction::BOTH {
            for (pool, may_sell) in book.pools_of(offer.access, side) {
                let spans = self.sold.entry((pool, side)).or_default();
                spans.retain(|span| span.until > at);
                for segment in offer.schedule.segments() {
                    let ip =
                        if side == offer.direction { segment.rate.0 } else { return_path(segment.rate.0) };
                    let (from, until) = (segment.window.from, segment.window.until);
                    spans.push(Span { id: held.reservation, from, until, bps: class_rate(ip, packet) });
                    let peak = peak(spans, from, until);
                    if peak > may_sell {
                        return Err(format!(
                            "invariant 2: {} brings pool {pool} {side:?} to {peak} of {may_sell} bit/s",
                            held.reservation
                        ));
                    }
                    self.peak_ppm = self.peak_ppm.max(peak * 1_000_000 / may_sell.max(1));
                }
            }
        }
        Ok(())
    }

    fn cut(&mut self, id: ReservationId, at: Timestamp) {
        for span in self.sold.values_mut().flatten().filter(|span| span.id == id) {
            span.until = span.until.min(at);
        }
    }

    pub fn figures(&self) -> String {
        format!("peak={}%", self.peak_ppm / 10_000)
    }
}

/// Most that is sold at one instant of `[from, until)`: sums change only where a span starts.
fn peak(spans: &[Span], from: Timestamp, until: Timestamp) -> u64 {
    let sum_at =
        |at: Timestamp| -> u64 { spans.iter().filter(|s| s.from <= at && at < s.until).map(|s| s.bps).sum() };
    let starts = spans.iter().map(|s| s.from).filter(|at| *at > from && *at < until);
    starts.chain([from]).map(sum_at).max().unwrap_or(0)
}

/// The kernel's class rate of an IP rate: 14 bytes of Ethernet header a packet, rounded up.
pub fn class_rate(ip_bps: u64, packet_bytes: u32) -> u64 {
    let packet = u128::from(packet_bytes);
    u64::try_from((u128::from(ip_bps) * (packet + 14)).div_ceil(packet)).unwrap_or(u64::MAX)
}

/// The larger of 64 kbit/s and 3 %.
pub fn return_path(ip_bps: u64) -> u64 {
    (ip_bps * 3 / 100).max(64_000)
}
