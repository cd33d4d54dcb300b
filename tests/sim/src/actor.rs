//! What takes part in the simulation beside the broker. A crate that brings a new kind of peer implements
//! [`Actor`] and registers it; the loop knows nothing else about it.

use crate::options::Faults;
use crate::rng::Rng;
use std::collections::BTreeMap;
use tollway_core::{Command, ConfigDef, IdempotencyKey, Reply};
use tollway_model::{Amount, CustomerId, LegId, Timestamp};
use tollway_policy::{DesiredLeg, PolicyCommand, Report, Session};

/// What a client or the NOC asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    Client { customer: CustomerId, command: Command },
    Configure { base: u64, config: ConfigDef },
    TopUp { customer: CustomerId, amount: Amount, actor: String, reason: String },
}

/// One message of the network, either way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// To the broker. `wire` finds the way back.
    Request {
        wire: u64,
        key: Option<IdempotencyKey>,
        body: Body,
    },
    /// To the broker: an adapter asks for a connection.
    Connect {
        enforcement_point: String,
        connection: u64,
    },
    /// To the broker, on a connection.
    Reports {
        enforcement_point: String,
        number: u64,
        reports: Vec<Report>,
    },
    /// From the broker.
    Reply {
        wire: u64,
        reply: Reply,
    },
    /// From the broker: 503, try again.
    Unavailable {
        wire: u64,
    },
    Desired {
        connection: u64,
        legs: Vec<DesiredLeg>,
        sessions: Vec<Session>,
        acked: u64,
    },
    Policy(PolicyCommand),
    Ack {
        number: u64,
    },
    /// From the network: what was on its way is lost.
    Broken {
        connection: u64,
    },
}

impl Message {
    pub const fn name(&self) -> &'static str {
        match self {
            Message::Request { body: Body::Client { command, .. }, .. } => match command {
                Command::Quote(_) => "quote",
                Command::Take { .. } => "take",
                Command::Confirm { .. } => "confirm",
                Command::BindFlows { .. } => "bind",
                Command::Cancel { .. } => "cancel",
            },
            Message::Request { body: Body::Configure { .. }, .. } => "configure",
            Message::Request { body: Body::TopUp { .. }, .. } => "top-up",
            Message::Connect { .. } => "connect",
            Message::Reports { .. } => "reports",
            Message::Reply { .. } => "reply",
            Message::Unavailable { .. } => "unavailable",
            Message::Desired { .. } => "desired-set",
            Message::Policy(PolicyCommand::Desire(_)) => "desire",
            Message::Policy(PolicyCommand::Release { .. }) => "release",
            Message::Ack { .. } => "ack",
            Message::Broken { .. } => "broken",
        }
    }
}

/// What the broker publishes: committed configuration, as the API would serve it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Published {
    pub revision: u64,
    pub config: ConfigDef,
    pub customers: BTreeMap<String, CustomerId>,
    pub accesses: BTreeMap<String, tollway_model::AccessId>,
    /// Families of learnt accesses.
    pub families: BTreeMap<String, tollway_model::AccessId>,
    /// Tiers that are sold at ports.
    pub tiers: Vec<tollway_model::TierId>,
}

/// How the network treats what an actor sends and gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// Requests of their own: each may be late, lost, doubled, overtaken.
    Datagrams,
    /// A connection: in order, or broken.
    Stream,
}

/// One step of an actor: its time, its randomness, what it may do.
pub struct Context<'a> {
    /// True time; an actor with a clock of its own derives it.
    pub now: Timestamp,
    pub rng: &'a mut Rng,
    pub faults: &'a Faults,
    pub published: &'a Published,
    pub(crate) sent: Vec<Message>,
    pub(crate) wake: Option<Timestamp>,
}

impl Context<'_> {
    pub fn send(&mut self, message: Message) {
        self.sent.push(message);
    }

    /// The actor's next step by itself; the last call counts.
    pub fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(at);
    }

    pub fn strikes(&mut self, fault: &str) -> bool {
        self.faults.strikes(self.rng, fault)
    }
}

/// What an actor shows to the auditor.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shown {
    /// Legs that a device holds.
    pub legs: Vec<LegId>,
    /// Legs that a device carries now.
    pub active: Vec<LegId>,
    /// Told at least one lie: what the broker believes of its legs is nobody's fault but its own.
    pub has_lied: bool,
    /// True bytes of each leg in the sold direction; absent for one that lies.
    pub carried: BTreeMap<LegId, u64>,
    /// Legs whose meters lost something on the way: metered is at most what was carried, not the same.
    pub inexact: std::collections::BTreeSet<LegId>,
    /// Requests without an answer.
    pub unanswered: usize,
}

pub trait Actor {
    fn name(&self) -> &str;

    fn link(&self) -> Link;

    /// Names the actor's fault points.
    fn register(&self, faults: &mut Faults);

    /// Called at the time that the actor asked for, first at the start.
    fn step(&mut self, context: &mut Context<'_>);

    fn on_message(&mut self, context: &mut Context<'_>, message: Message);

    /// The actor's own checks, after each of its steps.
    ///
    /// # Errors
    /// Says what does not hold.
    fn check(&self) -> Result<(), String>;

    fn show(&self) -> Shown;
}
