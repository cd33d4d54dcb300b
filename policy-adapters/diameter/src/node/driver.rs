//! The one task that owns the machine: everything comes to it and goes out from it.

use super::config::{Config, Direction, Link};
use super::link::{self, Established, FromLink, Queue};
use super::{Answer, Event, Request, RequestError, Responder};
use crate::counters::PeerView;
use crate::error::result;
use crate::limits::{
    CLOSE_MS_MAX, EVENT_QUEUE_SPARE, INPUT_QUEUE_MAX, WRITE_QUEUE_BYTES_MAX, WRITE_QUEUE_MAX,
};
use crate::machine::{self, Failure, Input, Machine, Proof, Remote, RequestId, Token};
use crate::peer::{ConnId, State, Transmit, cause};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

/// From the handles.
pub enum Command {
    Request { bytes: Vec<u8>, timeout_ms: u64, reply: oneshot::Sender<Result<Answer, RequestError>> },
    Peers { reply: oneshot::Sender<Vec<PeerView>> },
    Stop { reply: oneshot::Sender<()> },
}

/// From a responder.
pub struct Reply {
    pub token: Token,
    pub bytes: Option<Vec<u8>>,
}

struct Conn {
    frames: mpsc::Sender<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
    link: Link,
}

impl Conn {
    /// Queues a frame; false when the queue is full or its socket gone.
    fn send(&self, frame: Vec<u8>) -> bool {
        let queued = self.bytes.fetch_add(frame.len(), Ordering::Relaxed) + frame.len();
        queued <= WRITE_QUEUE_BYTES_MAX && self.frames.try_send(frame).is_ok()
    }
}

pub struct Driver {
    machine: Machine,
    config: Config,
    hosts: Vec<Arc<str>>,
    started: Instant,
    conns: BTreeMap<ConnId, Conn>,
    dialing: BTreeMap<ConnId, AbortHandle>,
    accepted: u64,
    asked: BTreeMap<RequestId, oneshot::Sender<Result<Answer, RequestError>>>,
    next_request: u64,
    inputs: mpsc::Sender<FromLink>,
    from_links: mpsc::Receiver<FromLink>,
    replies: mpsc::UnboundedSender<Reply>,
    from_responders: mpsc::UnboundedReceiver<Reply>,
    events: mpsc::Sender<Event>,
    stopping: Option<(Instant, Vec<oneshot::Sender<()>>)>,
}

impl Driver {
    pub fn new(machine: Machine, config: Config, events: mpsc::Sender<Event>) -> Driver {
        let (inputs, from_links) = mpsc::channel(INPUT_QUEUE_MAX);
        // As many answers can wait as requests are open, which the machine bounds.
        let (replies, from_responders) = mpsc::unbounded_channel();
        Driver {
            machine,
            hosts: config.peers.iter().map(|peer| Arc::from(peer.settings.host.as_str())).collect(),
            config,
            started: Instant::now(),
            conns: BTreeMap::new(),
            dialing: BTreeMap::new(),
            accepted: 0,
            asked: BTreeMap::new(),
            next_request: 0,
            inputs,
            from_links,
            replies,
            from_responders,
            events,
            stopping: None,
        }
    }

    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>, listeners: Vec<(TcpListener, bool)>) {
        let acceptors = self.listen(listeners);
        self.handle(Input::Start);
        while !self.is_done() {
            let due = self.due();
            tokio::select! {
                Some(message) = self.from_links.recv() => self.heard(message),
                Some(reply) = self.from_responders.recv() => self.replied(reply),
                command = commands.recv(), if !commands.is_closed() || self.stopping.is_none() => match command {
                    Some(command) => {
                        // What was answered before this was asked leaves before it: a RAR must not overtake the
                        // CCA that opened its session.
                        while let Ok(reply) = self.from_responders.try_recv() {
                            self.replied(reply);
                        }
                        self.command(command);
                    }
                    None => self.stop(None),
                },
                () = sleep_until(due) => {
                    self.machine.timeout(self.now_ms());
                    self.drain();
                }
            }
        }
        acceptors.iter().for_each(AbortHandle::abort);
        for reply in self.stopping.into_iter().flat_map(|(_, waiting)| waiting) {
            // Whoever waited may have given up.
            let _ = reply.send(());
        }
    }

    fn listen(&self, listeners: Vec<(TcpListener, bool)>) -> Vec<AbortHandle> {
        let by_certificate = self.config.peers.iter().enumerate();
        let by_certificate = by_certificate.filter(|(_, peer)| peer.settings.proof == Proof::Certificate);
        let names: Arc<[(usize, String)]> =
            by_certificate.map(|(at, peer)| (at, peer.settings.host.clone())).collect();
        let accept = |(listener, is_tls): (TcpListener, bool)| {
            let tls = self.config.tls.clone().filter(|_| is_tls);
            tokio::spawn(link::accept(listener, tls, Arc::clone(&names), self.inputs.clone())).abort_handle()
        };
        listeners.into_iter().map(accept).collect()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// When to look again; an hour if nothing is due.
    fn due(&self) -> Instant {
        let machine = self.machine.poll_timeout().map(|ms| self.started + Duration::from_millis(ms));
        let stopping = self.stopping.as_ref().map(|(at, _)| *at);
        let idle = Instant::now() + Duration::from_secs(3_600);
        machine.into_iter().chain(stopping).min().unwrap_or(idle)
    }

    fn is_done(&self) -> bool {
        let Some((at, _)) = &self.stopping else { return false };
        let all_closed = (0..self.hosts.len())
            .all(|peer| self.machine.peer(peer).is_none_or(|peer| *peer.state() == State::Closed));
        (all_closed && self.conns.is_empty()) || Instant::now() >= *at
    }

    fn stop(&mut self, reply: Option<oneshot::Sender<()>>) {
        let at = Instant::now() + Duration::from_millis(CLOSE_MS_MAX + 500);
        let (_, waiting) = self.stopping.get_or_insert_with(|| (at, Vec::new()));
        waiting.extend(reply);
        self.handle(Input::Stop { peer: None, cause: cause::REBOOTING });
        for (id, reply) in std::mem::take(&mut self.asked) {
            tracing::debug!(?id, "stopped before the answer");
            // Whoever asked may have given up.
            drop(reply.send(Err(RequestError::Stopped)));
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Request { reply, .. } if self.stopping.is_some() => {
                // Whoever asked may have given up.
                drop(reply.send(Err(RequestError::Stopped)));
            }
            Command::Request { bytes, timeout_ms, reply } => {
                self.next_request += 1;
                let id = RequestId(self.next_request);
                self.asked.insert(id, reply);
                self.handle(Input::Request { id, bytes, timeout_ms });
            }
            Command::Peers { reply } => {
                let mut views = self.machine.views();
                for (conn_id, conn) in &self.conns {
                    if let Some(view) = self.machine.owner(*conn_id).and_then(|at| views.get_mut(at)) {
                        view.queue += WRITE_QUEUE_MAX - conn.frames.capacity();
                    }
                }
                // Whoever asked may have given up.
                drop(reply.send(views));
            }
            Command::Stop { reply } => self.stop(Some(reply)),
        }
    }

    fn replied(&mut self, reply: Reply) {
        let Reply { token, bytes } = reply;
        self.handle(match bytes {
            Some(bytes) => Input::Answer { token, bytes },
            None => Input::Abandon { token, code: result::UNABLE_TO_COMPLY },
        });
    }

    fn heard(&mut self, message: FromLink) {
        match message {
            FromLink::Accepted(established) => {
                self.accepted += 1;
                let conn = ConnId::Accepted(self.accepted);
                let remote = Remote { address: established.remote.ip(), proven: established.proven.clone() };
                self.adopt(conn, established);
                self.handle(Input::Accepted { conn, remote });
            }
            FromLink::Dialed(conn, established) => {
                self.dialing.remove(&conn);
                self.adopt(conn, established);
                self.handle(Input::Dialed { conn });
            }
            FromLink::NotDialed(conn, error) => {
                self.dialing.remove(&conn);
                tracing::info!(?conn, %error, "dialing");
                self.handle(Input::NotDialed { conn });
            }
            FromLink::Frame(conn, bytes) => {
                self.trace(Direction::In, conn, &bytes);
                self.handle(Input::Received { conn, bytes });
            }
            FromLink::Garbage(conn, error, header) => self.handle(Input::Garbage { conn, error, header }),
            FromLink::Closed(conn) => {
                if self.conns.remove(&conn).is_some() {
                    self.handle(Input::Closed { conn });
                }
            }
        }
    }

    fn adopt(&mut self, conn: ConnId, established: Established) {
        let Established { io, local, remote, .. } = established;
        let (sender, frames) = mpsc::channel(WRITE_QUEUE_MAX);
        let bytes = Arc::new(AtomicUsize::new(0));
        let queue = Queue { frames, bytes: Arc::clone(&bytes) };
        self.conns.insert(conn, Conn { frames: sender, bytes, link: Link { local, remote, peer: None } });
        tokio::spawn(link::run(conn, io, queue, self.inputs.clone()));
    }

    fn trace(&mut self, direction: Direction, conn: ConnId, bytes: &[u8]) {
        let Some(trace) = &self.config.trace else { return };
        let Some(known) = self.conns.get_mut(&conn) else { return };
        if known.link.peer.is_none() {
            known.link.peer = self.machine.owner(conn).and_then(|at| self.hosts.get(at).cloned());
        }
        trace(direction, &known.link, bytes);
    }

    fn handle(&mut self, input: Input) {
        self.machine.handle(self.now_ms(), input);
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            if let Some(transmit) = self.machine.poll_transmit() {
                self.transmit(transmit);
            } else if let Some(event) = self.machine.poll_event() {
                self.event(event);
            } else {
                return;
            }
        }
    }

    fn transmit(&mut self, transmit: Transmit) {
        match transmit {
            Transmit::Connect(conn) => self.dial(conn),
            Transmit::Send(conn, bytes) => {
                self.trace(Direction::Out, conn, &bytes);
                let Some(known) = self.conns.get(&conn) else { return };
                if !known.send(bytes) {
                    tracing::warn!(remote = %known.link.remote, "a peer does not read, or is gone: closing");
                    self.conns.remove(&conn);
                    self.machine.handle(self.now_ms(), Input::Closed { conn });
                }
            }
            Transmit::Close(conn) => {
                // What is queued is still written; the task ends after it.
                self.conns.remove(&conn);
                if let Some(dialing) = self.dialing.remove(&conn) {
                    dialing.abort();
                }
            }
        }
    }

    fn dial(&mut self, conn: ConnId) {
        let ConnId::Dialed { peer, .. } = conn else { return };
        let Some(config) = self.config.peers.get(peer) else { return };
        let Some(dial) = &config.dial else { return };
        let tls = self.config.tls.clone().filter(|_| dial.is_tls);
        let host = config.settings.host.clone();
        let task = tokio::spawn(link::dial(conn, dial.address.clone(), tls, host, self.inputs.clone()));
        self.dialing.insert(conn, task.abort_handle());
    }

    fn host(&self, peer: usize) -> Arc<str> {
        self.hosts.get(peer).cloned().unwrap_or_else(|| Arc::from(""))
    }

    fn event(&mut self, event: machine::Event) {
        let event = match event {
            machine::Event::Usable { peer } => Event::Usable { peer: self.host(peer) },
            machine::Event::Suspect { peer } => Event::Suspect { peer: self.host(peer) },
            machine::Event::Lost { peer, why } => Event::Lost { peer: self.host(peer), why },
            machine::Event::Refused { peer, why, code } => {
                Event::Refused { peer: self.host(peer), why, code }
            }
            machine::Event::Stranger { address, host, code } => Event::Stranger { address, host, code },
            machine::Event::Restarted { host, state_id } => Event::Restarted { host, state_id },
            machine::Event::Answered { id, peer, frame } => {
                let answer = Answer { peer: self.host(peer), frame };
                return self.answered(id, Ok(answer));
            }
            machine::Event::Failed { id, failure } => return self.answered(id, Err(failure)),
            machine::Event::Request { token, peer, frame } => {
                if self.events.capacity() <= EVENT_QUEUE_SPARE {
                    let busy = Input::Abandon { token, code: result::TOO_BUSY };
                    return self.machine.handle(self.now_ms(), busy);
                }
                let responder = Responder { token: Some(token), replies: self.replies.clone() };
                Event::Request(Request { peer: self.host(peer), frame, responder })
            }
        };
        // A request that does not get through is answered by its responder's end.
        if self.events.try_send(event).is_err() && !self.events.is_closed() {
            tracing::warn!("an event is lost: nobody reads them");
        }
    }

    fn answered(&mut self, id: RequestId, answer: Result<Answer, Failure>) {
        if let Some(reply) = self.asked.remove(&id) {
            // Whoever asked may have given up.
            drop(reply.send(answer.map_err(RequestError::from)));
        }
    }
}
