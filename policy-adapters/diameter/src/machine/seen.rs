//! Requests seen before (RFC 6733 §3, §5.5.4): by Origin-Host, end-to-end id, command and session. The first
//! answer is kept and given again, so that a retransmission has no second effect.
//!
//! Every request is looked up, not only those with the T flag: a relay may send a copy without it.

use crate::avp::ietf::{ORIGIN_HOST, SESSION_ID};
use crate::limits::{SEEN_BYTES_MAX, SEEN_MAX, SEEN_MS_MAX};
use crate::message::Message;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

/// What makes two requests the same. Names are hashed (SipHash), which keeps a key at 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    names: u64,
    end_to_end: u32,
    command: u32,
}

impl Key {
    pub fn of(message: &Message<'_>) -> Key {
        let mut hasher = DefaultHasher::new();
        message.find(ORIGIN_HOST).map(|avp| avp.data).hash(&mut hasher);
        message.find(SESSION_ID).map(|avp| avp.data).hash(&mut hasher);
        message.header.application.hash(&mut hasher);
        Key { names: hasher.finish(), end_to_end: message.header.end_to_end, command: message.header.command }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Its answer is awaited, under this token.
    Open(u64),
    Answered(Vec<u8>),
}

/// Bounded in number, bytes and time; the oldest go first.
#[derive(Default, Debug)]
pub struct Seen {
    entries: BTreeMap<Key, Entry>,
    order: VecDeque<(u64, Key)>,
    bytes: usize,
}

impl Seen {
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub fn open(&mut self, now_ms: u64, key: Key, token: u64) {
        while self.order.front().is_some_and(|(at, _)| at + SEEN_MS_MAX <= now_ms)
            || self.order.len() >= SEEN_MAX
        {
            self.forget_oldest();
        }
        if self.entries.insert(key, Entry::Open(token)).is_none() {
            self.order.push_back((now_ms, key));
        }
    }

    pub fn answered(&mut self, key: &Key, bytes: &[u8]) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if matches!(entry, Entry::Answered(_)) {
            return;
        }
        *entry = Entry::Answered(bytes.to_vec());
        self.bytes += bytes.len();
        while self.bytes > SEEN_BYTES_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, key)) = self.order.pop_front() else { return };
        if let Some(Entry::Answered(bytes)) = self.entries.remove(&key) {
            self.bytes -= bytes.len();
        }
    }

    /// Forgets one that was never taken up. Its place in the order stays until it is the oldest.
    pub fn forget(&mut self, key: &Key) {
        if let Some(Entry::Answered(bytes)) = self.entries.remove(key) {
            self.bytes -= bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(end_to_end: u32) -> Key {
        Key { names: 1, end_to_end, command: 272 }
    }

    #[test]
    fn the_oldest_go_first() {
        let mut seen = Seen::default();
        for at in 0..=SEEN_MAX as u32 {
            seen.open(0, key(at), 0);
        }
        assert_eq!((seen.entries.len(), seen.get(&key(0))), (SEEN_MAX, None));
        let answer = vec![0; 65_536];
        for at in 1..=200 {
            seen.answered(&key(at), &answer);
        }
        assert!(seen.bytes <= SEEN_BYTES_MAX && seen.bytes > SEEN_BYTES_MAX - 65_536);
        assert!(matches!(seen.get(&key(200)), Some(Entry::Answered(_))));
        seen.open(SEEN_MS_MAX, key(1), 9);
        assert_eq!((seen.entries.len(), seen.bytes), (1, 0));
    }
}
