//! Accesses as their buyers see them: a name to ask for, and whether somebody is there.

use serde::Serialize;
use utoipa::ToSchema;

/// An access that the caller may buy for. Who is behind it and at which address is not said.
#[derive(Serialize, ToSchema)]
pub struct AccessView {
    /// What `access` of a quote is to be.
    pub name: String,
    /// Null: not behind a mobile gateway.
    pub apn: Option<String>,
    /// Whether the subscriber has a session now: without one no flow can be bound. Null: not behind a mobile gateway.
    pub attached: Option<bool>,
}

/// A page of accesses. Subscribers of a mobile gateway are in it from their first session on.
#[derive(Serialize, ToSchema)]
pub struct AccessesView {
    pub accesses: Vec<AccessView>,
    /// Pass as `after` to read on; null at the end.
    pub next: Option<String>,
}
