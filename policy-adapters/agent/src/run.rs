//! The agent's loop: one thread, everything in it. Messages of the broker, the enforcer's own times, kernel
//! events and signals come in; the state goes to disk, the kernel follows, reports go out.

use crate::clock::{self, Clock, Step, seconds};
use crate::config::Config;
use crate::limits::{CLOCK_STEP_MS_MAX, EVENT_DEBOUNCE_MS, HEARTBEAT, REFUSALS_SAID_MAX, RETRY_MS};
use crate::link::{self, Broker, Event};
use crate::outbox::Outbox;
use crate::store::Store;
use crate::wire;
use anyhow::Context;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tollway_linux::{Capabilities, Enforcer, Kernel, Monitor, State, Topic};
use tollway_model::Timestamp;
use tollway_policy::{PolicyReport, Report};
use tollway_proto::AGENT_PROTOCOL_VERSION;
use tollway_proto::agent_v1 as v1;

struct Agent {
    config: Config,
    clock: Clock,
    enforcer: Enforcer,
    store: Store,
    outbox: Outbox,
    /// The outbox as numbered is on disk; only then may it be sent.
    durable: bool,
    capabilities: Capabilities,
    up: Option<mpsc::Sender<v1::FromAgent>>,
    /// Highest batch number sent on this stream.
    sent: u64,
    /// Disk trouble is said once.
    disk_fails: bool,
    kernel_fails: Option<String>,
    /// Ports whose device was not there at the last look, as it was said.
    absent: BTreeSet<String>,
    /// Why legs are refused, as it was said: a leg is asked for again every second.
    refused: BTreeSet<String>,
}

/// Runs until SIGTERM or SIGINT. Rules stay: enforcement goes on without the agent.
///
/// # Errors
/// What prevents the start.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let broker = Broker::new(&config.broker, &config.token).context("broker or token")?;
    // Before the first look: what changes after it is an event.
    let mut route = Monitor::open(Topic::Route)?.watch()?;
    let mut nft = Monitor::open(Topic::Nftables)?.watch()?;
    let mut agent = open(config)?;
    agent.first_step()?;
    let mut events = link::start(broker);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut event_due: Option<Timestamp> = None;
    let mut not_before = Timestamp::ZERO;
    loop {
        let wake = agent.enforcer.next_wakeup().min(event_due.unwrap_or(Timestamp(u64::MAX))).max(not_before);
        let mut step = false;
        tokio::select! {
            event = events.recv() => match event {
                None => anyhow::bail!("the link's task ended"),
                Some(event) => step = agent.on_event(event),
            },
            () = tokio::time::sleep(Duration::from_millis(wake.ms_since(agent.now()))) => step = agent.now() >= wake,
            changed = route.changed() => {
                changed?;
                event_due.get_or_insert(agent.now().plus_ms(EVENT_DEBOUNCE_MS));
            }
            changed = nft.changed() => {
                changed?;
                agent.enforcer.nft_changed();
                event_due.get_or_insert(agent.now().plus_ms(EVENT_DEBOUNCE_MS));
            }
            _ = heartbeat.tick() => agent.beat(),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
        if step {
            event_due = event_due.filter(|due| *due > agent.now());
            let fine = agent.step();
            not_before = if fine { Timestamp::ZERO } else { agent.now().plus_ms(RETRY_MS) };
        }
        agent.send();
    }
    agent.step();
    tracing::info!("stopped; rules stay in place");
    if agent.disk_fails {
        anyhow::bail!("the state could not be made durable at the end")
    }
    Ok(())
}

/// The agent with what it knew when it ended last.
fn open(config: Config) -> anyhow::Result<Agent> {
    let store = Store::open(&config.data)?;
    let mut kernel = Kernel::open(true)?;
    // Before anything else: what another agent enforces is not touched.
    kernel.tables.unowned()?;
    let (state, outbox) = match store.load()? {
        Some(loaded) => loaded,
        None => (first_state(&mut kernel, &config)?, Outbox::default()),
    };
    let capabilities = Capabilities::probe();
    let legs = state.legs.len();
    let started = clock::read();
    let clock = Clock::new(started);
    let enforcer = Enforcer::new(kernel, config.ports.clone(), &capabilities, state, started.wall);
    let agent = Agent {
        config,
        clock,
        enforcer,
        store,
        outbox,
        durable: false,
        capabilities,
        up: None,
        sent: 0,
        disk_fails: false,
        kernel_fails: None,
        absent: BTreeSet::new(),
        refused: BTreeSet::new(),
    };
    tracing::info!(
        agent = %agent.config.agent,
        legs,
        capabilities = agent.capabilities.strings().join(" "),
        "started"
    );
    Ok(agent)
}

/// State of an empty data directory. Rules that are there already may be live promises: only a broker knows.
fn first_state(kernel: &mut Kernel, config: &Config) -> anyhow::Result<State> {
    let there = Enforcer::leftovers(kernel, &config.ports)?.len();
    if there > 0 {
        tracing::warn!(
            there,
            data = %config.data.display(),
            "the data directory is empty and the kernel has classes and elements of ours: nothing is removed \
             until a broker's first desired set"
        );
    }
    Ok(State { awaits_set: there > 0, ..State::default() })
}

fn hello(config: &Config, enforcer: &Enforcer, capabilities: &Capabilities, now: Timestamp) -> v1::Hello {
    let ports = config.ports.iter().map(|port| v1::Port {
        name: port.name.clone(),
        device: port.device.clone(),
        link_bps: port.link.get(),
        up: enforcer.port_up(&port.name),
    });
    v1::Hello {
        agent: config.agent.clone(),
        protocol: AGENT_PROTOCOL_VERSION,
        software: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: enforcer.boot_id().to_owned(),
        epoch: enforcer.state().epoch,
        now_ms: now.ms(),
        capabilities: capabilities.strings(),
        ports: ports.collect(),
        market: enforcer.state().market.clone().unwrap_or_default(),
    }
}

impl Agent {
    fn now(&mut self) -> Timestamp {
        let (now, step) = self.clock.now(clock::read());
        match step {
            Step::Steady => {}
            Step::Jumped(jump_ms) => {
                tracing::error!(
                    jump_s = seconds(jump_ms),
                    "the wall clock jumped; time goes on without it until the broker confirms"
                );
            }
            Step::Adopted => tracing::warn!("the broker confirms the new wall time; it is followed"),
        }
        now
    }

    /// The first look must succeed, or the agent says why and ends.
    fn first_step(&mut self) -> anyhow::Result<()> {
        let now = self.now();
        let (store, outbox) = (&self.store, &self.outbox);
        self.enforcer.step(now, &mut |state| store.save(state, outbox))?;
        self.say_absent();
        self.flush();
        Ok(())
    }

    /// A device that is not there refuses every leg of its port: said when it is missed and when it comes.
    fn say_absent(&mut self) {
        for port in &self.config.ports {
            let (name, device) = (port.name.as_str(), port.device.as_str());
            if self.enforcer.has_device(name) {
                if self.absent.remove(name) {
                    self.refused.clear();
                    tracing::info!(port = name, device, "the port's device is there now");
                }
            } else if self.absent.insert(name.to_owned()) {
                tracing::warn!(
                    port = name,
                    device,
                    "the port's device does not exist: its legs are refused until it does; compare [[port]] of \
                     agent.toml with `ip link`"
                );
            }
        }
    }

    fn say_refused(&mut self, reports: &[Report]) {
        for report in reports {
            let Report::Leg { leg, report: PolicyReport::Refused { reason }, .. } = report else { continue };
            if self.refused.len() >= REFUSALS_SAID_MAX {
                self.refused.clear();
            }
            if self.refused.insert(reason.clone()) {
                tracing::warn!(%leg, reason = reason.as_str(), "a leg is refused");
            }
        }
    }

    /// True when it went well.
    fn step(&mut self) -> bool {
        let now = self.now();
        let (store, outbox) = (&self.store, &self.outbox);
        let outcome = self.enforcer.step(now, &mut |state| store.save(state, outbox));
        if outcome.is_ok() {
            self.say_absent();
        }
        self.flush();
        match outcome {
            Ok(()) => {
                if self.kernel_fails.take().is_some() {
                    tracing::info!("the kernel follows again");
                }
                true
            }
            Err(error) => {
                let text = error.to_string();
                if self.kernel_fails.as_ref() != Some(&text) {
                    tracing::error!(%error, "step failed; it is tried again");
                    self.kernel_fails = Some(text);
                }
                false
            }
        }
    }

    /// Numbers what there is to report and makes it durable.
    fn flush(&mut self) {
        let reports = self.enforcer.take_reports();
        self.say_refused(&reports);
        if !reports.is_empty() {
            self.durable = false;
            let lost = self.outbox.push(reports);
            if lost > 0 {
                tracing::error!(lost, "reports thrown away: the broker has been away too long");
            }
        }
        let (store, outbox) = (&self.store, &self.outbox);
        match self.enforcer.save(&mut |state| store.save(state, outbox)) {
            Ok(()) => {
                self.durable = true;
                if std::mem::take(&mut self.disk_fails) {
                    tracing::info!("the state is durable again");
                }
                // Later than the state, never earlier: a newer meter must not refer to an older state.
                if let Err(error) = self.store.save_meters(self.enforcer.state()) {
                    tracing::debug!(%error, "meters not written");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.disk_fails, true) {
                    tracing::error!(%error, "nothing is reported until the disk takes it");
                }
            }
        }
    }

    fn on_event(&mut self, event: Event) -> bool {
        match event {
            Event::Opening(ask) => {
                let now = self.now();
                let _given_up = ask.send(hello(&self.config, &self.enforcer, &self.capabilities, now));
                false
            }
            Event::Up { welcome, up } => {
                tracing::info!(
                    epoch = welcome.epoch,
                    slot_s = welcome.slot_s,
                    acked = welcome.acked,
                    "broker is there"
                );
                let offset_ms = welcome.now_ms.cast_signed().wrapping_sub(self.now().ms().cast_signed());
                if offset_ms.unsigned_abs() > CLOCK_STEP_MS_MAX {
                    tracing::warn!(offset_s = seconds(offset_ms), "the broker's clock and this one differ");
                }
                self.clock.broker_says(Timestamp(welcome.now_ms), clock::read());
                self.enforcer.welcome(welcome.epoch, welcome.slot_s);
                self.enforcer.join(&welcome.market);
                if self.outbox.welcome(welcome.acked) {
                    tracing::warn!(
                        acked = welcome.acked,
                        "this data directory is new to the broker; numbers go on"
                    );
                }
                self.sent = welcome.acked;
                self.up = Some(up);
                self.flush();
                false
            }
            Event::Down => {
                self.up = None;
                false
            }
            Event::Message(message) => self.on_message(message),
        }
    }

    /// True when the kernel must follow.
    fn on_message(&mut self, message: v1::ToAgent) -> bool {
        use v1::to_agent::Message;
        let now = self.now();
        match message.message {
            Some(Message::Desired(set)) => {
                tracing::info!(legs = set.legs.len(), epoch = set.epoch, "desired set");
                self.enforcer.welcome(set.epoch, self.enforcer.state().slot_s);
                let named = set.legs.iter().map(|leg| wire::leg_id(leg.reservation, leg.index)).collect();
                let legs = set.legs.into_iter().filter_map(|leg| self.read(leg)).collect();
                self.enforcer.replace_all(&named, legs, now);
                true
            }
            Some(Message::Upsert(leg)) => {
                if let Some(leg) = self.read(leg) {
                    tracing::info!(leg = %leg.leg, attempt = leg.attempt, "upsert");
                    self.enforcer.upsert(leg, now);
                }
                true
            }
            Some(Message::Release(release)) => {
                let leg = wire::leg_id(release.reservation, release.index);
                tracing::info!(%leg, attempt = release.attempt, "release");
                self.enforcer.release(leg, release.attempt, now);
                true
            }
            Some(Message::Ack(ack)) => {
                self.outbox.ack(ack.number);
                false
            }
            Some(Message::Welcome(_)) | None => false,
        }
    }

    fn read(&mut self, leg: v1::Leg) -> Option<tollway_policy::DesiredLeg> {
        match wire::leg(leg, &self.config.agent) {
            Ok(leg) => Some(leg),
            Err(refusal) => {
                tracing::warn!(leg = %refusal.leg, reason = %refusal.reason, "a leg that cannot be read");
                let report = PolicyReport::Refused { reason: refusal.reason };
                self.enforcer.say(Report::Leg { leg: refusal.leg, attempt: refusal.attempt, report });
                None
            }
        }
    }

    fn beat(&mut self) {
        let now = self.now();
        if let Some(up) = &self.up {
            let beat = v1::Heartbeat { now_ms: now.ms() };
            let _full =
                up.try_send(v1::FromAgent { message: Some(v1::from_agent::Message::Heartbeat(beat)) });
        }
    }

    /// Sends what is durable and may be under way.
    fn send(&mut self) {
        let now = self.now();
        let Some(up) = self.up.as_ref().filter(|_| self.durable) else { return };
        let mut sent = self.sent;
        for batch in self.outbox.after(sent) {
            let message = v1::ReportBatch {
                number: batch.number,
                now_ms: now.ms(),
                reports: batch.reports.iter().filter_map(wire::report).collect(),
            };
            let message = v1::FromAgent { message: Some(v1::from_agent::Message::Reports(message)) };
            if up.try_send(message).is_err() {
                break;
            }
            sent = batch.number;
        }
        self.sent = sent;
    }
}
