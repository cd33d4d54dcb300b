//! `POST /quotes`: priced offers for a need.

use super::error::ApiError;
use super::extract::{Body, Customer, KeyText};
use super::wire::quote_in::{QuoteIn, to_request};
use super::wire::quote_out::{QuoteView, quote_view};
use super::{ApiState, json};
use crate::driver::Lane;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use tollway_core::{Command, Reply};

/// Ask for priced offers
#[utoipa::path(
    post,
    path = "/qos-transfers/v0.1/quotes",
    tag = "quotes",
    operation_id = "createQuote",
    request_body = QuoteIn,
    responses((status = 201, description = "Offers, valid until the quote's instant", body = QuoteView))
)]
pub async fn create(
    State(api): State<ApiState>,
    customer: Customer,
    key: KeyText,
    Body(body): Body<QuoteIn>,
) -> Result<Response, ApiError> {
    let request = to_request(body, &api.handle().snapshot().config)?;
    let key = key.bind(customer.id, "quote", 0, &encoded(&request));
    match api.submit(Lane::Quote, &customer, key, Command::Quote(request)).await? {
        Reply::Quote(quote) => {
            let snapshot = api.handle().snapshot();
            Ok(json(StatusCode::CREATED, &quote_view(api.names(&snapshot), &quote)))
        }
        other @ (Reply::Reservation(_)
        | Reply::Refused(_)
        | Reply::ToppedUp { .. }
        | Reply::Configured { .. }) => Err(ApiError::unexpected(&other)),
    }
}

/// The numbered-field encoding of a parsed request, for its hash.
pub(super) fn encoded<T: minicbor::Encode<()>>(request: &T) -> Vec<u8> {
    minicbor::to_vec(request).expect("encoding into memory does not fail")
}
