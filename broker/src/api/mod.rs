//! The REST face: `/qos-transfers/v0.1`, the NOC's verbs, health, metrics, OpenAPI. One file per resource;
//! wire types in `wire`. Handlers convert, submit, render; nothing is decided here.

mod accesses;
pub mod catalogue;
pub mod charges;
pub mod error;
pub mod events;
pub mod evidence;
pub mod extract;
pub mod flows;
pub mod instant;
pub mod limits;
pub mod openapi;
pub mod ops;
pub mod peers;
pub mod quotes;
pub mod request;
pub mod reservations;
pub mod server;
pub mod tiers;
pub mod top_ups;
pub mod usage;
pub mod wallet;
pub mod wire;

use crate::agents::Hub;
use crate::auth::Keys;
use crate::driver::{Handle, Lane, Snapshot};
use crate::gx::Gateways;
use crate::public_id::PublicIds;
use crate::store::Reader;
use crate::telemetry::metrics::Metrics;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use error::{ApiError, EdgeCode, Invalid};
use extract::Customer;
use limits::{BODY_BYTES_MAX, BODY_TIMEOUT};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tollway_core::reservation::Promise;
use tollway_core::{Code, Command, IdempotencyKey, Input, Refusal, Reply};
use tollway_model::ReservationId;
use wire::Names;

/// Where the customers' resources live.
pub const BASE: &str = "/qos-transfers/v0.1";

/// Where the NOC's verbs live.
pub const NOC_BASE: &str = "/noc/v0.1";

/// What every handler works with. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    shared: Arc<Shared>,
    body_timeout: Duration,
    gateways: Option<Gateways>,
}

struct Shared {
    handle: Handle,
    reader: Reader,
    ids: PublicIds,
    keys: Arc<Keys>,
    hub: Arc<Hub>,
    metrics: Metrics,
    requests: request::Ids,
}

impl ApiState {
    /// # Errors
    /// When the metrics' names clash: a bug.
    pub fn new(
        handle: Handle,
        reader: Reader,
        ids: PublicIds,
        keys: Arc<Keys>,
        hub: Arc<Hub>,
    ) -> Result<ApiState, prometheus::Error> {
        let metrics = Metrics::new()?;
        let requests = request::Ids::new();
        let shared = Arc::new(Shared { handle, reader, ids, keys, hub, metrics, requests });
        Ok(ApiState { shared, body_timeout: BODY_TIMEOUT, gateways: None })
    }

    /// With less patience for bodies.
    pub fn with_body_timeout(self, body_timeout: Duration) -> ApiState {
        ApiState { body_timeout, ..self }
    }

    /// With gateways to be asked about.
    pub fn with_gateways(self, gateways: Option<Gateways>) -> ApiState {
        ApiState { gateways, ..self }
    }

    pub(crate) const fn gateways(&self) -> Option<&Gateways> {
        self.gateways.as_ref()
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        self.body_timeout
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.shared.handle
    }

    pub(crate) fn reader(&self) -> &Reader {
        &self.shared.reader
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.shared.keys
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.shared.hub
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    pub(crate) fn requests(&self) -> &request::Ids {
        &self.shared.requests
    }

    pub(crate) fn ids(&self) -> &PublicIds {
        &self.shared.ids
    }

    pub(crate) fn names<'a>(&'a self, snapshot: &'a Snapshot) -> Names<'a> {
        Names { config: &snapshot.config, ids: &self.shared.ids }
    }

    /// Hands a customer's command to the engine. A refusal becomes its error, with offers.
    async fn submit(
        &self,
        lane: Lane,
        customer: &Customer,
        key: IdempotencyKey,
        command: Command,
    ) -> Result<Reply, ApiError> {
        let customer = customer.id;
        let make = |request| Input::Client { request, customer, key: Some(key), command };
        self.finish(self.shared.handle.submit(lane, make).await?)
    }

    /// As [`ApiState::submit`], for a verb on a reservation. The engine forgets what ended long ago; the
    /// projections do not, and the customer is told that it ended rather than that it never was.
    async fn submit_verb(
        &self,
        lane: Lane,
        customer: &Customer,
        key: IdempotencyKey,
        (id, command): (ReservationId, Command),
    ) -> Result<Reply, ApiError> {
        let error = match self.submit(lane, customer, key, command).await {
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        let is_unknown = matches!(&error, ApiError::Refusal(refused) if refused.code == Code::NotFound);
        if is_unknown
            && let Some(found) = self.shared.reader.reservation(id).await?
            && found.customer == customer.id
            && let Promise::Ended { reason, .. } = found.promise
        {
            let message = format!("the reservation has ended: {}", reason.as_str());
            return Err(ApiError::refused_plain(Refusal::new(Code::WrongState, message)));
        }
        Err(error)
    }

    /// A reply of the engine, its refusals as errors.
    fn finish(&self, reply: Reply) -> Result<Reply, ApiError> {
        match reply {
            Reply::Refused(refusal) => {
                let snapshot = self.shared.handle.snapshot();
                Err(ApiError::refused(self.names(&snapshot), &refusal))
            }
            Reply::Quote(_) | Reply::Reservation(_) | Reply::ToppedUp { .. } | Reply::Configured { .. } => {
                Ok(reply)
            }
        }
    }
}

fn no_reservation() -> ApiError {
    Invalid::not_found("there is no such reservation").into()
}

fn json<T: Serialize>(status: StatusCode, view: &T) -> Response {
    (status, axum::Json(view)).into_response()
}

async fn no_route() -> ApiError {
    Invalid::not_found("there is nothing at this path")
        .fix("use a path that `GET /openapi.json` shows")
        .into()
}

async fn no_method() -> ApiError {
    Invalid::new(EdgeCode::MethodNotAllowed, "this path does not know this method").into()
}

/// All routes. The outermost layer gives every request its id, counts it and writes error bodies.
pub fn router(state: ApiState) -> Router {
    let customers = Router::new()
        .route("/quotes", post(quotes::create))
        .route("/reservations", get(reservations::list).post(reservations::take))
        .route("/reservations/{id}", get(reservations::show))
        .route("/reservations/{id}/confirm", post(reservations::confirm))
        .route("/reservations/{id}/cancel", post(reservations::cancel))
        .route("/reservations/{id}/flows", put(flows::replace))
        .route("/reservations/{id}/usage", get(usage::show))
        .route("/reservations/{id}/evidence", get(evidence::show))
        .route("/reservations/{id}/charges", get(charges::show))
        .route("/reservations/{id}/events", get(events::show))
        .route("/accesses", get(accesses::list))
        .route("/tiers", get(tiers::list))
        .route("/wallet", get(wallet::show));
    let noc = Router::new()
        .route("/peers", get(peers::list))
        .route("/wallets/{customer}", get(top_ups::wallet))
        .route("/wallets/{customer}/top-ups", get(top_ups::list).post(top_ups::create));
    Router::new()
        .nest(BASE, customers)
        .nest(NOC_BASE, noc)
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .route("/openapi.json", get(ops::openapi))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(state.clone(), request::layer))
        .with_state(state)
}
