//! `GET /reservations/{id}/events`: what happened, in order.

use super::error::ApiError;
use super::extract::{Caller, PathText};
use super::wire::events_out::{EventsView, events_view};
use super::{ApiState, json};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

/// Read what happened to a reservation
#[utoipa::path(
    get,
    path = "/qos-transfers/v0.1/reservations/{id}/events",
    tag = "reservations",
    operation_id = "getEvents",
    params(("id" = String, Path, description = "`reservation_id`")),
    responses((status = 200, description = "In order", body = EventsView))
)]
pub async fn show(
    State(api): State<ApiState>,
    caller: Caller,
    PathText(id): PathText,
) -> Result<Response, ApiError> {
    let reservation = api.reservation(&caller, &id).await?;
    let rows = api.reader().events(reservation.id).await?;
    Ok(json(StatusCode::OK, &events_view(&rows)))
}
