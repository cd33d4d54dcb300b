//! `GET /tiers`: what is on sale, each with its promise.

use super::error::ApiError;
use super::extract::Caller;
use super::wire::tier_out::{TiersView, tiers_view};
use super::{ApiState, json};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

/// List what is on sale
#[utoipa::path(
    get,
    path = "/qos-transfers/v0.1/tiers",
    tag = "tiers",
    operation_id = "listTiers",
    responses((status = 200, description = "Tiers with tariff and promise", body = TiersView))
)]
pub async fn list(State(api): State<ApiState>, _: Caller) -> Result<Response, ApiError> {
    let snapshot = api.handle().snapshot();
    Ok(json(StatusCode::OK, &tiers_view(snapshot.config.tiers.values())))
}
