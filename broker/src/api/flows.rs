//! `PUT /reservations/{id}/flows`: which packets the reservation is for, at or after its start.

use super::ApiState;
use super::error::ApiError;
use super::extract::{Body, Customer, KeyText, PathText};
use super::quotes::encoded;
use super::reservations::{answer, parse_id};
use super::wire::flow_in::to_flows;
use super::wire::reservation_in::FlowsIn;
use super::wire::reservation_out::ReservationView;
use crate::driver::Lane;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use tollway_core::Command;

/// Replace the set of flows, without a gap
#[utoipa::path(
    put,
    path = "/qos-transfers/v0.1/reservations/{id}/flows",
    tag = "reservations",
    operation_id = "replaceFlows",
    params(("id" = String, Path, description = "`reservation_id`")),
    request_body = FlowsIn,
    responses((status = 200, description = "The new set is on its way to the enforcement point", body = ReservationView))
)]
pub async fn replace(
    State(api): State<ApiState>,
    customer: Customer,
    key: KeyText,
    PathText(id): PathText,
    Body(body): Body<FlowsIn>,
) -> Result<Response, ApiError> {
    let reservation = parse_id(&api, &id)?;
    let flows = to_flows(body.flows)?;
    let key = key.bind(customer.id, "flows", reservation.0, &encoded(&flows));
    let command = (reservation, Command::BindFlows { reservation, flows });
    let reply = api.submit_verb(Lane::Confirm, &customer, key, command).await?;
    answer(&api, StatusCode::OK, &reply)
}
