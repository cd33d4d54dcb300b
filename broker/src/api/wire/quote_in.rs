//! What a client asks a quote for.

use super::words::Direction;
use crate::api::error::{ApiError, Invalid};
use crate::api::instant::Instant;
use crate::api::limits::END_IN_S_MAX;
use serde::Deserialize;
use tollway_core::offer::{Need, QuoteRequest, When};
use tollway_core::refusal::{Code, Refusal};
use tollway_core::state::Config;
use tollway_model::BitsPerSecond;
use utoipa::ToSchema;

/// What is needed, where and when. `end` or `end_in_s`, one of the two.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub struct QuoteIn {
    /// Name of one of the customer's accesses.
    pub access: String,
    pub direction: Direction,
    /// Name of a tier; absent: an offer for each tier on sale.
    pub tier: Option<String>,
    pub need: NeedIn,
    /// Absent: now.
    pub start: Option<Instant>,
    /// End of the window; for bytes, the deadline.
    pub end: Option<Instant>,
    /// End of the window in seconds from now.
    #[schema(minimum = 1)]
    pub end_in_s: Option<u64>,
}

/// A constant rate over the whole window, or payload bytes by its end.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(
    rename_all = "snake_case",
    expecting = r#"an object with one need, such as {"rate": {"rate_bps": 8000000}} or {"bytes": {"bytes": 40000000}}"#
)]
pub enum NeedIn {
    Rate(RateNeedIn),
    Bytes(BytesNeedIn),
}

#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields, expecting = r#"an object such as {"rate_bps": 8000000}"#)]
pub struct RateNeedIn {
    /// IP bits per second.
    #[schema(minimum = 1)]
    pub rate_bps: u64,
}

#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields, expecting = r#"an object such as {"bytes": 40000000}"#)]
pub struct BytesNeedIn {
    /// Payload bytes.
    #[schema(minimum = 1)]
    pub bytes: u64,
}

/// # Errors
/// Both or neither end, an unknown tier (404), an unknown access (403: the same answer as for one that is
/// not this customer's, so that names cannot be probed).
pub fn to_request(wire: QuoteIn, config: &Config) -> Result<QuoteRequest, ApiError> {
    let end = match (wire.end, wire.end_in_s) {
        (Some(at), None) => When::At(at.0),
        (None, Some(secs)) if (1..=END_IN_S_MAX).contains(&secs) => When::In(secs * 1000),
        (None, Some(secs)) => {
            return Err(Invalid::field("end_in_s", format!("{secs} seconds from now is no window"))
                .fix(format!("use 1 to {END_IN_S_MAX} seconds"))
                .into());
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err(Invalid::field("end", "the end of the window is given twice or not at all")
                .fix("give `end` (RFC 3339) or `end_in_s` (seconds from now), one of the two")
                .into());
        }
    };
    let (access, subscriber) = config.find_access(&wire.access).ok_or_else(unknown_access)?;
    let tier = match &wire.tier {
        None => None,
        Some(name) => Some(config.tier_id(name).ok_or_else(|| unknown_tier(name))?),
    };
    Ok(QuoteRequest {
        access,
        direction: wire.direction.into(),
        tier,
        need: match wire.need {
            NeedIn::Rate(need) => Need::Rate(BitsPerSecond(need.rate_bps)),
            NeedIn::Bytes(need) => Need::Bytes(need.bytes),
        },
        start: wire.start.map(|at| When::At(at.0)),
        end,
        subscriber,
    })
}

/// An access that is not there is answered exactly as the engine answers one that is not this customer's.
fn unknown_access() -> ApiError {
    ApiError::refused_plain(Refusal::new(
        Code::EndpointNotAllowed,
        "this customer may not buy for that access",
    ))
}

fn unknown_tier(name: &str) -> ApiError {
    let shown: String = name.chars().take(64).collect();
    Invalid::not_found(format!("there is no tier {shown:?}")).fix("use a name that `GET /tiers` shows").into()
}
