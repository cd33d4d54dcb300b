//! Learnt accesses: subscribers at an APN, found by the sessions that gateways open. A family of them is one
//! configured access; what is sold on a line of it names the family and the subscriber, so that a line is the
//! same over all its sessions and over every restart.

use crate::config::{AccessDef, RoadDef};
use crate::limits;
use crate::record::{Fact, SessionFact};
use crate::state::{Config, State};
use std::collections::BTreeMap;
use tollway_model::AccessId;
use tollway_policy::{Session, SessionName, SessionReport, SubscriberRef};

/// A subscriber's access: the family and who it is.
pub type Line = (AccessId, SubscriberRef);

/// Every line that was ever seen, with the session it has now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Learnt {
    lines: BTreeMap<Line, Option<Session>>,
    by_session: BTreeMap<String, Line>,
    /// Families by enforcement point and APN.
    families: BTreeMap<(String, String), AccessId>,
}

impl Learnt {
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub fn attached(&self) -> usize {
        self.by_session.len()
    }

    pub fn is_known(&self, line: Line) -> bool {
        self.lines.contains_key(&line)
    }

    /// The session of a line, when it has one.
    pub fn session(&self, line: Line) -> Option<&Session> {
        self.lines.get(&line)?.as_ref()
    }

    /// Open sessions of an enforcement point, in a fixed order.
    pub fn sessions_at<'a>(&'a self, point: &'a str) -> impl Iterator<Item = &'a Session> {
        let families = self.families.iter().filter(move |((at, _), _)| at == point);
        families.flat_map(|(_, family)| self.lines_of(*family)).filter_map(|(_, session)| session.as_ref())
    }

    fn lines_of(&self, family: AccessId) -> impl Iterator<Item = (&Line, &Option<Session>)> {
        self.lines.range((family, SubscriberRef(0))..=(family, SubscriberRef(u64::MAX)))
    }

    /// Every session is found by its name, and no name finds anything else.
    pub(crate) fn check(&self) -> Result<(), String> {
        let with_session = self.lines.values().flatten().count();
        let is_found = |(id, line): (&String, &Line)| {
            self.session(*line).is_some_and(|session| session.name.session_id == *id)
        };
        if with_session == self.by_session.len() && self.by_session.iter().all(is_found) {
            return Ok(());
        }
        Err(format!("{with_session} lines have a session, {} names lead to one", self.by_session.len()))
    }

    pub(crate) fn fold(&mut self, fact: &SessionFact) {
        let line = (fact.family, fact.subscriber);
        match &fact.report {
            SessionReport::Open(session) => {
                if let Some(old) = self.lines.insert(line, Some(session.clone())).flatten() {
                    self.by_session.remove(&old.name.session_id);
                }
                self.by_session.insert(session.name.session_id.clone(), line);
            }
            SessionReport::Closed { name, .. } => {
                self.by_session.remove(&name.session_id);
                self.lines.insert(line, None);
            }
        }
    }

    /// Follows the configuration: the lines of a family that is gone, or is another APN's now, are gone too.
    pub(crate) fn follow(&mut self, config: &Config) {
        let families = config.accesses.iter().filter_map(|(id, def)| Some((family_key(def)?, *id)));
        let before = std::mem::replace(&mut self.families, families.collect());
        for (key, family) in before {
            if self.families.get(&key) == Some(&family) {
                continue;
            }
            let gone: Vec<Line> = self.lines_of(family).map(|(line, _)| *line).collect();
            for line in gone {
                if let Some(session) = self.lines.remove(&line).flatten() {
                    self.by_session.remove(&session.name.session_id);
                }
            }
        }
    }
}

fn family_key(def: &AccessDef) -> Option<(String, String)> {
    match def.road.as_ref()? {
        RoadDef::Gx { apn } => Some((def.enforcement_point.clone(), apn.clone())),
        RoadDef::Rx { .. } => None,
    }
}

/// Judges the session reports of one batch, each seeing the ones before it.
pub(crate) struct Judge<'a> {
    state: &'a State,
    point: &'a str,
    /// What the batch has made of the lines that it names.
    lines: BTreeMap<Line, Option<String>>,
    by_session: BTreeMap<String, Line>,
    lines_new: usize,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(state: &'a State, point: &'a str) -> Judge<'a> {
        Judge { state, point, lines: BTreeMap::new(), by_session: BTreeMap::new(), lines_new: 0 }
    }

    /// Facts of one report: none for what is not ours, too long, one line too many, or known to be over.
    pub(crate) fn judge(&mut self, report: &SessionReport) -> Vec<Fact> {
        match report {
            SessionReport::Open(session) => self.open(session),
            SessionReport::Closed { name, reason } => self.close(name, reason).into_iter().collect(),
        }
    }

    fn open(&mut self, session: &Session) -> Vec<Fact> {
        let learnt = &self.state.learnt;
        let key = (self.point.to_owned(), session.access.apn.clone());
        let Some(family) = learnt.families.get(&key).copied().filter(|_| is_bounded(&session.name)) else {
            return Vec::new();
        };
        let line = (family, session.access.subscriber);
        let is_new = !learnt.is_known(line) && !self.lines.contains_key(&line);
        if is_new && learnt.len() + self.lines_new >= limits::LEARNT_ACCESSES_MAX {
            return Vec::new();
        }
        self.lines_new += usize::from(is_new);
        // A name is one session's: whoever had it before is not there any more.
        let before = self.holder(&session.name.session_id).filter(|holder| *holder != line);
        let mut facts = Vec::new();
        if let Some(holder) = before {
            self.put(holder, None);
            let reason = "its session is another subscriber's now".to_owned();
            facts.push(fact(holder, SessionReport::Closed { name: session.name.clone(), reason }));
        }
        self.put(line, Some(&session.name.session_id));
        facts.push(fact(line, SessionReport::Open(session.clone())));
        facts
    }

    fn close(&mut self, name: &SessionName, reason: &str) -> Option<Fact> {
        let line = self.holder(&name.session_id)?;
        let def = self.state.config.accesses.get(&line.0)?;
        if def.enforcement_point != self.point {
            return None;
        }
        self.put(line, None);
        let reason = crate::reservation::clip(reason);
        Some(fact(line, SessionReport::Closed { name: name.clone(), reason }))
    }

    fn put(&mut self, line: Line, session_id: Option<&str>) {
        if let Some(old) = self.lines.insert(line, session_id.map(str::to_owned)).flatten() {
            self.by_session.remove(&old);
        }
        if let Some(session_id) = session_id {
            self.by_session.insert(session_id.to_owned(), line);
        }
    }

    /// The line that has a session of this name, as the batch stands.
    fn holder(&self, session_id: &str) -> Option<Line> {
        if let Some(line) = self.by_session.get(session_id) {
            return Some(*line);
        }
        let line = self.state.learnt.by_session.get(session_id)?;
        (!self.lines.contains_key(line)).then_some(*line)
    }
}

fn fact((family, subscriber): Line, report: SessionReport) -> Fact {
    Fact::Session(SessionFact { family, subscriber, report })
}

fn is_bounded(name: &SessionName) -> bool {
    [&name.session_id, &name.origin_host, &name.origin_realm]
        .iter()
        .all(|text| !text.is_empty() && text.len() <= limits::SESSION_NAME_BYTES_MAX)
}
