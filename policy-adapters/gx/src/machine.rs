//! The session machine of Gx as the PCRF, without I/O: what gateways and the engine say goes in, what is to be
//! recorded and sent comes out. It keeps no clock: `now` is an argument, and [`Machine::poll_timeout`] says when
//! to call again.

mod credit;
mod leg;
mod meter;
mod push;
mod reports;
mod sessions;

use crate::counters::Counters;
use crate::fact::{Mark, Output, Token};
use crate::profile::Profile;
use crate::qos::QosError;
use crate::rule::Terms;
use crate::settings::{Reports, Settings, SettingsError};
use leg::Leg;
use push::Pending;
use sessions::{HostNo, SessionNo, Sessions};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tollway_diameter::Frame;
use tollway_diameter::machine::{Failure, RequestId};
use tollway_model::{LegId, Timestamp};
use tollway_policy::{DesiredLeg, MobileAccess, PolicyReport, Report, Road, Session, SubscriberRef};

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
    pub access: MobileAccess,
    pub terms: Terms,
    pub known: Known,
}

/// Why a desired leg is not for a gateway.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotGx {
    #[error("the leg is not for a gateway")]
    Road,
    #[error(transparent)]
    Qos(#[from] QosError),
}

impl Desire {
    /// Takes the road out of a leg: what stays is the same whenever the leg is.
    ///
    /// # Errors
    /// A leg for another kind of enforcement, or terms that may not be asked for.
    pub fn of(mut desired: DesiredLeg) -> Result<Desire, NotGx> {
        match desired.road.take() {
            Some(Road::Gx { access, terms, is_active }) => {
                let known = if is_active { Known::Active } else { Known::New };
                Ok(Desire { terms: Terms::of(&terms)?, desired, access, known })
            }
            Some(Road::Rx { .. }) | None => Err(NotGx::Road),
        }
    }
}

#[derive(Debug)]
pub enum Input {
    /// A request of a gateway.
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
    /// A peer can be used (again): the gateway of that name, or with `None` a relay to any of them.
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
        access: MobileAccess,
    },
    /// At start: a session out of the records.
    Restore(Box<Session>),
    /// Every session is restored and every leg desired or released: from now on rules are pushed.
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
}

/// Whether the desired set is known in full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Restoring,
    Running,
}

/// A gateway as the NOC sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostView<'a> {
    pub origin_host: &'a str,
    pub sessions: usize,
    /// Sessions that wait for their turn to be told.
    pub pushes_waiting: usize,
    pub pushes_in_flight: usize,
}

/// The machine.
pub struct Machine<P> {
    settings: Settings,
    profiles: P,
    stage: Stage,
    sessions: Sessions,
    legs: BTreeMap<LegId, Leg>,
    /// Legs of each access, whether it has a session or not.
    by_access: BTreeSet<(SubscriberRef, u16, LegId)>,
    /// Legs whose meter runs or has something unsaid.
    metered: BTreeSet<LegId>,
    pending: BTreeMap<RequestId, Pending>,
    timers: BTreeSet<(Timestamp, Timer)>,
    /// Hosts whose queue is not empty.
    waiting: BTreeSet<HostNo>,
    outputs: VecDeque<Output>,
    mark: Mark,
    next_request: u64,
    slot_due: Option<Timestamp>,
    counters: Counters,
}

impl<P: Profile> Machine<P> {
    /// # Errors
    /// What of the settings cannot be.
    pub fn new(mut settings: Settings, profiles: P) -> Result<Machine<P>, SettingsError> {
        settings.check()?;
        settings.apns.iter_mut().for_each(|apn| apn.make_ascii_lowercase());
        Ok(Machine {
            settings,
            profiles,
            stage: Stage::Restoring,
            sessions: Sessions::default(),
            legs: BTreeMap::new(),
            by_access: BTreeSet::new(),
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
            Input::Release { leg, attempt, access } => self.release(now, leg, attempt, &access),
            Input::Restore(learnt) => self.restore(*learnt),
            Input::Ready => {
                self.stage = Stage::Running;
                self.redrive(now, None);
            }
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
        let queues = self.waiting.iter().filter_map(|host| self.sessions.host(*host).next_push());
        timer.into_iter().chain(queues).min()
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Open sessions, and pushes that wait at a gateway.
    pub fn sessions_len(&self) -> usize {
        self.sessions.len()
    }

    /// All gateways that were ever heard of since the start.
    pub fn hosts(&self) -> impl Iterator<Item = HostView<'_>> {
        self.sessions.hosts().iter().map(|host| HostView {
            origin_host: &host.name,
            sessions: host.by_id.len(),
            pushes_waiting: host.queue.len(),
            pushes_in_flight: host.in_flight,
        })
    }

    /// Other profiles from now on; sessions that are open keep what they were opened with.
    pub fn set_profiles(&mut self, profiles: P) {
        self.profiles = profiles;
    }

    pub fn queue_len(&self, origin_host: &str) -> usize {
        self.sessions.find_host(origin_host).map_or(0, |host| self.sessions.host(host).queue.len())
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
                Timer::Slot => self.tick(due),
            }
        }
    }

    fn fact(&mut self, fact: Report) {
        self.mark.0 += 1;
        self.outputs.push_back(Output::Fact { mark: self.mark, fact });
    }

    fn say(&mut self, leg: LegId, attempt: u32, report: PolicyReport) {
        self.fact(Report::Leg { leg, attempt, report });
    }

    fn answer(&mut self, token: Token, bytes: Vec<u8>) {
        self.outputs.push_back(Output::Answer { after: self.mark, token, bytes });
    }

    /// Whether the gateway of a session says what became of a rule.
    fn reports_of(&self, session: Option<SessionNo>) -> Reports {
        session.map_or(self.settings.gateway.reports, |no| {
            self.sessions.host(self.sessions.get(no).host).gateway.reports
        })
    }

    fn apn_no(&self, apn: &str) -> Option<u16> {
        self.settings.apns.iter().position(|known| known == apn).and_then(|at| u16::try_from(at).ok())
    }

    fn legs_of(&self, subscriber: SubscriberRef, apn: u16) -> Vec<LegId> {
        let range = (subscriber, apn, LegId::MIN)..=(subscriber, apn, LegId::MAX);
        self.by_access.range(range).map(|(_, _, leg)| *leg).collect()
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
            assert!(self.by_access.contains(&(leg.subscriber, leg.apn, *id)), "a leg is found by its access");
            assert!(
                leg.due.is_none_or(|due| self.timers.contains(&(due, Timer::Leg(*id)))),
                "a due leg has a timer"
            );
        }
        assert_eq!(self.by_access.len(), self.legs.len(), "an access has no leg that is none");
        assert!(self.metered.iter().all(|leg| self.legs.contains_key(leg)), "a meter belongs to a leg");
        assert_eq!(self.slot_due.is_some(), !self.metered.is_empty(), "running meters are read at slot ends");
    }
}

/// Both ends of the ids, for ranges.
trait Ends {
    const MIN: LegId;
    const MAX: LegId;
}

impl Ends for LegId {
    const MIN: LegId = LegId { reservation: tollway_model::ReservationId(0), index: 0 };
    const MAX: LegId = LegId { reservation: tollway_model::ReservationId(u64::MAX), index: u32::MAX };
}
