//! `GET /reservations/{id}/events`: what happened, in order.

use super::error::ApiError;
use super::extract::{Paged, Visible};
use super::wire::events_out::{EventsView, events_view};
use super::wire::page_in::PageQuery;
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
    params(("id" = String, Path, description = "`reservation_id`"), PageQuery),
    responses((status = 200, description = "A page, in order", body = EventsView))
)]
pub async fn show(
    State(api): State<ApiState>,
    Visible(reservation): Visible,
    page: Paged<1>,
) -> Result<Response, ApiError> {
    let [after] = page.after;
    let events = api.reader().events(reservation.id, after, page.limit).await?;
    Ok(json(StatusCode::OK, &events_view(&events)))
}
