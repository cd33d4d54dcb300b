//! `GET /reservations/{id}/evidence`: delivered against promised.

use super::error::ApiError;
use super::extract::{Paged, Visible};
use super::usage::Readings;
use super::wire::evidence_out::{EvidenceView, evidence_view};
use super::wire::page_in::PageQuery;
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
    params(("id" = String, Path, description = "`reservation_id`"), PageQuery),
    responses((status = 200, description = "A page of the leg's intervals and one of slots", body = EvidenceView))
)]
pub async fn show(
    State(api): State<ApiState>,
    Visible(reservation): Visible,
    page: Paged<2>,
) -> Result<Response, ApiError> {
    let [intervals_after, readings_after] = page.after;
    let intervals = api.reader().intervals(reservation.id, intervals_after, page.limit).await?;
    let Readings(_, facts) = Readings::of(&api, reservation.id, readings_after, page.limit).await?;
    let slot_length = api.handle().snapshot().slot_length;
    Ok(json(StatusCode::OK, &evidence_view(&intervals, &facts, slot_length)))
}
