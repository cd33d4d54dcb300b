//! `table inet tollway` as a whole: made, adopted, repaired, read, edited and removed. Only this table is ever
//! written to; what is unknown inside it is removed.

use crate::error::{Error, Result};
use crate::limits;
use crate::socket::Socket;
use crate::structure::{Messages, PRIORITY_MANGLE};
use std::collections::BTreeMap;
use tollway_model::Timestamp;
use tollway_netlink::diff::ElementDiff;
use tollway_netlink::nft::{self, CHAIN, Key, Map, RuleInfo, SetInfo, TABLE, Target};
use tollway_netlink::wire::{self, NLM_F_ACK, Writer};

const HOOK_FORWARD: u32 = 2;
const POLICY_ACCEPT: u32 = 1;

/// How the table is protected from other tools.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protection {
    /// Owner and persist (kernel 6.9 and later): nobody else can touch it and it survives us.
    OwnerPersist,
    /// A plain table: others can flush it; events tell.
    Plain,
}

impl Protection {
    pub const fn as_str(self) -> &'static str {
        match self {
            Protection::OwnerPersist => "owner,persist",
            Protection::Plain => "plain",
        }
    }

    const fn flags(self) -> u32 {
        match self {
            Protection::OwnerPersist => nft::TABLE_F_OWNER | nft::TABLE_F_PERSIST,
            Protection::Plain => 0,
        }
    }
}

/// What is in the kernel under our table's name.
#[derive(Default, Debug)]
struct Found {
    table: Option<nft::TableInfo>,
    chains: Vec<nft::ChainInfo>,
    sets: Vec<SetInfo>,
    rules: Vec<RuleInfo>,
}

#[derive(Debug)]
pub struct Tables {
    socket: Socket,
    protection: Protection,
    /// Rules as the kernel gave them back after we had made them; to be compared with.
    rules: Option<Vec<RuleInfo>>,
}

impl Tables {
    /// `owner`: try to own the table; where the kernel cannot, it becomes a plain one.
    ///
    /// # Errors
    /// When there is no nfnetlink.
    pub fn open(owner: bool) -> Result<Tables> {
        let socket = Socket::open(libc::NETLINK_NETFILTER, 0, false)?;
        let protection = if owner { Protection::OwnerPersist } else { Protection::Plain };
        Ok(Tables { socket, protection, rules: None })
    }

    pub fn protection(&self) -> Protection {
        self.protection
    }

    fn dump<T>(
        &mut self,
        doing: &'static str,
        request: fn(&mut Writer, u32),
        parse: fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut writer = Writer::new();
        request(&mut writer, self.socket.sequence(1));
        let read = self.socket.dump(doing, writer.bytes(), Vec::new, |all: &mut Vec<T>, message| {
            all.extend(parse(message.payload));
        });
        match read {
            // Our table is not there.
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
            other => other,
        }
    }

    fn find(&mut self) -> Result<Found> {
        let table = self.dump("list the nft tables", nft::dump_tables, nft::parse_table)?;
        let Some(table) = table.into_iter().find(|t| t.name == TABLE) else { return Ok(Found::default()) };
        let mut chains = self.dump("list the nft chains", nft::dump_chains, nft::parse_chain)?;
        chains.retain(|chain| chain.table == TABLE);
        let mut sets = self.dump("list the nft sets", nft::dump_sets, nft::parse_set)?;
        sets.retain(|set| set.table == TABLE);
        let mut rules = self.dump("list the nft rules", nft::dump_rules, nft::parse_rule)?;
        rules.retain(|rule| rule.table == TABLE);
        Ok(Found { table: Some(table), chains, sets, rules })
    }

    /// Whether the table exists at all.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn exists(&mut self) -> Result<bool> {
        Ok(self.find()?.table.is_some())
    }

    /// Whether the table is free to be ours; asked before this process has made it.
    ///
    /// # Errors
    /// When it cannot be read, or another process owns it.
    pub fn unowned(&mut self) -> Result<()> {
        match self.find()?.table.and_then(|table| table.owner) {
            Some(port) => Err(Error::TableOwned { port }),
            None => Ok(()),
        }
    }

    /// Makes the structure what it must be, in one transaction; elements of right maps stay. True when
    /// anything had to be done.
    ///
    /// # Errors
    /// When the kernel refuses, or another process owns the table.
    pub fn ensure(&mut self) -> Result<bool> {
        let found = self.find()?;
        if self.is_right(&found) {
            return Ok(false);
        }
        match self.rebuild(&found) {
            Err(error) if self.may_fall_back(&found, &error) => {
                self.protection = Protection::Plain;
                self.rebuild(&found)?;
            }
            other => other?,
        }
        let after = self.find()?;
        self.rules = Some(after.rules);
        Ok(true)
    }

    /// Owner or persist are not known, or the table is an older plain one.
    fn may_fall_back(&self, found: &Found, error: &Error) -> bool {
        let owned = found.table.as_ref().and_then(|t| t.owner);
        self.protection == Protection::OwnerPersist
            && owned.is_none()
            && matches!(error.errno(), Some(libc::EOPNOTSUPP | libc::EINVAL))
    }

    fn is_right(&self, found: &Found) -> bool {
        let Some(table) = &found.table else { return false };
        let owned = match self.protection {
            Protection::OwnerPersist => table.flags & nft::TABLE_F_OWNER != 0,
            Protection::Plain => true,
        };
        let chain_right = found.chains.iter().all(is_our_chain) && found.chains.len() == 1;
        let maps_right = found.sets.len() == Map::ALL.len()
            && Map::ALL.into_iter().all(|map| found.sets.iter().any(|set| set.is(map)));
        owned && chain_right && maps_right && self.rules.as_ref() == Some(&found.rules)
    }

    fn rebuild(&mut self, found: &Found) -> Result<()> {
        // Generous: one number per message of the largest transaction this can make.
        let count = 64 + u32::try_from(found.chains.len() * 2 + found.sets.len()).unwrap_or(0);
        let mut seq = self.socket.sequence(count);
        let mut next = || {
            seq += 1;
            seq - 1
        };
        let mut writer = Writer::new();
        nft::batch_begin(&mut writer, next());
        let mut made = Messages::default();
        made.table(next(), self.protection.flags());
        let mut rest = Writer::new();
        for chain in &found.chains {
            nft::flush_chain(&mut rest, next(), &chain.name);
        }
        for chain in found.chains.iter().filter(|chain| !is_our_chain(chain)) {
            nft::del_chain(&mut rest, next(), &chain.name);
        }
        let right = |set: &SetInfo| Map::by_name(&set.name).is_some_and(|map| set.is(map));
        for set in found.sets.iter().filter(|set| !right(set)) {
            nft::del_set(&mut rest, next(), &set.name);
        }
        let mut tail = Messages::default();
        for map in Map::ALL.into_iter().filter(|map| !found.sets.iter().any(|set| set.is(*map))) {
            tail.map(next(), map);
        }
        tail.chain(next());
        let first = next();
        let _after = tail.rules(first);
        let mut bytes = writer.into_bytes();
        bytes.extend_from_slice(&made.into_bytes());
        bytes.extend_from_slice(rest.bytes());
        bytes.extend_from_slice(&tail.into_bytes());
        self.commit(bytes, "make table inet tollway")
    }

    /// Closes and sends a transaction in one `sendmsg`. The acknowledgement is asked on the last real message:
    /// kernels before 6.10 acknowledge no end of batch.
    fn commit(&mut self, mut bytes: Vec<u8>, doing: &str) -> Result<()> {
        let Some((at, last)) = last_message(&bytes) else { return Ok(()) };
        let flags = u16::from_ne_bytes([bytes[at + 6], bytes[at + 7]]) | NLM_F_ACK;
        bytes[at + 6..at + 8].copy_from_slice(&flags.to_ne_bytes());
        let mut end = Writer::new();
        nft::batch_end(&mut end, self.socket.sequence(1));
        bytes.extend_from_slice(end.bytes());
        let answers = self.socket.request(&bytes, |_| {})?;
        if let Some(refused) = answers.iter().find(|answer| answer.code != 0) {
            if refused.code == -libc::EPERM
                && let Some(port) = self.find()?.table.and_then(|table| table.owner)
            {
                return Err(Error::TableOwned { port });
            }
            return Err(refused.refused(doing));
        }
        if answers.iter().any(|answer| answer.seq == last) {
            return Ok(());
        }
        Err(Error::Overrun { doing: "waiting for a transaction's acknowledgement" })
    }

    /// Every element of our maps. While the hash table of a map grows, a dump leaves out elements and says nothing of it:
    /// the kernel goes on at a count of elements, which lie in another order then. So it is asked again as long as one of
    /// the `known` elements is missing.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn elements(
        &mut self,
        known: &BTreeMap<Key, Target>,
        now: Timestamp,
    ) -> Result<BTreeMap<Key, Target>> {
        let mut all = BTreeMap::new();
        for _ in 0..limits::MAP_DUMPS_MAX {
            for map in Map::ALL {
                all.extend(self.dump_map(map, now)?);
            }
            if known.keys().all(|key| all.contains_key(key)) {
                break;
            }
        }
        Ok(all)
    }

    fn dump_map(&mut self, map: Map, now: Timestamp) -> Result<Vec<(Key, Target)>> {
        let mut writer = Writer::new();
        nft::dump_elements(&mut writer, self.socket.sequence(1), map);
        let read = self.socket.dump(
            "list the elements of a map",
            writer.bytes(),
            Vec::new,
            |out: &mut Vec<(Key, Target)>, message| {
                let _foreign = nft::parse_elements(message.payload, now, out);
            },
        );
        match read {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
            other => other,
        }
    }

    /// Applies a difference in one transaction: all of it or nothing.
    ///
    /// # Errors
    /// When the kernel refuses; nothing has changed then.
    pub fn edit(&mut self, diff: &ElementDiff, now: Timestamp) -> Result<()> {
        if diff.is_empty() {
            return Ok(());
        }
        let count = u32::try_from(diff.add.len() + diff.delete.len()).unwrap_or(u32::MAX / 4) + 2;
        let first = self.socket.sequence(count);
        let mut writer = Writer::new();
        nft::batch_begin(&mut writer, first);
        diff.encode(&mut writer, first + 1, now);
        self.commit(writer.into_bytes(), "edit the maps of table inet tollway")
    }

    /// Removes the table and all that is in it.
    ///
    /// # Errors
    /// When the kernel refuses, or another process owns it.
    pub fn remove(&mut self) -> Result<()> {
        if self.find()?.table.is_none() {
            return Ok(());
        }
        let first = self.socket.sequence(2);
        let mut writer = Writer::new();
        nft::batch_begin(&mut writer, first);
        nft::del_table(&mut writer, first + 1);
        self.rules = None;
        self.commit(writer.into_bytes(), "delete table inet tollway")
    }
}

fn is_our_chain(chain: &nft::ChainInfo) -> bool {
    chain.name == CHAIN && chain.hook == Some((HOOK_FORWARD, PRIORITY_MANGLE, POLICY_ACCEPT))
}

/// Offset and sequence number of the last message.
fn last_message(bytes: &[u8]) -> Option<(usize, u32)> {
    let mut at = 0;
    let mut last = None;
    for message in wire::messages(bytes) {
        last = Some((at, message.seq));
        at += (wire::HEADER_LEN + message.payload.len()).next_multiple_of(4);
    }
    last
}
