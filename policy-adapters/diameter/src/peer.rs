//! The peer state machine of RFC 6733 §5.6, for one configured peer, with the watchdog on its open connection.
//!
//! `I` is the connection that we opened, `R` the one that the peer opened; with both, the election (§5.6.4) decides
//! which stays. Pure: times are arguments, connections are names, messages are bytes.

mod words;

pub use words::{Accepted, Change, ConnId, Event, Ids, Settings, Side, State, Transmit};

use crate::answer::answer_with;
use crate::avp::ietf::{DISCONNECT_CAUSE, ORIGIN_STATE_ID};
use crate::capabilities::{Capabilities, Local};
use crate::error::result;
use crate::limits::{CLOSE_MS_MAX, OPEN_MS_MAX, RECONNECT_MS_MAX, RECONNECT_MS_MIN};
use crate::message::{Header, Message, application, command, set_end_to_end, set_hop_by_hop};
use crate::watchdog::{self, Step, Watchdog};
use crate::writer::{WriteError, Writer};
use std::collections::VecDeque;
use std::sync::Arc;

/// Disconnect-Cause (RFC 6733 §5.4.3).
pub mod cause {
    pub const REBOOTING: u32 = 0;
    pub const BUSY: u32 = 1;
    pub const DO_NOT_WANT_TO_TALK_TO_YOU: u32 = 2;
}

#[derive(Debug)]
pub struct Peer {
    index: usize,
    local: Arc<Local>,
    settings: Settings,
    state: State,
    watchdog: Watchdog,
    attempts: u64,
    reconnect_ms: u64,
    is_stopped: bool,
    due_ms: Option<u64>,
    watchdogs: Watchdogs,
    transmits: VecDeque<Transmit>,
    changes: VecDeque<Change>,
}

/// Counters of the watchdog.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Watchdogs {
    pub requests_out: u64,
    pub answers_in: u64,
    pub requests_in: u64,
    pub failovers: u64,
}

impl Peer {
    pub fn new(index: usize, local: Arc<Local>, settings: Settings) -> Peer {
        Peer {
            index,
            watchdog: Watchdog::new(settings.watchdog),
            local,
            settings,
            state: State::Closed,
            attempts: 0,
            reconnect_ms: RECONNECT_MS_MIN,
            is_stopped: false,
            due_ms: None,
            watchdogs: Watchdogs::default(),
            transmits: VecDeque::new(),
            changes: VecDeque::new(),
        }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn watchdog(&self) -> watchdog::State {
        self.watchdog.state()
    }

    pub fn watchdogs(&self) -> Watchdogs {
        self.watchdogs
    }

    /// The connection on which messages of sessions are taken.
    pub fn open_on(&self) -> Option<ConnId> {
        if let State::Open { conn, .. } = &self.state { Some(*conn) } else { None }
    }

    /// The connection, if new requests may go there.
    pub fn usable_on(&self) -> Option<ConnId> {
        self.open_on().filter(|_| self.watchdog.is_usable())
    }

    /// Connections this peer holds.
    pub fn holds(&self, id: ConnId) -> bool {
        match &self.state {
            State::Closed => false,
            State::WaitConnAck { i } | State::WaitICea { i, .. } => *i == id,
            State::WaitConnAckElect { i, r } | State::WaitReturns { i, r, .. } => *i == id || r.conn == id,
            State::Open { conn, .. } | State::Closing { conn, .. } => *conn == id,
        }
    }

    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    pub fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// When [`Peer::timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<u64> {
        let watchdog = self.watchdog.due_ms().filter(|_| self.open_on().is_some());
        self.due_ms.into_iter().chain(watchdog).min()
    }

    pub fn handle(&mut self, now_ms: u64, event: Event<'_>, ids: &mut Ids) {
        match event {
            Event::Start => self.start(now_ms),
            Event::Stop(cause) => self.stop(now_ms, cause, ids),
            Event::Connected(conn) => self.connected(now_ms, conn, ids),
            Event::NotConnected(conn) => self.not_connected(now_ms, conn, ids),
            Event::Cer(accepted) => self.accept(now_ms, accepted, ids),
            Event::Message(conn, message) => self.message(now_ms, conn, message, ids),
            Event::Traffic(conn) => self.traffic(now_ms, conn),
            Event::Disconnected(conn) => self.disconnected(now_ms, conn, ids),
        }
    }

    /// Runs what is due.
    pub fn timeout(&mut self, now_ms: u64, ids: &mut Ids) {
        if self.open_on().is_some() {
            let step = self.watchdog.expired(now_ms);
            self.step(now_ms, step, ids);
        }
        if self.due_ms.is_none_or(|due| due > now_ms) {
            return;
        }
        self.due_ms = None;
        match &self.state {
            State::Closed => self.start(now_ms),
            State::WaitConnAck { .. }
            | State::WaitICea { .. }
            | State::WaitConnAckElect { .. }
            | State::WaitReturns { .. } => self.give_up(now_ms, "no answer in time"),
            State::Closing { .. } => self.give_up(now_ms, "no answer to the DPR"),
            State::Open { .. } => {}
        }
    }

    fn send(&mut self, conn: ConnId, bytes: Result<Vec<u8>, WriteError>) {
        // Only a configured name that fills a message could fail, and the node refuses such names at its start.
        if let Ok(bytes) = bytes {
            self.transmits.push_back(Transmit::Send(conn, bytes));
        }
    }

    fn send_request(&mut self, conn: ConnId, bytes: Result<Vec<u8>, WriteError>, ids: &mut Ids) -> u32 {
        let hop = ids.next_hop_by_hop();
        self.send(
            conn,
            bytes.map(|mut bytes| {
                set_hop_by_hop(&mut bytes, hop);
                set_end_to_end(&mut bytes, ids.next_end_to_end());
                bytes
            }),
        );
        hop
    }

    fn close(&mut self, conn: ConnId) {
        self.transmits.push_back(Transmit::Close(conn));
    }

    /// Start: I-Snd-Conn-Req.
    fn start(&mut self, now_ms: u64) {
        self.is_stopped = false;
        if self.state != State::Closed || !self.settings.dials {
            return;
        }
        self.attempts += 1;
        let i = ConnId::Dialed { peer: self.index, attempt: self.attempts };
        self.transmits.push_back(Transmit::Connect(i));
        self.state = State::WaitConnAck { i };
        self.due_ms = Some(now_ms + OPEN_MS_MAX);
    }

    /// Stop: Snd-DPR, or nothing to say yet.
    fn stop(&mut self, now_ms: u64, cause: u32, ids: &mut Ids) {
        self.is_stopped = true;
        match &self.state {
            State::Open { side, conn } => {
                let (side, conn) = (*side, *conn);
                let mut writer = Writer::request(command::DISCONNECT_PEER, application::BASE);
                self.local.origin.write(&mut writer);
                writer.u32(DISCONNECT_CAUSE, cause);
                self.send_request(conn, writer.finish(), ids);
                self.closing(now_ms, side, conn, "we disconnect");
            }
            State::Closed => self.due_ms = None,
            State::Closing { .. } => {}
            State::WaitConnAck { .. }
            | State::WaitICea { .. }
            | State::WaitConnAckElect { .. }
            | State::WaitReturns { .. } => self.give_up(now_ms, "stopped"),
        }
    }

    fn closing(&mut self, now_ms: u64, side: Side, conn: ConnId, why: &'static str) {
        self.watchdog.down(true);
        self.changes.push_back(Change::Lost { why });
        self.state = State::Closing { side, conn };
        self.due_ms = Some(now_ms + CLOSE_MS_MAX);
    }

    /// I-Rcv-Conn-Ack: I-Snd-CER, and with a CER waiting the election.
    fn connected(&mut self, now_ms: u64, conn: ConnId, ids: &mut Ids) {
        match (std::mem::replace(&mut self.state, State::Closed), conn) {
            (State::WaitConnAck { i }, conn) if i == conn => {
                let hop = self.send_request(i, self.local.cer(), ids);
                self.state = State::WaitICea { i, hop };
                self.due_ms = Some(now_ms + OPEN_MS_MAX);
            }
            (State::WaitConnAckElect { i, r }, conn) if i == conn => {
                let hop = self.send_request(i, self.local.cer(), ids);
                self.elect(now_ms, i, hop, r, ids);
            }
            (other, conn) => {
                self.state = other;
                self.close(conn);
            }
        }
    }

    /// I-Rcv-Conn-Nack: Cleanup, or the other connection it is.
    fn not_connected(&mut self, now_ms: u64, conn: ConnId, ids: &mut Ids) {
        match (std::mem::replace(&mut self.state, State::Closed), conn) {
            (State::WaitConnAck { i }, conn) if i == conn => self.refused(now_ms, "no connection", 0),
            (State::WaitConnAckElect { i, r }, conn) if i == conn => self.open_responder(now_ms, r, ids),
            (other, _) => self.state = other,
        }
    }

    /// R-Conn-CER.
    fn accept(&mut self, now_ms: u64, r: Accepted, ids: &mut Ids) {
        if self.is_stopped {
            self.close(r.conn);
            return;
        }
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => self.open_responder(now_ms, r, ids),
            State::WaitConnAck { i } => self.state = State::WaitConnAckElect { i, r },
            State::WaitICea { i, hop } => self.elect(now_ms, i, hop, r, ids),
            busy @ (State::WaitConnAckElect { .. }
            | State::WaitReturns { .. }
            | State::Open { .. }
            | State::Closing { .. }) => {
                self.state = busy;
                self.close(r.conn);
            }
        }
    }

    /// RFC 6733 §5.6.4: the higher Origin-Host, as octets, wins, and the connection that the winner accepted stays.
    fn elect(&mut self, now_ms: u64, i: ConnId, hop: u32, r: Accepted, ids: &mut Ids) {
        if self.local.origin.host.as_bytes() > r.capabilities.host.as_bytes() {
            self.close(i);
            self.open_responder(now_ms, r, ids);
        } else {
            self.state = State::WaitReturns { i, hop, r };
            self.due_ms = Some(now_ms + OPEN_MS_MAX);
        }
    }

    /// R-Snd-CEA, R-Open.
    fn open_responder(&mut self, now_ms: u64, r: Accepted, ids: &mut Ids) {
        let Ok(request) = Message::parse_frame(&r.request) else { return };
        let cea = self.local.cea(&request, result::SUCCESS, None);
        self.send(r.conn, cea);
        self.open(now_ms, Side::Responder, r.conn, r.capabilities, ids);
    }

    fn open(&mut self, now_ms: u64, side: Side, conn: ConnId, capabilities: Capabilities, ids: &mut Ids) {
        self.state = State::Open { side, conn };
        self.due_ms = None;
        self.reconnect_ms = RECONNECT_MS_MIN;
        self.changes.push_back(Change::Opened(capabilities));
        let step = self.watchdog.up(now_ms);
        self.step(now_ms, step, ids);
    }

    fn traffic(&mut self, now_ms: u64, conn: ConnId) {
        if self.open_on() == Some(conn) && self.watchdog.traffic(now_ms) == Step::Failback {
            self.changes.push_back(Change::Usable);
        }
    }

    fn message(&mut self, now_ms: u64, conn: ConnId, message: &Message<'_>, ids: &mut Ids) {
        let header = &message.header;
        match (self.state.clone(), conn) {
            (State::WaitICea { i, .. } | State::WaitReturns { i, .. }, conn) if i == conn => {
                self.expect_cea(now_ms, message, ids);
            }
            (State::Open { side, conn: open }, conn) if open == conn => {
                self.message_open(now_ms, side, conn, message, ids);
            }
            (State::Closing { conn: closing, .. }, conn)
                if closing == conn && header.command == command::DISCONNECT_PEER =>
            {
                if message.is_request() {
                    self.send_dpa(conn, message);
                } else {
                    self.close(conn);
                    self.closed(now_ms);
                }
            }
            (_, _) => {}
        }
    }

    /// Wait-I-CEA and Wait-Returns: I-Rcv-CEA or I-Rcv-Non-CEA.
    fn expect_cea(&mut self, now_ms: u64, message: &Message<'_>, ids: &mut Ids) {
        let (i, hop, r) = match (std::mem::replace(&mut self.state, State::Closed), ()) {
            (State::WaitICea { i, hop }, ()) => (i, hop, None),
            (State::WaitReturns { i, hop, r }, ()) => (i, hop, Some(r)),
            (other, ()) => {
                self.state = other;
                return;
            }
        };
        match self.judge_cea(&message.header, hop, message) {
            Ok(capabilities) => {
                if let Some(r) = r {
                    self.close(r.conn);
                }
                self.open(now_ms, Side::Initiator, i, capabilities, ids);
            }
            Err((why, code)) => {
                self.close(i);
                match r {
                    // The other connection is good: the lost one counts as I-Peer-Disc.
                    Some(r) => self.open_responder(now_ms, r, ids),
                    None => self.refused(now_ms, why, code),
                }
            }
        }
    }

    /// Process-CEA (RFC 6733 §5.3).
    fn judge_cea(
        &self,
        header: &Header,
        hop: u32,
        message: &Message<'_>,
    ) -> Result<Capabilities, (&'static str, u32)> {
        if header.is_request() || header.command != command::CAPABILITIES_EXCHANGE || header.hop_by_hop != hop
        {
            return Err(("not a CEA", 0));
        }
        let code = message.result().map_or(0, |outcome| outcome.code);
        if code != result::SUCCESS {
            return Err(("the peer refuses", code));
        }
        let theirs = Capabilities::read(message).map_err(|e| ("the CEA names nobody", e.result_code()))?;
        if !theirs.host.eq_ignore_ascii_case(&self.settings.host) {
            return Err(("somebody else answers", result::UNKNOWN_PEER));
        }
        match self.local.judge(&theirs) {
            result::SUCCESS => Ok(theirs),
            code => Err(("nothing in common", code)),
        }
    }

    fn message_open(&mut self, now_ms: u64, side: Side, conn: ConnId, message: &Message<'_>, ids: &mut Ids) {
        let step = match (message.header.command, message.is_request()) {
            (command::DEVICE_WATCHDOG, true) => {
                self.watchdogs.requests_in += 1;
                let mut dwa = answer_with(message, &self.local.origin, result::SUCCESS);
                dwa.u32(ORIGIN_STATE_ID, self.local.origin.state_id);
                self.send(conn, dwa.finish());
                self.watchdog.traffic(now_ms)
            }
            (command::DEVICE_WATCHDOG, false) => {
                self.watchdogs.answers_in += 1;
                self.watchdog.answered(now_ms)
            }
            (command::DISCONNECT_PEER, true) => {
                self.send_dpa(conn, message);
                if message.u32(DISCONNECT_CAUSE) != Some(cause::REBOOTING) {
                    self.reconnect_ms = RECONNECT_MS_MAX;
                }
                self.closing(now_ms, side, conn, "the peer disconnects");
                return;
            }
            (command::CAPABILITIES_EXCHANGE, true) => {
                self.send(conn, self.local.cea(message, result::SUCCESS, None));
                self.watchdog.traffic(now_ms)
            }
            // An answer that nobody waits for: the peer lives, no more.
            (_, _) => self.watchdog.traffic(now_ms),
        };
        self.step(now_ms, step, ids);
    }

    fn send_dpa(&mut self, conn: ConnId, message: &Message<'_>) {
        let dpa = answer_with(message, &self.local.origin, result::SUCCESS).finish();
        self.send(conn, dpa);
    }

    fn step(&mut self, now_ms: u64, step: Step, ids: &mut Ids) {
        let Some(conn) = self.open_on() else { return };
        match step {
            Step::Nothing => {}
            Step::SendWatchdog => {
                self.watchdogs.requests_out += 1;
                let mut writer = Writer::request(command::DEVICE_WATCHDOG, application::BASE);
                self.local.origin.write_with_state(&mut writer);
                self.send_request(conn, writer.finish(), ids);
            }
            Step::Failover => {
                self.watchdogs.failovers += 1;
                self.changes.push_back(Change::Suspect);
            }
            Step::Failback => self.changes.push_back(Change::Usable),
            Step::CloseConnection => self.give_up(now_ms, "the watchdog went unanswered"),
        }
    }

    /// I-Peer-Disc, R-Peer-Disc.
    fn disconnected(&mut self, now_ms: u64, conn: ConnId, ids: &mut Ids) {
        match (std::mem::replace(&mut self.state, State::Closed), conn) {
            (State::WaitConnAck { i } | State::WaitICea { i, .. }, conn) if i == conn => {
                self.refused(now_ms, "disconnected", 0);
            }
            (State::WaitConnAckElect { i, r }, conn) if r.conn == conn => {
                self.state = State::WaitConnAck { i }
            }
            (State::WaitReturns { i, hop, r }, conn) if r.conn == conn => {
                self.state = State::WaitICea { i, hop };
            }
            (State::WaitConnAckElect { i, r } | State::WaitReturns { i, r, .. }, conn) if i == conn => {
                self.open_responder(now_ms, r, ids);
            }
            (State::Open { conn: open, .. }, conn) if open == conn => {
                self.watchdog.down(false);
                self.changes.push_back(Change::Lost { why: "disconnected" });
                self.closed(now_ms);
            }
            (State::Closing { conn: closing, .. }, conn) if closing == conn => self.closed(now_ms),
            (other, _) => self.state = other,
        }
    }

    /// Error and Cleanup: every connection of the peer is closed.
    fn give_up(&mut self, now_ms: u64, why: &'static str) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => {}
            State::WaitConnAck { i } | State::WaitICea { i, .. } => {
                self.close(i);
                self.refused(now_ms, why, 0);
            }
            State::WaitConnAckElect { i, r } | State::WaitReturns { i, r, .. } => {
                self.close(i);
                self.close(r.conn);
                self.refused(now_ms, why, 0);
            }
            State::Open { conn, .. } => {
                self.close(conn);
                self.watchdog.down(false);
                self.changes.push_back(Change::Lost { why });
                self.closed(now_ms);
            }
            State::Closing { conn, .. } => {
                self.close(conn);
                self.closed(now_ms);
            }
        }
    }

    fn refused(&mut self, now_ms: u64, why: &'static str, code: u32) {
        self.changes.push_back(Change::Refused { why, code });
        self.closed(now_ms);
    }

    /// Closed, and the next attempt after a pause that doubles up to T_c (RFC 6733 §2.1).
    fn closed(&mut self, now_ms: u64) {
        self.state = State::Closed;
        self.due_ms = None;
        if self.settings.dials && !self.is_stopped {
            self.due_ms = Some(now_ms + self.reconnect_ms);
            self.reconnect_ms = (self.reconnect_ms * 2).min(RECONNECT_MS_MAX);
        }
    }
}
