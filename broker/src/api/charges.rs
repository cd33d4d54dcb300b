//! `GET /reservations/{id}/charges`: the bill, recomputable by an outsider.

use super::error::ApiError;
use super::usage::Readings;
use super::wire::charges_out::{ChargesView, charges_view};
use super::wire::page_in::PageQuery;
use super::{ApiState, json};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

/// Read the bill and what it is made of
#[utoipa::path(
    get,
    path = "/qos-transfers/v0.1/reservations/{id}/charges",
    tag = "reservations",
    operation_id = "getCharges",
    params(("id" = String, Path, description = "`reservation_id`"), PageQuery),
    responses((status = 200, description = "Final when `settled`; a page of its slots", body = ChargesView))
)]
pub async fn show(
    State(api): State<ApiState>,
    Readings(reservation, facts): Readings,
) -> Result<Response, ApiError> {
    let snapshot = api.handle().snapshot();
    let view = charges_view(api.names(&snapshot), &reservation, &facts, snapshot.slot_length);
    Ok(json(StatusCode::OK, &view))
}
