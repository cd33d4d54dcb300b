//! The tokio shell around [`Machine`]: listeners, dialers, a reader and a writer per connection, one driver.
//!
//! `Node::start(config)` gives a [`Handle`] to ask with and [`Events`] to hear from. Memory is bounded: readers
//! wait for the driver, the driver never waits for anybody.

mod config;
mod driver;
mod link;
mod tls;

pub use config::{Config, Dial, Direction, Link, Listen, PeerConfig, StartError, Trace};
pub use tls::{Tls, TlsError};

use crate::counters::PeerView;
use crate::limits::{EVENT_QUEUE_MAX, INPUT_QUEUE_MAX};
use crate::machine::{Failure, Machine, Token};
use crate::message::Frame;
use driver::{Command, Driver, Reply};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

/// What happens on a node.
#[derive(Debug)]
pub enum Event {
    /// New requests may go to this peer.
    Usable {
        peer: Arc<str>,
    },
    /// Its watchdog went unanswered.
    Suspect {
        peer: Arc<str>,
    },
    Lost {
        peer: Arc<str>,
        why: &'static str,
    },
    /// An attempt to open failed, with the Result-Code if there was one.
    Refused {
        peer: Arc<str>,
        why: &'static str,
        code: u32,
    },
    /// Somebody who is no peer, or cannot prove it, was sent away.
    Stranger {
        address: std::net::IpAddr,
        host: Option<String>,
        code: u32,
    },
    /// A host has lost its sessions (RFC 6733 §8.16).
    Restarted {
        host: String,
        state_id: u32,
    },
    /// A request for us.
    Request(Request),
}

/// Events in their order.
pub type Events = mpsc::Receiver<Event>;

/// An incoming request, checked by dictionary and grammar.
#[derive(Debug)]
pub struct Request {
    /// The peer it came through; its Origin-Host may be another.
    pub peer: Arc<str>,
    pub frame: Frame,
    pub responder: Responder,
}

/// Answers one request, once; dropped, it answers UNABLE_TO_COMPLY (5012).
#[derive(Debug)]
pub struct Responder {
    token: Option<Token>,
    replies: mpsc::UnboundedSender<Reply>,
}

impl Responder {
    /// Sends the answer; its ids are filled in.
    pub fn answer(mut self, bytes: Vec<u8>) {
        self.reply(Some(bytes));
    }

    fn reply(&mut self, bytes: Option<Vec<u8>>) {
        if let Some(token) = self.token.take() {
            // Without a driver there is no connection either.
            let _ = self.replies.send(Reply { token, bytes });
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.reply(None);
    }
}

/// An answer to a request of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub peer: Arc<str>,
    pub frame: Frame,
}

/// Why a request has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RequestError {
    #[error(transparent)]
    Failed(#[from] Failure),
    #[error("the node has stopped")]
    Stopped,
}

/// Asks and watches; cheap to clone. When the last is dropped, the node disconnects.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    listening: Arc<[SocketAddr]>,
}

impl Handle {
    /// Sends a request and waits for its answer. The destination is read from Destination-Realm, Destination-Host
    /// and the application; hop-by-hop and end-to-end ids are filled in. Without a timeout it is 5 s.
    ///
    /// # Errors
    /// No route, no answer in time, too many waiting, or the node has stopped.
    pub async fn request(&self, bytes: Vec<u8>, timeout: Option<Duration>) -> Result<Answer, RequestError> {
        let (reply, answer) = oneshot::channel();
        let timeout_ms =
            timeout.map_or(0, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX).clamp(1, 600_000));
        let command = Command::Request { bytes, timeout_ms, reply };
        self.commands.send(command).await.map_err(|_| RequestError::Stopped)?;
        answer.await.map_err(|_| RequestError::Stopped)?
    }

    /// All peers with state and counters; empty when the node has stopped.
    pub async fn peers(&self) -> Vec<PeerView> {
        let (reply, views) = oneshot::channel();
        if self.commands.send(Command::Peers { reply }).await.is_err() {
            return Vec::new();
        }
        views.await.unwrap_or_default()
    }

    /// Addresses listened on, in the order of the configuration.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// Disconnects all peers in agreement (DPR, cause REBOOTING) and ends the node.
    pub async fn stop(&self) {
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Stop { reply }).await.is_ok() {
            // An error is the driver's end, which is what is waited for.
            let _ = done.await;
        }
    }
}

/// The node's name space; see [`Node::start`].
#[derive(Debug)]
pub struct Node;

impl Node {
    /// Binds, connects and serves until the last handle is dropped. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// A configuration that cannot work, or an address that cannot be bound.
    pub async fn start(config: Config) -> Result<(Handle, Events), StartError> {
        config.check()?;
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let settings = config.machine_settings(unix_s, RandomState::new().hash_one(0u8));
        let machine = Machine::new(settings)?;
        let mut listeners = Vec::new();
        for listen in &config.listen {
            let bound = TcpListener::bind(listen.address).await;
            let bound = bound.map_err(|source| StartError::Bind { address: listen.address, source })?;
            listeners.push((bound, listen.is_tls));
        }
        let addresses = listeners.iter().map(|(listener, _)| listener.local_addr());
        let listening: Result<Arc<[SocketAddr]>, _> = addresses.collect();
        let listening = listening.map_err(StartError::Address)?;
        let (command_sender, commands) = mpsc::channel(INPUT_QUEUE_MAX);
        let (event_sender, events) = mpsc::channel(EVENT_QUEUE_MAX);
        let driver = Driver::new(machine, config, event_sender);
        tokio::spawn(driver.run(commands, listeners));
        Ok((Handle { commands: command_sender, listening }, events))
    }
}
