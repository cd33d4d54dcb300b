//! What is taken from a request before anything is decided: who calls, the key, the body. Each refuses with
//! words and a way out; none of them can be passed with less than it says.

use crate::api::ApiState;
use crate::api::error::{ApiError, EdgeCode, Invalid};
use crate::api::limits::{KEY_CHARS_MAX, READINGS_DEFAULT, READINGS_MAX};
use crate::api::no_reservation;
use crate::api::wire::page_in::{PageQuery, places};
use crate::auth::KeyKind;
use crate::parser_words::{Form, plain};
use crate::store::Place;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tollway_core::{IdempotencyKey, Reservation};
use tollway_model::{Currency, CustomerId};

/// Whose key was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Caller {
    Customer(Customer),
    Noc(Noc),
}

/// A customer, by its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Customer {
    pub id: CustomerId,
    pub currency: Currency,
}

/// The NOC; `actor` is the key's name and goes into records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Noc {
    pub actor: String,
}

impl Caller {
    /// The customer whose things the caller may see; `None` for the NOC, which sees everyone's.
    pub const fn sees(&self) -> Option<CustomerId> {
        match self {
            Caller::Customer(customer) => Some(customer.id),
            Caller::Noc(_) => None,
        }
    }
}

fn wrong_kind(kind: &KeyKind, wanted: &str) -> ApiError {
    let message = format!("this operation is for a {wanted} key, the key sent is of kind {}", kind.as_str());
    Invalid::new(EdgeCode::PermissionDenied, message).into()
}

impl FromRequestParts<ApiState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Caller, ApiError> {
        let header = parts.headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let key = api.keys().authenticate(header).map_err(|error| {
            Invalid::new(EdgeCode::Unauthenticated, error.to_string()).fix(error.how_to_fix())
        })?;
        tracing::Span::current().record("key", key.name.as_str());
        match &key.kind {
            KeyKind::Noc => Ok(Caller::Noc(Noc { actor: key.name.clone() })),
            KeyKind::Customer { customer } => {
                let snapshot = api.handle().snapshot();
                let id = snapshot.config.customer_id(customer);
                let def = id.and_then(|id| snapshot.config.customers.get(&id));
                match (id, def) {
                    (Some(id), Some(def)) => Ok(Caller::Customer(Customer { id, currency: def.currency })),
                    (_, _) => Err(Invalid::new(
                        EdgeCode::PermissionDenied,
                        "the customer of this key is not configured",
                    )
                    .fix("ask the operator to configure the customer, or use another key")
                    .into()),
                }
            }
            KeyKind::Agent { .. } => Err(wrong_kind(&key.kind, "customer or noc")),
        }
    }
}

impl FromRequestParts<ApiState> for Customer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Customer, ApiError> {
        match Caller::from_request_parts(parts, api).await? {
            Caller::Customer(customer) => Ok(customer),
            Caller::Noc(_) => Err(wrong_kind(&KeyKind::Noc, "customer")),
        }
    }
}

impl FromRequestParts<ApiState> for Noc {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Noc, ApiError> {
        match Caller::from_request_parts(parts, api).await? {
            Caller::Noc(noc) => Ok(noc),
            Caller::Customer(_) => Err(wrong_kind(&KeyKind::Customer { customer: String::new() }, "noc")),
        }
    }
}

/// The one variable part of a path, decoded.
pub struct PathText(pub String);

impl FromRequestParts<ApiState> for PathText {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<PathText, ApiError> {
        match Path::<String>::from_request_parts(parts, api).await {
            Ok(Path(text)) => Ok(PathText(text)),
            Err(_) => Err(Invalid::field("path", "it is not UTF-8 when decoded")
                .fix("use an id or a name as this API wrote it")
                .into()),
        }
    }
}

/// The reservation that a path names, if the caller may see it. Another customer's does not exist.
pub struct Visible(pub Reservation);

impl FromRequestParts<ApiState> for Visible {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Visible, ApiError> {
        let caller = Caller::from_request_parts(parts, api).await?;
        let PathText(text) = PathText::from_request_parts(parts, api).await?;
        let id = api.ids().parse_reservation(&text).ok_or_else(no_reservation)?;
        tracing::Span::current().record("reservation", text.as_str());
        let found = api.reader().reservation(id).await?.ok_or_else(no_reservation)?;
        match caller.sees() {
            Some(customer) if customer != found.customer => Err(no_reservation()),
            Some(_) | None => Ok(Visible(found)),
        }
    }
}

/// Which page of an answer's lists to read.
pub struct Paged<const LISTS: usize> {
    pub limit: u32,
    pub after: [Place; LISTS],
}

impl<const LISTS: usize> FromRequestParts<ApiState> for Paged<LISTS> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Paged<LISTS>, ApiError> {
        let Query(query) = Query::<PageQuery>::from_request_parts(parts, api)
            .await
            .map_err(|rejection| Invalid::field("query", rejection.body_text()))?;
        let limit = limit_of(query.limit, READINGS_DEFAULT, READINGS_MAX)?;
        let after = match query.after.as_deref() {
            None => [Place::START; LISTS],
            Some(text) => places(text).ok_or_else(|| {
                Invalid::field("query after", "it is no place in this list").fix("use `next` of a page")
            })?,
        };
        Ok(Paged { limit, after })
    }
}

/// Rows of a page as the caller asks for them.
pub fn limit_of(asked: Option<u32>, default: u32, max: u32) -> Result<u32, Invalid> {
    let limit = asked.unwrap_or(default);
    if (1..=max).contains(&limit) {
        return Ok(limit);
    }
    Err(Invalid::field("query limit", format!("{limit} is out of bounds")).fix(format!("use 1 to {max}")))
}

/// The text of `Idempotency-Key`, compulsory on every write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyText(String);

impl FromRequestParts<ApiState> for KeyText {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<KeyText, ApiError> {
        let mut values = parts.headers.get_all("idempotency-key").iter();
        let (first, second) = (values.next(), values.next());
        let bad = |what: &str| {
            Invalid::field("header Idempotency-Key", what)
                .fix("send one `Idempotency-Key` of 1 to 128 visible ASCII characters: a new one for each new request, the same one for each retry")
        };
        let Some(value) = first else { return Err(bad("it is missing").into()) };
        if second.is_some() {
            return Err(bad("it is there twice").into());
        }
        let text = value.to_str().map_err(|_| bad("it is not visible ASCII"))?;
        if text.is_empty() || text.len() > KEY_CHARS_MAX {
            return Err(bad("it is empty or too long").into());
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad("it is not visible ASCII").into());
        }
        Ok(KeyText(text.to_owned()))
    }
}

impl KeyText {
    /// Binds the text to customer, operation and the id in the path, and to the parsed request. The request
    /// is hashed by its encoding, with relative times as they were given: a retry is the same request.
    pub fn bind(
        &self,
        customer: CustomerId,
        operation: &str,
        path_id: u64,
        request: &[u8],
    ) -> IdempotencyKey {
        let mut hash = Sha256::new();
        hash.update(customer.0.to_be_bytes());
        hash.update([u8::try_from(operation.len()).unwrap_or(u8::MAX)]);
        hash.update(operation.as_bytes());
        hash.update(path_id.to_be_bytes());
        hash.update(self.0.as_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let mut key = [0u8; 16];
        key.copy_from_slice(&digest[..16]);
        let body: [u8; 32] = Sha256::digest(request).into();
        let request = body.iter().take(8).fold(0, |value, byte| (value << 8) | u64::from(*byte));
        IdempotencyKey { key, request }
    }
}

/// A JSON body, strictly.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<ApiState> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &ApiState) -> Result<Body<T>, ApiError> {
        let is_json = is_json(request.headers());
        let bytes = read(request, api).await?;
        if !is_json {
            return Err(not_json());
        }
        parse(&bytes).map(Body)
    }
}

/// As [`Body`]; no body at all is the default.
pub struct BodyOrDefault<T>(pub T);

impl<T: DeserializeOwned + Default> FromRequest<ApiState> for BodyOrDefault<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &ApiState) -> Result<BodyOrDefault<T>, ApiError> {
        let is_json = is_json(request.headers());
        let bytes = read(request, api).await?;
        if bytes.is_empty() {
            return Ok(BodyOrDefault(T::default()));
        }
        if !is_json {
            return Err(not_json());
        }
        parse(&bytes).map(BodyOrDefault)
    }
}

fn not_json() -> ApiError {
    Invalid::new(EdgeCode::UnsupportedMediaType, "the body is not declared as JSON").into()
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json"
}

async fn read(request: Request, api: &ApiState) -> Result<Bytes, ApiError> {
    let bytes = tokio::time::timeout(api.body_timeout(), Bytes::from_request(request, api))
        .await
        .map_err(|_| Invalid::field("body", "it did not come in time").fix("send it at once"))?;
    bytes.map_err(|rejection| {
        let is_too_large =
            matches!(&rejection, BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)));
        if is_too_large {
            return Invalid::new(EdgeCode::PayloadTooLarge, "the body is longer than 65536 bytes").into();
        }
        Invalid::field("body", "it broke off").fix("send the whole body").into()
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let rejection = match axum::Json::<T>::from_bytes(bytes) {
        Ok(axum::Json(value)) => return Ok(value),
        Err(rejection) => rejection,
    };
    // "Failed to …: need.rate.rate_bps: invalid type: …": the path and what is wrong there come second.
    let text = rejection.to_string();
    let what = text.split_once(": ").map_or(text.as_str(), |(_, what)| what);
    Err(Invalid::field("body", plain(Form::Json, what)).into())
}
