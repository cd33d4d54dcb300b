//! Who is connected, and the queue to each. A connection that cannot keep up is dropped: its agent connects
//! again and gets everything it should hold, so that nothing is ever lost in silence.

use super::{AgentDirectory, send};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tollway_core::Output;
use tollway_model::{SlotLength, Timestamp};
use tollway_policy::{DesiredLeg, PolicyCommand, Session};
use tollway_proto::agent_v1::ToAgent;
use tonic::Status;

/// Messages waiting for one agent: a batch of 1,000 legs that change at once fits.
pub const QUEUE_MESSAGES_MAX: usize = 2_048;

pub(super) type Outbound = mpsc::Sender<Result<ToAgent, Status>>;

/// What an enforcement point within this process is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// All that it should hold, and the sessions that are known there.
    Set {
        now: Timestamp,
        legs: Vec<DesiredLeg>,
        sessions: Vec<Session>,
        acked: u64,
    },
    Command {
        now: Timestamp,
        command: Box<PolicyCommand>,
    },
    Ack {
        now: Timestamp,
        number: u64,
    },
}

/// Where messages go.
enum Sink {
    Agent { protocol: u32, out: Outbound },
    Inside(mpsc::Sender<Told>),
}

struct Connection {
    number: u64,
    sink: Sink,
    /// Ends the session with a reason.
    evict: oneshot::Sender<Status>,
    /// Whether the agent was sent what it should hold; before that, changes are part of that set.
    welcomed: bool,
}

/// Shared by the driver, which sends, and the service, which registers.
pub struct Hub {
    epoch: u64,
    market: String,
    slot_length: SlotLength,
    next: AtomicU64,
    connections: Mutex<HashMap<String, Connection>>,
    directory: Arc<AgentDirectory>,
}

impl Hub {
    pub fn new(epoch: u64, market: String, slot_length: SlotLength) -> Hub {
        Hub {
            epoch,
            market,
            slot_length,
            next: AtomicU64::new(1),
            connections: Mutex::default(),
            directory: Arc::default(),
        }
    }

    pub fn directory(&self) -> &Arc<AgentDirectory> {
        &self.directory
    }

    /// Identity of the market, as agents are told it.
    pub fn market(&self) -> &str {
        &self.market
    }

    /// Leader epoch of this process.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A new connection of an agent; an older one of the same name is ended.
    pub(super) fn register(
        &self,
        agent: &str,
        protocol: u32,
        out: Outbound,
    ) -> (u64, oneshot::Receiver<Status>) {
        self.enter(agent, Sink::Agent { protocol, out })
    }

    /// As an agent connects, for an enforcement point within this process.
    pub(crate) fn register_inside(
        &self,
        point: &str,
        out: mpsc::Sender<Told>,
    ) -> (u64, oneshot::Receiver<Status>) {
        self.enter(point, Sink::Inside(out))
    }

    fn enter(&self, agent: &str, sink: Sink) -> (u64, oneshot::Receiver<Status>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (evict, evicted) = oneshot::channel();
        let connection = Connection { number, sink, evict, welcomed: false };
        let older = self.lock().insert(agent.to_owned(), connection);
        if let Some(older) = older {
            // It may have ended by itself already.
            let _ = older.evict.send(Status::aborted("a newer connection of this agent replaced this one"));
        }
        (number, evicted)
    }

    pub(crate) fn unregister(&self, agent: &str, number: u64) {
        let mut connections = self.lock();
        if connections.get(agent).is_some_and(|connection| connection.number == number) {
            connections.remove(agent);
            drop(connections);
            self.directory.disconnected(agent);
        }
    }

    /// Sends what an output is for an agent; the records that justify it are durable.
    pub(crate) fn deliver(&self, now: Timestamp, output: Output) {
        match output {
            Output::Policy { command, .. } => {
                let point = command.enforcement_point().to_owned();
                let command = Box::new(command);
                self.send(&point, None, Told::Command { now, command });
            }
            Output::Ack { enforcement_point, number, .. } => {
                self.send(&enforcement_point, None, Told::Ack { now, number });
            }
            Output::DesiredSet { enforcement_point, connection, legs, sessions, acked, .. } => {
                self.welcome(&enforcement_point, connection);
                let set = Told::Set { now, legs, sessions, acked };
                self.send(&enforcement_point, Some(connection), set);
            }
            Output::Reply { .. } | Output::Repeat { .. } => {}
        }
    }

    /// As an agent is told it, in its protocol.
    fn wire(&self, protocol: u32, told: &Told) -> Vec<ToAgent> {
        match told {
            Told::Command { command, .. } => vec![send::command(command)],
            Told::Ack { number, .. } => vec![send::ack(*number)],
            Told::Set { now, legs, acked, .. } => {
                let slot_s = self.slot_length.secs();
                vec![
                    send::welcome(self.epoch, &self.market, protocol, slot_s, *now, *acked),
                    send::desired_set(self.epoch, legs),
                ]
            }
        }
    }

    fn welcome(&self, agent: &str, number: u64) {
        if let Some(connection) = self.lock().get_mut(agent).filter(|c| c.number == number) {
            connection.welcomed = true;
            tracing::info!(agent, "agent connected");
        }
    }

    /// To whoever is connected as this enforcement point, or only to this very connection.
    fn send(&self, agent: &str, only: Option<u64>, told: Told) {
        let mut connections = self.lock();
        let is_meant = |connection: &&Connection| {
            connection.welcomed && only.is_none_or(|only| only == connection.number)
        };
        let Some(connection) = connections.get(agent).filter(is_meant) else { return };
        let is_sent = match &connection.sink {
            Sink::Inside(out) => out.try_send(told).is_ok(),
            Sink::Agent { protocol, out } => {
                self.wire(*protocol, &told).into_iter().all(|message| out.try_send(Ok(message)).is_ok())
            }
        };
        if !is_sent {
            tracing::warn!(agent, "an agent does not keep up: it must connect again");
            let slow = connections.remove(agent);
            drop(connections);
            if let Some(slow) = slow {
                let _ = slow.evict.send(Status::resource_exhausted("too slow: connect again"));
            }
            self.directory.disconnected(agent);
        }
    }

    /// Ends every connection; the agents connect again and get everything anew.
    pub(crate) fn evict_all(&self, why: &Status) {
        let all: Vec<(String, Connection)> = self.lock().drain().collect();
        for (agent, connection) in all {
            let _ = connection.evict.send(why.clone());
            self.directory.disconnected(&agent);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollway_model::{LegId, ReservationId, Seq};

    fn release() -> Output {
        let leg = LegId { reservation: ReservationId(1), index: 0 };
        let command =
            PolicyCommand::Release { leg, attempt: 1, enforcement_point: "r".to_owned(), access: None };
        Output::Policy { after: Seq(1), command }
    }

    fn set(connection: u64) -> Output {
        Output::DesiredSet {
            after: Seq(1),
            enforcement_point: "r".to_owned(),
            connection,
            legs: Vec::new(),
            sessions: Vec::new(),
            acked: 0,
        }
    }

    fn hub() -> Hub {
        Hub::new(1, "m".to_owned(), SlotLength::from_secs(5).unwrap())
    }

    #[tokio::test]
    async fn an_agent_that_does_not_keep_up_is_dropped_not_skipped() {
        let hub = hub();
        let (out, mut queue) = mpsc::channel(3);
        let (number, evicted) = hub.register("r", 1, out);
        // Before it was sent what it should hold, a change is part of that.
        hub.deliver(Timestamp(1), release());
        assert!(queue.try_recv().is_err());
        hub.deliver(Timestamp(1), set(number));
        hub.deliver(Timestamp(1), release());
        hub.deliver(Timestamp(1), release());
        assert_eq!(evicted.await.unwrap().code(), tonic::Code::ResourceExhausted);
        let seen: usize = std::iter::from_fn(|| queue.try_recv().ok()).count();
        assert_eq!(seen, 3, "what went out before is in order");
        hub.deliver(Timestamp(1), release());
        assert!(queue.try_recv().is_err());
    }

    #[tokio::test]
    async fn the_newest_connection_is_the_one_that_is_answered() {
        let hub = hub();
        let (out, mut first_queue) = mpsc::channel(8);
        let (first, evicted) = hub.register("r", 1, out);
        let (out, mut second_queue) = mpsc::channel(8);
        let (second, _kept) = hub.register("r", 1, out);
        assert_eq!(evicted.await.unwrap().code(), tonic::Code::Aborted);
        hub.deliver(Timestamp(1), set(first));
        assert!(first_queue.try_recv().is_err() && second_queue.try_recv().is_err());
        hub.deliver(Timestamp(1), set(second));
        assert!(second_queue.try_recv().is_ok());
        hub.unregister("r", first);
        hub.deliver(Timestamp(1), release());
        assert_eq!(std::iter::from_fn(|| second_queue.try_recv().ok()).count(), 2);
    }

    #[tokio::test]
    async fn an_enforcement_point_within_is_told_as_an_agent_is() {
        let hub = hub();
        let (out, mut queue) = mpsc::channel(2);
        let (first, evicted) = hub.register_inside("r", out);
        hub.deliver(Timestamp(1), release());
        hub.deliver(Timestamp(2), set(first));
        hub.deliver(Timestamp(3), release());
        assert!(matches!(queue.try_recv(), Ok(Told::Set { now: Timestamp(2), .. })), "the change is in it");
        assert!(matches!(queue.try_recv(), Ok(Told::Command { now: Timestamp(3), .. })));
        // A set for an older connection is not this one's.
        hub.deliver(Timestamp(4), set(first + 1));
        assert!(queue.try_recv().is_err());
        for _ in 0..3 {
            let ack = Output::Ack { after: Seq(1), enforcement_point: "r".to_owned(), number: 1 };
            hub.deliver(Timestamp(5), ack);
        }
        assert_eq!(evicted.await.unwrap().code(), tonic::Code::ResourceExhausted);
    }
}
