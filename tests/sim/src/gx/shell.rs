//! What stands between the session machine, the engine and the wire, as the broker's own adapter does it: facts of
//! one step in one batch, messages behind their facts, a machine made anew from what the engine knows.

use super::message::{self, APN, HOME, REALM};
use crate::options::Bug;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tollway_diameter::avp::ietf::CC_REQUEST_TYPE;
use tollway_diameter::machine::{Failure, RequestId};
use tollway_diameter::message::{set_end_to_end, set_hop_by_hop};
use tollway_diameter::{Frame, Message, Origin, Outcome, answer};
use tollway_gx::profile::{Identity, SubscriberProfile};
use tollway_gx::{
    Desire, Gate, Gateway, Input, Machine, Mark, Output, Profile, QosClass, Rates, Reports, RuleTimes,
    Settings, Token,
};
use tollway_model::{LegId, SlotLength, Timestamp};
use tollway_policy::{DesiredLeg, PolicyCommand, PolicyReport, Report, Session, SubscriberRef};

/// Everybody is a subscriber, by the digits of the identity.
struct Everybody;

impl Profile for Everybody {
    fn find(&self, identities: &[Identity<'_>], _: &str) -> Option<Arc<SubscriberProfile>> {
        let number: u64 = identities.first()?.digits.strip_prefix(HOME)?.parse().ok()?;
        Some(Arc::new(SubscriberProfile {
            subscriber: SubscriberRef(number),
            default_qos: QosClass::for_default(9, 15, None).ok()?,
            ambr: Rates { up_bps: 10_000_000, down_bps: 50_000_000 },
            standing: Vec::new(),
        }))
    }
}

/// What leaves the adapter.
pub enum Left {
    Reports(u64, Vec<Report>),
    Frame(Vec<u8>),
    /// A message that stands on a batch which is not durable.
    TooEarly(u64),
}

/// One life of the machine.
struct Life {
    machine: Machine<Everybody>,
    gate: Gate,
    mark: Mark,
    /// Up to where the engine has acknowledged: kept beside the gate, so that the gate can be judged.
    durable: Mark,
    next_batch: u64,
    /// Batches on their way: the last mark of each.
    batches: VecDeque<(Mark, u64)>,
    rars: BTreeMap<u32, (RequestId, Timestamp)>,
}

pub struct Shell {
    settings: Settings,
    bug: Option<Bug>,
    life: Option<Life>,
    acked: u64,
    hop: u32,
    token: u64,
    left: Vec<Left>,
    /// A restart of the gateway that is not yet in the records: the batch that holds it.
    restart: Option<Option<u64>>,
    is_peer_down: bool,
    /// The planted bugs' own: legs whose release crossed an install, requests that were given a new number.
    crossed: BTreeSet<LegId>,
    renumbered: u32,
}

/// Legs that are said to be gone.
pub fn removed(reports: &[Report]) -> impl Iterator<Item = LegId> {
    reports.iter().filter_map(|report| match report {
        Report::Leg { leg, report: PolicyReport::Removed { .. }, .. } => Some(*leg),
        Report::Leg { .. } | Report::Usage(_) | Report::Port(_) | Report::Session(_) => None,
    })
}

impl Shell {
    pub fn new(slot_length: SlotLength, is_kept: bool, is_full: bool, bug: Option<Bug>) -> Shell {
        let gateway = Gateway {
            reports: if is_full { Reports::Full } else { Reports::None },
            rule_times: if is_kept { RuleTimes::Kept } else { RuleTimes::Ignored },
            ..Gateway::default()
        };
        let settings = Settings {
            origin: Origin { host: "pcrf.sim".into(), realm: REALM.into(), state_id: 1 },
            apns: vec![APN.into()],
            home_plmns: vec![HOME.into()],
            gateways: BTreeMap::new(),
            gateway,
            slot_length,
            incarnation: 0,
        };
        Shell {
            settings,
            bug,
            life: None,
            acked: 0,
            hop: 0,
            token: 0,
            left: Vec::new(),
            restart: None,
            is_peer_down: false,
            crossed: BTreeSet::new(),
            renumbered: 0,
        }
    }

    pub fn take_left(&mut self) -> Vec<Left> {
        std::mem::take(&mut self.left)
    }

    /// The engine has said everything that it knows.
    pub fn begin(&mut self, now: Timestamp, legs: Vec<DesiredLeg>, sessions: Vec<Session>, acked: u64) {
        self.settings.incarnation += 1;
        self.settings.origin.state_id += 1;
        self.acked = acked;
        let machine =
            Machine::new(self.settings.clone(), Everybody).expect("the simulation's settings are sound");
        self.life = Some(Life {
            machine,
            gate: Gate::default(),
            mark: Mark::default(),
            durable: Mark::default(),
            next_batch: acked + 1,
            batches: VecDeque::new(),
            rars: BTreeMap::new(),
        });
        for session in sessions {
            self.input(now, Input::Restore(Box::new(session)));
        }
        for leg in legs {
            self.desire(now, leg);
        }
        self.input(now, Input::Ready);
        self.tell_restart(now);
    }

    /// The broker is gone, and the machine with it.
    pub fn end(&mut self) {
        self.life = None;
        self.restart = self.restart.map(|_| None);
    }

    pub fn restarted(&mut self) {
        self.restart = Some(None);
    }

    fn tell_restart(&mut self, now: Timestamp) {
        if self.restart == Some(None) && self.life.is_some() && !self.is_peer_down {
            self.input(now, Input::Restarted { origin_host: message::HOST.to_owned() });
            let last = self.life.as_ref().and_then(|life| life.batches.back()).map(|(_, number)| *number);
            self.restart = last.filter(|number| *number > self.acked).map(Some);
        }
    }

    fn desire(&mut self, now: Timestamp, leg: DesiredLeg) {
        let (id, attempt) = (leg.leg, leg.attempt);
        match Desire::of(leg) {
            Ok(desire) => self.input(now, Input::Desire(Box::new(desire))),
            Err(why) => {
                let report = PolicyReport::Refused { reason: why.to_string() };
                let mark = self.life.as_ref().map_or(Mark::default(), |life| life.mark);
                self.batch(mark, vec![Report::Leg { leg: id, attempt, report }]);
            }
        }
    }

    pub fn command(&mut self, now: Timestamp, command: PolicyCommand) {
        if self.life.is_none() {
            return;
        }
        match command {
            PolicyCommand::Desire(leg) => self.desire(now, leg),
            PolicyCommand::Release { leg, attempt, access: Some(access), .. } => {
                if self.bug == Some(Bug::GxReleaseCrosses) && self.has_rars() {
                    self.crossed.insert(leg);
                }
                self.input(now, Input::Release { leg, attempt, access });
            }
            // A leg that is nobody's is taken away when its gateway speaks of it.
            PolicyCommand::Release { access: None, .. } => {}
        }
    }

    fn has_rars(&self) -> bool {
        self.life.as_ref().is_some_and(|life| !life.rars.is_empty())
    }

    pub fn acked(&mut self, now: Timestamp, number: u64) {
        self.acked = self.acked.max(number);
        if self.restart.flatten().is_some_and(|batch| batch <= self.acked) {
            self.restart = None;
        }
        let Some(life) = &mut self.life else { return };
        while let Some((mark, _)) = life.batches.pop_front_if(|(_, batch)| *batch <= number) {
            life.gate.durable(mark);
            life.durable = mark;
        }
        self.let_go(now);
    }

    /// A frame from the gateway. Without a machine nobody reads it; it will be sent again.
    pub fn hear(&mut self, now: Timestamp, mut bytes: Vec<u8>, is_repeat: bool) {
        if self.life.is_none() {
            return;
        }
        if self.bug == Some(Bug::GxUsageTwice) {
            self.count_again(&mut bytes, is_repeat);
        }
        let Ok(frame) = Frame::new(bytes) else { return };
        if frame.message().is_request() {
            self.token += 1;
            return self.input(now, Input::Request { token: Token(self.token), frame });
        }
        let hop = frame.message().header.hop_by_hop;
        // An answer to an earlier life, or after its time, is nobody's.
        let id = self.life.as_mut().and_then(|life| life.rars.remove(&hop));
        if let Some((id, _)) = id {
            self.input(now, Input::Answered { id, frame });
        }
    }

    pub fn peer_lost(&mut self, now: Timestamp) {
        self.is_peer_down = true;
        let rars = self.life.as_mut().map(|life| std::mem::take(&mut life.rars)).unwrap_or_default();
        for (id, _) in rars.into_values() {
            self.input(now, Input::Failed { id, failure: Failure::NoRoute });
        }
    }

    pub fn peer_is_up(&mut self, now: Timestamp) {
        if std::mem::take(&mut self.is_peer_down) && self.life.is_some() {
            self.tell_restart(now);
            self.input(now, Input::PeerUp { origin_host: Some(message::HOST.to_owned()) });
        }
    }

    pub fn next_due(&self) -> Option<Timestamp> {
        let life = self.life.as_ref()?;
        let rars = life.rars.values().map(|(_, due)| *due);
        rars.chain(life.machine.poll_timeout()).min()
    }

    pub fn tick(&mut self, now: Timestamp) {
        let Some(life) = &mut self.life else { return };
        let is_due = life.machine.poll_timeout().is_some_and(|due| due <= now);
        let late: Vec<u32> =
            life.rars.iter().filter(|(_, (_, due))| *due <= now).map(|(hop, _)| *hop).collect();
        for hop in late {
            let id = self.life.as_mut().and_then(|life| life.rars.remove(&hop));
            if let Some((id, _)) = id {
                self.input(now, Input::Failed { id, failure: Failure::Timeout });
            }
        }
        if is_due {
            self.input(now, Input::Tick);
        }
    }

    fn input(&mut self, now: Timestamp, input: Input) {
        let Some(life) = &mut self.life else { return };
        life.machine.handle(now, input);
        let mut facts = Vec::new();
        while let Some(output) = life.machine.poll_output() {
            if let Some(Output::Fact { mark, fact }) = life.gate.push(output) {
                life.mark = mark;
                facts.push(fact);
            }
        }
        let mark = life.mark;
        self.batch(mark, facts);
        if self.bug == Some(Bug::GxAnswerBeforeCommit)
            && let Some(life) = &mut self.life
        {
            life.gate.durable(life.mark);
        }
        self.let_go(now);
    }

    fn batch(&mut self, mark: Mark, reports: Vec<Report>) {
        let Some(life) = self.life.as_mut().filter(|_| !reports.is_empty()) else { return };
        let number = life.next_batch;
        life.next_batch += 1;
        life.batches.push_back((mark, number));
        self.left.push(Left::Reports(number, reports));
    }

    /// Sends what the gate lets out.
    fn let_go(&mut self, now: Timestamp) {
        let mut ended = Vec::new();
        while let Some(output) = self.life.as_mut().and_then(|life| life.gate.pop()) {
            match output {
                Output::Fact { .. } => {}
                Output::Answer { after, bytes, .. } => {
                    self.note_early(after);
                    self.left.push(Left::Frame(bytes));
                }
                Output::Request { after, id, bytes, timeout_ms } => {
                    self.note_early(after);
                    ended.extend(self.request(now, id, bytes, timeout_ms));
                }
            }
        }
        for input in ended {
            self.input(now, input);
        }
    }

    /// Sends a RAR; gives back how it ended when it did at once.
    fn request(
        &mut self,
        now: Timestamp,
        id: RequestId,
        mut bytes: Vec<u8>,
        timeout_ms: u64,
    ) -> Option<Input> {
        if self.is_peer_down {
            return Some(Input::Failed { id, failure: Failure::NoRoute });
        }
        self.hop += 1;
        set_hop_by_hop(&mut bytes, self.hop);
        set_end_to_end(&mut bytes, self.hop);
        if let Some(frame) = self.swallowed(&bytes) {
            return Some(Input::Answered { id, frame });
        }
        if let Some(life) = &mut self.life {
            life.rars.insert(self.hop, (id, now.plus_ms(timeout_ms)));
        }
        self.left.push(Left::Frame(bytes));
        None
    }

    fn note_early(&mut self, after: Mark) {
        let Some(life) = &self.life else { return };
        let batch = life.batches.iter().find(|(mark, _)| *mark >= after).filter(|_| after > life.durable);
        if let Some((_, number)) = batch {
            self.left.push(Left::TooEarly(*number));
        }
    }

    /// The planted bug: a removal whose release crossed an install counts as done and never leaves.
    fn swallowed(&self, bytes: &[u8]) -> Option<Frame> {
        let frame = Frame::new(bytes.to_vec()).ok()?;
        let rar = frame.message();
        if !message::changes(&rar).removed.iter().any(|leg| self.crossed.contains(leg)) {
            return None;
        }
        let origin = Origin { host: message::HOST.into(), realm: REALM.into(), state_id: 1 };
        let raa = answer::answer(&rar, &origin, Outcome { vendor: 0, code: 2001 });
        Frame::new(raa.finish().ok()?).ok()
    }

    /// The planted bug: what is asked again is taken for something new.
    fn count_again(&mut self, bytes: &mut [u8], is_repeat: bool) {
        let Ok(message) = Message::parse(bytes) else { return };
        let is_update = message.is_request() && message.u32(CC_REQUEST_TYPE) == Some(2);
        if let Some(at) = message::number_at(bytes).filter(|_| is_repeat && is_update) {
            self.renumbered += 1;
            let number = 1_000_000 + self.renumbered;
            bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
    }
}
