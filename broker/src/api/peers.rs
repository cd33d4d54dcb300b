//! `/noc/v0.1/peers`: Diameter peers and gateways, by the NOC's key.

use super::error::ApiError;
use super::extract::Noc;
use super::wire::peers_out::{PeersView, peers_view};
use super::{ApiState, json};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

/// Read the state of Diameter peers and gateways
#[utoipa::path(
    get,
    path = "/noc/v0.1/peers",
    tag = "noc",
    operation_id = "getPeers",
    responses((status = 200, description = "All that are configured; none without `[gx]`", body = PeersView))
)]
pub async fn list(State(api): State<ApiState>, _: Noc) -> Result<Response, ApiError> {
    let status = match api.gateways() {
        Some(gateways) => gateways.status().await,
        None => crate::gx::Status::default(),
    };
    Ok(json(StatusCode::OK, &peers_view(&status)))
}
