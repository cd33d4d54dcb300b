//! `/reservations`: holds, confirmations, cancellations, and reading them.

use super::error::{ApiError, Invalid};
use super::extract::{Body, BodyOrDefault, Caller, Customer, KeyText, PathText, Visible, limit_of};
use super::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};
use super::quotes::encoded;
use super::wire::flow_in::to_flows;
use super::wire::reservation_in::{CancelIn, ConfirmIn, ListQuery, TakeIn};
use super::wire::reservation_out::{ReservationView, ReservationsView, reservation_view};
use super::{ApiState, json, no_reservation};
use crate::driver::Lane;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use tollway_core::{Command, Reply};
use tollway_model::ReservationId;

/// Take an offer: hold its capacity and its price
#[utoipa::path(
    post,
    path = "/qos-transfers/v0.1/reservations",
    tag = "reservations",
    operation_id = "takeOffer",
    request_body = TakeIn,
    responses((status = 201, description = "Held until `hold_expires_at`", body = ReservationView))
)]
pub async fn take(
    State(api): State<ApiState>,
    customer: Customer,
    key: KeyText,
    Body(body): Body<TakeIn>,
) -> Result<Response, ApiError> {
    let offer = api.ids().parse_offer(&body.offer_id).ok_or_else(|| {
        Invalid::not_found("there is no such offer").fix("use an `offer_id` of a quote of this customer")
    })?;
    let key = key.bind(customer.id, "take", 0, &encoded(&offer));
    let reply = api.submit(Lane::Reserve, &customer, key, Command::Take { offer }).await?;
    if let Reply::Reservation(reservation) = &reply {
        tracing::Span::current().record("reservation", api.ids().reservation(reservation.id));
    }
    answer(&api, StatusCode::CREATED, &reply)
}

/// Confirm a hold
#[utoipa::path(
    post,
    path = "/qos-transfers/v0.1/reservations/{id}/confirm",
    tag = "reservations",
    operation_id = "confirmReservation",
    params(("id" = String, Path, description = "`reservation_id`")),
    request_body = ConfirmIn,
    responses((status = 200, description = "The promise stands", body = ReservationView))
)]
pub async fn confirm(
    State(api): State<ApiState>,
    customer: Customer,
    key: KeyText,
    PathText(id): PathText,
    BodyOrDefault(body): BodyOrDefault<ConfirmIn>,
) -> Result<Response, ApiError> {
    let reservation = parse_id(&api, &id)?;
    let flows = body.flows.map(to_flows).transpose()?;
    let key = key.bind(customer.id, "confirm", reservation.0, &encoded(&flows));
    let command = (reservation, Command::Confirm { reservation, flows });
    let reply = api.submit_verb(Lane::Confirm, &customer, key, command).await?;
    answer(&api, StatusCode::OK, &reply)
}

/// Cancel a reservation or a hold
#[utoipa::path(
    post,
    path = "/qos-transfers/v0.1/reservations/{id}/cancel",
    tag = "reservations",
    operation_id = "cancelReservation",
    params(("id" = String, Path, description = "`reservation_id`")),
    request_body = CancelIn,
    responses((status = 200, description = "Ended; what was not used is given back", body = ReservationView))
)]
pub async fn cancel(
    State(api): State<ApiState>,
    customer: Customer,
    key: KeyText,
    PathText(id): PathText,
    BodyOrDefault(CancelIn {}): BodyOrDefault<CancelIn>,
) -> Result<Response, ApiError> {
    let reservation = parse_id(&api, &id)?;
    let key = key.bind(customer.id, "cancel", reservation.0, &[]);
    let command = (reservation, Command::Cancel { reservation });
    let reply = api.submit_verb(Lane::Urgent, &customer, key, command).await?;
    answer(&api, StatusCode::OK, &reply)
}

/// Read one reservation
#[utoipa::path(
    get,
    path = "/qos-transfers/v0.1/reservations/{id}",
    tag = "reservations",
    operation_id = "getReservation",
    params(("id" = String, Path, description = "`reservation_id`")),
    responses((status = 200, description = "As committed", body = ReservationView))
)]
pub async fn show(State(api): State<ApiState>, Visible(reservation): Visible) -> Result<Response, ApiError> {
    let snapshot = api.handle().snapshot();
    Ok(json(StatusCode::OK, &reservation_view(api.names(&snapshot), &reservation)))
}

/// List reservations
#[utoipa::path(
    get,
    path = "/qos-transfers/v0.1/reservations",
    tag = "reservations",
    operation_id = "listReservations",
    params(ListQuery),
    responses((status = 200, description = "A page, oldest first", body = ReservationsView))
)]
pub async fn list(
    State(api): State<ApiState>,
    caller: Caller,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|rejection| Invalid::field("query", rejection.body_text()))?;
    let limit = limit_of(query.limit, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX)?;
    let state = query.state.as_deref();
    if state.is_some_and(|word| !matches!(word, "held" | "booked" | "running" | "ended")) {
        return Err(Invalid::field("query state", "it is not a promise's word")
            .fix("use held, booked, running or ended")
            .into());
    }
    let after = match query.after.as_deref() {
        None => None,
        Some(text) => Some(api.ids().parse_reservation(text).ok_or_else(|| {
            Invalid::field("query after", "it is not a reservation of this market")
                .fix("use `next` of a page")
        })?),
    };
    let found = api.reader().reservations(caller.sees(), state, after, limit).await?;
    let snapshot = api.handle().snapshot();
    let names = api.names(&snapshot);
    let is_full = u32::try_from(found.len()).is_ok_and(|count| count == limit);
    let next = found.last().filter(|_| is_full).map(|last| api.ids().reservation(last.id));
    let reservations = found.iter().map(|reservation| reservation_view(names, reservation)).collect();
    Ok(json(StatusCode::OK, &ReservationsView { reservations, next }))
}

/// The number of a public id; what this market did not write does not exist.
pub(super) fn parse_id(api: &ApiState, text: &str) -> Result<ReservationId, ApiError> {
    let id = api.ids().parse_reservation(text).ok_or_else(no_reservation)?;
    tracing::Span::current().record("reservation", text);
    Ok(id)
}

/// A reservation's answer.
pub(super) fn answer(api: &ApiState, status: StatusCode, reply: &Reply) -> Result<Response, ApiError> {
    match reply {
        Reply::Reservation(reservation) => {
            let snapshot = api.handle().snapshot();
            Ok(json(status, &reservation_view(api.names(&snapshot), reservation)))
        }
        Reply::Quote(_) | Reply::Refused(_) | Reply::ToppedUp { .. } | Reply::Configured { .. } => {
            Err(ApiError::unexpected(reply))
        }
    }
}
