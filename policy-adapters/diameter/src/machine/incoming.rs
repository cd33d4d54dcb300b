//! What comes in: strangers and their CER, messages of the connection, requests of sessions with their checks,
//! copies and answers.

use super::seen::{Entry, Key};
use super::{Event, Machine, Proof, Remote, Stranger, Token};
use crate::answer::{refuse, refuse_with};
use crate::avp::ietf::{DESTINATION_HOST, DESTINATION_REALM, ORIGIN_HOST, ORIGIN_STATE_ID, ROUTE_RECORD};
use crate::capabilities::Capabilities;
use crate::check;
use crate::error::{Error, result};
use crate::limits::{
    COPIES_MAX, INCOMING_BYTES_MAX, INCOMING_MAX, INCOMING_MS_MAX, ORIGINS_MAX, STRANGER_MS_MAX,
    STRANGERS_MAX,
};
use crate::message::{Frame, Header, Message, application, command, set_end_to_end, set_hop_by_hop};
use crate::peer::{self, Accepted, ConnId, Transmit};
use std::collections::BTreeMap;

/// A request that is not yet answered.
#[derive(Debug)]
pub(super) struct Open {
    at: usize,
    conn: ConnId,
    header: Header,
    /// The request, for a refusal if nobody answers.
    bytes: Vec<u8>,
    key: Key,
    due_ms: u64,
    /// Copies that came meanwhile; they get the same answer.
    copies: Vec<(usize, ConnId, u32)>,
}

/// Unanswered requests by token; tokens and due times grow together.
#[derive(Default, Debug)]
pub(super) struct Incoming {
    open: BTreeMap<Token, Open>,
    last: u64,
    /// Number and bytes of each peer's.
    load: BTreeMap<usize, (usize, usize)>,
}

impl Incoming {
    pub(super) fn count(&self, peer: usize) -> usize {
        self.load.get(&peer).map_or(0, |(count, _)| *count)
    }

    fn is_full(&self, peer: usize) -> bool {
        let (count, bytes) = self.load.get(&peer).copied().unwrap_or_default();
        count >= INCOMING_MAX || bytes >= INCOMING_BYTES_MAX
    }

    pub(super) fn next_due(&self) -> Option<u64> {
        self.open.first_key_value().map(|(_, open)| open.due_ms)
    }

    fn insert(&mut self, open: Open) -> Token {
        self.last += 1;
        let load = self.load.entry(open.at).or_default();
        load.0 += 1;
        load.1 += open.bytes.len();
        self.open.insert(Token(self.last), open);
        Token(self.last)
    }

    fn remove(&mut self, token: Token) -> Option<Open> {
        let open = self.open.remove(&token)?;
        let load = self.load.entry(open.at).or_default();
        load.0 -= 1;
        load.1 -= open.bytes.len();
        Some(open)
    }
}

impl Machine {
    pub(super) fn accepted(&mut self, now_ms: u64, conn: ConnId, remote: Remote) {
        if self.strangers.len() >= STRANGERS_MAX {
            self.transmits.push_back(Transmit::Close(conn));
            return;
        }
        self.strangers.insert(conn, Stranger { remote, due_ms: now_ms + STRANGER_MS_MAX });
    }

    /// Closes an accepted connection that belongs to nobody.
    pub(super) fn send_away(&mut self, conn: ConnId, host: Option<String>, code: u32) {
        if let Some(stranger) = self.strangers.remove(&conn) {
            self.events.push_back(Event::Stranger { address: stranger.remote.address, host, code });
        }
        self.transmits.push_back(Transmit::Close(conn));
    }

    /// The stream is lost: say so if it can be said, and close.
    pub(super) fn garbage(&mut self, now_ms: u64, conn: ConnId, error: Error, header: Option<Header>) {
        if let Some(header) = header.filter(Header::is_request) {
            let bare = header.write(crate::limits::FRAME_LEN_MIN);
            if let Ok(request) = Message::parse_frame(&bare) {
                let answer = refuse(&request, &self.local.origin, &error);
                self.transmits.push_back(Transmit::Send(conn, answer));
            }
        }
        match self.owner(conn).filter(|_| !self.strangers.contains_key(&conn)) {
            Some(at) => {
                self.slots[at].counters.malformed += 1;
                self.transmits.push_back(Transmit::Close(conn));
                self.tell(now_ms, at, peer::Event::Disconnected(conn));
                self.owners.remove(&conn);
            }
            None => self.send_away(conn, None, error.result_code()),
        }
    }

    pub(super) fn received(&mut self, now_ms: u64, conn: ConnId, bytes: Vec<u8>) {
        let message = match Message::parse_frame(&bytes) {
            Ok(message) => message,
            Err(error) => return self.garbage(now_ms, conn, error, Header::peek(&bytes)),
        };
        if self.strangers.contains_key(&conn) {
            return self.stranger(now_ms, conn, &message);
        }
        let Some(at) = self.owner(conn) else { return };
        if message.header.application == application::BASE {
            return self.of_connection(now_ms, at, conn, &message);
        }
        match (self.slots[at].peer.state(), message.is_request()) {
            (peer::State::Open { conn: open, .. }, true) if *open == conn => {
                self.tell(now_ms, at, peer::Event::Traffic(conn));
                self.of_session(now_ms, at, conn, bytes);
            }
            // An answer may still come while the connection closes.
            (peer::State::Open { conn: open, .. } | peer::State::Closing { conn: open, .. }, false)
                if *open == conn =>
            {
                self.tell(now_ms, at, peer::Event::Traffic(conn));
                self.answered(at, bytes);
            }
            (_, _) => self.tell(now_ms, at, peer::Event::Message(conn, &message)),
        }
    }

    /// The first message of an accepted connection.
    fn stranger(&mut self, now_ms: u64, conn: ConnId, message: &Message<'_>) {
        let is_cer = message.header.command == command::CAPABILITIES_EXCHANGE && message.is_request();
        if !is_cer || message.header.application != application::BASE {
            return self.send_away(conn, None, 0);
        }
        let checked = Message::parse(message.bytes()).and_then(|message| {
            check::request(&message, &[])?;
            Capabilities::read(&message)
        });
        let theirs = match checked {
            Ok(theirs) => theirs,
            Err(error) => {
                let answer = refuse(message, &self.local.origin, &error);
                self.transmits.push_back(Transmit::Send(conn, answer));
                return self.send_away(conn, None, error.result_code());
            }
        };
        let code = match self.proven_peer(conn, &theirs.host) {
            Some(at) if self.local.judge(&theirs) == result::SUCCESS => {
                self.strangers.remove(&conn);
                self.owners.insert(conn, at);
                let request = message.bytes().to_vec();
                let accepted = Accepted { conn, request, capabilities: theirs };
                return self.tell(now_ms, at, peer::Event::Cer(accepted));
            }
            Some(at) => {
                self.slots[at].counters.refused += 1;
                self.local.judge(&theirs)
            }
            None => result::UNKNOWN_PEER,
        };
        let why = if code == result::UNKNOWN_PEER {
            "no such peer, or its proof fails"
        } else {
            "nothing in common"
        };
        if let Ok(answer) = self.local.cea(message, code, Some(why)) {
            self.transmits.push_back(Transmit::Send(conn, answer));
        }
        self.send_away(conn, Some(theirs.host), code);
    }

    /// The configured peer of this name, if who connected can be it.
    fn proven_peer(&self, conn: ConnId, host: &str) -> Option<usize> {
        let at = self.peer_named(host)?;
        let remote = &self.strangers.get(&conn)?.remote;
        let holds = match (&self.slots[at].settings.proof, &remote.proven) {
            (Proof::Certificate, Some(names)) => names.contains(&at),
            (Proof::Certificate, None) => false,
            (Proof::Addresses(addresses), _) => addresses.contains(&remote.address),
        };
        holds.then_some(at)
    }

    /// CER, DWR, DPR and their answers on a peer's connection.
    fn of_connection(&mut self, now_ms: u64, at: usize, conn: ConnId, message: &Message<'_>) {
        let parsed = Message::parse(message.bytes());
        let checked = match &parsed {
            Ok(message) if message.is_request() => check::request(message, &[]).map(drop),
            Ok(message) => check::avps(message),
            Err(error) => Err(*error),
        };
        match checked {
            Ok(()) => {
                if self.slots[at].peer.open_on() == Some(conn) {
                    self.note_origin(message);
                }
                self.tell(now_ms, at, peer::Event::Message(conn, message));
            }
            Err(error) => {
                self.slots[at].counters.malformed += 1;
                if message.is_request() && self.slots[at].peer.holds(conn) {
                    let answer = refuse(message, &self.local.origin, &error);
                    self.transmits.push_back(Transmit::Send(conn, answer));
                }
            }
        }
    }

    /// A request of a session: checks, copies, and on to whoever answers.
    fn of_session(&mut self, now_ms: u64, at: usize, conn: ConnId, bytes: Vec<u8>) {
        let refusal = match Message::parse_frame(&bytes) {
            Ok(message) => self.judge(at, &message),
            Err(_) => return,
        };
        if let Some((answer, code)) = refusal {
            let command = Header::peek(&bytes).map_or(0, |header| header.command);
            self.count_result(at, command, code);
            self.transmits.push_back(Transmit::Send(conn, answer));
            return;
        }
        let Ok(frame) = Frame::new(bytes) else { return };
        let message = frame.message();
        let header = message.header;
        let counters = &mut self.slots[at].counters;
        counters.requests_in.count((header.application, header.command));
        let key = Key::of(&message);
        match self.seen.get(&key) {
            Some(Entry::Answered(answer)) => {
                let mut answer = answer.clone();
                set_hop_by_hop(&mut answer, header.hop_by_hop);
                counters.duplicates += 1;
                self.transmits.push_back(Transmit::Send(conn, answer));
                return;
            }
            Some(Entry::Open(token)) => {
                counters.duplicates += 1;
                if let Some(open) = self.incoming.open.get_mut(&Token(*token))
                    && open.copies.len() < COPIES_MAX
                {
                    open.copies.push((at, conn, header.hop_by_hop));
                }
                return;
            }
            None => {}
        }
        self.note_origin(&message);
        let due_ms = now_ms + INCOMING_MS_MAX;
        let open = Open { at, conn, header, bytes: frame.bytes().to_vec(), key, due_ms, copies: Vec::new() };
        let token = self.incoming.insert(open);
        self.seen.open(now_ms, key, token.0);
        self.events.push_back(Event::Request { token, peer: at, frame });
    }

    /// What is answered at once, without asking anybody.
    fn judge(&mut self, at: usize, message: &Message<'_>) -> Option<(Vec<u8>, u32)> {
        let origin = &self.local.origin;
        let checked = Message::parse(message.bytes())
            .and_then(|message| check::request(&message, &self.local.applications).map(drop));
        if let Err(error) = checked {
            self.slots[at].counters.malformed += 1;
            return Some((refuse(message, origin, &error), error.result_code()));
        }
        let ours = |name: Option<&str>, own: &str| name.is_none_or(|name| name.eq_ignore_ascii_case(own));
        let is_looped =
            message.all(ROUTE_RECORD).any(|avp| avp.data.eq_ignore_ascii_case(origin.host.as_bytes()));
        let (code, why) = if is_looped {
            (result::LOOP_DETECTED, "it was here before")
        } else if !ours(message.text(DESTINATION_REALM), &origin.realm) {
            (result::REALM_NOT_SERVED, "not our realm")
        } else if !ours(message.text(DESTINATION_HOST), &origin.host) {
            (result::UNABLE_TO_DELIVER, "not our host, and we relay nothing")
        } else if self.incoming.is_full(at) {
            self.slots[at].counters.busy += 1;
            (result::TOO_BUSY, "too many requests wait")
        } else {
            return None;
        };
        Some((refuse_with(message, origin, code, why), code))
    }

    fn count_result(&mut self, at: usize, command: u32, code: u32) {
        let outcome = crate::message::Outcome { vendor: 0, code };
        self.slots[at].counters.results_out.count((command, outcome));
    }

    pub(super) fn answer(&mut self, token: Token, mut bytes: Vec<u8>) {
        let Some(open) = self.incoming.remove(token) else { return };
        let fits = Message::parse(&bytes).is_ok_and(|answer| {
            !answer.is_request()
                && (answer.header.command, answer.header.application)
                    == (open.header.command, open.header.application)
        });
        if !fits {
            bytes = self.refusal(&open, result::UNABLE_TO_COMPLY, "the answer was none");
        }
        self.deliver(open, bytes);
    }

    pub(super) fn abandon(&mut self, token: Token, code: u32, why: &str) {
        let Some(open) = self.incoming.remove(token) else { return };
        let bytes = self.refusal(&open, code, why);
        if code == result::TOO_BUSY {
            // It was not looked at: the next copy is a new request.
            self.seen.forget(&open.key);
        }
        self.deliver(open, bytes);
    }

    fn refusal(&self, open: &Open, code: u32, why: &str) -> Vec<u8> {
        let request = Message::parse_frame(&open.bytes).expect("an open request was a frame");
        refuse_with(&request, &self.local.origin, code, why)
    }

    /// Sends an answer to the first and to all copies, over the connection on which each came, and keeps it.
    fn deliver(&mut self, open: Open, mut bytes: Vec<u8>) {
        set_end_to_end(&mut bytes, open.header.end_to_end);
        set_hop_by_hop(&mut bytes, open.header.hop_by_hop);
        if let Some(outcome) = Message::parse_frame(&bytes).ok().and_then(|m| m.result()) {
            self.slots[open.at].counters.results_out.count((open.header.command, outcome));
        }
        self.seen.answered(&open.key, &bytes);
        for (at, conn, hop) in open.copies {
            if self.slots[at].peer.holds(conn) {
                let mut copy = bytes.clone();
                set_hop_by_hop(&mut copy, hop);
                self.transmits.push_back(Transmit::Send(conn, copy));
            }
        }
        if self.slots[open.at].peer.holds(open.conn) {
            self.transmits.push_back(Transmit::Send(open.conn, bytes));
        }
    }

    pub(super) fn expire_incoming(&mut self, now_ms: u64) {
        while let Some((token, open)) = self.incoming.open.first_key_value()
            && open.due_ms <= now_ms
        {
            self.abandon(*token, result::UNABLE_TO_COMPLY, "no answer in time");
        }
    }

    /// Origin-State-Id of any message: its host may stand behind the peer.
    pub(super) fn note_origin(&mut self, message: &Message<'_>) {
        if let (Some(host), Some(state_id)) = (message.text(ORIGIN_HOST), message.u32(ORIGIN_STATE_ID)) {
            self.origin_state(host, state_id);
        }
    }

    /// A higher one than known: all its sessions are gone. Zero says nothing (RFC 6733 §8.16).
    pub(super) fn origin_state(&mut self, host: &str, state_id: u32) {
        if state_id == 0 {
            return;
        }
        let has_room = self.peer_named(host).is_some() || self.origins.len() < ORIGINS_MAX;
        match self.origins.get_mut(host) {
            Some(known) if *known < state_id => {
                *known = state_id;
                self.events.push_back(Event::Restarted { host: host.to_owned(), state_id });
            }
            Some(_) => {}
            None if has_room => {
                self.origins.insert(host.to_owned(), state_id);
            }
            None => {}
        }
    }
}
