//! One life of the session machine: from the desired set of one connection to the engine until that connection
//! ends. The machine and what stands on its marks live and end together.

use super::batches::Batches;
use super::kept::Kept;
use super::time::EngineTime;
use super::view::GatewayRow;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tollway_diameter::machine::{Failure, RequestId};
use tollway_diameter::node::{self, Answer, RequestError};
use tollway_gx::profile::Table;
use tollway_gx::{Counters, Desire, Gate, Input, Machine, Mark, Output, Settings, Token};
use tollway_model::Timestamp;
use tollway_policy::{DesiredLeg, MobileAccess, PolicyCommand, PolicyReport, Report, Session, SubscriberRef};

/// A RAR that came to its end.
pub(super) type Ended = (RequestId, Result<Answer, RequestError>);

pub(super) struct Life {
    machine: Machine<Arc<Table>>,
    gate: Gate,
    pub(super) batches: Batches,
    /// RARs under way. Those of a life that is over are nobody's.
    pub(super) rars: JoinSet<Ended>,
    node: node::Handle,
    time: EngineTime,
    /// Of the last fact.
    mark: Mark,
}

/// What the engine says when it is asked for everything.
pub(super) struct Told {
    pub(super) now: Timestamp,
    pub(super) legs: Vec<DesiredLeg>,
    pub(super) sessions: Vec<Session>,
    pub(super) acked: u64,
}

impl Life {
    /// Restores what the engine knows, then hears again what gateways said and nobody has answered.
    pub(super) fn begin(
        settings: Settings,
        profiles: Arc<Table>,
        node: node::Handle,
        told: Told,
        kept: &mut Kept,
    ) -> Life {
        let machine = Machine::new(settings, profiles).expect("the settings were checked with their file");
        let mut time = EngineTime::default();
        time.told(told.now);
        let mut life = Life {
            machine,
            gate: Gate::default(),
            batches: Batches::after(told.acked),
            rars: JoinSet::new(),
            node,
            time,
            mark: Mark::default(),
        };
        let now = life.now();
        for session in told.sessions {
            life.machine.handle(now, Input::Restore(Box::new(session)));
        }
        for leg in told.legs {
            life.desire(now, leg);
        }
        life.machine.handle(now, Input::Ready);
        life.flush(kept);
        kept.begin_again();
        for token in kept.tokens() {
            life.hear(token, kept);
        }
        life
    }

    pub(super) fn now(&mut self) -> Timestamp {
        self.time.now()
    }

    /// One input of whoever it is.
    pub(super) fn handle(&mut self, input: Input, kept: &mut Kept) {
        let now = self.now();
        self.machine.handle(now, input);
        self.flush(kept);
    }

    /// What a gateway said, out of what is kept.
    pub(super) fn hear(&mut self, token: Token, kept: &mut Kept) {
        let Some(input) = kept.input(token) else { return };
        self.handle(input, kept);
        kept.stands_on(token, self.mark);
        self.durable(None, kept);
    }

    /// A change that the engine made.
    pub(super) fn command(&mut self, now: Timestamp, command: PolicyCommand, kept: &mut Kept) {
        self.time.told(now);
        let now = self.now();
        match command {
            PolicyCommand::Desire(desired) => self.desire(now, desired),
            PolicyCommand::Release { leg, attempt, access, .. } => {
                // Without an access it is one that the engine does not know: at none of our APNs.
                let access =
                    access.unwrap_or(MobileAccess { subscriber: SubscriberRef(0), apn: String::new() });
                self.machine.handle(now, Input::Release { leg, attempt, access });
            }
        }
        self.flush(kept);
    }

    fn desire(&mut self, now: Timestamp, desired: DesiredLeg) {
        let (leg, attempt) = (desired.leg, desired.attempt);
        match Desire::of(desired) {
            Ok(desire) => self.machine.handle(now, Input::Desire(Box::new(desire))),
            Err(why) => {
                let report = PolicyReport::Refused { reason: why.to_string() };
                self.batches.push(vec![(self.mark, Report::Leg { leg, attempt, report })]);
            }
        }
    }

    /// A batch is durable, and all before it.
    pub(super) fn acked(&mut self, now: Timestamp, number: u64, kept: &mut Kept) {
        self.time.told(now);
        let durable = self.batches.acked(number);
        self.durable(durable, kept);
    }

    fn durable(&mut self, durable: Option<Mark>, kept: &mut Kept) {
        if let Some(mark) = durable {
            self.gate.durable(mark);
            kept.durable(mark);
        }
        self.let_go(kept);
    }

    /// A RAR has its answer, or has none.
    pub(super) fn ended(&mut self, (id, answer): Ended, kept: &mut Kept) {
        let input = match answer {
            Ok(answer) => Input::Answered { id, frame: answer.frame },
            Err(RequestError::Failed(failure)) => Input::Failed { id, failure },
            Err(RequestError::Stopped) => Input::Failed { id, failure: Failure::NoRoute },
        };
        self.handle(input, kept);
    }

    pub(super) fn set_profiles(&mut self, profiles: Arc<Table>) {
        self.machine.set_profiles(profiles);
    }

    /// Until the machine wants to be called.
    pub(super) fn until_timer(&mut self, most: Duration) -> Duration {
        let Some(due) = self.machine.poll_timeout() else { return most };
        let now = self.now();
        most.min(Duration::from_millis(due.ms_since(now)))
    }

    pub(super) fn tick(&mut self, kept: &mut Kept) {
        let now = self.now();
        if self.machine.poll_timeout().is_some_and(|due| due <= now) {
            self.handle(Input::Tick, kept);
        }
    }

    /// What one step made: facts into one batch, messages behind them.
    fn flush(&mut self, kept: &mut Kept) {
        let mut facts = Vec::new();
        while let Some(output) = self.machine.poll_output() {
            if let Some(Output::Fact { mark, fact }) = self.gate.push(output) {
                self.mark = mark;
                facts.push((mark, fact));
            }
        }
        self.batches.push(facts);
        self.let_go(kept);
    }

    /// Sends what stands on durable facts only.
    fn let_go(&mut self, kept: &mut Kept) {
        while let Some(output) = self.gate.pop() {
            match output {
                Output::Answer { token, bytes, .. } => kept.answer(token, bytes),
                Output::Request { id, bytes, timeout_ms, .. } => {
                    let node = self.node.clone();
                    let timeout = Duration::from_millis(timeout_ms);
                    self.rars.spawn(async move { (id, node.request(bytes, Some(timeout)).await) });
                }
                Output::Fact { .. } => unreachable!("a gate lets facts pass at once"),
            }
        }
    }

    pub(super) fn counters(&self) -> &Counters {
        self.machine.counters()
    }

    pub(super) fn gateways(&self) -> Vec<GatewayRow> {
        let row = |host: tollway_gx::HostView<'_>| GatewayRow {
            origin_host: host.origin_host.to_owned(),
            sessions: host.sessions,
            pushes_waiting: host.pushes_waiting,
            pushes_in_flight: host.pushes_in_flight,
        };
        self.machine.hosts().map(row).collect()
    }
}
