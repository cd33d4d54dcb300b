//! `GET /wallet`: the customer's prepaid money.

use super::error::ApiError;
use super::extract::Customer;
use super::wire::wallet_out::{WalletView, wallet_view};
use super::{ApiState, json};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

/// Read the wallet
#[utoipa::path(
    get,
    path = "/qos-transfers/v0.1/wallet",
    tag = "wallet",
    operation_id = "getWallet",
    responses((status = 200, description = "Balance, held, available", body = WalletView))
)]
pub async fn show(State(api): State<ApiState>, customer: Customer) -> Result<Response, ApiError> {
    let wallet = api.reader().wallet(customer.id, customer.currency).await?;
    Ok(json(StatusCode::OK, &wallet_view(wallet.balance, wallet.held)))
}
