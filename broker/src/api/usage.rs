//! `GET /reservations/{id}/usage`: the meters' readings.

use super::error::ApiError;
use super::extract::{Paged, Visible};
use super::no_reservation;
use super::wire::page_in::PageQuery;
use super::wire::usage_out::{UsageView, usage_view};
use super::{ApiState, json};
use crate::store::{Page, Place};
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use tollway_core::Reservation;
use tollway_core::record::UsageFact;
use tollway_model::ReservationId;

/// Read what the meters said
#[utoipa::path(
    get,
    path = "/qos-transfers/v0.1/reservations/{id}/usage",
    tag = "reservations",
    operation_id = "getUsage",
    params(("id" = String, Path, description = "`reservation_id`"), PageQuery),
    responses((status = 200, description = "A page of cumulative readings, layer-3 bytes", body = UsageView))
)]
pub async fn show(
    State(api): State<ApiState>,
    Readings(reservation, facts): Readings,
) -> Result<Response, ApiError> {
    let snapshot = api.handle().snapshot();
    let view = usage_view(api.names(&snapshot), &reservation, &facts, snapshot.slot_length);
    Ok(json(StatusCode::OK, &view))
}

/// A page of readings beside the reservation as they made it.
pub struct Readings(pub Reservation, pub Page<UsageFact>);

impl Readings {
    pub(super) async fn of(
        api: &ApiState,
        id: ReservationId,
        after: Place,
        limit: u32,
    ) -> Result<Readings, ApiError> {
        let found = api.reader().usage(id, after, limit).await?;
        found.map(|(reservation, facts)| Readings(reservation, facts)).ok_or_else(no_reservation)
    }
}

impl FromRequestParts<ApiState> for Readings {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Readings, ApiError> {
        let Visible(reservation) = Visible::from_request_parts(parts, api).await?;
        let Paged { limit, after: [after] } = Paged::from_request_parts(parts, api).await?;
        Readings::of(api, reservation.id, after, limit).await
    }
}
