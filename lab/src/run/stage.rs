//! Everything that stands for a whole run: network, line, counters, probes, product.

use super::progress::Progress;
use super::step::Flow;
use crate::clock;
use crate::counters::Counters;
use crate::error::{Error, Result};
use crate::line::{FlowMatch, Line, netem};
use crate::market::Market;
use crate::market::child::Binaries;
use crate::net::topology::{Host, SERVER_ADDRESS, Topology};
use crate::scenario::Plan;
use crate::scenario::file::Backend;
use crate::scenario::plan::ECHO_PORT;
use crate::traffic::probe::{Echo, Probe};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const PROBES_PER_SECOND: u64 = 20;
const QUIET_WITHIN_NS: u64 = 10 * clock::SECOND;

/// The fields drop in this order: traffic, product, line, network.
pub struct Stage {
    pub probes: BTreeMap<String, Probe>,
    _echo: Option<Echo>,
    pub market: Option<Arc<Market>>,
    pub counters: Option<Counters>,
    pub line: Arc<Line>,
    pub topology: Arc<Topology>,
    pub out: PathBuf,
    pub backend: &'static str,
    pub started_wall_ms: u64,
    pub started_ns: u64,
    slot_ns: u64,
    /// End of the last slot that something bought touches.
    sold_until_ns: AtomicU64,
}

impl Stage {
    /// Builds it all. The folder for results is made only when this host can run the scenario.
    pub fn build(plan: &Plan, out: &Path, binaries: Option<Binaries>, progress: &Progress) -> Result<Stage> {
        check_congestion(plan.tcp.name())?;
        progress.say("building the network");
        let hosts: Vec<_> = plan.hosts.iter().map(|h| (h.name.clone(), h.address)).collect();
        let topology = Topology::build(&hosts)?;
        let line = build_line(plan, &topology)?;
        for (_, protocol, from, port) in plan.flows() {
            line.watch(flow_match(&topology, protocol, from, port)?);
        }
        let counters = match plan.flows().next().is_some() || plan.market.is_some() {
            true => Some(Counters::install(&topology.server()?.ns, plan)?),
            false => None,
        };
        let (echo, probes) = start_probes(plan, &topology)?;
        let out = super::prepare_out(out)?;
        let market = match binaries {
            None => None,
            Some(binaries) => {
                progress.say("starting broker and agent");
                Some(Arc::new(Market::start(plan, &topology, &out.join("run"), binaries)?))
            }
        };
        Ok(Stage {
            probes,
            _echo: echo,
            market,
            counters,
            backend: line.backend(),
            line: Arc::new(line),
            topology: Arc::new(topology),
            out,
            started_wall_ms: clock::wall_ns() / clock::MS,
            started_ns: clock::now_ns(),
            slot_ns: plan.market.map_or(clock::SECOND, |m| m.slot_s * clock::SECOND),
            sold_until_ns: AtomicU64::new(0),
        })
    }

    pub fn host(&self, name: &str) -> Result<Host> {
        self.topology.host(name).cloned()
    }

    pub fn server(&self) -> Result<Host> {
        self.topology.server().cloned()
    }

    /// Packets and layer-3 bytes of a step's flow that the line dropped; netem does not tell flows apart.
    pub fn dropped(&self, protocol: u8, from: &str, port: u16) -> Result<Option<(u64, u64)>> {
        Ok(self.line.dropped(flow_match(&self.topology, protocol, from, port)?))
    }

    /// What was bought is taken in whole slots: until the last one is over, its rate is not for sale again.
    pub fn note_sold(&self, flow: &Flow) {
        let Some(bought) = &flow.purchase else { return };
        let until_ms = bought.schedule.window().map_or(0, |window| window.until.ms());
        self.sold_until_ns.fetch_max(self.slot_end_ns(until_ms), Ordering::AcqRel);
    }

    /// Everything that was bought has ended, some of it before its time: only this slot is still taken.
    pub fn note_given_back(&self) {
        let over = self.slot_end_ns(clock::wall_ns() / clock::MS);
        self.sold_until_ns.store(over, Ordering::Release);
    }

    fn slot_end_ns(&self, wall_ms: u64) -> u64 {
        let slot_ms = self.slot_ns / clock::MS;
        clock::monotonic_of_wall_ms(wall_ms.div_ceil(slot_ms) * slot_ms)
    }

    /// When nothing that was bought so far takes capacity any more.
    pub fn sold_until_ns(&self) -> u64 {
        self.sold_until_ns.load(Ordering::Acquire)
    }

    /// Waits until nothing but the probes is on the way, so that one act's traffic is not counted in the
    /// next one.
    pub fn wait_quiet(&self) {
        let until = clock::now_ns() + QUIET_WITHIN_NS;
        let mut last = self.line.snapshot();
        while clock::now_ns() < until {
            clock::sleep_until(clock::now_ns() + 200 * clock::MS);
            let now = self.line.snapshot();
            // In 200 ms the probes send a few kilobytes at most.
            if now.up.bytes_in - last.up.bytes_in < 20_000 && now.down.bytes_in - last.down.bytes_in < 20_000
            {
                return;
            }
            last = now;
        }
    }
}

fn flow_match(topology: &Topology, protocol: u8, from: &str, port: u16) -> Result<FlowMatch> {
    let source = topology.host(from)?.address;
    Ok(FlowMatch { protocol, source, destination: SERVER_ADDRESS, destination_port: port })
}

fn start_probes(plan: &Plan, topology: &Topology) -> Result<(Option<Echo>, BTreeMap<String, Probe>)> {
    if !plan.hosts.iter().any(|h| h.probe) {
        return Ok((None, BTreeMap::new()));
    }
    let echo = Echo::start(topology.server()?, ECHO_PORT)?;
    let mut probes = BTreeMap::new();
    for (index, host) in plan.hosts.iter().enumerate().filter(|(_, h)| h.probe) {
        let seed = plan.seed.wrapping_add(index as u64);
        let (from, to) = (topology.host(&host.name)?, topology.server()?);
        probes.insert(host.name.clone(), Probe::start(from, to, ECHO_PORT, PROBES_PER_SECOND, seed)?);
    }
    Ok((Some(echo), probes))
}

/// The host's default would decide the result (BBR, for one, pauses by itself every ten seconds), so the
/// scenario says it and this host must have it.
fn check_congestion(name: &str) -> Result<()> {
    let known = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
    if known.is_ok_and(|known| known.split_whitespace().any(|known| known == name)) {
        return Ok(());
    }
    Err(Error::Host { capability: format!("TCP congestion control {name} (kernel module tcp_{name})") })
}

/// The back-end that was asked for, or the best that this host has.
fn build_line(plan: &Plan, topology: &Topology) -> Result<Line> {
    let kernel = match plan.backend {
        Backend::User => false,
        Backend::Netem => true,
        // An overhead per frame is what only our own hop can count.
        Backend::Auto => {
            plan.up.overhead_bytes == 0 && plan.down.overhead_bytes == 0 && netem::available(&topology.line)?
        }
    };
    if kernel {
        return Line::kernel(&topology.line, plan.up, plan.down);
    }
    Line::user(&topology.line, plan.up, plan.down)
}
