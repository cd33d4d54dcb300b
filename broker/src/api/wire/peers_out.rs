//! Diameter peers and gateways as the NOC is shown them.

use crate::api::instant::Instant;
use crate::gx::Status;
use crate::gx::words::{befell, command_name, outcome_name};
use serde::Serialize;
use std::collections::BTreeMap;
use tollway_diameter::counters::{CommandKey, PeerView as Known, ResultKey, Table};
use utoipa::ToSchema;

/// How often a command was asked.
#[derive(Serialize, ToSchema)]
pub struct CommandCount {
    /// `in`: by the peer, `out`: by us.
    pub direction: &'static str,
    pub command: String,
    pub count: u64,
}

/// How often a command was answered with a result.
#[derive(Serialize, ToSchema)]
pub struct ResultCount {
    /// `in`: by the peer, `out`: by us.
    pub direction: &'static str,
    pub command: String,
    /// A result code, or vendor and code.
    pub result: String,
    pub count: u64,
}

/// A configured peer.
#[derive(Serialize, ToSchema)]
pub struct PeerView {
    pub origin_host: String,
    pub origin_realm: String,
    /// As RFC 6733 §5.6 names it.
    pub state: &'static str,
    /// Whether requests may go there.
    pub usable: bool,
    /// When it was last opened, suspected or lost; of one that never was: when the broker started.
    pub since: Option<Instant>,
    pub applications: Vec<u32>,
    /// Our requests without an answer.
    pub pending: u64,
    /// Its requests that we have not answered.
    pub incoming: u64,
    /// Frames that wait for its socket.
    pub queue: u64,
    pub requests: Vec<CommandCount>,
    pub results: Vec<ResultCount>,
    /// What befell it, watchdogs among it, by name.
    pub events: BTreeMap<&'static str, u64>,
}

/// A gateway with sessions; it may stand behind a relay.
#[derive(Serialize, ToSchema)]
pub struct GatewayView {
    pub origin_host: String,
    pub sessions: u64,
    /// Sessions that wait for their turn to be told.
    pub pushes_waiting: u64,
    pub pushes_in_flight: u64,
}

/// Peers and gateways.
#[derive(Serialize, ToSchema)]
pub struct PeersView {
    /// Whether gateways are served now.
    pub ready: bool,
    pub peers: Vec<PeerView>,
    pub gateways: Vec<GatewayView>,
    /// What happened to sessions and rules since the start, by name.
    pub events: BTreeMap<&'static str, u64>,
}

pub fn peers_view(status: &Status) -> PeersView {
    let view = &status.view;
    PeersView {
        ready: view.is_ready,
        peers: status.peers.iter().map(|peer| peer_view(peer, status)).collect(),
        gateways: view
            .gateways
            .iter()
            .map(|row| GatewayView {
                origin_host: row.origin_host.clone(),
                sessions: row.sessions as u64,
                pushes_waiting: row.pushes_waiting as u64,
                pushes_in_flight: row.pushes_in_flight as u64,
            })
            .collect(),
        events: view.counters.clone(),
    }
}

fn peer_view(peer: &Known, status: &Status) -> PeerView {
    let counters = &peer.counters;
    let mut requests = commands("in", &counters.requests_in);
    requests.extend(commands("out", &counters.requests_out));
    let mut results = outcomes("in", &counters.results_in);
    results.extend(outcomes("out", &counters.results_out));
    PeerView {
        origin_host: peer.host.clone(),
        origin_realm: peer.realm.clone(),
        state: peer.state,
        usable: peer.is_usable,
        since: status.view.since.get(&peer.host).copied().map(Instant),
        applications: peer.applications.clone(),
        pending: peer.pending as u64,
        incoming: peer.incoming as u64,
        queue: peer.queue as u64,
        requests,
        results,
        events: befell(counters).into_iter().collect(),
    }
}

fn commands(direction: &'static str, table: &Table<CommandKey>) -> Vec<CommandCount> {
    let count = |((_, command), count): (&CommandKey, &u64)| CommandCount {
        direction,
        command: command_name(*command),
        count: *count,
    };
    table.by_key.iter().map(count).collect()
}

fn outcomes(direction: &'static str, table: &Table<ResultKey>) -> Vec<ResultCount> {
    let count = |((command, outcome), count): (&ResultKey, &u64)| ResultCount {
        direction,
        command: command_name(*command),
        result: outcome_name(*outcome),
        count: *count,
    };
    table.by_key.iter().map(count).collect()
}
