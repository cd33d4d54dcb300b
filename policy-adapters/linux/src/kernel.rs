//! What this adapter asks of one network namespace's kernel: read ports and devices, apply operations. No
//! decisions here.

use crate::error::{Error, Result};
use crate::limits::OPS_PER_SEND_MAX;
use crate::links::{self, Link};
use crate::socket::Socket;
use crate::table::Tables;
use std::collections::BTreeMap;
use std::path::Path;
use tollway_netlink::actual::ActualPort;
use tollway_netlink::diff::Op;
use tollway_netlink::htb;
use tollway_netlink::tc::{self, Object, RTM_DELTCLASS, Stats};
use tollway_netlink::wire::Writer;

/// An operation that the kernel refused.
#[derive(Debug)]
pub struct Failure {
    pub ifindex: u32,
    pub op: Op,
    pub error: Error,
}

#[derive(Debug)]
pub struct Kernel {
    route: Socket,
    pub tables: Tables,
    boot_id: String,
    tick_ns: u32,
}

impl Kernel {
    /// Opens the sockets in the calling thread's network namespace. `own_table`: protect the table where the
    /// kernel can.
    ///
    /// # Errors
    /// When netlink is not there.
    pub fn open(own_table: bool) -> Result<Kernel> {
        Ok(Kernel {
            route: Socket::open(libc::NETLINK_ROUTE, 0, false)?,
            tables: Tables::open(own_table)?,
            boot_id: read_trimmed("/proc/sys/kernel/random/boot_id"),
            tick_ns: htb::tick_ns(&read_trimmed("/proc/net/psched")),
        })
    }

    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Nanoseconds of a psched tick.
    pub fn tick_ns(&self) -> u32 {
        self.tick_ns
    }

    /// All devices by name.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn links(&mut self) -> Result<BTreeMap<String, Link>> {
        let mut writer = Writer::new();
        links::dump(&mut writer, self.route.sequence(1));
        self.route.dump("list the devices", writer.bytes(), BTreeMap::new, |all, message| {
            all.extend(links::parse(message.payload));
        })
    }

    /// Qdiscs and classes of these devices, by index.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn ports(&mut self, ifindexes: &[u32]) -> Result<BTreeMap<u32, ActualPort>> {
        let empty = || -> BTreeMap<u32, ActualPort> {
            ifindexes.iter().map(|index| (*index, ActualPort::default())).collect()
        };
        let mut writer = Writer::new();
        tc::dump_qdiscs(&mut writer, self.route.sequence(1));
        let mut ports = self.route.dump("list the qdiscs", writer.bytes(), empty, |all, message| {
            let Some(object) = Object::parse(message.payload) else { return };
            if let Some(port) = all.get_mut(&object.ifindex) {
                port.add_qdisc(&object);
            }
        })?;
        for (ifindex, port) in ports.iter_mut().filter(|(_, port)| port.is_ours()) {
            let mut writer = Writer::new();
            tc::dump_classes(&mut writer, self.route.sequence(1), *ifindex);
            let bare = port.clone();
            let read = self.route.dump(
                "list the classes of a device",
                writer.bytes(),
                || bare.clone(),
                |port: &mut ActualPort, message| {
                    if let Some(object) = Object::parse(message.payload).filter(|o| o.ifindex == *ifindex) {
                        port.add_class(&object);
                    }
                },
            );
            match read {
                Ok(whole) => *port = whole,
                // The device went away between the two dumps.
                Err(error) if error.errno() == Some(libc::ENODEV) => *port = ActualPort::default(),
                Err(error) => return Err(error),
            }
        }
        Ok(ports)
    }

    /// Applies operations in their order; every refusal is given back.
    ///
    /// # Errors
    /// When answers were lost: what was done is unknown and must be read.
    pub fn apply(&mut self, ops: &[(u32, Op)]) -> Result<Vec<Failure>> {
        let mut failures = Vec::new();
        for chunk in ops.chunks(OPS_PER_SEND_MAX) {
            let count = u32::try_from(chunk.len()).unwrap_or(0);
            let first = self.route.sequence(count);
            let mut writer = Writer::new();
            for (seq, (ifindex, op)) in (first..).zip(chunk) {
                op.encode(&mut writer, seq, *ifindex);
            }
            let answers = self.route.request(writer.bytes(), |_| {})?;
            if answers.len() < chunk.len() {
                return Err(Error::Overrun { doing: "applying traffic control" });
            }
            for answer in answers.iter().filter(|answer| answer.code != 0) {
                let index = answer.seq.wrapping_sub(first) as usize;
                if let Some((ifindex, op)) = chunk.get(index) {
                    let error = answer.refused(describe(op));
                    failures.push(Failure { ifindex: *ifindex, op: op.clone(), error });
                }
            }
        }
        Ok(failures)
    }

    /// Deletes a class and gives its final counters, from the kernel's echo; `None` when there was no such
    /// class.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn del_class(&mut self, ifindex: u32, minor: u16) -> Result<Option<Stats>> {
        let op = Op::DelClass { minor };
        let mut writer = Writer::new();
        op.encode(&mut writer, self.route.sequence(1), ifindex);
        let mut last = None;
        let answers = self.route.request(writer.bytes(), |message| {
            if message.kind == RTM_DELTCLASS {
                last = Object::parse(message.payload).map(|object| object.stats);
            }
        })?;
        match answers.iter().find(|answer| answer.code != 0) {
            None => Ok(last),
            Some(gone) if [-libc::ENOENT, -libc::ENODEV].contains(&gone.code) => Ok(None),
            Some(refused) => Err(refused.refused(describe(&op))),
        }
    }
}

fn describe(op: &Op) -> String {
    match op {
        Op::AddRoot { .. } => "add root qdisc htb 7a11:".into(),
        Op::DelRoot => "delete root qdisc htb 7a11:".into(),
        Op::AddClass { minor, .. } => format!("add class 7a11:{minor:x}"),
        Op::ChangeClass { minor, .. } => format!("change class 7a11:{minor:x}"),
        Op::AddLeaf { minor, leaf } => format!("add qdisc {} under class 7a11:{minor:x}", leaf.kind()),
        Op::ChangeLeaf { minor, leaf, .. } => {
            format!("change qdisc {} under class 7a11:{minor:x}", leaf.kind())
        }
        Op::DelClass { minor } => format!("delete class 7a11:{minor:x}"),
    }
}

/// Milliseconds since boot, time asleep included (`CLOCK_BOOTTIME`).
pub fn boot_ms() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to `time`, which lives through the call.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}

fn read_trimmed(path: &str) -> String {
    std::fs::read_to_string(Path::new(path)).unwrap_or_default().trim().to_owned()
}
