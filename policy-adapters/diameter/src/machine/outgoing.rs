//! Our requests that wait for an answer: where they went, when they are given up, and the way to another peer.

use crate::avp::ietf::{DESTINATION_HOST, DESTINATION_REALM};
use crate::limits::PENDING_MAX;
use crate::message::{Header, Message};
use std::collections::{BTreeMap, BTreeSet};

/// The caller's name for a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// Where a request goes (RFC 6733 §6.1): read from the message itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Destination {
    pub host: Option<String>,
    pub realm: String,
    pub application: u32,
}

impl Destination {
    pub fn of(message: &Message<'_>) -> Option<Destination> {
        Some(Destination {
            host: message.text(DESTINATION_HOST).map(str::to_owned),
            realm: message.text(DESTINATION_REALM)?.to_owned(),
            application: message.header.application,
        })
    }
}

#[derive(Debug)]
pub struct Pending {
    pub header: Header,
    pub destination: Destination,
    /// As sent last, for the next peer.
    pub bytes: Vec<u8>,
    pub due_ms: u64,
    /// The peer and hop-by-hop id it waits under; none while no peer can take it.
    pub at: Option<(usize, u32)>,
    /// Peers that had it, a bit each.
    pub tried: u64,
}

/// Requests by id, by the hop-by-hop id of their peer, and by time.
#[derive(Default, Debug)]
pub struct Outgoing {
    by_id: BTreeMap<RequestId, Pending>,
    by_hop: BTreeMap<(usize, u32), RequestId>,
    due: BTreeSet<(u64, RequestId)>,
    count_at: BTreeMap<usize, usize>,
}

impl Outgoing {
    /// Whether a peer's share is full.
    pub fn is_full(&self, peer: usize) -> bool {
        self.count(peer) >= PENDING_MAX
    }

    pub fn count(&self, peer: usize) -> usize {
        self.count_at.get(&peer).copied().unwrap_or(0)
    }

    pub fn insert(&mut self, id: RequestId, pending: Pending) {
        self.due.insert((pending.due_ms, id));
        if let Some(at) = pending.at {
            self.by_hop.insert(at, id);
            *self.count_at.entry(at.0).or_default() += 1;
        }
        self.by_id.insert(id, pending);
    }

    pub fn remove(&mut self, id: RequestId) -> Option<Pending> {
        let pending = self.by_id.remove(&id)?;
        self.due.remove(&(pending.due_ms, id));
        if let Some(at) = pending.at {
            self.by_hop.remove(&at);
            *self.count_at.entry(at.0).or_default() -= 1;
        }
        Some(pending)
    }

    /// The request that an answer of this peer belongs to.
    pub fn find(&self, peer: usize, hop_by_hop: u32) -> Option<(RequestId, &Pending)> {
        let id = *self.by_hop.get(&(peer, hop_by_hop))?;
        self.by_id.get(&id).map(|pending| (id, pending))
    }

    pub fn at_peer(&self, peer: usize) -> Vec<RequestId> {
        self.by_hop.range((peer, 0)..=(peer, u32::MAX)).map(|(_, id)| *id).collect()
    }

    /// Requests that no peer has now.
    pub fn waiting(&self) -> Vec<RequestId> {
        self.by_id.iter().filter(|(_, pending)| pending.at.is_none()).map(|(id, _)| *id).collect()
    }

    pub fn next_due(&self) -> Option<(u64, RequestId)> {
        self.due.first().copied()
    }

    pub fn contains(&self, id: RequestId) -> bool {
        self.by_id.contains_key(&id)
    }
}
