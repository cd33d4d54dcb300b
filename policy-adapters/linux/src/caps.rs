//! What this kernel has, found by trying it in a network namespace that is thrown away.

use crate::error::Result;
use crate::links;
use crate::socket::Socket;
use crate::table::{Protection, Tables};
use tollway_netlink::leaf::{Leaf, LeafKind, new_leaf};
use tollway_netlink::tc::{self, Handle};
use tollway_netlink::wire::{NLM_F_ACK, Writer};

/// What was found; [`Capabilities::strings`] is what is reported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// Leaf of a reservation class.
    pub leaf: LeafKind,
    /// Leaves that the kernel has.
    pub leaves: Vec<LeafKind>,
    pub htb: bool,
    pub table: Option<Protection>,
    /// Why nothing could be tried.
    pub untried: Option<String>,
}

impl Capabilities {
    /// Tries everything in a thread of its own in a new network namespace. Where that is not permitted the
    /// leaf is tried in use.
    pub fn probe() -> Capabilities {
        let tried = std::thread::Builder::new().name("probe".into()).spawn(in_scratch_namespace);
        let outcome = match tried.map(std::thread::JoinHandle::join) {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err("the probe failed".into()),
            Err(error) => Err(error.to_string()),
        };
        outcome.unwrap_or_else(|reason| Capabilities {
            // Tried under the first class; a kernel without it is noticed there.
            leaf: LeafKind::FqCodel,
            leaves: Vec::new(),
            htb: true,
            table: None,
            untried: Some(reason),
        })
    }

    /// As they travel in `Hello`: `leaf=bfifo`, `table=owner,persist` and others.
    pub fn strings(&self) -> Vec<String> {
        let mut all =
            vec!["reports=full".to_owned(), "shaper=htb".to_owned(), "classifier=nft-map".to_owned()];
        if self.untried.is_none() {
            all.push(format!("leaf={}", self.leaf.as_str()));
        }
        if let Some(table) = self.table {
            all.push(format!("table={}", table.as_str()));
        }
        if let Some(reason) = &self.untried {
            all.push(format!("probe=none ({reason})"));
        }
        all
    }
}

fn in_scratch_namespace() -> std::result::Result<Capabilities, String> {
    // SAFETY: plain system call without pointers; it moves this thread only, which ends after the probe.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(format!("no scratch namespace: {}", std::io::Error::last_os_error()));
    }
    probe_here().map_err(|error| error.to_string())
}

fn probe_here() -> Result<Capabilities> {
    let mut route = Socket::open(libc::NETLINK_ROUTE, 0, false)?;
    let mut writer = Writer::new();
    links::dump(&mut writer, route.sequence(1));
    let lo = route.dump("list the devices", writer.bytes(), Vec::new, |all: &mut Vec<u32>, message| {
        all.extend(
            links::parse(message.payload).filter(|(name, _)| name == "lo").map(|(_, link)| link.ifindex),
        );
    })?;
    let ifindex = lo.first().copied().unwrap_or(1);
    let mut has = |kind: &Leaf| -> Result<bool> {
        let mut writer = Writer::new();
        let flags = NLM_F_ACK | tc::create_flags();
        let handle = Handle::new(1, 0);
        new_leaf(&mut writer, flags, route.sequence(1), ifindex, handle, Handle::ROOT, kind);
        let made = route.request(writer.bytes(), |_| {})?.iter().all(|answer| answer.code == 0);
        if made {
            let mut writer = Writer::new();
            tc::del_qdisc(&mut writer, NLM_F_ACK, route.sequence(1), ifindex, handle, Handle::ROOT);
            route.request(writer.bytes(), |_| {})?;
        }
        Ok(made)
    };
    let mut leaves = Vec::new();
    for (kind, leaf) in [
        (LeafKind::FqCodel, Leaf::FqCodel),
        (LeafKind::Bfifo, Leaf::Bfifo { limit_bytes: 15_000 }),
        (LeafKind::Cake, Leaf::Cake),
    ] {
        if has(&leaf)? {
            leaves.push(kind);
        }
    }
    let leaf = if leaves.contains(&LeafKind::FqCodel) { LeafKind::FqCodel } else { LeafKind::Bfifo };
    let mut writer = Writer::new();
    let flags = NLM_F_ACK | tc::create_flags();
    tollway_netlink::htb::new_root(&mut writer, flags, route.sequence(1), ifindex, Handle::new(1, 0), 0xffff);
    let htb = route.request(writer.bytes(), |_| {})?.iter().all(|answer| answer.code == 0);
    let mut tables = Tables::open(true)?;
    let table = tables.ensure().ok().map(|_| tables.protection());
    Ok(Capabilities { leaf, leaves, htb, table, untried: None })
}
