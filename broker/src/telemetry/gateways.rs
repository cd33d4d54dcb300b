//! Figures of Diameter peers and gateways, read when somebody asks.

use super::metrics::{Figure, counters, figure, float, many, single};
use crate::gx::Status;
use crate::gx::words::{befell, command_name, outcome_name};
use prometheus::Registry;

const USABLE: Figure = figure(
    "tollway_diameter_peer_usable",
    "gauge",
    &["peer"],
    "1 when requests may go to the peer; `tollway noc peers` says its state",
);
const SINCE: Figure = figure(
    "tollway_diameter_peer_changed_timestamp_seconds",
    "gauge",
    &["peer"],
    "When the peer was last opened, suspected or lost",
);
const REQUESTS: Figure = figure(
    "tollway_diameter_requests_total",
    "counter",
    &["peer", "direction", "command"],
    "Requests of the peer (`in`) and to it (`out`)",
);
const RESULTS: Figure = figure(
    "tollway_diameter_results_total",
    "counter",
    &["peer", "direction", "command", "result"],
    "Answers of the peer (`in`) and to it (`out`), by result code",
);
const EVENTS: Figure = figure(
    "tollway_diameter_events_total",
    "counter",
    &["peer", "event"],
    "What befell the peer: opened, lost, timeouts, duplicates, malformed, watchdogs and so on",
);
const WAITING: Figure = figure(
    "tollway_diameter_waiting",
    "gauge",
    &["peer", "what"],
    "Requests to the peer without an answer (`out`), of the peer (`in`), frames that wait for its socket (`frames`)",
);
const READY: Figure = figure(
    "tollway_gx_ready",
    "gauge",
    &[],
    "1 when gateways are served; 0 while the broker begins again from its journal",
);
const SESSIONS: Figure = figure("tollway_gx_sessions", "gauge", &["gateway"], "Open sessions at a gateway");
const PUSHES: Figure = figure(
    "tollway_gx_pushes",
    "gauge",
    &["gateway", "what"],
    "Sessions that wait to be told (`waiting`), and RARs without an answer (`in_flight`)",
);
const GX_EVENTS: Figure = figure(
    "tollway_gx_events_total",
    "counter",
    &["event"],
    "What happened to sessions and rules at all gateways; `docs/gx.md` lists them",
);
const GX_WAITING: Figure = figure(
    "tollway_gx_waiting",
    "gauge",
    &["what"],
    "Facts that are not durable yet (`facts`), and requests of gateways without an answer (`requests`)",
);

/// All of them, where `[gx]` is configured.
pub const FIGURES: [Figure; 11] =
    [USABLE, SINCE, REQUESTS, RESULTS, EVENTS, WAITING, READY, SESSIONS, PUSHES, GX_EVENTS, GX_WAITING];

#[allow(clippy::cast_precision_loss)]
pub(super) fn register(registry: &Registry, status: &Status) -> Result<(), prometheus::Error> {
    register_peers(registry, status)?;
    let view = &status.view;
    single(registry, READY, f64::from(u8::from(view.is_ready)))?;
    let sessions = many(registry, SESSIONS)?;
    let pushes = many(registry, PUSHES)?;
    for gateway in &view.gateways {
        let name = gateway.origin_host.as_str();
        sessions.with_label_values(&[name]).set(gateway.sessions as f64);
        pushes.with_label_values(&[name, "waiting"]).set(gateway.pushes_waiting as f64);
        pushes.with_label_values(&[name, "in_flight"]).set(gateway.pushes_in_flight as f64);
    }
    let events = counters(registry, GX_EVENTS)?;
    for (event, count) in &view.counters {
        events.with_label_values(&[event]).inc_by(*count);
    }
    let waiting = many(registry, GX_WAITING)?;
    waiting.with_label_values(&["facts"]).set(view.facts_waiting as f64);
    waiting.with_label_values(&["requests"]).set(view.requests_waiting as f64);
    Ok(())
}

#[allow(clippy::cast_precision_loss)]
fn register_peers(registry: &Registry, status: &Status) -> Result<(), prometheus::Error> {
    let usable = many(registry, USABLE)?;
    let since = many(registry, SINCE)?;
    let requests = counters(registry, REQUESTS)?;
    let results = counters(registry, RESULTS)?;
    let events = counters(registry, EVENTS)?;
    let waiting = many(registry, WAITING)?;
    for peer in &status.peers {
        let host = peer.host.as_str();
        usable.with_label_values(&[host]).set(f64::from(u8::from(peer.is_usable)));
        if let Some(at) = status.view.since.get(host) {
            since.with_label_values(&[host]).set(float(at.ms()) / 1000.0);
        }
        let of = &peer.counters;
        for (direction, table) in [("in", &of.requests_in), ("out", &of.requests_out)] {
            for ((_, command), count) in &table.by_key {
                requests.with_label_values(&[host, direction, &command_name(*command)]).inc_by(*count);
            }
            requests.with_label_values(&[host, direction, "other"]).inc_by(table.other);
        }
        for (direction, table) in [("in", &of.results_in), ("out", &of.results_out)] {
            for ((command, outcome), count) in &table.by_key {
                let labels = [host, direction, &command_name(*command), &outcome_name(*outcome)];
                results.with_label_values(&labels).inc_by(*count);
            }
            results.with_label_values(&[host, direction, "other", "other"]).inc_by(table.other);
        }
        for (event, count) in befell(of) {
            events.with_label_values(&[host, event]).inc_by(count);
        }
        for (what, count) in [("out", peer.pending), ("in", peer.incoming), ("frames", peer.queue)] {
            waiting.with_label_values(&[host, what]).set(count as f64);
        }
    }
    Ok(())
}
