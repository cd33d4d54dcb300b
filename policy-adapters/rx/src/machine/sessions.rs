//! AF sessions that are not closed, found by number, by Session-Id and by leg; and the PCRFs with what waits for
//! them.

use crate::fact::{Access, AfSession, Host};
use crate::limits::{
    BACK_OFF_MS_MAX, BACK_OFF_MS_MIN, BURST_MS, IN_FLIGHT_MAX, SESSIONS_MAX, USAGE_SEEN_MAX,
};
use crate::rates::Rates;
use crate::settings::{Pcrf, Settings};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use tollway_diameter::machine::RequestId;
use tollway_model::{LegId, Timestamp};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct SessionNo(pub u64);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct PcrfNo(usize);

/// What a session is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Claim {
    pub leg: LegId,
    pub access: Access,
    pub address: IpAddr,
}

/// A service as it was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub attempt: u32,
    pub rates: Rates,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Serving,
    /// An STR is due until the PCRF has it no more.
    Ending,
}

/// What the PCRF is believed to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Held {
    Nothing,
    Unknown,
    Service(Shape),
}

/// Components whose resources the PCRF reported, and the attempt that it had taken then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Confirmed {
    pub attempt: u32,
    pub components: u8,
}

/// Whether the usage threshold must be said again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Grant {
    Given,
    Due,
}

/// Whether a copy of an AAR may still come to the PCRF late, and bring back what a newer one changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Copies {
    None,
    /// One went unanswered, in this life or an earlier one.
    Possible,
    /// A newer one was taken; then the service is told once more, with all removals.
    Until(Timestamp),
}

/// What goes first in the queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Urgency {
    /// Something changes.
    Change,
    /// A PCRF is asked whether it still has what it had: after a reconnection there are many of these.
    Check,
}

/// One request of a session is on its way at most, so that the last one sent is the last one done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Push {
    Idle,
    /// Waits in its PCRF's queue.
    Queued(Urgency, Timestamp),
    /// After it, look again.
    InFlight(RequestId),
    Paused(Timestamp),
}

#[derive(Debug)]
pub(super) struct Session {
    pub id: String,
    pub pcrf: PcrfNo,
    /// `None`: a stray, which is only ended.
    pub claim: Option<Claim>,
    pub answered_by: Option<Host>,
    pub components: u8,
    pub copies: Copies,
    pub confirmed: Confirmed,
    pub usage_seen: VecDeque<u32>,
    pub grant: Grant,
    pub phase: Phase,
    pub held: Held,
    pub push: Push,
    /// Requests without an answer, and STRs refused, one after the other.
    pub tries: u8,
    pub refusals: u8,
}

impl Session {
    pub fn new(id: String, pcrf: PcrfNo, claim: Option<Claim>) -> Session {
        Session {
            id,
            pcrf,
            claim,
            answered_by: None,
            components: 0,
            copies: Copies::None,
            confirmed: Confirmed::default(),
            usage_seen: VecDeque::new(),
            grant: Grant::Due,
            phase: Phase::Serving,
            held: Held::Nothing,
            push: Push::Idle,
            tries: 0,
            refusals: 0,
        }
    }

    pub fn leg(&self) -> Option<LegId> {
        self.claim.as_ref().map(|claim| claim.leg)
    }

    pub fn serves(&self, leg: LegId) -> bool {
        self.phase == Phase::Serving && self.leg() == Some(leg)
    }

    pub fn differs(&self, shape: Shape) -> bool {
        self.held != Held::Service(shape) || self.grant == Grant::Due
    }

    pub fn urgency(&self) -> Urgency {
        match (self.held, self.phase) {
            (Held::Unknown, Phase::Serving) => Urgency::Check,
            (Held::Nothing | Held::Service(_), Phase::Serving) | (_, Phase::Ending) => Urgency::Change,
        }
    }

    /// Remembers a usage report; whether it is new.
    pub fn see_usage(&mut self, end_to_end: u32) -> bool {
        if self.usage_seen.contains(&end_to_end) {
            return false;
        }
        if self.usage_seen.len() == USAGE_SEEN_MAX {
            self.usage_seen.pop_front();
        }
        self.usage_seen.push_back(end_to_end);
        true
    }

    /// As it goes into the records; strays do not.
    pub fn record(&self) -> Option<AfSession> {
        let claim = self.claim.as_ref()?;
        Some(AfSession {
            session_id: self.id.clone(),
            leg: claim.leg,
            access: claim.access.clone(),
            address: claim.address,
            answered_by: self.answered_by.clone(),
            components: self.components,
            usage_seen: self.usage_seen.iter().copied().collect(),
        })
    }
}

/// A PCRF with what waits for it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub name: String,
    pub pcrf: Pcrf,
    pub queue: BTreeSet<(Urgency, Timestamp, SessionNo)>,
    pub in_flight: usize,
    /// When the next push would be in rhythm, in microseconds.
    rhythm_us: u64,
    busy_until: Timestamp,
    busy_ms: u64,
}

impl Waiting {
    /// When the next push may leave; `None` while an answer must come first.
    pub fn next_push(&self) -> Option<Timestamp> {
        if self.queue.is_empty() || self.in_flight >= IN_FLIGHT_MAX {
            return None;
        }
        let rhythm = self.rhythm_us.saturating_sub(BURST_MS * 1_000).div_ceil(1_000);
        Some(Timestamp(rhythm).max(self.busy_until))
    }

    pub fn pushed(&mut self, now: Timestamp) {
        self.in_flight += 1;
        if let Some(rate) = self.pcrf.rate_max {
            let now_us = now.ms().saturating_mul(1_000);
            self.rhythm_us = self.rhythm_us.max(now_us).saturating_add(1_000_000 / u64::from(rate));
        }
    }

    pub fn back_off(&mut self, now: Timestamp) {
        // Many answers of one moment are one finding.
        if self.busy_until <= now {
            self.busy_ms = (self.busy_ms * 2).clamp(BACK_OFF_MS_MIN, BACK_OFF_MS_MAX);
            self.busy_until = now.plus_ms(self.busy_ms);
        }
    }

    pub fn served(&mut self) {
        self.busy_ms = 0;
    }
}

#[derive(Debug)]
pub(super) struct Sessions {
    pcrfs: Vec<Waiting>,
    open: BTreeMap<SessionNo, Session>,
    by_id: BTreeMap<String, SessionNo>,
    by_leg: BTreeSet<(LegId, SessionNo)>,
    next: u64,
}

impl Sessions {
    pub fn new(settings: &Settings) -> Sessions {
        let waiting = |(name, pcrf): (&String, &Pcrf)| Waiting {
            name: name.clone(),
            pcrf: pcrf.clone(),
            queue: BTreeSet::new(),
            in_flight: 0,
            rhythm_us: 0,
            busy_until: Timestamp::ZERO,
            busy_ms: 0,
        };
        Sessions {
            pcrfs: settings.pcrfs.iter().map(waiting).collect(),
            open: BTreeMap::new(),
            by_id: BTreeMap::new(),
            by_leg: BTreeSet::new(),
            next: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_full(&self) -> bool {
        self.open.len() >= SESSIONS_MAX
    }

    pub fn pcrf(&self, no: PcrfNo) -> &Waiting {
        &self.pcrfs[no.0]
    }

    pub fn pcrf_mut(&mut self, no: PcrfNo) -> &mut Waiting {
        &mut self.pcrfs[no.0]
    }

    pub fn find_pcrf(&self, name: &str) -> Option<PcrfNo> {
        self.pcrfs.iter().position(|waiting| waiting.name == name).map(PcrfNo)
    }

    /// Whose queue a stray of this host waits in: that of its host, its realm, or the first.
    pub fn pcrf_of(&self, host: &Host) -> PcrfNo {
        let by_host = |waiting: &Waiting| waiting.pcrf.host.as_ref() == Some(&host.host);
        let by_realm = |waiting: &Waiting| waiting.pcrf.realm == host.realm;
        let found = self.pcrfs.iter().position(by_host).or_else(|| self.pcrfs.iter().position(by_realm));
        PcrfNo(found.unwrap_or(0))
    }

    pub fn find_id(&self, id: &str) -> Option<SessionNo> {
        self.by_id.get(id).copied()
    }

    pub fn find(&self, no: SessionNo) -> Option<&Session> {
        self.open.get(&no)
    }

    pub fn get(&self, no: SessionNo) -> &Session {
        self.open.get(&no).expect("a session number in an index is of an open session")
    }

    pub fn get_mut(&mut self, no: SessionNo) -> &mut Session {
        self.open.get_mut(&no).expect("a session number in an index is of an open session")
    }

    pub fn of_leg(&self, leg: LegId) -> impl Iterator<Item = SessionNo> + use<'_> {
        let range = (leg, SessionNo(0))..=(leg, SessionNo(u64::MAX));
        self.by_leg.range(range).map(|(_, no)| *no)
    }

    fn numbers(&self, which: impl Fn(&Session) -> bool) -> Vec<SessionNo> {
        self.open.iter().filter(|(_, session)| which(session)).map(|(no, _)| *no).collect()
    }

    pub fn all(&self) -> Vec<SessionNo> {
        self.numbers(|_| true)
    }

    /// Who answered a session, or is to answer it; `None`: whoever serves the realm.
    fn host_of<'a>(&'a self, session: &'a Session) -> Option<&'a str> {
        let answered = session.answered_by.as_ref().map(|by| by.host.as_str());
        answered.or(self.pcrf(session.pcrf).pcrf.host.as_deref())
    }

    pub fn held_by(&self, host: &str) -> Vec<SessionNo> {
        self.numbers(|session| self.host_of(session) == Some(host))
    }

    /// Those that a host may answer once it is there.
    pub fn answerable_by(&self, host: &str) -> Vec<SessionNo> {
        self.numbers(|session| self.host_of(session).is_none_or(|by| by == host))
    }

    pub fn open(&mut self, session: Session) -> SessionNo {
        let no = SessionNo(self.next);
        self.next += 1;
        self.by_id.insert(session.id.clone(), no);
        if let Some(leg) = session.leg() {
            self.by_leg.insert((leg, no));
        }
        self.open.insert(no, session);
        no
    }

    pub fn close(&mut self, no: SessionNo) -> Session {
        let session = self.open.remove(&no).expect("an open session is closed once");
        self.by_id.remove(&session.id);
        if let Push::Queued(urgency, at) = session.push {
            self.pcrf_mut(session.pcrf).queue.remove(&(urgency, at, no));
        }
        if let Some(leg) = session.leg() {
            self.by_leg.remove(&(leg, no));
        }
        session
    }

    pub fn check_invariants(&self) {
        if self.open.len() > 64 {
            return;
        }
        assert_eq!(self.by_id.len(), self.open.len(), "each session is found by its id");
        let claimed = self.open.values().filter(|session| session.claim.is_some()).count();
        assert_eq!(self.by_leg.len(), claimed, "each session of a leg is found by it");
        for (no, session) in &self.open {
            let is_queued = matches!(session.push, Push::Queued(urgency, at)
                if self.pcrf(session.pcrf).queue.contains(&(urgency, at, *no)));
            let waits = matches!(session.push, Push::Queued(_, _));
            assert_eq!(is_queued, waits, "a session that waits is in its queue");
        }
        let queued: usize = self.pcrfs.iter().map(|waiting| waiting.queue.len()).sum();
        let waits = self.open.values().filter(|session| matches!(session.push, Push::Queued(_, _))).count();
        assert_eq!(queued, waits, "a queue has no session twice");
    }
}
