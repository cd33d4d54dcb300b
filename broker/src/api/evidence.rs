//! `GET /reservations/{id}/evidence`: delivered against promised.

use super::error::ApiError;
use super::extract::{Caller, PathText};
use super::usage::usage_of;
use super::wire::evidence_out::{EvidenceView, evidence_view};
use super::{ApiState, json};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

/// Read when the promise was in force and what was delivered
#[utoipa::path(
    get,
    path = "/qos-transfers/v0.1/reservations/{id}/evidence",
    tag = "reservations",
    operation_id = "getEvidence",
    params(("id" = String, Path, description = "`reservation_id`")),
    responses((status = 200, description = "Intervals of the leg and slots", body = EvidenceView))
)]
pub async fn show(
    State(api): State<ApiState>,
    caller: Caller,
    PathText(id): PathText,
) -> Result<Response, ApiError> {
    let reservation = api.reservation(&caller, &id).await?;
    let intervals = api.reader().intervals(reservation.id).await?;
    let facts = usage_of(&api, &reservation).await?;
    let slot_length = api.handle().snapshot().slot_length;
    Ok(json(StatusCode::OK, &evidence_view(&intervals, &facts, slot_length)))
}
