//! Who is connected, and the queue to each. A connection that cannot keep up is dropped: its agent connects
//! again and gets everything it should hold, so that nothing is ever lost in silence.

use super::{AgentDirectory, send};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tollway_core::Output;
use tollway_model::{SlotLength, Timestamp};
use tollway_proto::agent_v1::ToAgent;
use tonic::Status;

/// Messages waiting for one agent: a batch of 1,000 legs that change at once fits.
pub const QUEUE_MESSAGES_MAX: usize = 2_048;

pub(super) type Outbound = mpsc::Sender<Result<ToAgent, Status>>;

struct Connection {
    number: u64,
    protocol: u32,
    out: Outbound,
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
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (evict, evicted) = oneshot::channel();
        let connection = Connection { number, protocol, out, evict, welcomed: false };
        let older = self.lock().insert(agent.to_owned(), connection);
        if let Some(older) = older {
            // It may have ended by itself already.
            let _ = older.evict.send(Status::aborted("a newer connection of this agent replaced this one"));
        }
        (number, evicted)
    }

    pub(super) fn unregister(&self, agent: &str, number: u64) {
        let mut connections = self.lock();
        if connections.get(agent).is_some_and(|connection| connection.number == number) {
            connections.remove(agent);
            drop(connections);
            self.directory.disconnected(agent);
        }
    }

    /// Sends what an output is for an agent; the records that justify it are durable.
    pub(crate) fn deliver(&self, now: Timestamp, output: &Output) {
        match output {
            Output::Policy { command, .. } => {
                self.send(command.enforcement_point(), |_| vec![send::command(command)]);
            }
            Output::Ack { enforcement_point, number, .. } => {
                self.send(enforcement_point, |_| vec![send::ack(*number)]);
            }
            Output::DesiredSet { enforcement_point, connection: number, legs, acked, .. } => {
                self.welcome(enforcement_point, *number);
                self.send(enforcement_point, |connection| {
                    if connection.number != *number {
                        return Vec::new();
                    }
                    let slot_s = self.slot_length.secs();
                    vec![
                        send::welcome(self.epoch, &self.market, connection.protocol, slot_s, now, *acked),
                        send::desired_set(self.epoch, legs),
                    ]
                });
            }
            Output::Reply { .. } | Output::Repeat { .. } => {}
        }
    }

    fn welcome(&self, agent: &str, number: u64) {
        if let Some(connection) = self.lock().get_mut(agent).filter(|c| c.number == number) {
            connection.welcomed = true;
            tracing::info!(agent, "agent connected");
        }
    }

    fn send(&self, agent: &str, messages: impl FnOnce(&Connection) -> Vec<ToAgent>) {
        let mut connections = self.lock();
        let Some(connection) = connections.get(agent).filter(|c| c.welcomed) else { return };
        for message in messages(connection) {
            if connection.out.try_send(Ok(message)).is_err() {
                tracing::warn!(agent, "an agent does not keep up: it must connect again");
                let slow = connections.remove(agent);
                drop(connections);
                if let Some(slow) = slow {
                    let _ = slow.evict.send(Status::resource_exhausted("too slow: connect again"));
                }
                self.directory.disconnected(agent);
                return;
            }
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
    use tollway_policy::PolicyCommand;

    fn release() -> Output {
        let leg = LegId { reservation: ReservationId(1), index: 0 };
        let command = PolicyCommand::Release { leg, attempt: 1, enforcement_point: "r".to_owned() };
        Output::Policy { after: Seq(1), command }
    }

    fn set(connection: u64) -> Output {
        Output::DesiredSet {
            after: Seq(1),
            enforcement_point: "r".to_owned(),
            connection,
            legs: Vec::new(),
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
        hub.deliver(Timestamp(1), &release());
        assert!(queue.try_recv().is_err());
        hub.deliver(Timestamp(1), &set(number));
        hub.deliver(Timestamp(1), &release());
        hub.deliver(Timestamp(1), &release());
        assert_eq!(evicted.await.unwrap().code(), tonic::Code::ResourceExhausted);
        let seen: usize = std::iter::from_fn(|| queue.try_recv().ok()).count();
        assert_eq!(seen, 3, "what went out before is in order");
        hub.deliver(Timestamp(1), &release());
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
        hub.deliver(Timestamp(1), &set(first));
        assert!(first_queue.try_recv().is_err() && second_queue.try_recv().is_err());
        hub.deliver(Timestamp(1), &set(second));
        assert!(second_queue.try_recv().is_ok());
        hub.unregister("r", first);
        hub.deliver(Timestamp(1), &release());
        assert_eq!(std::iter::from_fn(|| second_queue.try_recv().ok()).count(), 2);
    }
}
