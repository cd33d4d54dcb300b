//! What is known of each agent, for the metrics and the NOC.

use super::wire::{Hello, Port};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tollway_model::Timestamp;

/// A clock further off than this is shown and its evidence is marked.
pub const CLOCK_OFFSET_MS_MAX: i64 = 1_000;

/// One agent as it was last heard of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentStatus {
    pub name: String,
    pub connected: bool,
    /// By the wall clock, when anything was last heard.
    pub last_seen: Timestamp,
    /// Agent's clock minus ours, transit time included.
    pub clock_offset_ms: i64,
    pub protocol: u32,
    pub software: String,
    pub boot_id: String,
    pub capabilities: Vec<String>,
    pub ports: Vec<Port>,
}

/// Every agent that was heard of since the start.
#[derive(Debug, Default)]
pub struct AgentDirectory {
    agents: Mutex<BTreeMap<String, AgentStatus>>,
}

impl AgentDirectory {
    /// In order of name.
    pub fn agents(&self) -> Vec<AgentStatus> {
        self.lock().values().cloned().collect()
    }

    /// Names of those whose stream is open.
    pub fn connected_points(&self) -> BTreeSet<String> {
        self.lock().values().filter(|agent| agent.connected).map(|agent| agent.name.clone()).collect()
    }

    pub(super) fn connected(&self, hello: &Hello) {
        let status = AgentStatus {
            name: hello.agent.clone(),
            connected: true,
            last_seen: wall_now(),
            clock_offset_ms: 0,
            protocol: hello.protocol,
            software: hello.software.clone(),
            boot_id: hello.boot_id.clone(),
            capabilities: hello.capabilities.clone(),
            ports: hello.ports.clone(),
        };
        self.lock().insert(hello.agent.clone(), status);
        self.heard(&hello.agent, hello.now);
    }

    /// Anything that carries the agent's clock.
    pub(super) fn heard(&self, agent: &str, now: Timestamp) {
        let wall = wall_now();
        let difference = i128::from(now.0) - i128::from(wall.0);
        let offset = i64::try_from(difference).unwrap_or(i64::MAX);
        let mut agents = self.lock();
        let Some(status) = agents.get_mut(agent) else { return };
        let was_off = status.clock_offset_ms.abs() > CLOCK_OFFSET_MS_MAX;
        let is_off = offset.abs() > CLOCK_OFFSET_MS_MAX;
        status.last_seen = wall;
        status.clock_offset_ms = offset;
        drop(agents);
        if is_off && !was_off {
            let offset_s = crate::clock::seconds(offset);
            tracing::warn!(agent, offset_s, "an agent's clock is off: its evidence is marked");
        }
    }

    pub(super) fn disconnected(&self, agent: &str) {
        if let Some(status) = self.lock().get_mut(agent) {
            status.connected = false;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, AgentStatus>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wall_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
