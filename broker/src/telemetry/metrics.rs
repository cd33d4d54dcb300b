//! Figures in Prometheus's form. What happens in requests is counted as it happens; what describes the
//! market's state is read from the committed snapshot when somebody asks, so it never lags behind or leaks.

use crate::agents::AgentDirectory;
use crate::driver::{Handle, Snapshot};
use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};
use std::time::Duration;

/// Bounds of the duration buckets, in seconds: a commit on a good disk takes a millisecond or two.
const DURATION_BUCKETS_S: [f64; 12] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// One figure: its name is an interface, kept in `docs/metrics.md`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Figure {
    pub name: &'static str,
    pub kind: &'static str,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

pub(super) const fn figure(
    name: &'static str,
    kind: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Figure {
    Figure { name, kind, labels, help }
}

const REQUESTS: Figure = figure(
    "tollway_http_requests_total",
    "counter",
    &["method", "route", "status"],
    "Requests answered, by route template",
);
const DURATION: Figure = figure(
    "tollway_http_request_duration_seconds",
    "histogram",
    &["method", "route"],
    "Time from a request's head to its answer",
);
const IN_FLIGHT: Figure =
    figure("tollway_http_requests_in_flight", "gauge", &[], "Requests being handled now");
const READY: Figure =
    figure("tollway_ready", "gauge", &[], "1 when requests are taken; `/readyz` says why not");
const LANE: Figure = figure("tollway_lane_waiting", "gauge", &["lane"], "Requests waiting for the engine");
const CAPACITY: Figure =
    figure("tollway_pool_capacity_bps", "gauge", &["pool", "direction"], "Class rate of a capacity pool");
const ON_SALE: Figure = figure(
    "tollway_pool_on_sale_bps",
    "gauge",
    &["pool", "direction"],
    "Class rate of a pool that may be sold: its sell_share",
);
const COMMITTED: Figure = figure(
    "tollway_pool_committed_bps",
    "gauge",
    &["pool", "direction"],
    "Class rate sold or held in the current slot",
);
const UTILISATION: Figure = figure(
    "tollway_pool_utilisation_ratio",
    "gauge",
    &["pool", "direction"],
    "Committed over on sale; above 1 is a deficit",
);
const FLOOR: Figure = figure(
    "tollway_floor_kept_ratio",
    "gauge",
    &["pool", "direction"],
    "Share of the pool that is not sold in the current slot: everyone else's floor",
);
const FLOOR_MEASURED: Figure = figure(
    "tollway_floor_measured_ratio",
    "gauge",
    &["enforcement_point", "port", "direction"],
    "What a port's default class had in the last judged slot over the floor, capacity × (1 − sell_share); below 1 \
     everyone else had less",
);
const FLOOR_SLOTS: Figure = figure(
    "tollway_floor_slots_total",
    "counter",
    &["enforcement_point", "port", "direction", "verdict"],
    "Slots in which the floor was `kept` or `broken`, by the port's meter",
);
const DIRECT_PACKETS: Figure = figure(
    "tollway_port_direct_packets_total",
    "counter",
    &["enforcement_point", "port", "direction"],
    "Packets that bypassed every class of a port, as its kernel counts them; more than 0 is an alarm",
);
const LEGS: Figure = figure(
    "tollway_legs",
    "gauge",
    &["enforcement_point", "state"],
    "Legs that an enforcement point holds or should, by state; `lost` and `refused` are promises not being kept. At most \
     about 2 s old",
);
const LEGS_LOST: Figure = figure(
    "tollway_legs_lost_total",
    "counter",
    &["enforcement_point"],
    "Times that a leg in force was reported lost, since the start",
);
const LEGS_REFUSED: Figure = figure(
    "tollway_legs_refused_total",
    "counter",
    &["enforcement_point"],
    "Times that an enforcement point refused a leg, since the start; a refused leg is asked for again",
);
const IMBALANCE: Figure = figure(
    "tollway_ledger_imbalance_micros",
    "gauge",
    &[],
    "Sum of all balances, by currency and without sign; anything but 0 is a bug",
);
const OPEN_HOLDS: Figure = figure("tollway_open_holds", "gauge", &[], "Reservations held and not confirmed");
const OPEN_QUOTES: Figure = figure("tollway_open_quotes", "gauge", &[], "Quotes that are still valid");
const LAST_SEQ: Figure =
    figure("tollway_journal_last_seq", "gauge", &[], "Sequence of the last durable record in the snapshot");
const EPOCH: Figure = figure("tollway_leader_epoch", "gauge", &[], "Leader epoch of this process");
const REVISION: Figure =
    figure("tollway_configuration_revision", "gauge", &[], "Revision of the configuration in force");
const CLOCK: Figure =
    figure("tollway_clock_error_seconds", "gauge", &[], "Wall clock minus the engine's clock");
const AGENT_CONNECTED: Figure = figure(
    "tollway_agent_connected",
    "gauge",
    &["enforcement_point"],
    "1 while the agent's stream is open; 0 from the start for each configured enforcement point",
);
const AGENT_SEEN: Figure = figure(
    "tollway_agent_last_seen_timestamp_seconds",
    "gauge",
    &["enforcement_point"],
    "When the agent was last heard of, seconds since 1970",
);
const AGENT_OFFSET: Figure = figure(
    "tollway_agent_clock_offset_seconds",
    "gauge",
    &["enforcement_point"],
    "Agent's clock minus the broker's; beyond 1 s its evidence is marked",
);

const STRAYS: Figure = figure(
    "tollway_stray_legs_total",
    "counter",
    &["enforcement_point"],
    "Legs that an agent reported as living and that nobody wants (any more), since the start: it is told to remove \
     them, and nothing is charged",
);

/// Every figure there is, in the order of `docs/metrics.md`.
pub const FIGURES: [Figure; 27] = [
    REQUESTS,
    DURATION,
    IN_FLIGHT,
    READY,
    LANE,
    CAPACITY,
    ON_SALE,
    COMMITTED,
    UTILISATION,
    FLOOR,
    FLOOR_MEASURED,
    FLOOR_SLOTS,
    DIRECT_PACKETS,
    LEGS,
    LEGS_LOST,
    LEGS_REFUSED,
    IMBALANCE,
    OPEN_HOLDS,
    OPEN_QUOTES,
    LAST_SEQ,
    EPOCH,
    REVISION,
    CLOCK,
    AGENT_CONNECTED,
    AGENT_SEEN,
    AGENT_OFFSET,
    STRAYS,
];

/// The process's counters, and the way to the rest.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    duration: HistogramVec,
    in_flight: IntGauge,
}

/// A request in flight; counted out when dropped, also when its client went away.
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// # Errors
    /// When names clash: a bug.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let requests = IntCounterVec::new(Opts::new(REQUESTS.name, REQUESTS.help), REQUESTS.labels)?;
        let buckets = DURATION_BUCKETS_S.to_vec();
        let duration = HistogramVec::new(
            HistogramOpts::new(DURATION.name, DURATION.help).buckets(buckets),
            DURATION.labels,
        )?;
        let in_flight = IntGauge::new(IN_FLIGHT.name, IN_FLIGHT.help)?;
        let registry = Registry::new();
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        Ok(Metrics { registry, requests, duration, in_flight })
    }

    /// A request begins.
    pub fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// A request was answered.
    pub fn observe(&self, method: &str, route: &str, status: u16, elapsed: Duration) {
        self.requests.with_label_values(&[method, route, &status.to_string()]).inc();
        self.duration.with_label_values(&[method, route]).observe(elapsed.as_secs_f64());
    }

    /// All figures as text.
    ///
    /// # Errors
    /// When names clash or cannot be written: a bug.
    pub fn render(
        &self,
        handle: &Handle,
        agents: &AgentDirectory,
        gateways: Option<&crate::gx::Status>,
    ) -> Result<String, prometheus::Error> {
        let state = Registry::new();
        let snapshot = handle.snapshot();
        register_driver(&state, handle)?;
        register_pools(&state, &snapshot)?;
        register_floors(&state, &snapshot)?;
        register_legs(&state, &snapshot)?;
        register_market(&state, &snapshot)?;
        register_agents(&state, &snapshot, agents)?;
        if let Some(status) = gateways {
            super::gateways::register(&state, status)?;
        }
        let mut families = self.registry.gather();
        families.extend(state.gather());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

fn add(registry: &Registry, collector: impl Collector + 'static) -> Result<(), prometheus::Error> {
    registry.register(Box::new(collector))
}

pub(super) fn single(registry: &Registry, figure: Figure, value: f64) -> Result<(), prometheus::Error> {
    let gauge = Gauge::new(figure.name, figure.help)?;
    gauge.set(value);
    add(registry, gauge)
}

pub(super) fn many(registry: &Registry, figure: Figure) -> Result<GaugeVec, prometheus::Error> {
    let gauges = GaugeVec::new(Opts::new(figure.name, figure.help), figure.labels)?;
    add(registry, gauges.clone())?;
    Ok(gauges)
}

pub(super) fn counters(registry: &Registry, figure: Figure) -> Result<IntCounterVec, prometheus::Error> {
    let counters = IntCounterVec::new(Opts::new(figure.name, figure.help), figure.labels)?;
    add(registry, counters.clone())?;
    Ok(counters)
}

/// Prometheus counts in doubles; above 2^53 a figure is rounded, which no reader of a graph can see.
#[allow(clippy::cast_precision_loss)]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { float(part) / float(whole) }
}

fn register_driver(registry: &Registry, handle: &Handle) -> Result<(), prometheus::Error> {
    single(registry, READY, f64::from(u8::from(handle.readiness().is_ok())))?;
    let waiting = many(registry, LANE)?;
    for (lane, count) in handle.waiting() {
        waiting.with_label_values(&[lane.as_str()]).set(float(count as u64));
    }
    Ok(())
}

fn register_pools(registry: &Registry, snapshot: &Snapshot) -> Result<(), prometheus::Error> {
    let capacity = many(registry, CAPACITY)?;
    let on_sale = many(registry, ON_SALE)?;
    let committed = many(registry, COMMITTED)?;
    let utilisation = many(registry, UTILISATION)?;
    let floor = many(registry, FLOOR)?;
    for used in &snapshot.gauges.pools {
        let Some(pool) = snapshot.config.pools.get(&used.pool) else { continue };
        let labels = [pool.name.as_str(), used.direction.as_str()];
        capacity.with_label_values(&labels).set(float(used.capacity_bps));
        on_sale.with_label_values(&labels).set(float(used.on_sale_bps));
        committed.with_label_values(&labels).set(float(used.committed_bps));
        utilisation.with_label_values(&labels).set(ratio(used.committed_bps, used.on_sale_bps));
        let unsold = used.capacity_bps.saturating_sub(used.committed_bps);
        floor.with_label_values(&labels).set(ratio(unsold, used.capacity_bps));
    }
    Ok(())
}

fn register_floors(registry: &Registry, snapshot: &Snapshot) -> Result<(), prometheus::Error> {
    let measured = many(registry, FLOOR_MEASURED)?;
    let slots = counters(registry, FLOOR_SLOTS)?;
    let direct = counters(registry, DIRECT_PACKETS)?;
    for (key, floor) in &snapshot.gauges.floors {
        let (point, port) = (key.enforcement_point.as_str(), key.port.as_str());
        let labels = [point, port, key.direction.as_str()];
        direct.with_label_values(&labels).inc_by(floor.latest.direct_packets);
        if let Some(judged) = floor.judged.filter(|judged| judged.floor.0 > 0) {
            measured.with_label_values(&labels).set(ratio(judged.measured.0, judged.floor.0));
        }
        for (verdict, count) in [("kept", floor.slots_kept), ("broken", floor.slots_broken)] {
            slots.with_label_values(&[point, port, key.direction.as_str(), verdict]).inc_by(count);
        }
    }
    Ok(())
}

fn register_legs(registry: &Registry, snapshot: &Snapshot) -> Result<(), prometheus::Error> {
    let legs = many(registry, LEGS)?;
    let lost = counters(registry, LEGS_LOST)?;
    let refused = counters(registry, LEGS_REFUSED)?;
    // Each configured one from the start: a series that appears with its first trouble shows no increase.
    for access in snapshot.config.accesses.values() {
        let point = access.enforcement_point.as_str();
        lost.with_label_values(&[point]).inc_by(0);
        refused.with_label_values(&[point]).inc_by(0);
        for state in ["sent", "accepted", "active", "removing", "lost", "refused"] {
            legs.with_label_values(&[point, state]).set(0.0);
        }
    }
    let gauges = &snapshot.gauges;
    for ((point, state), count) in &gauges.legs.counts {
        legs.with_label_values(&[point.as_str(), state]).set(float(*count));
    }
    for (counters, counts) in [(lost, &gauges.leg_counts.lost), (refused, &gauges.leg_counts.refused)] {
        for (point, count) in counts {
            counters.with_label_values(&[point.as_str()]).inc_by(*count);
        }
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss)]
fn register_market(registry: &Registry, snapshot: &Snapshot) -> Result<(), prometheus::Error> {
    let gauges = &snapshot.gauges;
    single(registry, IMBALANCE, gauges.ledger_imbalance as f64)?;
    single(registry, OPEN_HOLDS, float(gauges.open_holds as u64))?;
    single(registry, OPEN_QUOTES, float(gauges.quotes_open as u64))?;
    single(registry, LAST_SEQ, float(gauges.last_seq.0))?;
    single(registry, EPOCH, float(gauges.epoch))?;
    single(registry, REVISION, float(snapshot.config.revision))?;
    single(registry, CLOCK, gauges.clock_error_ms as f64 / 1000.0)
}

#[allow(clippy::cast_precision_loss)]
fn register_agents(
    registry: &Registry,
    snapshot: &Snapshot,
    agents: &AgentDirectory,
) -> Result<(), prometheus::Error> {
    let connected = many(registry, AGENT_CONNECTED)?;
    let seen = many(registry, AGENT_SEEN)?;
    let offset = many(registry, AGENT_OFFSET)?;
    let strays = counters(registry, STRAYS)?;
    // An agent that never came is away, not unknown.
    for access in snapshot.config.accesses.values() {
        connected.with_label_values(&[access.enforcement_point.as_str()]).set(0.0);
        strays.with_label_values(&[access.enforcement_point.as_str()]).inc_by(0);
    }
    for (point, count) in &snapshot.gauges.strays {
        strays.with_label_values(&[point.as_str()]).inc_by(*count);
    }
    for agent in agents.agents() {
        let labels = [agent.name.as_str()];
        connected.with_label_values(&labels).set(f64::from(u8::from(agent.connected)));
        seen.with_label_values(&labels).set(float(agent.last_seen.ms()) / 1000.0);
        offset.with_label_values(&labels).set(agent.clock_offset_ms as f64 / 1000.0);
    }
    Ok(())
}
