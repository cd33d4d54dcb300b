//! For operators and machines: health, readiness, metrics, the API's description. No key is asked for; bind
//! the port where only they can reach it, or put a proxy before it.

use super::limits::ACCESSES_NAMED_MAX;
use super::openapi::document;
use super::{ApiState, json};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use tollway_core::state::Config;
use utoipa::ToSchema;

/// Whether requests are taken, and if not, why.
#[derive(Serialize, ToSchema)]
pub struct ReadinessView {
    pub ready: bool,
    pub reasons: Vec<String>,
    /// What is not served although requests are taken: enforcement points without a connected agent, with their
    /// accesses. What starts there meanwhile ends unpaid.
    pub degraded: Vec<String>,
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
        (status = 200, description = "They are; `degraded` names what is not served all the same", body = ReadinessView),
        (status = 503, description = "They are not, and why", body = ReadinessView)
    )
)]
pub async fn readyz(State(api): State<ApiState>) -> Response {
    let connected = api.hub().directory().connected_points();
    let degraded = degraded(&api.handle().snapshot().config, &connected);
    match api.handle().readiness() {
        Ok(()) => json(StatusCode::OK, &ReadinessView { ready: true, reasons: Vec::new(), degraded }),
        Err(reasons) => {
            json(StatusCode::SERVICE_UNAVAILABLE, &ReadinessView { ready: false, reasons, degraded })
        }
    }
}

/// A sentence for each configured enforcement point that is not connected, in order of name.
fn degraded(config: &Config, connected: &BTreeSet<String>) -> Vec<String> {
    let mut away: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for access in config.accesses.values().filter(|a| !connected.contains(&a.enforcement_point)) {
        away.entry(&access.enforcement_point).or_default().push(&access.name);
    }
    let sentence = |(point, accesses): (&str, Vec<&str>)| {
        let named = accesses.len().min(ACCESSES_NAMED_MAX);
        let more = match accesses.len() - named {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let names = accesses[..named].join(", ");
        format!(
            "no agent for enforcement point {point} is connected: not served are the accesses {names}{more}"
        )
    };
    away.into_iter().map(sentence).collect()
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
