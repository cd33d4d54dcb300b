//! What a node is started with, validated whole before anything runs.

use super::tls::Tls;
use crate::capabilities::Local;
use crate::machine::{Machine, PeerSettings, Proof, Settings, SettingsError};
use std::net::SocketAddr;
use std::sync::Arc;

#[derive(Clone)]
pub struct Config {
    pub local: Local,
    pub peers: Vec<PeerConfig>,
    pub listen: Vec<Listen>,
    /// Needed where a listener or a dialer uses TLS.
    pub tls: Option<Tls>,
    /// Sees every frame, for a capture file.
    pub trace: Option<Trace>,
}

/// A peer and where to reach it, if it is ours to connect.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    pub settings: PeerSettings,
    pub dial: Option<Dial>,
}

impl PeerConfig {
    pub(super) fn machine_settings(&self) -> PeerSettings {
        PeerSettings { dials: self.dial.is_some(), ..self.settings.clone() }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dial {
    /// `host:port`.
    pub address: String,
    pub is_tls: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listen {
    pub address: SocketAddr,
    pub is_tls: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    In,
    Out,
}

/// A connection as a trace shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// Once it has said who it is.
    pub peer: Option<Arc<str>>,
}

/// Called by the driver for each frame; it must not wait.
pub type Trace = Arc<dyn Fn(Direction, &Link, &[u8]) + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("TLS is asked for, but there is no certificate")]
    NoTls,
    #[error("peer {0} must prove itself by certificate, but no listener uses TLS and it is not dialed")]
    Unreachable(String),
    #[error("listening on {address}")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error("reading the address listened on")]
    Address(#[source] std::io::Error),
}

impl Config {
    /// Whether a node could start with it, sockets apart.
    ///
    /// # Errors
    /// The first thing that cannot be.
    pub fn check(&self) -> Result<(), StartError> {
        Machine::new(self.machine_settings(0, 0))?;
        let listens_tls = self.listen.iter().any(|listen| listen.is_tls);
        let dials_tls = self.peers.iter().any(|peer| peer.dial.as_ref().is_some_and(|dial| dial.is_tls));
        if (listens_tls || dials_tls) && self.tls.is_none() {
            return Err(StartError::NoTls);
        }
        let is_cut_off = |peer: &&PeerConfig| {
            peer.dial.is_none() && peer.settings.proof == Proof::Certificate && !listens_tls
        };
        match self.peers.iter().find(is_cut_off) {
            Some(peer) => Err(StartError::Unreachable(peer.settings.host.clone())),
            None => Ok(()),
        }
    }
}

impl Config {
    pub(super) fn machine_settings(&self, unix_s: u64, random: u64) -> Settings {
        let peers = self.peers.iter().map(PeerConfig::machine_settings).collect();
        Settings { local: self.local.clone(), peers, unix_s, random }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("local", &self.local)
            .field("peers", &self.peers)
            .field("listen", &self.listen)
            .field("tls", &self.tls.is_some())
            .field("trace", &self.trace.is_some())
            .finish()
    }
}
