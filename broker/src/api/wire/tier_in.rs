//! Which tiers to show.

use serde::Deserialize;
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams, Debug)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TierQuery {
    /// Only this tier.
    pub tier: Option<String>,
    /// The tier as it was at this revision, on sale or not; `tier` is then compulsory.
    #[param(minimum = 1)]
    pub revision: Option<u32>,
}
