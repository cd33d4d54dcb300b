//! `GET /reservations/{id}/usage`: the meters' readings.

use super::error::ApiError;
use super::extract::{Caller, PathText};
use super::wire::usage_out::{UsageView, usage_view};
use super::{ApiState, json};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use tollway_core::Reservation;
use tollway_core::record::UsageFact;

/// Read what the meters said
#[utoipa::path(
    get,
    path = "/qos-transfers/v0.1/reservations/{id}/usage",
    tag = "reservations",
    operation_id = "getUsage",
    params(("id" = String, Path, description = "`reservation_id`")),
    responses((status = 200, description = "Cumulative readings, layer-3 bytes", body = UsageView))
)]
pub async fn show(
    State(api): State<ApiState>,
    caller: Caller,
    PathText(id): PathText,
) -> Result<Response, ApiError> {
    let reservation = api.reservation(&caller, &id).await?;
    let facts = usage_of(&api, &reservation).await?;
    let snapshot = api.handle().snapshot();
    let view = usage_view(api.names(&snapshot), &reservation, &facts, snapshot.slot_length);
    Ok(json(StatusCode::OK, &view))
}

/// The facts that this state of the reservation was folded from. A report may be committed between the two
/// reads; what came after the reservation's own last reading is left to the next call, so that a bill is
/// always the sum of the slots shown beside it.
pub(super) async fn usage_of(api: &ApiState, reservation: &Reservation) -> Result<Vec<UsageFact>, ApiError> {
    let mut facts = api.reader().usage(reservation.id).await?;
    let meter = &reservation.meter;
    let last = facts
        .iter()
        .rposition(|fact| fact.reading.incarnation == meter.incarnation && fact.reading.seq == meter.seq);
    facts.truncate(last.map_or(0, |index| index + 1));
    Ok(facts)
}
