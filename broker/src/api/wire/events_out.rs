//! What happened to a reservation, in order.

use super::page_in::next;
use crate::api::instant::Instant;
use crate::store::{EventRow, Page};
use serde::Serialize;
use utoipa::ToSchema;

/// More about an event; `detail` is the reason of `ended`, `degraded` and the like.
#[derive(Serialize, ToSchema)]
pub struct EventDataView {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct EventView {
    /// Place in the market's journal; grows, with gaps.
    pub seq: u64,
    pub at: Instant,
    /// `held`, `confirmed`, `started`, `degraded`, `restored` or `ended`.
    #[serde(rename = "type")]
    pub event_type: String,
    pub data: EventDataView,
}

#[derive(Serialize, ToSchema)]
pub struct EventsView {
    pub events: Vec<EventView>,
    /// Pass as `after` to read on; null at the end.
    pub next: Option<String>,
}

pub fn events_view(page: &Page<EventRow>) -> EventsView {
    EventsView {
        events: page
            .rows
            .iter()
            .map(|row| EventView {
                seq: row.seq.0,
                at: Instant(row.at),
                event_type: row.kind.as_str().to_owned(),
                data: EventDataView { detail: row.detail.clone() },
            })
            .collect(),
        next: next([page.end], page.has_more),
    }
}
