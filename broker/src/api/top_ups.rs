//! `POST /noc/v0.1/wallets/{customer}/top-ups`: money received, by the NOC's key.

use super::error::{ApiError, Invalid};
use super::extract::{Body, KeyText, Noc, PathText};
use super::quotes::encoded;
use super::wire::top_up_in::{TopUpIn, to_amount};
use super::wire::wallet_out::{ToppedUpView, topped_up_view};
use super::{ApiState, json};
use crate::driver::Lane;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use tollway_core::{Input, Reply};

/// Credit a customer's wallet
#[utoipa::path(
    post,
    path = "/noc/v0.1/wallets/{customer}/top-ups",
    tag = "noc",
    operation_id = "topUpWallet",
    params(("customer" = String, Path, description = "The customer's configured name")),
    request_body = TopUpIn,
    responses((status = 201, description = "Credited; who and why are in the record", body = ToppedUpView))
)]
pub async fn create(
    State(api): State<ApiState>,
    noc: Noc,
    key: KeyText,
    PathText(name): PathText,
    Body(body): Body<TopUpIn>,
) -> Result<Response, ApiError> {
    let amount = to_amount(&body)?;
    let snapshot = api.handle().snapshot();
    let customer = snapshot.config.customer_id(&name).ok_or_else(|| {
        Invalid::not_found("there is no such customer").fix("use a name that the configuration has")
    })?;
    let key = key.bind(customer, "top_up", 0, &encoded(&(amount, &body.reason, &noc.actor)));
    let make = |request| Input::TopUp {
        request,
        key: Some(key),
        customer,
        amount,
        actor: noc.actor,
        reason: body.reason,
    };
    let reply = api.handle().submit(Lane::Noc, make).await?;
    match api.finish(reply)? {
        Reply::ToppedUp { customer, balance } => {
            let snapshot = api.handle().snapshot();
            let name = api.names(&snapshot).customer(customer);
            Ok(json(StatusCode::CREATED, &topped_up_view(name, balance)))
        }
        other @ (Reply::Quote(_) | Reply::Reservation(_) | Reply::Refused(_) | Reply::Configured { .. }) => {
            Err(ApiError::unexpected(&other))
        }
    }
}
