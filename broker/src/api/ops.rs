//! For operators and machines: health, readiness, metrics, the API's description. No key is asked for; bind
//! the port where only they can reach it, or put a proxy before it.

use super::openapi::document;
use super::{ApiState, json};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Whether requests are taken, and if not, why.
#[derive(Serialize, ToSchema)]
pub struct ReadinessView {
    pub ready: bool,
    pub reasons: Vec<String>,
}

/// Whether the process lives
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operations",
    operation_id = "getHealth",
    security(()),
    responses((status = 200, description = "It does", body = String, content_type = "text/plain"))
)]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether requests are taken
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    operation_id = "getReadiness",
    security(()),
    responses(
        (status = 200, description = "They are", body = ReadinessView),
        (status = 503, description = "They are not, and why", body = ReadinessView)
    )
)]
pub async fn readyz(State(api): State<ApiState>) -> Response {
    match api.handle().readiness() {
        Ok(()) => json(StatusCode::OK, &ReadinessView { ready: true, reasons: Vec::new() }),
        Err(reasons) => json(StatusCode::SERVICE_UNAVAILABLE, &ReadinessView { ready: false, reasons }),
    }
}

/// Figures in Prometheus's text form
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    operation_id = "getMetrics",
    security(()),
    responses((status = 200, description = "`docs/metrics.md` lists the names", body = String, content_type = "text/plain"))
)]
pub async fn metrics(State(api): State<ApiState>) -> Response {
    let gateways = match api.gateways() {
        Some(gateways) => Some(gateways.status().await),
        None => None,
    };
    match api.metrics().render(api.handle(), api.hub().directory(), gateways.as_ref()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => super::ApiError::Fault(format!("metrics cannot be written: {error}")).into_response(),
    }
}

/// This API's description
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "operations",
    operation_id = "getDescription",
    security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value))
)]
pub async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document()).into_response()
}
