//! Bodies of the verbs on reservations.

use super::flow_in::FlowIn;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

/// Takes an offer: its capacity and its price are held.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub struct TakeIn {
    /// An `offer_id` of a quote or of a refusal.
    pub offer_id: String,
}

/// Confirms a hold; flows may be bound now or later.
#[derive(Deserialize, ToSchema, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct ConfirmIn {
    #[schema(max_items = 8)]
    pub flows: Option<Vec<FlowIn>>,
}

/// Replaces the whole set of flows, without a gap.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub struct FlowsIn {
    #[schema(max_items = 8)]
    pub flows: Vec<FlowIn>,
}

/// No property.
#[derive(Deserialize, ToSchema, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct CancelIn {}

/// Which reservations to list.
#[derive(Deserialize, IntoParams, Debug)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// `held`, `booked`, `running` or `ended`.
    pub state: Option<String>,
    /// 1 to 100; default 50.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    pub after: Option<String>,
}
