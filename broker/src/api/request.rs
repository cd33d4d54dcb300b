//! The outermost layer: a request's id (echoed from `x-correlator` or made), its log span and line, its
//! figures, the body of its error.

use crate::api::ApiState;
use crate::api::error::{ApiError, Invalid, Pending};
use crate::api::limits::CORRELATOR_CHARS_MAX;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tracing::Instrument;

/// CAMARA's header for a request's id.
pub const CORRELATOR: &str = "x-correlator";

/// Makes ids for requests that come without: a nonce of this start and a counter.
pub struct Ids {
    nonce: u32,
    next: AtomicU64,
}

impl Ids {
    pub fn new() -> Ids {
        // The standard library seeds each hasher state from the system's randomness.
        let seed = std::collections::hash_map::RandomState::new().build_hasher().finish();
        Ids { nonce: u32::try_from(seed & u64::from(u32::MAX)).unwrap_or(0), next: AtomicU64::new(1) }
    }

    fn make(&self) -> String {
        format!("{:08x}-{}", self.nonce, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

impl Default for Ids {
    fn default() -> Ids {
        Ids::new()
    }
}

/// `^[a-zA-Z0-9-_:;.\/<>{}]{0,256}$`, as CAMARA has it; empty is as good as none.
fn is_correlator(text: &str) -> bool {
    text.len() <= CORRELATOR_CHARS_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_:;./<>{}".contains(&byte))
}

/// Methods that are counted by name; others are one label, so that a client cannot make series.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

pub async fn layer(State(api): State<ApiState>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let given = request.headers().get(CORRELATOR).map(|value| value.to_str().unwrap_or("\u{0}").to_owned());
    let (id, is_bad) = match given {
        Some(text) if !text.is_empty() && is_correlator(&text) => (text, false),
        Some(text) => (api.requests().make(), !text.is_empty()),
        None => (api.requests().make(), false),
    };
    let span = tracing::info_span!(
        "request",
        request_id = %id,
        method,
        route = %route,
        key = tracing::field::Empty,
        reservation = tracing::field::Empty,
    );
    let in_flight = api.metrics().begin();
    let response = if is_bad {
        bad_correlator().into_response()
    } else {
        next.run(request).instrument(span.clone()).await
    };
    let response = span.in_scope(|| finish(response, &id));
    drop(in_flight);
    let status = response.status().as_u16();
    let elapsed = started.elapsed();
    api.metrics().observe(method, &route, status, elapsed);
    let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    if matches!(route.as_str(), "/metrics" | "/healthz" | "/readyz") {
        tracing::debug!(parent: &span, status, elapsed_us, "answered");
    } else {
        tracing::info!(parent: &span, status, elapsed_us, "answered");
    }
    response
}

fn bad_correlator() -> ApiError {
    Invalid::field("header x-correlator", "it holds characters that it may not, or is too long")
        .fix("send at most 256 of the characters a-z A-Z 0-9 - _ : ; . / < > { }, or leave it away")
        .into()
}

/// Adds the id's header, and to an error its body.
fn finish(mut response: Response, id: &str) -> Response {
    if let Some(mut body) = response.extensions_mut().remove::<Pending>().and_then(|pending| pending.take()) {
        tracing::debug!(code = %body.code, message = %body.message, "refused");
        id.clone_into(&mut body.request_id);
        let status = response.status();
        let mut headers = std::mem::take(response.headers_mut());
        headers.remove(header::CONTENT_TYPE);
        headers.remove(header::CONTENT_LENGTH);
        response = (status, axum::Json(body)).into_response();
        response.headers_mut().extend(headers);
    }
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(CORRELATOR, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlators_have_a_form() {
        assert!(is_correlator("b4333c46-49c0-4f62-80d7-f0ef930f1c46"));
        assert!(is_correlator("<a>{b};c:d/e.f_g"));
        for bad in ["a b", "a\"b", "é", "a\u{0}"] {
            assert!(!is_correlator(bad), "{bad}");
        }
        assert!(!is_correlator(&"a".repeat(257)));
    }

    #[test]
    fn made_ids_differ() {
        let ids = Ids::new();
        assert_ne!(ids.make(), ids.make());
        assert!(is_correlator(&ids.make()));
    }
}
