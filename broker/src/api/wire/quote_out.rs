//! A quote as it is answered.

use super::Names;
use super::offer_out::{OfferView, offer_view};
use crate::api::instant::Instant;
use serde::Serialize;
use tollway_core::offer::Quote;
use utoipa::ToSchema;

/// Priced alternatives. A quote holds prices, not capacity.
#[derive(Serialize, ToSchema)]
pub struct QuoteView {
    pub quote_id: String,
    pub valid_until: Instant,
    pub offers: Vec<OfferView>,
}

pub fn quote_view(names: Names<'_>, quote: &Quote) -> QuoteView {
    QuoteView {
        quote_id: names.ids.quote(quote.id),
        valid_until: Instant(quote.valid_until),
        offers: quote.offers.iter().map(|offer| offer_view(names, quote.id, offer)).collect(),
    }
}
