//! Wire types and their conversions, one direction per file: `_in` from JSON to domain, `_out` from domain
//! to JSON. Nothing outside this module knows how a field is spelled.

pub mod access_in;
pub mod access_out;
pub mod charges_out;
pub mod events_out;
pub mod evidence_out;
pub mod flow_in;
pub mod flow_out;
pub mod offer_out;
pub mod page_in;
pub mod peers_out;
pub mod quote_in;
pub mod quote_out;
pub mod reservation_in;
pub mod reservation_out;
pub mod tier_in;
pub mod tier_out;
pub mod top_up_in;
pub mod usage_out;
pub mod wallet_out;
pub mod words;

use crate::public_id::PublicIds;
use tollway_core::state::Config;
use tollway_model::{AccessId, CustomerId, TierId};
use tollway_policy::SubscriberRef;

/// What views need to name things: configuration and public ids.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    pub config: &'a Config,
    pub ids: &'a PublicIds,
}

impl Names<'_> {
    /// The access's configured name; its number when it was removed since.
    pub fn access(&self, id: AccessId, subscriber: Option<SubscriberRef>) -> String {
        self.config.access_name(id, subscriber).unwrap_or_else(|| id.to_string())
    }

    /// The tier's configured name; its number when it is unknown.
    pub fn tier(&self, id: TierId) -> String {
        self.config.tiers.get(&id).map_or_else(|| id.to_string(), |entry| entry.def.name.clone())
    }

    /// The customer's configured name; its number when it was removed since.
    pub fn customer(&self, id: CustomerId) -> String {
        self.config.customers.get(&id).map_or_else(|| id.to_string(), |def| def.name.clone())
    }
}
