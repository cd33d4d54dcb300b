//! Which accesses to show.

use serde::Deserialize;
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams, Debug)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AccessQuery {
    /// Rows to read: 1 to 5,000; default 1,000.
    #[param(minimum = 1, maximum = 5000)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    pub after: Option<String>,
}
