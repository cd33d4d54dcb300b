//! The emulated line between the router and the server, by one of two back-ends.

pub mod netem;
pub mod user;

use crate::error::Result;
use crate::lateness::Lateness;
use crate::net::namespace::Namespace;
use netem::KernelLine;
use std::net::Ipv4Addr;
use tollway_link::{Config, Counters};
use user::UserLine;

/// A flow whose drops are counted apart, as the receiver would see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowMatch {
    pub protocol: u8,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub destination_port: u16,
}

/// What the line did so far.
#[derive(Clone, Default)]
pub struct Snapshot {
    pub up: Counters,
    pub down: Counters,
    /// Frames that the kernel refused to take from us or dropped before we read them.
    pub kernel_drops: u64,
}

/// A running line.
pub enum Line {
    User(UserLine),
    Kernel(KernelLine),
}

impl Line {
    /// By the lab's own hop.
    pub fn user(ns: &Namespace, up: Config, down: Config) -> Result<Line> {
        UserLine::start(ns, up, down).map(Line::User)
    }

    /// By the kernel's netem.
    pub fn kernel(ns: &Namespace, up: Config, down: Config) -> Result<Line> {
        KernelLine::build(ns, up, down).map(Line::Kernel)
    }

    pub fn backend(&self) -> &'static str {
        match self {
            Line::User(_) => "user",
            Line::Kernel(_) => "netem",
        }
    }

    /// At most a few milliseconds old.
    pub fn snapshot(&self) -> Snapshot {
        match self {
            Line::User(line) => line.snapshot(),
            Line::Kernel(line) => line.snapshot(),
        }
    }

    /// How late frames were sent; with netem, how late a thread of ours was woken, which tells a busy host
    /// as well.
    pub fn lateness(&self) -> Lateness {
        match self {
            Line::User(line) => line.lateness(),
            Line::Kernel(line) => line.lateness(),
        }
    }

    /// Counts this flow's drops apart from now on, where the back-end can.
    pub fn watch(&self, flow: FlowMatch) {
        match self {
            Line::User(line) => line.watch(flow),
            Line::Kernel(_) => {}
        }
    }

    /// Packets and layer-3 bytes of a watched flow that the line dropped; `None` where the back-end does not
    /// tell flows apart.
    pub fn dropped(&self, flow: FlowMatch) -> Option<(u64, u64)> {
        match self {
            Line::User(line) => Some(line.dropped(flow)),
            Line::Kernel(_) => None,
        }
    }
}
