//! Open sessions and the gateways they are at, found by name, by subscriber and by address.

use crate::limits::{HOSTS_MAX, IN_FLIGHT_MAX, NUMBERS_WINDOW, RAR_BURST_MS, SESSIONS_MAX};
use crate::settings::{Gateway, Settings};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use tollway_diameter::machine::RequestId;
use tollway_model::Timestamp;
use tollway_policy::{DeviceAddress, Session as Learnt, SessionName, SubscriberRef};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct SessionNo(pub u64);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct HostNo(pub u32);

/// CC-Request-Numbers seen: the highest, and those shortly below it. Requests may overtake each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Numbers {
    pub highest: u32,
    below: u64,
}

impl Numbers {
    pub fn new(highest: u32) -> Numbers {
        // What lies below the number of a restored session had its effect before.
        Numbers { highest, below: u64::MAX }
    }

    pub fn is_seen(self, number: u32) -> bool {
        match self.highest.checked_sub(number) {
            None => false,
            Some(0) => true,
            Some(back) => back > NUMBERS_WINDOW || self.below >> (back - 1) & 1 == 1,
        }
    }

    pub fn see(&mut self, number: u32) {
        match number.checked_sub(self.highest) {
            Some(0) => {}
            Some(ahead) => {
                self.below = self.below.checked_shl(ahead).unwrap_or(0);
                if ahead <= NUMBERS_WINDOW {
                    self.below |= 1 << (ahead - 1);
                }
                self.highest = number;
            }
            None => {
                let back = self.highest - number;
                if back <= NUMBERS_WINDOW {
                    self.below |= 1 << (back - 1);
                }
            }
        }
    }
}

/// One open session. There may be a million: it is small, and most have no leg.
#[derive(Debug)]
pub(super) struct Session {
    pub host: HostNo,
    pub id: Arc<str>,
    pub realm: Arc<str>,
    pub apn: u16,
    pub subscriber: SubscriberRef,
    pub address: DeviceAddress,
    pub numbers: Numbers,
    /// In a network that is not ours: his session goes on, nothing is sold on it.
    pub is_away: bool,
    pub has_extended: bool,
    /// Out of the records: what its gateway holds is not known.
    pub is_restored: bool,
    pub push: Push,
    /// Pushes without an answer, one after the other.
    pub tries: u8,
}

/// One RAR of a session is on its way at most, so that the last one sent is the last one done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Push {
    Idle,
    /// Waits in its host's queue.
    Queued(Timestamp),
    /// After it, look again.
    InFlight(RequestId),
    Paused(Timestamp),
}

/// A gateway, with the pushes that wait for it.
#[derive(Debug)]
pub(super) struct Host {
    pub name: Arc<str>,
    realm: Arc<str>,
    pub gateway: Gateway,
    pub by_id: BTreeMap<Arc<str>, SessionNo>,
    /// By start: what is needed first goes first.
    pub queue: BTreeSet<(Timestamp, SessionNo)>,
    pub in_flight: usize,
    /// When the next push would be in rhythm, in microseconds.
    rhythm_us: u64,
    pub busy_until: Timestamp,
    pub busy_ms: u64,
}

impl Host {
    /// When the next push may leave; `None` while an answer must come first.
    pub fn next_push(&self) -> Option<Timestamp> {
        if self.queue.is_empty() || self.in_flight >= IN_FLIGHT_MAX {
            return None;
        }
        let rhythm = self.rhythm_us.saturating_sub(RAR_BURST_MS * 1_000).div_ceil(1_000);
        Some(Timestamp(rhythm).max(self.busy_until))
    }

    pub fn pushed(&mut self, now: Timestamp) {
        self.in_flight += 1;
        if let Some(rate) = self.gateway.rar_rate_max {
            let now_us = now.ms().saturating_mul(1_000);
            self.rhythm_us = self.rhythm_us.max(now_us).saturating_add(1_000_000 / u64::from(rate));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum AddressKey {
    V4(Ipv4Addr),
    V6(Ipv6Addr, u8),
}

fn keys(address: DeviceAddress) -> impl Iterator<Item = AddressKey> {
    let v6 = address.v6.map(|(prefix, length)| AddressKey::V6(prefix, length));
    address.v4.map(AddressKey::V4).into_iter().chain(v6)
}

#[derive(Default, Debug)]
pub(super) struct Sessions {
    hosts: Vec<Host>,
    host_names: BTreeMap<Arc<str>, HostNo>,
    open: BTreeMap<SessionNo, Session>,
    by_subscriber: BTreeMap<(SubscriberRef, u16), SessionNo>,
    by_address: BTreeMap<(u16, AddressKey), SessionNo>,
    next: u64,
}

impl Sessions {
    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_full(&self) -> bool {
        self.open.len() >= SESSIONS_MAX
    }

    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    pub fn host(&self, no: HostNo) -> &Host {
        &self.hosts[no.0 as usize]
    }

    pub fn host_mut(&mut self, no: HostNo) -> &mut Host {
        &mut self.hosts[no.0 as usize]
    }

    pub fn find_host(&self, name: &str) -> Option<HostNo> {
        self.host_names.get(name).copied()
    }

    /// Makes a gateway known; `None` when there are too many.
    pub fn host_no(&mut self, settings: &Settings, name: &str, realm: &str) -> Option<HostNo> {
        if let Some(no) = self.find_host(name) {
            return Some(no);
        }
        if self.hosts.len() >= HOSTS_MAX {
            return None;
        }
        let no = HostNo(u32::try_from(self.hosts.len()).ok()?);
        let name: Arc<str> = name.into();
        self.host_names.insert(name.clone(), no);
        self.hosts.push(Host {
            gateway: settings.gateways.get(&*name).unwrap_or(&settings.gateway).clone(),
            name,
            realm: realm.into(),
            by_id: BTreeMap::new(),
            queue: BTreeSet::new(),
            in_flight: 0,
            rhythm_us: 0,
            busy_until: Timestamp::ZERO,
            busy_ms: 0,
        });
        Some(no)
    }

    pub fn find(&self, host: &str, id: &str) -> Option<SessionNo> {
        self.host(self.find_host(host)?).by_id.get(id).copied()
    }

    pub fn find_open(&self, no: SessionNo) -> Option<&Session> {
        self.open.get(&no)
    }

    pub fn get(&self, no: SessionNo) -> &Session {
        self.open.get(&no).expect("a session number in an index is of an open session")
    }

    pub fn get_mut(&mut self, no: SessionNo) -> &mut Session {
        self.open.get_mut(&no).expect("a session number in an index is of an open session")
    }

    pub fn of_subscriber(&self, subscriber: SubscriberRef, apn: u16) -> Option<SessionNo> {
        self.by_subscriber.get(&(subscriber, apn)).copied()
    }

    /// Sessions that a newer one of this subscriber, or at this address, replaces.
    pub fn replaced_by(
        &self,
        subscriber: SubscriberRef,
        apn: u16,
        address: DeviceAddress,
    ) -> BTreeSet<SessionNo> {
        let at = keys(address).filter_map(|key| self.by_address.get(&(apn, key)).copied());
        self.of_subscriber(subscriber, apn).into_iter().chain(at).collect()
    }

    pub fn of_host(&self, host: Option<HostNo>) -> Vec<SessionNo> {
        match host {
            Some(no) => self.host(no).by_id.values().copied().collect(),
            None => self.open.keys().copied().collect(),
        }
    }

    /// Opens a session; whatever it replaces was closed before.
    pub fn open(&mut self, host: HostNo, apn: u16, learnt: &Learnt, is_restored: bool) -> SessionNo {
        let no = SessionNo(self.next);
        self.next += 1;
        let id: Arc<str> = learnt.name.session_id.as_str().into();
        let known_realm = &self.host(host).realm;
        let realm = if **known_realm == *learnt.name.origin_realm {
            known_realm.clone()
        } else {
            learnt.name.origin_realm.as_str().into()
        };
        self.host_mut(host).by_id.insert(id.clone(), no);
        self.by_subscriber.insert((learnt.access.subscriber, apn), no);
        for key in keys(learnt.address) {
            self.by_address.insert((apn, key), no);
        }
        let session = Session {
            host,
            id,
            realm,
            apn,
            subscriber: learnt.access.subscriber,
            address: learnt.address,
            numbers: Numbers::new(learnt.number),
            is_away: learnt.is_away,
            has_extended: learnt.has_extended,
            is_restored,
            push: Push::Idle,
            tries: 0,
        };
        self.open.insert(no, session);
        no
    }

    pub fn close(&mut self, no: SessionNo) -> Session {
        let session = self.open.remove(&no).expect("an open session is closed once");
        let host = self.host_mut(session.host);
        host.by_id.remove(&session.id);
        if let Push::Queued(start) = session.push {
            host.queue.remove(&(start, no));
        }
        self.by_subscriber.remove(&(session.subscriber, session.apn));
        for key in keys(session.address) {
            self.by_address.remove(&(session.apn, key));
        }
        session
    }

    pub fn name(&self, session: &Session) -> SessionName {
        SessionName {
            session_id: session.id.to_string(),
            origin_host: self.host(session.host).name.to_string(),
            origin_realm: session.realm.to_string(),
        }
    }

    pub fn check_invariants(&self) {
        assert!(self.by_subscriber.len() == self.open.len(), "one session for a subscriber and APN");
        if self.open.len() > 64 {
            return;
        }
        let named: usize = self.hosts.iter().map(|host| host.by_id.len()).sum();
        assert_eq!(named, self.open.len(), "each open session is found by its name");
        for (no, session) in &self.open {
            let is_queued = matches!(session.push, Push::Queued(at)
                if self.host(session.host).queue.contains(&(at, *no)));
            let waits = matches!(session.push, Push::Queued(_));
            assert_eq!(is_queued, waits, "a queued session is in the queue");
        }
        let queued: usize = self.hosts.iter().map(|host| host.queue.len()).sum();
        let waiting = self.open.values().filter(|s| matches!(s.push, Push::Queued(_))).count();
        assert_eq!(queued, waiting, "a queue holds open sessions, each once");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_apart_though_they_overtake() {
        let mut numbers = Numbers::new(0);
        assert!(numbers.is_seen(0) && !numbers.is_seen(1));
        numbers.see(3);
        assert!(numbers.is_seen(3) && !numbers.is_seen(2) && numbers.is_seen(0));
        numbers.see(1);
        assert!(numbers.is_seen(1) && !numbers.is_seen(2));
        numbers.see(3 + NUMBERS_WINDOW);
        assert!(!numbers.is_seen(4) && numbers.is_seen(3));
        numbers.see(u32::MAX);
        assert!(!numbers.is_seen(u32::MAX - 1) && numbers.is_seen(5));
    }
}
