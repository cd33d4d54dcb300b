//! `/noc/v0.1/wallets/{customer}/top-ups`: money received, by the NOC's key.

use super::error::{ApiError, Invalid};
use super::extract::{Body, KeyText, Noc, Paged, PathText};
use super::quotes::encoded;
use super::wire::page_in::PageQuery;
use super::wire::top_up_in::{TopUpIn, to_amount};
use super::wire::wallet_out::{
    CustomerWalletView, TopUpsView, ToppedUpView, customer_wallet_view, top_ups_view, topped_up_view,
};
use super::{ApiState, json};
use crate::driver::Lane;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use tollway_core::{Input, Reply};
use tollway_model::{Currency, CustomerId};

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
    let (customer, _) = named(&api, &name)?;
    let key = key.bind(customer, "top_up", 0, &encoded(&(amount, &body.reason, &noc.actor)));
    let (actor, reason) = (noc.actor.clone(), body.reason.clone());
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
            // A retry with the same key is answered, and told, again: it was credited once.
            tracing::info!(customer = %name, %amount, actor, "a wallet was topped up");
            tracing::debug!(customer = %name, reason, "why a wallet was topped up");
            Ok(json(StatusCode::CREATED, &topped_up_view(name, balance)))
        }
        other @ (Reply::Quote(_) | Reply::Reservation(_) | Reply::Refused(_) | Reply::Configured { .. }) => {
            Err(ApiError::unexpected(&other))
        }
    }
}

/// Read a customer's wallet
#[utoipa::path(
    get,
    path = "/noc/v0.1/wallets/{customer}",
    tag = "noc",
    operation_id = "getCustomerWallet",
    params(("customer" = String, Path, description = "The customer's configured name")),
    responses((status = 200, description = "Balance, held, available", body = CustomerWalletView))
)]
pub async fn wallet(
    State(api): State<ApiState>,
    _: Noc,
    PathText(name): PathText,
) -> Result<Response, ApiError> {
    let (customer, currency) = named(&api, &name)?;
    let wallet = api.reader().wallet(customer, currency).await?;
    Ok(json(StatusCode::OK, &customer_wallet_view(name, wallet.balance, wallet.held)))
}

/// List what a customer's wallet was credited with
#[utoipa::path(
    get,
    path = "/noc/v0.1/wallets/{customer}/top-ups",
    tag = "noc",
    operation_id = "listTopUps",
    params(("customer" = String, Path, description = "The customer's configured name"), PageQuery),
    responses((status = 200, description = "A page of top-ups, the newest first", body = TopUpsView))
)]
pub async fn list(
    State(api): State<ApiState>,
    _: Noc,
    PathText(name): PathText,
    page: Paged<1>,
) -> Result<Response, ApiError> {
    let (customer, _) = named(&api, &name)?;
    let [after] = page.after;
    let top_ups = api.reader().top_ups(customer, after, page.limit).await?;
    Ok(json(StatusCode::OK, &top_ups_view(name, &top_ups)))
}

fn named(api: &ApiState, name: &str) -> Result<(CustomerId, Currency), ApiError> {
    let snapshot = api.handle().snapshot();
    let customers = &snapshot.config.customers;
    let found = customers.iter().find(|(_, def)| def.name == name).map(|(id, def)| (*id, def.currency));
    let unknown =
        || Invalid::not_found("there is no such customer").fix("use a name that the configuration has");
    found.ok_or_else(|| unknown().into())
}
