//! All peers of one node together, without I/O: who connects, where requests go, what comes back, what came
//! before. The shell feeds connections and frames in and carries transmits out; a simulation does the same.

mod incoming;
mod outgoing;
mod route;
mod seen;

pub use outgoing::{Destination, RequestId};

use crate::capabilities::Local;
use crate::counters::{Counters, PeerView};
use crate::error::Error;
use crate::limits::{PEERS_MAX, REQUEST_MS};
use crate::message::{Frame, Header};
use crate::peer::{self, Change, ConnId, Ids, Peer, Transmit};
use crate::watchdog::Timing;
use incoming::Incoming;
use outgoing::Outgoing;
use seen::Seen;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

/// How a peer that connects to us proves its Origin-Host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Proof {
    /// TLS with a certificate that names it.
    Certificate,
    /// It comes from one of these addresses.
    Addresses(Vec<IpAddr>),
}

/// One configured peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerSettings {
    pub host: String,
    pub realm: String,
    /// Further realms that are reached through it: it is a relay.
    pub relays: Vec<String>,
    pub dials: bool,
    pub proof: Proof,
    pub watchdog: Timing,
}

/// What a node is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    pub local: Local,
    pub peers: Vec<PeerSettings>,
    /// For end-to-end ids (RFC 6733 §3).
    pub unix_s: u64,
    pub random: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("{0:?} is no name of a Diameter node: visible ASCII, at most 255 bytes")]
    Name(String),
    #[error("peer {0} is configured twice, or is ourselves")]
    Twice(String),
    #[error("{0} peers; at most 64 are taken")]
    TooMany(usize),
    #[error("the node has no application, no address, or more of them than fit a CER")]
    Capabilities,
}

/// What is known of who connected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remote {
    pub address: IpAddr,
    /// With TLS: the configured peers (by number) that its certificate names.
    pub proven: Option<Vec<usize>>,
}

/// Names an incoming request until it is answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(u64);

#[derive(Debug)]
pub enum Input {
    /// Connect to whom we connect to.
    Start,
    /// Disconnect one peer, or all (Disconnect-Cause, RFC 6733 §5.4.3).
    Stop {
        peer: Option<usize>,
        cause: u32,
    },
    /// Somebody connected; his first message must be a CER.
    Accepted {
        conn: ConnId,
        remote: Remote,
    },
    /// A connection that was asked for stands; with TLS its certificate names the peer.
    Dialed {
        conn: ConnId,
    },
    NotDialed {
        conn: ConnId,
    },
    /// One frame, cut by [`crate::framer::Framer`].
    Received {
        conn: ConnId,
        bytes: Vec<u8>,
    },
    /// The stream cannot be cut any more; the header, if 20 bytes came.
    Garbage {
        conn: ConnId,
        error: Error,
        header: Option<Header>,
    },
    Closed {
        conn: ConnId,
    },
    /// Send a request; ids are filled in. The destination is read from its AVPs.
    Request {
        id: RequestId,
        bytes: Vec<u8>,
        timeout_ms: u64,
    },
    /// Answer an incoming request; ids are filled in.
    Answer {
        token: Token,
        bytes: Vec<u8>,
    },
    /// Nobody will answer it.
    Abandon {
        token: Token,
        code: u32,
    },
}

/// Why a request has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    #[error("not a request of a session with a Destination-Realm")]
    Message,
    #[error("no peer for its realm is open and knows its application")]
    NoRoute,
    #[error("too many requests wait for the peer")]
    Busy,
    #[error("no answer in time")]
    Timeout,
    #[error("the answer cannot be read")]
    BadAnswer,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// New requests may go to this peer.
    Usable {
        peer: usize,
    },
    /// Its watchdog went unanswered; what was pending went to another if there is one.
    Suspect {
        peer: usize,
    },
    Lost {
        peer: usize,
        why: &'static str,
    },
    /// An attempt to open failed, with the Result-Code if there was one.
    Refused {
        peer: usize,
        why: &'static str,
        code: u32,
    },
    /// Somebody who is no peer, or cannot prove it, was sent away.
    Stranger {
        address: IpAddr,
        host: Option<String>,
        code: u32,
    },
    /// A host has lost its sessions: its Origin-State-Id grew (RFC 6733 §8.16). It may stand behind a relay.
    Restarted {
        host: String,
        state_id: u32,
    },
    /// A request for us, checked by dictionary and grammar.
    Request {
        token: Token,
        peer: usize,
        frame: Frame,
    },
    Answered {
        id: RequestId,
        peer: usize,
        frame: Frame,
    },
    Failed {
        id: RequestId,
        failure: Failure,
    },
}

#[derive(Debug)]
struct Stranger {
    remote: Remote,
    due_ms: u64,
}

#[derive(Debug)]
struct Slot {
    settings: PeerSettings,
    peer: Peer,
    applications: Vec<u32>,
    is_relay: bool,
    counters: Counters,
}

/// The node.
#[derive(Debug)]
pub struct Machine {
    local: Arc<Local>,
    slots: Vec<Slot>,
    ids: Ids,
    strangers: BTreeMap<ConnId, Stranger>,
    /// Accepted connections that belong to a peer.
    owners: BTreeMap<ConnId, usize>,
    outgoing: Outgoing,
    incoming: Incoming,
    seen: Seen,
    origins: BTreeMap<String, u32>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

fn check_settings(settings: &Settings) -> Result<(), SettingsError> {
    let local = &settings.local;
    if settings.peers.len() > PEERS_MAX {
        return Err(SettingsError::TooMany(settings.peers.len()));
    }
    let names =
        settings.peers.iter().flat_map(|peer| [&peer.host, &peer.realm].into_iter().chain(&peer.relays));
    for name in names.chain([&local.origin.host, &local.origin.realm]) {
        if !crate::check::is_identity(name.as_bytes()) {
            return Err(SettingsError::Name(name.clone()));
        }
    }
    let mut hosts = vec![local.origin.host.to_ascii_lowercase()];
    for peer in &settings.peers {
        let host = peer.host.to_ascii_lowercase();
        if hosts.contains(&host) {
            return Err(SettingsError::Twice(peer.host.clone()));
        }
        hosts.push(host);
    }
    let is_empty = local.applications.is_empty() || local.addresses.is_empty();
    if is_empty || local.product.len() > 255 || local.cer().is_err() {
        return Err(SettingsError::Capabilities);
    }
    Ok(())
}

impl Machine {
    /// # Errors
    /// Names that cannot go on the wire, a peer twice, nothing to offer.
    pub fn new(settings: Settings) -> Result<Machine, SettingsError> {
        check_settings(&settings)?;
        let local = Arc::new(settings.local);
        let slot = |(index, settings): (usize, PeerSettings)| {
            let peer = peer::Settings {
                host: settings.host.clone(),
                dials: settings.dials,
                watchdog: settings.watchdog,
            };
            let peer = Peer::new(index, Arc::clone(&local), peer);
            Slot { settings, peer, applications: Vec::new(), is_relay: false, counters: Counters::default() }
        };
        Ok(Machine {
            slots: settings.peers.into_iter().enumerate().map(slot).collect(),
            local,
            ids: Ids::new(settings.unix_s, settings.random),
            strangers: BTreeMap::new(),
            owners: BTreeMap::new(),
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            seen: Seen::default(),
            origins: BTreeMap::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        })
    }

    pub fn local(&self) -> &Arc<Local> {
        &self.local
    }

    /// Number of a configured peer.
    pub fn peer_named(&self, host: &str) -> Option<usize> {
        self.slots.iter().position(|slot| slot.settings.host.eq_ignore_ascii_case(host))
    }

    pub fn peer(&self, index: usize) -> Option<&Peer> {
        self.slots.get(index).map(|slot| &slot.peer)
    }

    /// The peer that a connection belongs to.
    pub fn owner(&self, conn: ConnId) -> Option<usize> {
        match conn {
            ConnId::Dialed { peer, .. } => Some(peer).filter(|peer| *peer < self.slots.len()),
            ConnId::Accepted(_) => self.owners.get(&conn).copied(),
        }
    }

    /// All peers with their counters.
    pub fn views(&self) -> Vec<PeerView> {
        let view = |(index, slot): (usize, &Slot)| PeerView {
            host: slot.settings.host.clone(),
            realm: slot.settings.realm.clone(),
            state: slot.peer.state().name(),
            is_usable: slot.peer.usable_on().is_some(),
            applications: slot.applications.clone(),
            pending: self.outgoing.count(index),
            incoming: self.incoming.count(index),
            queue: 0,
            counters: Counters { watchdogs: slot.peer.watchdogs(), ..slot.counters.clone() },
        };
        self.slots.iter().enumerate().map(view).collect()
    }

    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Machine::timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<u64> {
        let peers = self.slots.iter().filter_map(|slot| slot.peer.poll_timeout());
        let strangers = self.strangers.values().map(|stranger| stranger.due_ms);
        let outgoing = self.outgoing.next_due().map(|(due, _)| due);
        peers.chain(strangers).chain(outgoing).chain(self.incoming.next_due()).min()
    }

    pub fn handle(&mut self, now_ms: u64, input: Input) {
        match input {
            Input::Start => (0..self.slots.len()).for_each(|at| self.tell(now_ms, at, peer::Event::Start)),
            Input::Stop { peer, cause } => {
                let all = peer.map_or(0..self.slots.len(), |at| at..at + 1);
                all.for_each(|at| self.tell(now_ms, at, peer::Event::Stop(cause)));
            }
            Input::Accepted { conn, remote } => self.accepted(now_ms, conn, remote),
            Input::Dialed { conn } => self.tell_owner(now_ms, conn, peer::Event::Connected(conn)),
            Input::NotDialed { conn } => self.tell_owner(now_ms, conn, peer::Event::NotConnected(conn)),
            Input::Received { conn, bytes } => self.received(now_ms, conn, bytes),
            Input::Garbage { conn, error, header } => self.garbage(now_ms, conn, error, header),
            Input::Closed { conn } => self.disconnected(now_ms, conn),
            Input::Request { id, bytes, timeout_ms } => {
                let timeout_ms = if timeout_ms == 0 { REQUEST_MS } else { timeout_ms };
                self.request(now_ms, id, bytes, timeout_ms);
            }
            Input::Answer { token, bytes } => self.answer(token, bytes),
            Input::Abandon { token, code } => self.abandon(token, code, "nobody answers it"),
        }
    }

    /// Runs what is due.
    pub fn timeout(&mut self, now_ms: u64) {
        for at in 0..self.slots.len() {
            if self.slots[at].peer.poll_timeout().is_some_and(|due| due <= now_ms) {
                let slot = &mut self.slots[at];
                slot.peer.timeout(now_ms, &mut self.ids);
                self.drain(now_ms, at);
            }
        }
        let is_late = |stranger: &Stranger| stranger.due_ms <= now_ms;
        let late: Vec<ConnId> =
            self.strangers.iter().filter(|(_, stranger)| is_late(stranger)).map(|(conn, _)| *conn).collect();
        late.into_iter().for_each(|conn| self.send_away(conn, None, 0));
        self.expire_outgoing(now_ms);
        self.expire_incoming(now_ms);
    }

    fn tell(&mut self, now_ms: u64, at: usize, event: peer::Event<'_>) {
        if let Some(slot) = self.slots.get_mut(at) {
            slot.peer.handle(now_ms, event, &mut self.ids);
            self.drain(now_ms, at);
        }
    }

    fn tell_owner(&mut self, now_ms: u64, conn: ConnId, event: peer::Event<'_>) {
        match self.owner(conn) {
            Some(at) => self.tell(now_ms, at, event),
            None => self.transmits.push_back(Transmit::Close(conn)),
        }
    }

    fn disconnected(&mut self, now_ms: u64, conn: ConnId) {
        if self.strangers.remove(&conn).is_none()
            && let Some(at) = self.owner(conn)
        {
            self.tell(now_ms, at, peer::Event::Disconnected(conn));
        }
        self.owners.remove(&conn);
    }

    /// What a peer machine made becomes ours.
    fn drain(&mut self, now_ms: u64, at: usize) {
        while let Some(transmit) = self.slots[at].peer.poll_transmit() {
            if let Transmit::Close(conn) = &transmit {
                self.owners.remove(conn);
            }
            self.transmits.push_back(transmit);
        }
        while let Some(change) = self.slots[at].peer.poll_change() {
            self.changed(now_ms, at, change);
        }
    }

    fn changed(&mut self, now_ms: u64, at: usize, change: Change) {
        let slot = &mut self.slots[at];
        match change {
            Change::Opened(capabilities) => {
                slot.counters.opened += 1;
                slot.applications = self.local.common(&capabilities.applications);
                slot.is_relay = capabilities.applications.contains(&crate::message::application::RELAY);
                if let Some(state_id) = capabilities.state_id {
                    self.origin_state(&capabilities.host, state_id);
                }
            }
            Change::Usable => {
                self.events.push_back(Event::Usable { peer: at });
                self.send_waiting(now_ms);
            }
            Change::Suspect => {
                self.events.push_back(Event::Suspect { peer: at });
                self.fail_over(now_ms, at, false);
            }
            Change::Lost { why } => {
                slot.counters.lost += 1;
                self.events.push_back(Event::Lost { peer: at, why });
                self.fail_over(now_ms, at, true);
            }
            Change::Refused { why, code } => {
                slot.counters.refused += 1;
                self.events.push_back(Event::Refused { peer: at, why, code });
            }
        }
    }
}
