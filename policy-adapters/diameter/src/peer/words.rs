//! What the peer machine is told, what it says, and where it stands.

use crate::capabilities::Capabilities;
use crate::message::Message;
use crate::watchdog::Timing;

/// A connection's name. Ours are numbered by peer and attempt; the shell numbers those it accepts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ConnId {
    Dialed { peer: usize, attempt: u64 },
    Accepted(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Initiator,
    Responder,
}

/// Where next hop-by-hop and end-to-end ids come from: one source for all peers of a node (RFC 6733 §3).
#[derive(Clone, Debug)]
pub struct Ids {
    hop_by_hop: u32,
    end_to_end: u32,
}

impl Ids {
    /// End-to-end ids must not come again within 4 minutes, restarts included: the upper 12 bits are the low bits
    /// of the clock's seconds, the lower 20 count from a random number (RFC 6733 §3).
    pub fn new(unix_s: u64, random: u64) -> Ids {
        Ids {
            hop_by_hop: (random >> 32) as u32,
            end_to_end: (unix_s as u32) << 20 | (random as u32 & 0x000f_ffff),
        }
    }

    pub fn next_hop_by_hop(&mut self) -> u32 {
        self.hop_by_hop = self.hop_by_hop.wrapping_add(1);
        self.hop_by_hop
    }

    pub fn next_end_to_end(&mut self) -> u32 {
        self.end_to_end = self.end_to_end.wrapping_add(1);
        self.end_to_end
    }
}

/// A CER whose answer waits for the election.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    pub conn: ConnId,
    /// The whole message, for its answer.
    pub request: Vec<u8>,
    pub capabilities: Capabilities,
}

/// RFC 6733 §5.6. I-Open and R-Open are one state with its side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    Closed,
    WaitConnAck { i: ConnId },
    WaitICea { i: ConnId, hop: u32 },
    WaitConnAckElect { i: ConnId, r: Accepted },
    WaitReturns { i: ConnId, hop: u32, r: Accepted },
    Open { side: Side, conn: ConnId },
    Closing { side: Side, conn: ConnId },
}

impl State {
    pub const fn name(&self) -> &'static str {
        match self {
            State::Closed => "Closed",
            State::WaitConnAck { .. } => "Wait-Conn-Ack",
            State::WaitICea { .. } => "Wait-I-CEA",
            State::WaitConnAckElect { .. } => "Wait-Conn-Ack/Elect",
            State::WaitReturns { .. } => "Wait-Returns",
            State::Open { side: Side::Initiator, .. } => "I-Open",
            State::Open { side: Side::Responder, .. } => "R-Open",
            State::Closing { .. } => "Closing",
        }
    }
}

/// What happens to a peer.
#[derive(Debug)]
pub enum Event<'a> {
    /// Connect, if it is ours to connect.
    Start,
    /// Part in agreement and stay apart.
    Stop(u32),
    /// I-Rcv-Conn-Ack.
    Connected(ConnId),
    /// I-Rcv-Conn-Nack.
    NotConnected(ConnId),
    /// R-Conn-CER: a stranger's CER names this peer, and its proof and capabilities hold.
    Cer(Accepted),
    /// A message of the connection (application 0), checked if it is a request.
    Message(ConnId, &'a Message<'a>),
    /// A message of a session came: the peer lives.
    Traffic(ConnId),
    /// I-Peer-Disc or R-Peer-Disc.
    Disconnected(ConnId),
}

/// What the shell has to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Transmit {
    Connect(ConnId),
    Send(ConnId, Vec<u8>),
    Close(ConnId),
}

/// What whoever uses the peer has to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The connection stands; the peer may ask.
    Opened(Capabilities),
    /// New requests may go there.
    Usable,
    /// Pending requests should go elsewhere; answers may still come.
    Suspect,
    /// Nothing more goes there or comes from there.
    Lost { why: &'static str },
    /// An attempt to open failed.
    Refused { why: &'static str, code: u32 },
}

/// How a peer is configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    pub host: String,
    /// Whether we open the connection (both may).
    pub dials: bool,
    pub watchdog: Timing,
}
