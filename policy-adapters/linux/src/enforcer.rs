//! The enforcer: desired legs in, kernel state and reports out. One [`Enforcer::step`] serves every occasion
//! (a poll, a schedule's edge, an event, a new desire): it reads, meters, repairs, closes and judges.

mod applying;
mod closing;
mod desires;
mod judging;
mod metering;
mod survey;

use crate::caps::Capabilities;
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::limits;
use crate::observe::{self, PortView, View};
use crate::state::{Life, State};
use crate::status::Need;
use std::collections::BTreeMap;
use std::io;
use tollway_model::{BitsPerSecond, Direction, LegId, Timestamp};
use tollway_netlink::layout::{Toolbox, link_share};
use tollway_netlink::nft::{Key, Target};
use tollway_policy::{PolicyReport, Report};

/// One port of this enforcement point.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortConfig {
    pub name: String,
    pub device: String,
    pub link: BitsPerSecond,
    /// Replace a foreign root qdisc.
    pub take_root: bool,
    /// Direction of the packets that leave here, for the floor's reading; learnt from legs when not said.
    pub direction: Option<Direction>,
}

/// Makes the state durable; nothing is done to the kernel before it has returned.
pub type Persist<'a> = &'a mut dyn FnMut(&State) -> io::Result<()>;

pub struct Enforcer {
    kernel: Kernel,
    ports: Vec<PortConfig>,
    toolbox: Toolbox,
    state: State,
    /// The state differs from what was last made durable.
    dirty: bool,
    now: Timestamp,
    elements: BTreeMap<Key, Target>,
    nft_stale: bool,
    reconciled: Timestamp,
    /// What was in force after the last step.
    installed: BTreeMap<LegId, Need>,
    conflicts: BTreeMap<LegId, LegId>,
    refusals: BTreeMap<(String, u16), String>,
    took_root: BTreeMap<String, Timestamp>,
    poll_next: Timestamp,
    /// What went wrong in this step without ending it; it is said at its end.
    trouble: Option<Error>,
    view: View,
}

fn share_of(port: &PortConfig) -> BitsPerSecond {
    link_share(port.link)
}

impl Enforcer {
    /// Adopts what is in the kernel for this state. Nothing is changed before the first step.
    pub fn new(
        kernel: Kernel,
        ports: Vec<PortConfig>,
        capabilities: &Capabilities,
        state: State,
        now: Timestamp,
    ) -> Enforcer {
        let toolbox = Toolbox { leaf: capabilities.leaf, tick_ns: kernel.tick_ns() };
        let installed = state
            .legs
            .iter()
            .filter_map(|(id, leg)| Some((*id, Need::at(leg, leg.meter.as_ref()?.at()))))
            .collect();
        let mut state = state;
        // Never a nonce that an earlier data directory may have used.
        state.nonce_next = state.nonce_next.max(now.ms());
        Enforcer {
            kernel,
            ports,
            toolbox,
            state,
            dirty: true,
            now,
            elements: BTreeMap::new(),
            nft_stale: true,
            reconciled: Timestamp::ZERO,
            installed,
            conflicts: BTreeMap::new(),
            refusals: BTreeMap::new(),
            took_root: BTreeMap::new(),
            poll_next: now,
            trouble: None,
            view: View::new(),
        }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn kernel(&mut self) -> &mut Kernel {
        &mut self.kernel
    }

    pub fn boot_id(&self) -> &str {
        self.kernel.boot_id()
    }

    /// Whether a port is there and up, as last looked at.
    pub fn port_up(&self, name: &str) -> bool {
        self.view.get(name).is_some_and(PortView::up)
    }

    /// Whether a port's device exists, as last looked at.
    pub fn has_device(&self, name: &str) -> bool {
        self.view.get(name).is_some_and(|port| port.link.is_some())
    }

    /// Something about nf_tables changed: read it in full in the next step.
    pub fn nft_changed(&mut self) {
        self.nft_stale = true;
    }

    /// Takes the reports that wait; the caller makes them durable under a number before it sends them.
    pub fn take_reports(&mut self) -> Vec<Report> {
        if !self.state.pending.is_empty() {
            self.dirty = true;
        }
        std::mem::take(&mut self.state.pending)
    }

    /// Remembers the first market that a broker leads; an older broker says none.
    pub fn join(&mut self, market: &str) {
        if self.state.market.is_none() && !market.is_empty() {
            self.state.market = Some(market.to_owned());
            self.dirty = true;
        }
    }

    /// Takes the broker's word for epoch and slot length.
    pub fn welcome(&mut self, epoch: u64, slot_s: u32) {
        if self.state.epoch != epoch || self.state.slot_s != slot_s {
            self.dirty = true;
        }
        self.state.epoch = self.state.epoch.max(epoch);
        self.state.slot_s = slot_s;
    }

    /// Makes the state durable when it changed.
    ///
    /// # Errors
    /// What the disk said.
    pub fn save(&mut self, persist: Persist<'_>) -> Result<()> {
        if self.dirty {
            persist(&self.state).map_err(|source| Error::Persist { source })?;
            self.dirty = false;
        }
        Ok(())
    }

    fn report(&mut self, leg: LegId, attempt: u32, report: PolicyReport) {
        self.dirty = true;
        self.state.pending.push(Report::Leg { leg, attempt, report });
    }

    /// A report that the caller makes about a leg which it could not even read.
    pub fn say(&mut self, report: Report) {
        self.dirty = true;
        self.state.pending.push(report);
    }

    /// The adapter's own clock never goes back: a slot is counted once.
    fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.now = self.now.max(now);
        self.now
    }

    /// When the next step is due.
    pub fn next_wakeup(&self) -> Timestamp {
        let mut next = self.poll_next.min(self.reconciled.plus_ms(limits::RECONCILE_MS));
        for leg in self.state.legs.values() {
            match leg.life {
                Life::Open => next = next.min(leg.desired.next_change(self.now).unwrap_or(next)),
                Life::Closing { .. } => next = next.min(self.now.plus_ms(limits::DRAIN_POLL_MS)),
            }
        }
        next
    }

    fn plan_poll(&mut self) {
        let slots = self.state.slots();
        let ms = (slots.ms() / limits::POLLS_PER_SLOT_MIN).clamp(limits::POLL_MS_MIN, limits::POLL_MS_MAX);
        let slot_end = slots.window_of(slots.slot_of(self.now)).until;
        self.poll_next = self.now.plus_ms(ms).min(slot_end);
    }

    /// Reads the kernel, meters, makes it what it must be, reads back, and reports.
    ///
    /// # Errors
    /// When the kernel could not be read or the state not be made durable; the next step tries anew.
    pub fn step(&mut self, now: Timestamp, persist: Persist<'_>) -> Result<()> {
        let now = self.advance(now);
        self.trouble = None;
        self.plan_poll();
        self.expire(now);
        let mut view = observe::look(&mut self.kernel, &self.ports)?;
        self.note_devices(&view);
        if let Err(error) = self.read_nft(now) {
            if matches!(error, Error::TableOwned { .. }) {
                // Another agent enforces here: its classes are not ours to judge.
                return Err(error);
            }
            // Without the table nothing is classified; what tc does is still followed.
            self.elements.clear();
            self.trouble = Some(error);
        }
        self.sample(&view, now);
        if self.state.awaits_set {
            self.view = view;
            return self.trouble.take().map_or(Ok(()), Err);
        }
        if self.apply(&mut view, now, persist)? {
            view = observe::look(&mut self.kernel, &self.ports)?;
        }
        let closed = self.close(&view, now, persist);
        self.judge(&view, now);
        self.view = view;
        match self.trouble.take() {
            Some(error) => Err(error),
            None => closed,
        }
    }

    fn expire(&mut self, now: Timestamp) {
        for leg in self.state.legs.values_mut() {
            if leg.life == Life::Open && leg.desired.valid_until <= now {
                leg.life = Life::Closing { since: now };
                self.dirty = true;
            }
        }
    }

    fn note_devices(&mut self, view: &View) {
        for (name, port) in view {
            let Some(ifindex) = port.ifindex() else { continue };
            let record = self.state.ports.entry(name.clone()).or_default();
            if record.ifindex != ifindex {
                record.ifindex = ifindex;
                self.dirty = true;
            }
        }
    }

    fn read_nft(&mut self, now: Timestamp) -> Result<()> {
        if now >= self.reconciled.plus_ms(limits::RECONCILE_MS) {
            self.nft_stale = true;
        }
        if !self.nft_stale {
            return Ok(());
        }
        let repaired = !self.state.awaits_set && self.kernel.tables.ensure()?;
        if repaired && self.reconciled != Timestamp::ZERO {
            tracing::warn!("drift: table inet tollway was not what it must be; repaired");
        }
        self.elements = self.kernel.tables.elements(&self.elements, now)?;
        self.nft_stale = false;
        self.reconciled = now;
        Ok(())
    }
}
