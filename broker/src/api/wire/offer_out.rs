//! Offers and prices as they are shown.

use super::Names;
use super::words::Direction;
use crate::api::instant::{self, Instant};
use serde::Serialize;
use tollway_billing::{PriceSegment, Unit};
use tollway_core::config::ChargeBy;
use tollway_core::offer::{Offer, Variant};
use tollway_model::money::round_half_even;
use tollway_model::{Amount, Micros, OfferId, QuoteId, Schedule, Window};
use utoipa::ToSchema;

/// Half-open: from is inside, until is not.
#[derive(Serialize, ToSchema, Debug)]
pub struct WindowView {
    pub from: Instant,
    pub until: Instant,
}

/// A stretch of the promised schedule.
#[derive(Serialize, ToSchema, Debug)]
pub struct SegmentView {
    pub from: Instant,
    pub until: Instant,
    /// IP bits per second.
    pub rate_bps: u64,
}

/// What a price is made of.
#[derive(Serialize, ToSchema, Debug)]
#[serde(rename_all = "snake_case")]
pub enum PriceLineType {
    /// Promised rate over kept time.
    ReservedRate,
    /// Delivered layer-3 bytes, at most the promised ones.
    DeliveredBytes,
    /// Once, with the first kept slot.
    Setup,
}

/// One line of a price. Amounts are differences of one running sum, rounded half to even, so that they add
/// up to the total exactly.
#[derive(Serialize, ToSchema, Debug)]
pub struct PriceLineView {
    #[serde(rename = "type")]
    pub line_type: PriceLineType,
    pub from: Instant,
    pub until: Instant,
    pub rate_bps: Option<u64>,
    /// The most bytes that this line can come to.
    pub bytes: Option<u64>,
    /// Per Mbit/s-hour or GB; absent for setup.
    pub unit_price_micros: Option<i64>,
    /// Congestion multiplier; 1000000 is once.
    pub multiplier_ppm: Option<u32>,
    pub amount_micros: i64,
    pub text: String,
}

/// The worst case: what is held and the most that is ever charged.
#[derive(Serialize, ToSchema, Debug)]
pub struct PriceView {
    pub total_micros: i64,
    pub currency: String,
    pub lines: Vec<PriceLineView>,
}

/// One priced alternative; take it by its `offer_id` before the quote's `valid_until`.
#[derive(Serialize, ToSchema, Debug)]
pub struct OfferView {
    pub offer_id: String,
    pub tier: String,
    pub tier_revision: u32,
    /// `assured`, `target` or `background`.
    pub kind: String,
    pub direction: Direction,
    pub access: String,
    pub window: WindowView,
    pub schedule: Vec<SegmentView>,
    pub rate_bps_max: u64,
    /// Payload bytes of a bytes offer, null for a rate.
    pub bytes_promised: Option<u64>,
    /// What the reservation also takes the other way, for acknowledgements.
    pub return_path_bps_max: u64,
    /// `reserved` or `delivered`.
    pub charge_by: String,
    /// Time is charged too in which a peer has accepted the leg that never says whether it is in force.
    pub charge_unconfirmed: bool,
    pub price: PriceView,
    /// `as_asked`, `later`, `slower` or `fewer_bytes`.
    pub variant: String,
    /// How it differs from what was asked, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

pub fn offer_view(names: Names<'_>, quote: QuoteId, offer: &Offer) -> OfferView {
    let rate_max = offer.schedule.rate_max();
    OfferView {
        offer_id: names.ids.offer(OfferId { quote, index: offer.index }),
        tier: names.tier(offer.tier),
        tier_revision: offer.tier_revision,
        kind: offer.terms.kind.as_str().to_owned(),
        direction: offer.direction.into(),
        access: names.access(offer.access, offer.subscriber),
        window: window_view(offer.window),
        schedule: schedule_view(&offer.schedule),
        rate_bps_max: rate_max.get(),
        bytes_promised: offer.bytes,
        return_path_bps_max: rate_max.return_path().get(),
        charge_by: offer.terms.charge_by.as_str().to_owned(),
        charge_unconfirmed: offer.terms.charge_unconfirmed,
        price: price_view(&Priced {
            charge_by: offer.terms.charge_by,
            segments: &offer.segments,
            setup: offer.setup,
            window: offer.window,
            total: offer.total,
        }),
        variant: offer.variant.as_str().to_owned(),
        note: note(offer),
    }
}

pub fn window_view(window: Window) -> WindowView {
    WindowView { from: Instant(window.from), until: Instant(window.until) }
}

pub fn schedule_view(schedule: &Schedule) -> Vec<SegmentView> {
    let segments = schedule.segments().iter();
    segments
        .map(|s| SegmentView {
            from: Instant(s.window.from),
            until: Instant(s.window.until),
            rate_bps: s.rate.get(),
        })
        .collect()
}

fn note(offer: &Offer) -> Option<String> {
    let until = instant::format(offer.window.until);
    match offer.variant {
        Variant::AsAsked => None,
        Variant::Later => {
            Some(format!("later than asked: from {} to {until}", instant::format(offer.window.from)))
        }
        Variant::Slower => Some(format!("slower than asked: {} to {until}", offer.schedule.rate_max())),
        Variant::FewerBytes => {
            Some(format!("fewer bytes than asked: {} by {until}", in_words(offer.bytes.unwrap_or_default())))
        }
    }
}

/// The frozen price of an offer or a reservation.
pub struct Priced<'a> {
    pub charge_by: ChargeBy,
    pub segments: &'a [PriceSegment],
    pub setup: Micros,
    pub window: Window,
    pub total: Amount,
}

pub fn price_view(priced: &Priced<'_>) -> PriceView {
    let unit = priced.charge_by.unit();
    let mut lines = Vec::with_capacity(priced.segments.len() + 1);
    let mut running: i128 = 0;
    if priced.setup.get() != 0 {
        running = i128::from(priced.setup.get()).saturating_mul(unit.scale());
        lines.push(setup_line(priced));
    }
    for segment in priced.segments {
        let after = running.saturating_add(segment.worst(unit));
        lines.push(segment_line(unit, segment, micros(after, unit) - micros(running, unit), priced.total));
        running = after;
    }
    PriceView { total_micros: priced.total.micros.get(), currency: priced.total.currency.to_string(), lines }
}

fn micros(numerator: i128, unit: Unit) -> i64 {
    i64::try_from(round_half_even(numerator, unit.scale())).unwrap_or(i64::MAX)
}

fn setup_line(priced: &Priced<'_>) -> PriceLineView {
    let amount = Amount { micros: priced.setup, currency: priced.total.currency };
    PriceLineView {
        line_type: PriceLineType::Setup,
        from: Instant(priced.window.from),
        until: Instant(priced.window.until),
        rate_bps: None,
        bytes: None,
        unit_price_micros: None,
        multiplier_ppm: None,
        amount_micros: priced.setup.get(),
        text: format!("setup, once, with the first kept slot: {amount}"),
    }
}

fn segment_line(unit: Unit, segment: &PriceSegment, amount: i64, total: Amount) -> PriceLineView {
    let price = Amount { micros: segment.unit_price, currency: total.currency };
    let times = format!("{}.{:06}", segment.multiplier_ppm / 1_000_000, segment.multiplier_ppm % 1_000_000);
    let seconds = segment.window.len_ms().div_ceil(1000);
    let bytes = segment.rate.bytes_in_ms(segment.window.len_ms());
    let (line_type, bytes, text) = match unit {
        Unit::MbpsHour => {
            let text = format!("{} kept for {seconds} s at {price} per Mbit/s-hour × {times}", segment.rate);
            (PriceLineType::ReservedRate, None, text)
        }
        Unit::Gb => {
            let text = format!("up to {} delivered at {price} per GB × {times}", in_words(bytes));
            (PriceLineType::DeliveredBytes, Some(bytes), text)
        }
    };
    PriceLineView {
        line_type,
        from: Instant(segment.window.from),
        until: Instant(segment.window.until),
        rate_bps: Some(segment.rate.get()),
        bytes,
        unit_price_micros: Some(segment.unit_price.get()),
        multiplier_ppm: Some(segment.multiplier_ppm),
        amount_micros: amount,
        text,
    }
}

/// Bytes as people say them, in powers of ten with at most three decimals.
fn in_words(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..=9_999 => return format!("{bytes} bytes"),
        10_000..=999_999 => (1_000, "kB"),
        1_000_000..=999_999_999 => (1_000_000, "MB"),
        _ => (1_000_000_000, "GB"),
    };
    let text = format!("{}.{:03}", bytes / unit, bytes % unit * 1000 / unit);
    format!("{} {name}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollway_billing::ChargeLine;
    use tollway_model::{BitsPerSecond, Currency, Timestamp};

    #[test]
    fn price_lines_add_up_to_what_is_held() {
        for charge_by in [ChargeBy::Reserved, ChargeBy::Delivered] {
            for setup in [0, 777] {
                let segments: Vec<PriceSegment> = (0..37u64)
                    .map(|n| PriceSegment {
                        window: Window::new(Timestamp::from_secs(n * 5), Timestamp::from_secs(n * 5 + 5)),
                        rate: BitsPerSecond(1_234_567 + n * 1_001),
                        unit_price: Micros(20_001),
                        multiplier_ppm: 1_000_001 + u32::try_from(n).unwrap(),
                    })
                    .collect();
                let total = ChargeLine::new(charge_by.unit(), segments.clone(), Micros(setup)).worst_case();
                let view = price_view(&Priced {
                    charge_by,
                    segments: &segments,
                    setup: Micros(setup),
                    window: Window::new(Timestamp(0), Timestamp::from_secs(185)),
                    total: Amount { micros: total, currency: Currency::EUR },
                });
                assert_eq!(view.lines.iter().map(|l| l.amount_micros).sum::<i64>(), total.get());
                assert_eq!(view.total_micros, total.get());
            }
        }
    }
}
