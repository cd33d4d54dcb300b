//! Requests out and their answers (RFC 6733 §6.1.6, §5.5.4): the choice of the peer, failover with the T flag and
//! the same end-to-end id, and the match by hop-by-hop id.

use super::outgoing::{Destination, Pending, RequestId};
use super::{Event, Failure, Machine};
use crate::error::result;
use crate::message::{Frame, Message, set_end_to_end, set_hop_by_hop, set_retransmitted};
use crate::peer::Transmit;

impl Machine {
    pub(super) fn request(&mut self, now_ms: u64, id: RequestId, mut bytes: Vec<u8>, timeout_ms: u64) {
        let Some((header, destination)) = readable(&bytes) else {
            self.events.push_back(Event::Failed { id, failure: Failure::Message });
            return;
        };
        if self.outgoing.contains(id) {
            self.events.push_back(Event::Failed { id, failure: Failure::Message });
            return;
        }
        set_end_to_end(&mut bytes, self.ids.next_end_to_end());
        let mut pending =
            Pending { header, destination, bytes, due_ms: now_ms + timeout_ms, at: None, tried: 0 };
        match self.choose(&pending) {
            Some(at) if self.outgoing.is_full(at) => {
                self.slots[at].counters.busy += 1;
                self.events.push_back(Event::Failed { id, failure: Failure::Busy });
            }
            Some(at) => {
                self.send_to(at, &mut pending);
                self.outgoing.insert(id, pending);
            }
            None => self.events.push_back(Event::Failed { id, failure: Failure::NoRoute }),
        }
    }

    /// The host itself if it is a peer, else the first peer of the realm, else a relay to it.
    fn choose(&self, pending: &Pending) -> Option<usize> {
        let to = &pending.destination;
        let rank = |at: &usize| {
            let slot = &self.slots[*at];
            let is_host =
                to.host.as_deref().is_some_and(|host| slot.settings.host.eq_ignore_ascii_case(host));
            let is_realm = slot.settings.realm.eq_ignore_ascii_case(&to.realm);
            let relays = slot.settings.relays.iter().any(|realm| realm.eq_ignore_ascii_case(&to.realm));
            // A peer of the realm that is no relay cannot pass on what names another host.
            let passes_on = to.host.is_none() || slot.is_relay;
            match (is_host, is_realm && passes_on, relays) {
                (true, _, _) => Some((0, *at)),
                (_, true, _) => Some((1, *at)),
                (_, _, true) => Some((2, *at)),
                (false, false, false) => None,
            }
        };
        let can = |at: &usize| {
            let slot = &self.slots[*at];
            pending.tried & (1 << *at) == 0
                && slot.peer.usable_on().is_some()
                && slot.applications.contains(&to.application)
        };
        (0..self.slots.len()).filter(can).filter_map(|at| rank(&at)).min().map(|(_, at)| at)
    }

    fn send_to(&mut self, at: usize, pending: &mut Pending) {
        let hop = self.ids.next_hop_by_hop();
        set_hop_by_hop(&mut pending.bytes, hop);
        pending.at = Some((at, hop));
        pending.tried |= 1 << at;
        let slot = &mut self.slots[at];
        slot.counters.requests_out.count((pending.header.application, pending.header.command));
        if let Some(conn) = slot.peer.usable_on() {
            self.transmits.push_back(Transmit::Send(conn, pending.bytes.clone()));
        }
    }

    /// What waits at a peer goes to another, with the T flag. Where there is none, it stays while the connection
    /// stands, and else waits for one.
    pub(super) fn fail_over(&mut self, _now_ms: u64, from: usize, is_lost: bool) {
        for id in self.outgoing.at_peer(from) {
            let Some(mut pending) = self.outgoing.remove(id) else { continue };
            pending.tried = 1 << from;
            match self.choose(&pending).filter(|at| !self.outgoing.is_full(*at)) {
                Some(to) => self.resend(to, &mut pending),
                None if is_lost => pending.at = None,
                None => {}
            }
            self.outgoing.insert(id, pending);
        }
    }

    fn resend(&mut self, to: usize, pending: &mut Pending) {
        set_retransmitted(&mut pending.bytes);
        self.send_to(to, pending);
        self.slots[to].counters.retransmitted += 1;
    }

    /// A peer came (back): what waits for one is sent, with the T flag; whoever had it before may have it again.
    pub(super) fn send_waiting(&mut self, _now_ms: u64) {
        for id in self.outgoing.waiting() {
            let Some(mut pending) = self.outgoing.remove(id) else { continue };
            pending.tried = 0;
            if let Some(to) = self.choose(&pending).filter(|at| !self.outgoing.is_full(*at)) {
                self.resend(to, &mut pending);
            }
            self.outgoing.insert(id, pending);
        }
    }

    pub(super) fn expire_outgoing(&mut self, now_ms: u64) {
        while let Some((due, id)) = self.outgoing.next_due()
            && due <= now_ms
        {
            let at = self.outgoing.remove(id).and_then(|pending| pending.at);
            if let Some((at, _)) = at {
                self.slots[at].counters.timeouts += 1;
            }
            self.events.push_back(Event::Failed { id, failure: Failure::Timeout });
        }
    }

    /// An answer of a session, from the peer that was asked.
    pub(super) fn answered(&mut self, at: usize, bytes: Vec<u8>) {
        let Some(header) = crate::message::Header::peek(&bytes) else { return };
        let found = self.outgoing.find(at, header.hop_by_hop).filter(|(_, pending)| {
            let sent = crate::message::Header::peek(&pending.bytes);
            sent.is_some_and(|sent| sent.end_to_end == header.end_to_end && sent.command == header.command)
        });
        let Some((id, _)) = found else {
            self.slots[at].counters.late += 1;
            return;
        };
        let frame = match Frame::new(bytes) {
            Ok(frame) => frame,
            Err(_) => {
                self.slots[at].counters.malformed += 1;
                self.outgoing.remove(id);
                self.events.push_back(Event::Failed { id, failure: Failure::BadAnswer });
                return;
            }
        };
        let message = frame.message();
        let outcome = message.result();
        if let Some(outcome) = outcome {
            self.slots[at].counters.results_in.count((header.command, outcome));
        }
        self.note_origin(&message);
        let Some(mut pending) = self.outgoing.remove(id) else { return };
        // Not delivered: another way may do (RFC 6733 §7.1.3). It was seen by nobody, so no T flag.
        let is_undelivered = outcome.is_some_and(|o| o.vendor == 0 && o.code == result::UNABLE_TO_DELIVER);
        if is_undelivered && let Some(to) = self.choose(&pending).filter(|to| !self.outgoing.is_full(*to)) {
            self.send_to(to, &mut pending);
            self.outgoing.insert(id, pending);
            return;
        }
        self.events.push_back(Event::Answered { id, peer: at, frame });
    }
}

/// A request of a session that can be routed.
fn readable(bytes: &[u8]) -> Option<(crate::message::Header, Destination)> {
    let message = Message::parse(bytes).ok()?;
    let is_session = message.header.application != crate::message::application::BASE;
    let destination = Destination::of(&message)?;
    (message.is_request() && is_session).then_some((message.header, destination))
}
