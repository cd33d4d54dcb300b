//! `GET /tiers`: what is on sale, each with its promise, and what was sold before.

use super::error::{ApiError, Invalid};
use super::extract::Caller;
use super::wire::tier_in::TierQuery;
use super::wire::tier_out::{TiersView, tier_view, tiers_view};
use super::{ApiState, json};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;

/// List what is on sale, or show one tier's revision
#[utoipa::path(
    get,
    path = "/qos-transfers/v0.1/tiers",
    tag = "tiers",
    operation_id = "listTiers",
    params(TierQuery),
    responses((status = 200, description = "Tiers with tariff and promise", body = TiersView))
)]
pub async fn list(
    State(api): State<ApiState>,
    _: Caller,
    query: Result<Query<TierQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|rejection| Invalid::field("query", rejection.body_text()))?;
    let snapshot = api.handle().snapshot();
    let config = &snapshot.config;
    let view = match (query.tier, query.revision) {
        (None, Some(_)) => {
            return Err(Invalid::field("query tier", "it is missing beside `revision`")
                .fix("name the tier whose revision you want: `?tier=NAME&revision=N`")
                .into());
        }
        (Some(name), Some(revision)) => {
            let id = config.tier_id(&name).ok_or_else(unknown)?;
            let def = config.tier_revision(id, revision).ok_or_else(unknown)?;
            TiersView { tiers: vec![tier_view(revision, def)] }
        }
        (name, None) => {
            let on_sale = config.tiers.values().filter(|tier| tier.on_sale);
            let view =
                tiers_view(on_sale.filter(|tier| name.as_ref().is_none_or(|name| tier.def.name == *name)));
            if name.is_some() && view.tiers.is_empty() {
                return Err(unknown());
            }
            view
        }
    };
    Ok(json(StatusCode::OK, &view))
}

fn unknown() -> ApiError {
    Invalid::not_found("there is no such tier or no such revision of it")
        .fix("use `tier` and `tier_revision` of a bill, or a tier that `GET /tiers` shows")
        .into()
}
