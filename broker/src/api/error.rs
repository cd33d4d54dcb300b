//! Everything that can go wrong in a request, and how it is told: one body for all, with the way out.

use crate::api::limits::MESSAGE_CHARS_MAX;
use crate::api::wire::Names;
use crate::api::wire::offer_out::{OfferView, offer_view};
use crate::driver::Unavailable;
use crate::store;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tollway_core::refusal::{Code, Refusal};
use utoipa::ToSchema;

/// Codes of what the edge finds: nothing was decided, nothing is stored under a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EdgeCode {
    InvalidArgument,
    Unauthenticated,
    PermissionDenied,
    NotFound,
    MethodNotAllowed,
    PayloadTooLarge,
    UnsupportedMediaType,
    Unavailable,
    Internal,
}

impl EdgeCode {
    pub const ALL: [EdgeCode; 9] = [
        EdgeCode::InvalidArgument,
        EdgeCode::Unauthenticated,
        EdgeCode::PermissionDenied,
        EdgeCode::NotFound,
        EdgeCode::MethodNotAllowed,
        EdgeCode::PayloadTooLarge,
        EdgeCode::UnsupportedMediaType,
        EdgeCode::Unavailable,
        EdgeCode::Internal,
    ];

    /// The code's name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            EdgeCode::InvalidArgument => "INVALID_ARGUMENT",
            EdgeCode::Unauthenticated => "UNAUTHENTICATED",
            EdgeCode::PermissionDenied => "PERMISSION_DENIED",
            EdgeCode::NotFound => "NOT_FOUND",
            EdgeCode::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            EdgeCode::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            EdgeCode::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
            EdgeCode::Unavailable => "UNAVAILABLE",
            EdgeCode::Internal => "INTERNAL",
        }
    }

    /// HTTP status of the code.
    pub const fn status(self) -> u16 {
        match self {
            EdgeCode::InvalidArgument => 400,
            EdgeCode::Unauthenticated => 401,
            EdgeCode::PermissionDenied => 403,
            EdgeCode::NotFound => 404,
            EdgeCode::MethodNotAllowed => 405,
            EdgeCode::PayloadTooLarge => 413,
            EdgeCode::UnsupportedMediaType => 415,
            EdgeCode::Unavailable => 503,
            EdgeCode::Internal => 500,
        }
    }

    /// The way out, where the place that found it knows nothing better.
    pub const fn how_to_fix(self) -> &'static str {
        match self {
            EdgeCode::InvalidArgument => "mend the named property; `GET /openapi.json` has the form",
            EdgeCode::Unauthenticated => "send the header `Authorization: Bearer <api key>`",
            EdgeCode::PermissionDenied => "use a key of the kind that this operation is for",
            EdgeCode::NotFound => "use an id that this API returned to this customer",
            EdgeCode::MethodNotAllowed => "use a method that `GET /openapi.json` shows for this path",
            EdgeCode::PayloadTooLarge => "send at most 65536 bytes",
            EdgeCode::UnsupportedMediaType => "send JSON with the header `Content-Type: application/json`",
            EdgeCode::Unavailable => "try again after `Retry-After` seconds, with the same Idempotency-Key",
            EdgeCode::Internal => {
                "try again with the same Idempotency-Key; if it persists, name the request_id to the operator"
            }
        }
    }
}

/// What is wrong with a request, found before anything was decided.
#[derive(Clone, Debug)]
pub struct Invalid {
    pub code: EdgeCode,
    pub message: String,
    pub how_to_fix: String,
}

impl Invalid {
    pub fn new(code: EdgeCode, message: impl Into<String>) -> Invalid {
        Invalid { code, message: message.into(), how_to_fix: code.how_to_fix().to_owned() }
    }

    /// A property of the body, a query parameter or a header, by its path.
    pub fn field(path: &str, what: impl std::fmt::Display) -> Invalid {
        Invalid::new(EdgeCode::InvalidArgument, format!("{path}: {what}"))
    }

    pub fn not_found(message: impl Into<String>) -> Invalid {
        Invalid::new(EdgeCode::NotFound, message)
    }

    /// With a better way out than the code's own.
    pub fn fix(mut self, how: impl Into<String>) -> Invalid {
        self.how_to_fix = how.into();
        self
    }
}

/// A refusal of the engine, ready to be shown.
#[derive(Debug)]
pub struct Refused {
    pub code: Code,
    pub message: String,
    pub how_to_fix: String,
    pub quote_id: Option<String>,
    pub offers: Vec<OfferView>,
}

/// Everything that a request may end in instead of its answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Found at the edge; nothing is stored.
    #[error("{}", .0.message)]
    Invalid(Invalid),
    /// Decided by the engine.
    #[error("{}", .0.message)]
    Refusal(Box<Refused>),
    /// Cannot be decided now; the same key is safe.
    #[error("{message}")]
    Unavailable { message: String, retry_after_s: u64 },
    /// A bug or damage. The text is for the log, not for the client.
    #[error("{0}")]
    Fault(String),
}

impl ApiError {
    /// A refusal of the engine, with its offers as views.
    pub fn refused(names: Names<'_>, refusal: &Refusal) -> ApiError {
        let quote = refusal.quote;
        let offers = quote.map_or_else(Vec::new, |id| {
            refusal.offers.iter().map(|offer| offer_view(names, id, offer)).collect()
        });
        let message = match refusal.reservation() {
            Some(id) => format!("{}: reservation {}", refusal.message, names.ids.reservation(id)),
            None => refusal.message.clone(),
        };
        ApiError::Refusal(Box::new(Refused {
            code: refusal.code,
            message,
            how_to_fix: refusal.way_out().to_owned(),
            quote_id: quote.map(|id| names.ids.quote(id)),
            offers,
        }))
    }

    /// A refusal that carries no offers.
    pub fn refused_plain(refusal: Refusal) -> ApiError {
        ApiError::Refusal(Box::new(Refused {
            code: refusal.code,
            how_to_fix: refusal.way_out().to_owned(),
            message: refusal.message,
            quote_id: None,
            offers: Vec::new(),
        }))
    }

    /// An answer that does not belong to the question: a bug on our side.
    pub fn unexpected(reply: &tollway_core::Reply) -> ApiError {
        ApiError::Fault(format!("the engine answered with something else than was asked for: {reply:?}"))
    }

    fn status(&self) -> u16 {
        match self {
            ApiError::Invalid(invalid) => invalid.code.status(),
            ApiError::Refusal(refused) => refused.code.status(),
            ApiError::Unavailable { .. } => EdgeCode::Unavailable.status(),
            ApiError::Fault(_) => EdgeCode::Internal.status(),
        }
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> ApiError {
        ApiError::Invalid(invalid)
    }
}

impl From<Unavailable> for ApiError {
    fn from(error: Unavailable) -> ApiError {
        let message = error.to_string();
        match error {
            Unavailable::Busy { retry_after_s } | Unavailable::Stalled { retry_after_s, .. } => {
                ApiError::Unavailable { message, retry_after_s }
            }
            Unavailable::Stopping => ApiError::Unavailable { message, retry_after_s: 5 },
            Unavailable::Fault => ApiError::Fault(message),
        }
    }
}

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> ApiError {
        if error.may_pass() {
            tracing::warn!(error = %chain(&error), "a read of the store failed");
            return ApiError::Unavailable {
                message: "the store cannot be read now".to_owned(),
                retry_after_s: 2,
            };
        }
        ApiError::Fault(chain(&error))
    }
}

/// An error with all its causes on one line; a cause that only says again what stands there is left out.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}

/// The body of every answer that is not a success.
#[derive(Serialize, ToSchema)]
pub struct ErrorBody {
    pub status: u16,
    /// Stable; `docs/errors.md` lists them all.
    pub code: String,
    pub message: String,
    pub how_to_fix: String,
    /// The `x-correlator` of this request; name it when you ask the operator.
    pub request_id: String,
    /// Would be granted if taken at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub offers: Vec<OfferView>,
    /// The quote that `offers` belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quote_id: Option<String>,
}

/// An error on its way out; the outermost layer adds the request's id and writes the body.
#[derive(Clone)]
pub struct Pending(std::sync::Arc<std::sync::Mutex<Option<ErrorBody>>>);

impl Pending {
    fn new(body: ErrorBody) -> Pending {
        Pending(std::sync::Arc::new(std::sync::Mutex::new(Some(body))))
    }

    /// The body, once.
    pub fn take(&self) -> Option<ErrorBody> {
        self.0.lock().ok()?.take()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        if let ApiError::Unavailable { retry_after_s, .. } = &self {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*retry_after_s));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(Pending::new(body(self)));
        response
    }
}

fn body(error: ApiError) -> ErrorBody {
    let status = error.status();
    let plain = |code: EdgeCode, message: String, how_to_fix: String| ErrorBody {
        status,
        code: code.as_str().to_owned(),
        message: clipped(&message),
        how_to_fix,
        request_id: String::new(),
        offers: Vec::new(),
        quote_id: None,
    };
    match error {
        ApiError::Invalid(invalid) => plain(invalid.code, invalid.message, invalid.how_to_fix),
        ApiError::Unavailable { message, .. } => {
            plain(EdgeCode::Unavailable, message, EdgeCode::Unavailable.how_to_fix().to_owned())
        }
        ApiError::Fault(text) => {
            tracing::error!(error = %text, "a request failed through a fault of ours");
            let message = "the broker failed at this request".to_owned();
            plain(EdgeCode::Internal, message, EdgeCode::Internal.how_to_fix().to_owned())
        }
        ApiError::Refusal(refused) => ErrorBody {
            status,
            code: refused.code.as_str().to_owned(),
            message: clipped(&refused.message),
            how_to_fix: refused.how_to_fix,
            request_id: String::new(),
            offers: refused.offers,
            quote_id: refused.quote_id,
        },
    }
}

fn clipped(message: &str) -> String {
    match message.char_indices().nth(MESSAGE_CHARS_MAX) {
        None => message.to_owned(),
        Some((end, _)) => format!("{}…", &message[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_turned_away_is_told_when_to_come_again() {
        for (error, status, seconds) in [
            (Unavailable::Busy { retry_after_s: 1 }, 503, Some("1")),
            (
                Unavailable::Stalled { reason: "the disk is full".to_owned(), retry_after_s: 2 },
                503,
                Some("2"),
            ),
            (Unavailable::Stopping, 503, Some("5")),
            (Unavailable::Fault, 500, None),
        ] {
            let response = ApiError::from(error).into_response();
            assert_eq!(response.status(), status);
            let retry = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap());
            assert_eq!(retry, seconds);
            let body = response.extensions().get::<Pending>().unwrap().take().unwrap();
            assert_eq!(body.code, if status == 503 { "UNAVAILABLE" } else { "INTERNAL" });
        }
    }

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Said(&'static str, #[source] Option<Box<Said>>);
        let said = |text, cause: Option<Said>| Said(text, cause.map(Box::new));
        let full = said("no space", Some(said("database: (13) is full", Some(said("(13) is full", None)))));
        assert_eq!(chain(&full), "no space: database: (13) is full");
    }

    #[test]
    fn what_has_no_offers_does_not_send_to_them() {
        for code in Code::ALL {
            let refused = ApiError::refused_plain(Refusal::new(code, "no"));
            let fix = body(refused).how_to_fix;
            assert!(!fix.is_empty() && !fix.contains("`offers`"), "{}: {fix}", code.as_str());
        }
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        assert_eq!(clipped(&"é".repeat(600)), format!("{}…", "é".repeat(MESSAGE_CHARS_MAX)));
        assert_eq!(clipped("short"), "short");
    }
}
