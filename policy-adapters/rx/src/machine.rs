//! The session machine of Rx as the AF, without I/O: what PCRFs and the engine say goes in, what is to be recorded
//! and sent comes out. It keeps no clock: `now` is an argument, and [`Machine::poll_timeout`] says when to call
//! again.

mod answers;
mod inbound;
mod leg;
mod meter;
mod push;
mod sessions;

use crate::counters::Counters;
use crate::fact::{Access, AfSession, Certainty, Fact, Mark, Output, Token};
use crate::rates::Rates;
use crate::session_id::SessionIds;
use crate::settings::{Reports, Settings, SettingsError};
use crate::terms::Terms;
use leg::Leg;
use push::Pending;
use sessions::{PcrfNo, SessionNo, Sessions};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tollway_diameter::Frame;
use tollway_diameter::machine::{Failure, RequestId};
use tollway_model::{LegId, Timestamp};
use tollway_policy::{DesiredLeg, PolicyReport};

/// What the engine knows of a leg that the machine does not: after a restart it may be active.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    New,
    Active,
}

/// A leg that is to hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Desire {
    pub desired: DesiredLeg,
    pub access: Access,
    pub terms: Terms,
    pub known: Known,
}

#[derive(Debug)]
pub enum Input {
    /// A request of a PCRF.
    Request {
        token: Token,
        frame: Frame,
    },
    Answered {
        id: RequestId,
        frame: Frame,
    },
    Failed {
        id: RequestId,
        failure: Failure,
    },
    /// A peer can be used (again): the PCRF of that name, or with `None` a relay to any of them.
    PeerUp {
        origin_host: Option<String>,
    },
    /// The host lost its sessions (Origin-State-Id, RFC 6733 §8.16).
    Restarted {
        origin_host: String,
    },
    Desire(Box<Desire>),
    Release {
        leg: LegId,
        attempt: u32,
    },
    /// At start: a session out of the records.
    Restore(Box<AfSession>),
    /// Every session is restored and every leg desired or released: from now on requests are sent.
    Ready,
    /// A timeout has come; nothing else.
    Tick,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    /// First: what ends at the end of a slot was in that slot.
    Slot,
    Leg(LegId),
    Session(SessionNo),
    Copies(SessionNo),
}

/// Whether the desired set is known in full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Restoring,
    Running,
}

/// The machine.
pub struct Machine {
    settings: Settings,
    stage: Stage,
    ids: SessionIds,
    sessions: Sessions,
    legs: BTreeMap<LegId, Leg>,
    /// Legs whose meter runs or has something unsaid.
    metered: BTreeSet<LegId>,
    pending: BTreeMap<RequestId, Pending>,
    timers: BTreeSet<(Timestamp, Timer)>,
    /// PCRFs whose queue is not empty.
    waiting: BTreeSet<PcrfNo>,
    outputs: VecDeque<Output>,
    mark: Mark,
    next_request: u64,
    slot_due: Option<Timestamp>,
    counters: Counters,
}

impl Machine {
    /// # Errors
    /// What of the settings cannot be.
    pub fn new(settings: Settings) -> Result<Machine, SettingsError> {
        settings.check()?;
        Ok(Machine {
            stage: Stage::Restoring,
            ids: SessionIds::new(&settings.origin.host, settings.session_high),
            sessions: Sessions::new(&settings),
            settings,
            legs: BTreeMap::new(),
            metered: BTreeSet::new(),
            pending: BTreeMap::new(),
            timers: BTreeSet::new(),
            waiting: BTreeSet::new(),
            outputs: VecDeque::new(),
            mark: Mark::default(),
            next_request: 0,
            slot_due: None,
            counters: Counters::default(),
        })
    }

    /// One step. What was due before it runs first.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        self.run_timers(now);
        match input {
            Input::Request { token, frame } => self.request(now, token, &frame.message()),
            Input::Answered { id, frame } => self.answered(now, id, &frame.message()),
            Input::Failed { id, failure } => self.failed(now, id, failure),
            Input::PeerUp { origin_host } => self.peer_up(now, origin_host.as_deref()),
            Input::Restarted { origin_host } => self.restarted(now, &origin_host),
            Input::Desire(desire) => self.desire(now, *desire),
            Input::Release { leg, attempt } => self.release(now, leg, attempt),
            Input::Restore(session) => self.restore(*session),
            Input::Ready => self.ready(now),
            Input::Tick => {}
        }
        self.pump(now);
        if cfg!(debug_assertions) && self.legs.len() < 64 {
            self.check_invariants();
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call again at the latest.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let queues = self.waiting.iter().filter_map(|no| self.sessions.pcrf(*no).next_push());
        timer.into_iter().chain(queues).min()
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Sessions that are not closed, those that are being ended included.
    pub fn sessions_len(&self) -> usize {
        self.sessions.len()
    }

    /// Sessions that wait to be told to a PCRF.
    pub fn queue_len(&self, pcrf: &str) -> usize {
        self.sessions.find_pcrf(pcrf).map_or(0, |no| self.sessions.pcrf(no).queue.len())
    }

    fn run_timers(&mut self, now: Timestamp) {
        while let Some((due, timer)) = self.timers.first().copied()
            && due <= now
        {
            self.timers.remove(&(due, timer));
            match timer {
                Timer::Leg(id) => {
                    if let Some(leg) = self.legs.get_mut(&id) {
                        leg.due = None;
                    }
                    // At the present, whatever was missed.
                    self.attend(now, id);
                }
                Timer::Session(session) => self.resume(now, session),
                Timer::Copies(session) => self.outlived_copies(now, session, due),
                Timer::Slot => self.tick(due),
            }
        }
    }

    fn fact(&mut self, fact: Fact) {
        self.mark.0 += 1;
        self.outputs.push_back(Output::Fact { mark: self.mark, fact });
    }

    fn say(&mut self, leg: LegId, report: PolicyReport, acceptable_bps: Option<Rates>) {
        if let Some(attempt) = self.legs.get(&leg).map(|leg| leg.attempt) {
            self.say_of(leg, attempt, report, acceptable_bps);
        }
    }

    fn say_of(&mut self, leg: LegId, attempt: u32, report: PolicyReport, acceptable_bps: Option<Rates>) {
        let Some(certainty) = self.legs.get(&leg).map(|leg| self.certainty(&leg.access)) else { return };
        self.fact(Fact::Leg { leg, attempt, report, certainty, acceptable_bps });
    }

    fn certainty(&self, access: &Access) -> Certainty {
        match self.settings.pcrfs.get(&access.pcrf).map(|pcrf| pcrf.reports) {
            Some(Reports::Full) | None => Certainty::Reported,
            Some(Reports::None) => Certainty::Unconfirmed,
        }
    }

    fn answer(&mut self, token: Token, bytes: Vec<u8>) {
        self.outputs.push_back(Output::Answer { after: self.mark, token, bytes });
    }

    fn set_due(&mut self, leg: LegId, due: Option<Timestamp>) {
        let Some(known) = self.legs.get_mut(&leg) else { return };
        if known.due == due {
            return;
        }
        if let Some(old) = known.due {
            self.timers.remove(&(old, Timer::Leg(leg)));
        }
        if let Some(due) = due {
            self.timers.insert((due, Timer::Leg(leg)));
        }
        known.due = due;
    }

    fn check_invariants(&self) {
        self.sessions.check_invariants();
        for (id, leg) in &self.legs {
            let is_timed = |due| self.timers.contains(&(due, Timer::Leg(*id)));
            assert!(leg.due.is_none_or(is_timed), "a due leg has a timer");
            let serves = |no| self.sessions.find(no).is_some_and(|session| session.serves(*id));
            assert!(leg.session.is_none_or(serves), "a leg's session is open and serves it");
        }
        assert!(self.metered.iter().all(|leg| self.legs.contains_key(leg)), "a meter belongs to a leg");
        assert_eq!(self.slot_due.is_some(), !self.metered.is_empty(), "running meters are read at slot ends");
    }
}
