//! The NOC's top-up of a wallet.

use crate::api::error::{ApiError, Invalid};
use crate::api::limits::TOP_UP_MICROS_MAX;
use serde::Deserialize;
use tollway_core::limits::REASON_BYTES_MAX;
use tollway_model::{Amount, Currency};
use utoipa::ToSchema;

/// Money received for a customer by the operator's own channels.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub struct TopUpIn {
    /// Millionths of a currency unit.
    #[schema(minimum = 1)]
    pub amount_micros: u64,
    /// ISO 4217, three upper-case letters.
    pub currency: String,
    /// Why; kept in the record beside the key's name.
    pub reason: String,
}

/// # Errors
/// An amount of zero or above the bound, a currency that is not three capitals, a reason that is blank or
/// too long.
pub fn to_amount(wire: &TopUpIn) -> Result<Amount, ApiError> {
    let micros = i64::try_from(wire.amount_micros).ok().filter(|m| (1..=TOP_UP_MICROS_MAX).contains(m));
    let Some(micros) = micros else {
        return Err(Invalid::field("amount_micros", format!("{} is out of bounds", wire.amount_micros))
            .fix(format!("use 1 to {TOP_UP_MICROS_MAX} millionths of the currency's unit"))
            .into());
    };
    let Some(currency) = Currency::parse(&wire.currency) else {
        return Err(Invalid::field("currency", "it is not a currency code")
            .fix("use the three capital letters of ISO 4217, e.g. EUR")
            .into());
    };
    let is_bad = wire.reason.trim().is_empty()
        || wire.reason.len() > REASON_BYTES_MAX
        || wire.reason.chars().any(char::is_control);
    if is_bad {
        return Err(Invalid::field("reason", "it is blank, too long or holds control characters")
            .fix(format!("say in at most {REASON_BYTES_MAX} bytes why the money is credited"))
            .into());
    }
    Ok(Amount::new(micros, currency))
}
