//! The gateway without I/O: commands, frames and time go in, frames and events come out.

mod credit;
mod peer;
mod push;
mod session;

use crate::command::{Answering, Command};
use crate::event::{Event, Held};
use crate::message::{self, Message};
use crate::rule::Rule;
use credit::Pending;
use diameter::dictionary::Dictionary;
use session::Session;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// What a gateway is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub host: String,
    pub realm: String,
    /// Where its policies come from.
    pub peer_realm: String,
    /// Said in the CER; an address of ours.
    pub address: IpAddr,
    pub state_id: u32,
    /// Advertised in the CER; Gx, unless a test wants to be refused.
    pub applications: Vec<u32>,
    /// Between watchdog requests of ours; 0 is never.
    pub watchdog_ms: u64,
    /// Whether success and last usage are reported by themselves, as asked for (TS 29.212 §4.5.12, §4.5.17).
    pub has_reports: bool,
}

/// What the shell carries out, in this order.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    Dial,
    Send(Vec<u8>),
    /// Once what was sent before is written.
    Close,
    Event(Event),
    /// A rule holds; the same name replaces what it was.
    Enforce {
        session: String,
        address: Ipv4Addr,
        rule: Box<Rule>,
    },
    Lift {
        session: String,
        rule: String,
    },
    /// The end.
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    Down,
    Dialing,
    /// CER sent.
    Greeting,
    Open,
    /// DPR sent.
    Leaving,
}

/// What a lost connection is followed by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    Redial,
    Wait,
    Done,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    Redial,
    /// CEA or DPA.
    Overdue,
    Watchdog,
    Answer(u64),
    Rule(String, String),
}

pub struct Gateway {
    settings: Settings,
    dictionary: Arc<Dictionary>,
    link: Link,
    then: Then,
    peer: Option<String>,
    sessions: BTreeMap<String, Session>,
    /// Sessions with something to report.
    dirty: BTreeSet<String>,
    pending: BTreeMap<u32, Pending>,
    last: Option<Pending>,
    answering: Answering,
    times: Option<u32>,
    late: BTreeMap<u64, Vec<u8>>,
    timers: BTreeSet<(u64, Timer)>,
    outputs: VecDeque<Output>,
    next_id: u32,
    next_session: u64,
}

impl Gateway {
    pub fn new(settings: Settings) -> Gateway {
        Gateway {
            // End-to-end ids differ between lives of one host (RFC 6733 §3).
            next_id: settings.state_id << 20,
            settings,
            dictionary: Arc::new(message::dictionary()),
            link: Link::Down,
            then: Then::Redial,
            peer: None,
            sessions: BTreeMap::new(),
            dirty: BTreeSet::new(),
            pending: BTreeMap::new(),
            last: None,
            answering: Answering::Accept {},
            times: None,
            late: BTreeMap::new(),
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
            next_session: 0,
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Gateway::tick`] wants to be called: milliseconds since 1970.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.timers.first().map(|(due, _)| *due)
    }

    pub fn command(&mut self, now_ms: u64, command: Command) {
        match command {
            Command::Connect {} => self.connect(now_ms),
            Command::Open(open) => self.open(&open),
            Command::Update(update) => self.update(&update),
            Command::Close { session, usage } => self.close(&session, usage),
            Command::Repeat {} => self.repeat(),
            Command::Behave(behave) => {
                self.answering = behave.rar;
                self.times = behave.times;
            }
            Command::Traffic { session, rule, up, down } => self.traffic(&session, &rule, up, down),
            Command::Watchdog {} => self.watchdog(now_ms),
            Command::Crash {} => self.hang_up(now_ms, Then::Wait, "told to crash"),
            Command::Restart {} => self.restart(now_ms),
            Command::Disconnect {} => self.leave(now_ms, Then::Wait),
            Command::Show {} => self.show(),
            Command::Quit {} => self.leave(now_ms, Then::Done),
        }
        self.report();
    }

    /// One frame of the stream.
    pub fn received(&mut self, now_ms: u64, frame: &[u8]) {
        match Message::decode(frame, &self.dictionary) {
            Ok(message) => self.message(now_ms, &message, frame),
            Err(error) => {
                let origin = (self.settings.host.as_str(), self.settings.realm.as_str());
                let refusal = message::refuse_unread(frame, origin, &self.dictionary);
                self.outputs.extend(refusal.map(Output::Send));
                self.say(Event::Odd { what: error.to_string() });
            }
        }
        self.report();
    }

    /// What the meter of an enforced rule has counted since it was last told, in IP bytes.
    pub fn counted(&mut self, session: &str, rule: &str, up: u64, down: u64) {
        if self.sessions.get(session).is_some_and(|session| session.rules.contains_key(rule)) {
            self.traffic(session, rule, up, down);
            self.report();
        }
    }

    /// Runs what is due.
    pub fn tick(&mut self, now_ms: u64) {
        while let Some((due, timer)) = self.timers.first().cloned()
            && due <= now_ms
        {
            self.timers.pop_first();
            match timer {
                Timer::Redial => self.connect(now_ms),
                Timer::Overdue => self.overdue(now_ms),
                Timer::Watchdog => self.watchdog(now_ms),
                Timer::Answer(at) => self.outputs.extend(self.late.remove(&at).map(Output::Send)),
                Timer::Rule(session, rule) => self.rule_due(now_ms, &session, &rule),
            }
        }
        self.report();
    }

    fn say(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// A line that is no command.
    pub fn refuse_command(&mut self, what: &str) {
        self.problem(what);
    }

    /// Something that the shell met.
    pub fn odd(&mut self, what: String) {
        self.say(Event::Odd { what });
    }

    fn problem(&mut self, what: impl Into<String>) {
        self.say(Event::Problem { what: what.into() });
    }

    fn set_timer(&mut self, due_ms: u64, timer: Timer) {
        self.timers.insert((due_ms, timer));
    }

    fn clear_timer(&mut self, timer: &Timer) {
        self.timers.retain(|(_, other)| other != timer);
    }

    fn next_id(&mut self) -> u32 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    fn show(&mut self) {
        let held = |(id, session): (&String, &Session)| Held {
            session: id.clone(),
            imsi: session.imsi.clone(),
            apn: session.apn.clone(),
            rules: session.rules.values().cloned().collect(),
        };
        let sessions = self.sessions.iter().map(held).collect();
        self.say(Event::Held { sessions });
    }

    /// A new life of the same host.
    fn restart(&mut self, now_ms: u64) {
        for id in self.sessions.keys().cloned().collect::<Vec<_>>() {
            self.forget(&id, "the gateway restarts");
        }
        self.pending.clear();
        self.late.clear();
        self.last = None;
        self.timers.clear();
        self.settings.state_id += 1;
        self.next_id = self.settings.state_id << 20;
        self.hang_up(now_ms, Then::Wait, "told to restart");
        self.connect(now_ms);
    }
}
