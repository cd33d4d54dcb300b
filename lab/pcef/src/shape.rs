//! Rules made so in the kernel: one HTB class for each rule and direction, filters that lead its packets there,
//! and the classes' counters as its meter.

mod filter;
mod rtnl;

use crate::limits::CLASSES_MAX;
use crate::rule::{Direction, Filter, Match, Rule};
use rtnl::Rtnl;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use tollway_netlink::htb::{self, Params};
use tollway_netlink::leaf::{self, Leaf};
use tollway_netlink::link;
use tollway_netlink::tc::{self, Handle, Object};
use tollway_netlink::wire::{NLM_F_CREATE, NLM_F_REPLACE};

/// Not the product's: both may stand in one namespace, on different devices.
const MAJOR: u16 = 0x9ce;
/// The class of everybody who has no rule: it may take the whole link.
const DEFAULT_MINOR: u16 = 0xfff0;
/// A virtual link has no rate of its own; 10 Gbit/s is above any lab's.
const LINK_BYTES_PER_S: u64 = 1_250_000_000;
/// HTB counts the Ethernet header, rates of rules are IP's.
const ETHERNET_BYTES: u64 = 14;
const PACKET_BYTES: u64 = 1_500;
/// A class's queue: 100 ms at its rate, at least this.
const QUEUE_BYTES_MIN: u64 = 15_000;
/// Burst beyond 1 ms at the rate: one frame.
const BURST_BYTES: u64 = 1_600;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the kernel refused to {doing}")]
    Kernel { doing: String, source: std::io::Error },
    #[error("the filter {0:?} cannot be matched here")]
    Filter(String),
    #[error("{0} rules are enforced already")]
    Full(usize),
}

/// Names an enforced rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    pub session: String,
    pub rule: String,
}

#[derive(Clone, Copy, Default, Debug)]
struct Count {
    bytes: u64,
    packets: u64,
}

/// A class pair: the same minor number on both devices.
#[derive(Debug)]
struct Enforced {
    minor: u16,
    up: Count,
    down: Count,
}

pub struct Shaper {
    rtnl: Rtnl,
    up: u32,
    down: u32,
    tick_ns: u32,
    rules: BTreeMap<Key, Enforced>,
    used: BTreeSet<u16>,
}

/// Bytes a second on the wire for a rate of IP packets.
fn wire_bytes_per_s(ip_bps: u64) -> u64 {
    (ip_bps / 8).saturating_mul(PACKET_BYTES + ETHERNET_BYTES) / PACKET_BYTES
}

fn is_of(direction: Direction, is_up: bool) -> bool {
    match direction {
        Direction::Both => true,
        Direction::Up => is_up,
        Direction::Down => !is_up,
    }
}

fn matches(filters: &[Filter], address: Ipv4Addr, is_up: bool) -> Result<Vec<Match>, Error> {
    let of_direction = filters.iter().filter(|filter| is_of(filter.direction, is_up));
    let read = |filter: &Filter| {
        let found = Match::parse(&filter.description, Some(address));
        found.ok_or_else(|| Error::Filter(filter.description.clone()))
    };
    of_direction.map(read).collect()
}

impl Shaper {
    /// Takes over both devices' root: what was there is replaced, and gone when this is dropped.
    ///
    /// # Errors
    /// No such device, no privilege, no HTB.
    pub fn new(up: &str, down: &str) -> Result<Shaper, Error> {
        let mut rtnl = Rtnl::open()?;
        let mut index = |name: &str| {
            let doing = format!("show the device {name}");
            let answers = rtnl.send(&doing, |seq| link::get_link(seq, name))?;
            let found = answers.first().and_then(|payload| link::read_link(payload));
            let source = std::io::Error::from_raw_os_error(libc::ENODEV);
            found.map(|link| link.index.cast_unsigned()).ok_or(Error::Kernel { doing, source })
        };
        let (up, down) = (index(up)?, index(down)?);
        let tick_ns = htb::tick_ns(&std::fs::read_to_string("/proc/net/psched").unwrap_or_default());
        let mut shaper = Shaper { rtnl, up, down, tick_ns, rules: BTreeMap::new(), used: BTreeSet::new() };
        for device in [up, down] {
            shaper.clear(device);
            shaper.rtnl.ask("put HTB on a device", |w, flags, seq| {
                let flags = flags | NLM_F_CREATE | NLM_F_REPLACE;
                htb::new_root(w, flags, seq, device, Handle::new(MAJOR, 0), DEFAULT_MINOR);
            })?;
            shaper.set_class(device, DEFAULT_MINOR, LINK_BYTES_PER_S, LINK_BYTES_PER_S)?;
        }
        Ok(shaper)
    }

    /// Takes our root away, if it is there.
    fn clear(&mut self, device: u32) {
        let gone = self.rtnl.ask("remove HTB", |w, flags, seq| {
            tc::del_qdisc(w, flags, seq, device, Handle::new(MAJOR, 0), Handle::ROOT);
        });
        // There was none of ours.
        drop(gone);
    }

    fn set_class(&mut self, device: u32, minor: u16, rate: u64, ceil: u64) -> Result<(), Error> {
        let burst = |rate: u64| htb::ticks(BURST_BYTES + rate / 1_000, rate, self.tick_ns);
        let params =
            Params { rate, ceil, buffer: burst(rate), cbuffer: burst(ceil), quantum: 3_000, prio: 0 };
        let class = Handle::new(MAJOR, minor);
        let flags = NLM_F_CREATE;
        self.rtnl.ask("set a class", |w, ack, seq| {
            htb::new_class(w, ack | flags, seq, device, class, Handle::new(MAJOR, 0), &params);
        })?;
        let limit_bytes = u32::try_from((ceil / 10).max(QUEUE_BYTES_MIN)).unwrap_or(u32::MAX);
        let queue = Leaf::Bfifo { limit_bytes };
        // A leaf's handle must be its own on the device; minors are, and ours begin at 1.
        let handle = Handle::new(minor, 0);
        self.rtnl.ask("set a class's queue", |w, ack, seq| {
            let flags = ack | NLM_F_CREATE | NLM_F_REPLACE;
            leaf::new_leaf(w, flags, seq, device, handle, class, &queue);
        })?;
        Ok(())
    }

    /// Makes a rule so; the same rule again is changed in place and keeps its counters.
    ///
    /// # Errors
    /// Filters that cannot be matched, and what the kernel refuses.
    pub fn enforce(&mut self, session: &str, address: Ipv4Addr, rule: &Rule) -> Result<(), Error> {
        if rule.max.up_bps == 0 && rule.max.down_bps == 0 {
            // It asks for no rate: the default class carries it.
            return Ok(());
        }
        let filters = [matches(&rule.filters, address, true)?, matches(&rule.filters, address, false)?];
        let key = Key { session: session.to_owned(), rule: rule.name.clone() };
        let minor = match self.rules.get(&key) {
            Some(known) => known.minor,
            None => self.take_minor(rule.precedence)?,
        };
        let is_new = !self.rules.contains_key(&key);
        self.rules.entry(key).or_insert(Enforced::new(minor));
        let made = self.make(minor, rule, &filters, is_new);
        if made.is_err() {
            drop(self.lift(session, &rule.name));
        }
        made
    }

    /// A minor number that is the filters' priority too: the lower precedence is looked at first.
    fn take_minor(&mut self, precedence: Option<u32>) -> Result<u16, Error> {
        if self.used.len() >= CLASSES_MAX {
            return Err(Error::Full(self.used.len()));
        }
        let wanted = u16::try_from(precedence.unwrap_or(u32::MAX)).unwrap_or(u16::MAX);
        let first = wanted.saturating_add(1).min(DEFAULT_MINOR - 1);
        let mut all = (first..DEFAULT_MINOR).chain((1..first).rev());
        let minor = all.find(|minor| !self.used.contains(minor)).ok_or(Error::Full(self.used.len()))?;
        self.used.insert(minor);
        Ok(minor)
    }

    fn make(
        &mut self,
        minor: u16,
        rule: &Rule,
        filters: &[Vec<Match>; 2],
        is_new: bool,
    ) -> Result<(), Error> {
        let class = Handle::new(MAJOR, minor);
        for (is_up, device) in [(true, self.up), (false, self.down)] {
            let pick = |rates: crate::rule::Rates| if is_up { rates.up_bps } else { rates.down_bps };
            let max = wire_bytes_per_s(pick(rule.max));
            if max == 0 {
                continue;
            }
            let guaranteed = wire_bytes_per_s(pick(rule.guaranteed));
            self.set_class(device, minor, if guaranteed == 0 { max } else { guaranteed.min(max) }, max)?;
            let place = filter::Place { device, root: Handle::new(MAJOR, 0), priority: minor };
            if !is_new {
                // For a moment its packets are in the default class: nobody loses any.
                self.rtnl.ask("remove filters", |w, ack, seq| filter::remove(w, ack, seq, place))?;
            }
            for found in &filters[usize::from(!is_up)] {
                let words = filter::words(found, is_up);
                self.rtnl.ask("add a filter", |w, ack, seq| {
                    filter::add(w, ack | NLM_F_CREATE, seq, place, class, &words);
                })?;
            }
        }
        Ok(())
    }

    /// Takes a rule away; one that is not there is no error.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn lift(&mut self, session: &str, rule: &str) -> Result<(), Error> {
        let key = Key { session: session.to_owned(), rule: rule.to_owned() };
        let Some(known) = self.rules.remove(&key) else { return Ok(()) };
        self.used.remove(&known.minor);
        let mut result = Ok(());
        for device in [self.up, self.down] {
            let place = filter::Place { device, root: Handle::new(MAJOR, 0), priority: known.minor };
            let filters = self.rtnl.ask("remove filters", |w, ack, seq| filter::remove(w, ack, seq, place));
            let class = Handle::new(MAJOR, known.minor);
            let gone = self.rtnl.ask("remove a class", |w, ack, seq| {
                htb::del_class(w, ack, seq, device, class);
            });
            result = result.and(ignore_absent(filters)).and(ignore_absent(gone));
        }
        result
    }

    /// IP bytes of each rule since the last time, up and down; those that counted nothing are left out.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn counted(&mut self) -> Result<Vec<(Key, u64, u64)>, Error> {
        let up = self.classes(self.up)?;
        let down = self.classes(self.down)?;
        let mut counted = Vec::new();
        for (key, rule) in &mut self.rules {
            let up = rule.up.advance(up.get(&rule.minor));
            let down = rule.down.advance(down.get(&rule.minor));
            if up > 0 || down > 0 {
                counted.push((key.clone(), up, down));
            }
        }
        Ok(counted)
    }

    fn classes(&mut self, device: u32) -> Result<BTreeMap<u16, Count>, Error> {
        let dump = self.rtnl.ask("list classes", |w, _, seq| tc::dump_classes(w, seq, device))?;
        let objects = dump.iter().filter_map(|payload| Object::parse(payload));
        let ours = objects.filter(|object| object.handle.major() == MAJOR && object.kind == htb::KIND);
        let count = |object: Object<'_>| {
            let count = Count { bytes: object.stats.bytes, packets: object.stats.packets };
            (object.handle.minor(), count)
        };
        Ok(ours.map(count).collect())
    }
}

impl Drop for Shaper {
    fn drop(&mut self) {
        for device in [self.up, self.down] {
            self.clear(device);
        }
    }
}

impl Enforced {
    fn new(minor: u16) -> Enforced {
        Enforced { minor, up: Count::default(), down: Count::default() }
    }
}

impl Count {
    /// IP bytes up to a newer count, which is kept; a class that began anew counts from zero.
    fn advance(&mut self, newer: Option<&Count>) -> u64 {
        let Some(newer) = newer else { return 0 };
        let old = if newer.bytes < self.bytes { Count::default() } else { *self };
        *self = *newer;
        let headers = ETHERNET_BYTES * newer.packets.saturating_sub(old.packets);
        (newer.bytes - old.bytes).saturating_sub(headers)
    }
}

fn ignore_absent(result: Result<Vec<Vec<u8>>, Error>) -> Result<(), Error> {
    match result {
        Err(Error::Kernel { source, .. })
            if matches!(source.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) =>
        {
            Ok(())
        }
        other => other.map(drop),
    }
}
