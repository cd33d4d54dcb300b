//! nf_tables: batch framing, the elements of our maps (the hot path, encoded here), and what dumps of the
//! table say. Tables, chains, rules and maps themselves are built with libnftnl, in `tollway-linux`.

use crate::wire::{NLM_F_CREATE, NLM_F_DUMP, Writer, attribute, attributes, get_be32, get_str, get_u32};
use std::net::IpAddr;
use tollway_model::{Direction, Flow, Timestamp};

pub const TABLE: &str = "tollway";
pub const CHAIN: &str = "forward";
/// `NFPROTO_INET`.
pub const FAMILY_INET: u8 = 1;

const SUBSYS_NFTABLES: u16 = 10;
const MSG_BATCH_BEGIN: u16 = 16;
const MSG_BATCH_END: u16 = 17;
pub const NFT_MSG_GETTABLE: u16 = 1;
pub const NFT_MSG_GETCHAIN: u16 = 4;
pub const NFT_MSG_DELCHAIN: u16 = 5;
pub const NFT_MSG_GETRULE: u16 = 7;
pub const NFT_MSG_DELRULE: u16 = 8;
pub const NFT_MSG_GETSET: u16 = 10;
pub const NFT_MSG_DELSET: u16 = 11;
pub const NFT_MSG_NEWSETELEM: u16 = 12;
pub const NFT_MSG_GETSETELEM: u16 = 13;
pub const NFT_MSG_DELSETELEM: u16 = 14;
pub const NFT_MSG_DELTABLE: u16 = 2;

pub const TABLE_F_OWNER: u32 = 2;
pub const TABLE_F_PERSIST: u32 = 4;
/// `NFT_SET_MAP | NFT_SET_TIMEOUT`.
pub const SET_FLAGS: u32 = 8 | 16;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_TABLE_OWNER: u16 = 7;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_ELEM_LIST_TABLE: u16 = 1;
const NFTA_ELEM_LIST_SET: u16 = 2;
const NFTA_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_ELEM_KEY: u16 = 1;
const NFTA_ELEM_DATA: u16 = 2;
const NFTA_ELEM_TIMEOUT: u16 = 4;
const NFTA_ELEM_EXPIRATION: u16 = 5;
const NFTA_DATA_VALUE: u16 = 1;

/// The kernel reads a nested list of at most 64 KiB; a list is cut well before.
const ELEMENT_LIST_BYTES_MAX: usize = 48 * 1024;

/// Ends of elements closer than this are the same.
const UNTIL_TOLERANCE_MS: u64 = 3_000;

const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_PROTO: u32 = 12;
const TYPE_PORT: u32 = 13;
/// nft's datatype of `skb->priority` as a class id.
pub const TYPE_CLASSID: u32 = 23;

/// The maps of our table, most specific first: exact 5-tuples, then flows of a device to one remote port,
/// upwards and downwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Map {
    F4,
    F6,
    Su4,
    Sd4,
    Su6,
    Sd6,
}

/// Which ports of a packet a map's key holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ports {
    Both,
    Source,
    Destination,
}

impl Map {
    pub const ALL: [Map; 6] = [Map::F4, Map::F6, Map::Su4, Map::Sd4, Map::Su6, Map::Sd6];

    pub const fn name(self) -> &'static str {
        match self {
            Map::F4 => "f4",
            Map::F6 => "f6",
            Map::Su4 => "su4",
            Map::Sd4 => "sd4",
            Map::Su6 => "su6",
            Map::Sd6 => "sd6",
        }
    }

    pub fn by_name(name: &str) -> Option<Map> {
        Map::ALL.into_iter().find(|map| map.name() == name)
    }

    pub const fn is_v6(self) -> bool {
        match self {
            Map::F4 | Map::Su4 | Map::Sd4 => false,
            Map::F6 | Map::Su6 | Map::Sd6 => true,
        }
    }

    /// Up packets carry the remote port as destination, down packets as source.
    pub const fn ports(self) -> Ports {
        match self {
            Map::F4 | Map::F6 => Ports::Both,
            Map::Su4 | Map::Su6 => Ports::Destination,
            Map::Sd4 | Map::Sd6 => Ports::Source,
        }
    }

    /// Bytes of a key; each field is padded to four.
    pub const fn key_len(self) -> u32 {
        let address = if self.is_v6() { 16 } else { 4 };
        let ports = match self.ports() {
            Ports::Both => 8,
            Ports::Source | Ports::Destination => 4,
        };
        2 * address + 4 + ports
    }

    /// nft's number for the concatenation, so that `nft list` prints it well.
    pub fn key_type(self) -> u32 {
        let address = if self.is_v6() { TYPE_IPV6 } else { TYPE_IPV4 };
        let three = ((address << 6 | address) << 6 | TYPE_PROTO) << 6 | TYPE_PORT;
        match self.ports() {
            Ports::Both => three << 6 | TYPE_PORT,
            Ports::Source | Ports::Destination => three,
        }
    }
}

/// One element: packets with this key get this class id as priority.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    pub map: Map,
    pub bytes: Vec<u8>,
}

impl Key {
    /// The element that catches one direction of a flow. `None` when its ends are of two families.
    pub fn of(flow: &Flow, direction: Direction) -> Option<Key> {
        let (from, to) = match direction {
            Direction::Up => (flow.device, flow.remote),
            Direction::Down => (flow.remote, flow.device),
        };
        let mut bytes = Vec::with_capacity(44);
        let v6 = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                bytes.extend_from_slice(&from.octets());
                bytes.extend_from_slice(&to.octets());
                false
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                bytes.extend_from_slice(&from.octets());
                bytes.extend_from_slice(&to.octets());
                true
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
        };
        bytes.extend_from_slice(&[flow.protocol.number(), 0, 0, 0]);
        let mut port = |port: u16| {
            bytes.extend_from_slice(&port.to_be_bytes());
            bytes.extend_from_slice(&[0, 0]);
        };
        let map = match (flow.device_port, direction) {
            (Some(device), Direction::Up) => {
                port(device);
                port(flow.remote_port);
                if v6 { Map::F6 } else { Map::F4 }
            }
            (Some(device), Direction::Down) => {
                port(flow.remote_port);
                port(device);
                if v6 { Map::F6 } else { Map::F4 }
            }
            (None, Direction::Up) => {
                port(flow.remote_port);
                if v6 { Map::Su6 } else { Map::Su4 }
            }
            (None, Direction::Down) => {
                port(flow.remote_port);
                if v6 { Map::Sd6 } else { Map::Sd4 }
            }
        };
        Some(Key { map, bytes })
    }
}

/// What an element gives its packets. `until` is when the kernel takes it away by itself, with no agent
/// there; `None`: never.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    pub class: u32,
    pub until: Option<Timestamp>,
}

impl Target {
    /// The kernel counts in ticks and the clocks drift: a small difference of the end is none.
    pub fn is_like(&self, other: &Target) -> bool {
        let ends = match (self.until, other.until) {
            (None, None) => true,
            (Some(a), Some(b)) => a.ms().abs_diff(b.ms()) <= UNTIL_TOLERANCE_MS,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.class == other.class && ends
    }
}

fn nfgen(writer: &mut Writer, message: u16, flags: u16, seq: u32, family: u8) {
    writer.begin(SUBSYS_NFTABLES << 8 | message, flags, seq);
    writer.fixed(&[family, 0, 0, 0]);
}

fn framing(writer: &mut Writer, message: u16, seq: u32) {
    writer.begin(message, 0, seq);
    let [high, low] = SUBSYS_NFTABLES.to_be_bytes();
    writer.fixed(&[0, 0, high, low]);
    writer.end();
}

/// Opens a transaction.
pub fn batch_begin(writer: &mut Writer, seq: u32) {
    framing(writer, MSG_BATCH_BEGIN, seq);
}

/// Commits it.
pub fn batch_end(writer: &mut Writer, seq: u32) {
    framing(writer, MSG_BATCH_END, seq);
}

/// Puts elements of one map in, in as many messages as the 64 KiB lists need; returns the next free sequence
/// number. Ends become times from `now`.
pub fn add_elements<'a>(
    writer: &mut Writer,
    seq: u32,
    map: Map,
    now: Timestamp,
    items: impl Iterator<Item = &'a (Key, Target)>,
) -> u32 {
    lists(writer, seq, (NFT_MSG_NEWSETELEM, NLM_F_CREATE), map, items, |writer, (key, target)| {
        key_value(writer, key);
        let nested = writer.open(NFTA_ELEM_DATA);
        writer.attr_u32(NFTA_DATA_VALUE, target.class);
        writer.close(nested);
        if let Some(until) = target.until {
            writer.attr_be64(NFTA_ELEM_TIMEOUT, until.ms_since(now).max(1));
        }
    })
}

/// Takes elements of one map out.
pub fn del_elements<'a>(writer: &mut Writer, seq: u32, map: Map, keys: impl Iterator<Item = &'a Key>) -> u32 {
    lists(writer, seq, (NFT_MSG_DELSETELEM, 0), map, keys, key_value)
}

fn key_value(writer: &mut Writer, key: &Key) {
    let nested = writer.open(NFTA_ELEM_KEY);
    writer.attr(NFTA_DATA_VALUE, &key.bytes);
    writer.close(nested);
}

fn lists<T>(
    writer: &mut Writer,
    mut seq: u32,
    (message, flags): (u16, u16),
    map: Map,
    items: impl Iterator<Item = T>,
    each: impl Fn(&mut Writer, T),
) -> u32 {
    let mut items = items.peekable();
    while items.peek().is_some() {
        nfgen(writer, message, flags, seq, FAMILY_INET);
        writer.attr_str(NFTA_ELEM_LIST_TABLE, TABLE);
        writer.attr_str(NFTA_ELEM_LIST_SET, map.name());
        let list = writer.open(NFTA_ELEM_LIST_ELEMENTS);
        while writer.open_len(&list) <= ELEMENT_LIST_BYTES_MAX
            && let Some(item) = items.next()
        {
            let element = writer.open(NFTA_LIST_ELEM);
            each(writer, item);
            writer.close(element);
        }
        writer.close(list);
        writer.end();
        seq += 1;
    }
    seq
}

/// Asks for all tables of the `inet` family.
pub fn dump_tables(writer: &mut Writer, seq: u32) {
    nfgen(writer, NFT_MSG_GETTABLE, NLM_F_DUMP, seq, FAMILY_INET);
    writer.end();
}

/// Asks for all chains of the `inet` family.
pub fn dump_chains(writer: &mut Writer, seq: u32) {
    nfgen(writer, NFT_MSG_GETCHAIN, NLM_F_DUMP, seq, FAMILY_INET);
    writer.end();
}

/// Asks for the rules of our table.
pub fn dump_rules(writer: &mut Writer, seq: u32) {
    nfgen(writer, NFT_MSG_GETRULE, NLM_F_DUMP, seq, FAMILY_INET);
    writer.attr_str(NFTA_RULE_TABLE, TABLE);
    writer.end();
}

/// Asks for the sets and maps of our table.
pub fn dump_sets(writer: &mut Writer, seq: u32) {
    nfgen(writer, NFT_MSG_GETSET, NLM_F_DUMP, seq, FAMILY_INET);
    writer.attr_str(NFTA_SET_TABLE, TABLE);
    writer.end();
}

/// Asks for the elements of one map.
pub fn dump_elements(writer: &mut Writer, seq: u32, map: Map) {
    nfgen(writer, NFT_MSG_GETSETELEM, NLM_F_DUMP, seq, FAMILY_INET);
    writer.attr_str(NFTA_ELEM_LIST_TABLE, TABLE);
    writer.attr_str(NFTA_ELEM_LIST_SET, map.name());
    writer.end();
}

/// Deletes our table with all that is in it.
pub fn del_table(writer: &mut Writer, seq: u32) {
    nfgen(writer, NFT_MSG_DELTABLE, 0, seq, FAMILY_INET);
    writer.attr_str(NFTA_TABLE_NAME, TABLE);
    writer.end();
}

/// Deletes every rule of a chain of our table.
pub fn flush_chain(writer: &mut Writer, seq: u32, chain: &str) {
    nfgen(writer, NFT_MSG_DELRULE, 0, seq, FAMILY_INET);
    writer.attr_str(NFTA_RULE_TABLE, TABLE);
    writer.attr_str(NFTA_RULE_CHAIN, chain);
    writer.end();
}

/// Deletes a chain of our table.
pub fn del_chain(writer: &mut Writer, seq: u32, chain: &str) {
    nfgen(writer, NFT_MSG_DELCHAIN, 0, seq, FAMILY_INET);
    writer.attr_str(NFTA_CHAIN_TABLE, TABLE);
    writer.attr_str(NFTA_CHAIN_NAME, chain);
    writer.end();
}

/// Deletes a set or map of our table.
pub fn del_set(writer: &mut Writer, seq: u32, set: &str) {
    nfgen(writer, NFT_MSG_DELSET, 0, seq, FAMILY_INET);
    writer.attr_str(NFTA_SET_TABLE, TABLE);
    writer.attr_str(NFTA_SET_NAME, set);
    writer.end();
}

const NFGEN_LEN: usize = 4;

/// A dumped table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableInfo {
    pub name: String,
    pub flags: u32,
    /// Netlink port of the owner, when it has one.
    pub owner: Option<u32>,
}

pub fn parse_table(payload: &[u8]) -> Option<TableInfo> {
    let attrs = payload.get(NFGEN_LEN..)?;
    Some(TableInfo {
        name: attribute(attrs, NFTA_TABLE_NAME).and_then(get_str)?.to_owned(),
        flags: attribute(attrs, NFTA_TABLE_FLAGS).and_then(get_be32).unwrap_or(0),
        owner: attribute(attrs, NFTA_TABLE_OWNER).and_then(get_be32),
    })
}

/// A dumped chain; `hook` is (number, priority, policy) of a base chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainInfo {
    pub table: String,
    pub name: String,
    pub hook: Option<(u32, i32, u32)>,
}

pub fn parse_chain(payload: &[u8]) -> Option<ChainInfo> {
    let attrs = payload.get(NFGEN_LEN..)?;
    let hook = attribute(attrs, NFTA_CHAIN_HOOK).and_then(|hook| {
        let number = attribute(hook, NFTA_HOOK_HOOKNUM).and_then(get_be32)?;
        let priority = attribute(hook, NFTA_HOOK_PRIORITY).and_then(get_be32)?;
        let policy = attribute(attrs, NFTA_CHAIN_POLICY).and_then(get_be32).unwrap_or(1);
        Some((number, priority.cast_signed(), policy))
    });
    Some(ChainInfo {
        table: attribute(attrs, NFTA_CHAIN_TABLE).and_then(get_str)?.to_owned(),
        name: attribute(attrs, NFTA_CHAIN_NAME).and_then(get_str)?.to_owned(),
        hook,
    })
}

/// A dumped rule: where it is and its expressions, as bytes to compare.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleInfo {
    pub table: String,
    pub chain: String,
    pub expressions: Vec<u8>,
}

pub fn parse_rule(payload: &[u8]) -> Option<RuleInfo> {
    let attrs = payload.get(NFGEN_LEN..)?;
    Some(RuleInfo {
        table: attribute(attrs, NFTA_RULE_TABLE).and_then(get_str)?.to_owned(),
        chain: attribute(attrs, NFTA_RULE_CHAIN).and_then(get_str)?.to_owned(),
        expressions: attribute(attrs, NFTA_RULE_EXPRESSIONS).unwrap_or(&[]).to_vec(),
    })
}

/// A dumped set or map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetInfo {
    pub table: String,
    pub name: String,
    pub flags: u32,
    pub key_len: u32,
    pub data_len: u32,
}

impl SetInfo {
    /// Whether this is the map we would have made.
    pub fn is(&self, map: Map) -> bool {
        self.name == map.name()
            && self.flags == SET_FLAGS
            && self.key_len == map.key_len()
            && self.data_len == 4
    }
}

pub fn parse_set(payload: &[u8]) -> Option<SetInfo> {
    let attrs = payload.get(NFGEN_LEN..)?;
    let number = |kind| attribute(attrs, kind).and_then(get_be32).unwrap_or(0);
    Some(SetInfo {
        table: attribute(attrs, NFTA_SET_TABLE).and_then(get_str)?.to_owned(),
        name: attribute(attrs, NFTA_SET_NAME).and_then(get_str)?.to_owned(),
        flags: number(NFTA_SET_FLAGS),
        key_len: number(NFTA_SET_KEY_LEN),
        data_len: number(NFTA_SET_DATA_LEN),
    })
}

/// Reads the elements of one message of an element dump into `out`; elements of other tables or maps are
/// passed over. What is left of their time becomes an end.
pub fn parse_elements(payload: &[u8], now: Timestamp, out: &mut Vec<(Key, Target)>) -> Option<()> {
    let attrs = payload.get(NFGEN_LEN..)?;
    if attribute(attrs, NFTA_ELEM_LIST_TABLE).and_then(get_str)? != TABLE {
        return Some(());
    }
    let map = Map::by_name(attribute(attrs, NFTA_ELEM_LIST_SET).and_then(get_str)?)?;
    for (_, element) in attributes(attribute(attrs, NFTA_ELEM_LIST_ELEMENTS).unwrap_or(&[])) {
        let value = |kind| attribute(element, kind).and_then(|v| attribute(v, NFTA_DATA_VALUE));
        let (Some(key), Some(class)) = (value(NFTA_ELEM_KEY), value(NFTA_ELEM_DATA).and_then(get_u32)) else {
            continue;
        };
        // A request carries the whole time, a dump also what is left of it.
        let left = attribute(element, NFTA_ELEM_EXPIRATION).or(attribute(element, NFTA_ELEM_TIMEOUT));
        let left: Option<[u8; 8]> = left.and_then(|bytes| bytes.try_into().ok());
        let until = left.map(|bytes| now.plus_ms(u64::from_be_bytes(bytes)));
        out.push((Key { map, bytes: key.to_vec() }, Target { class, until }));
    }
    Some(())
}

#[cfg(test)]
#[path = "nft_tests.rs"]
mod tests;
