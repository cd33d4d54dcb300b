//! A reservation as it is shown: promise, leg and money beside each other, never mixed.

use super::Names;
use super::flow_out::{FlowView, flow_view};
use super::offer_out::{PriceView, Priced, SegmentView, WindowView, price_view, schedule_view, window_view};
use super::words::Direction;
use crate::api::instant::Instant;
use serde::Serialize;
use tollway_core::Reservation;
use tollway_core::reservation::Promise;
use utoipa::ToSchema;

/// What the enforcement point does for this reservation.
#[derive(Serialize, ToSchema)]
pub struct LegView {
    /// `absent`, `sent`, `accepted`, `active`, `removing`, `lost` or `refused`.
    pub state: String,
    pub attempt: u32,
    pub since: Instant,
    /// Why, when it is lost, refused, or told to nobody since no agent is connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Four sums of the ledger; they add up to what was held at first.
#[derive(Serialize, ToSchema)]
pub struct MoneyView {
    pub held_micros: i64,
    pub posted_micros: i64,
    pub voided_micros: i64,
    pub refunded_micros: i64,
    pub currency: String,
}

/// The paid promise for a window.
#[derive(Serialize, ToSchema)]
pub struct ReservationView {
    pub reservation_id: String,
    pub access: String,
    pub direction: Direction,
    pub tier: String,
    pub tier_revision: u32,
    /// `assured`, `target` or `background`.
    pub kind: String,
    /// `held`, `booked`, `running` or `ended`.
    pub promise: String,
    /// `completed`, `cancelled`, `expired` or `terminated`.
    pub end_reason: Option<String>,
    /// More about the end; `NOT_INSTALLED: …` when no enforcement point made it so.
    pub end_detail: Option<String>,
    pub leg: LegView,
    pub window: WindowView,
    pub schedule: Vec<SegmentView>,
    /// Payload bytes, null for a rate.
    pub bytes_promised: Option<u64>,
    /// `reserved` or `delivered`.
    pub charge_by: String,
    pub flows: Vec<FlowView>,
    /// While held: when it expires unless it is confirmed.
    pub hold_expires_at: Option<Instant>,
    pub money: MoneyView,
    pub price: PriceView,
    pub created_at: Instant,
    /// Nothing more will be charged; what was not used is given back.
    pub settled: bool,
}

/// A page of reservations, oldest first.
#[derive(Serialize, ToSchema)]
pub struct ReservationsView {
    pub reservations: Vec<ReservationView>,
    /// Pass as `after` to read on; null at the end.
    pub next: Option<String>,
}

pub fn reservation_view(names: Names<'_>, reservation: &Reservation) -> ReservationView {
    let (hold_expires_at, end_reason) = match reservation.promise {
        Promise::Held { expires } => (Some(Instant(expires)), None),
        Promise::Booked | Promise::Running => (None, None),
        Promise::Ended { reason, .. } => (None, Some(reason.as_str().to_owned())),
    };
    ReservationView {
        reservation_id: names.ids.reservation(reservation.id),
        access: names.access(reservation.access, reservation.subscriber),
        direction: reservation.direction.into(),
        tier: names.tier(reservation.tier),
        tier_revision: reservation.tier_revision,
        kind: reservation.terms.kind.as_str().to_owned(),
        promise: reservation.promise.as_str().to_owned(),
        end_reason,
        end_detail: reservation.end_detail.clone(),
        leg: LegView {
            state: reservation.leg.state.as_str().to_owned(),
            attempt: reservation.leg.attempt,
            since: Instant(reservation.leg.since),
            reason: reservation.leg.reason.clone(),
        },
        window: window_view(reservation.window),
        schedule: schedule_view(&reservation.schedule),
        bytes_promised: reservation.bytes,
        charge_by: reservation.terms.charge_by.as_str().to_owned(),
        flows: reservation.flows.iter().map(flow_view).collect(),
        hold_expires_at,
        money: money_view(reservation),
        price: price_view(&Priced {
            charge_by: reservation.terms.charge_by,
            segments: &reservation.line.segments,
            setup: reservation.line.setup,
            window: reservation.window,
            total: reservation.total,
        }),
        created_at: Instant(reservation.created),
        settled: reservation.settled,
    }
}

fn money_view(reservation: &Reservation) -> MoneyView {
    MoneyView {
        held_micros: reservation.money.held.get(),
        posted_micros: reservation.money.posted.get(),
        voided_micros: reservation.money.voided.get(),
        refunded_micros: reservation.money.refunded.get(),
        currency: reservation.total.currency.to_string(),
    }
}
