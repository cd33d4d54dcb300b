//! Event sockets. An event only says *look again*: what is there is always read from a full dump, so that a
//! lost event (ENOBUFS) is one event more and nothing worse.

use crate::error::Result;
use crate::socket::Socket;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

const RTMGRP_LINK: u32 = 1 << 0;
const RTMGRP_TC: u32 = 1 << 3;
/// `1 << (NFNLGRP_NFTABLES - 1)`.
const NFTABLES: u32 = 1 << 6;

/// What a monitor listens to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    /// Devices, qdiscs and classes.
    Route,
    /// Tables, chains, rules, sets and their elements.
    Nftables,
}

#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
}

impl Monitor {
    /// # Errors
    /// When the socket cannot be opened.
    pub fn open(topic: Topic) -> Result<Monitor> {
        let socket = match topic {
            Topic::Route => Socket::open(libc::NETLINK_ROUTE, RTMGRP_LINK | RTMGRP_TC, true)?,
            Topic::Nftables => Socket::open(libc::NETLINK_NETFILTER, NFTABLES, true)?,
        };
        Ok(Monitor { socket })
    }

    /// Joins the running tokio runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn watch(self) -> io::Result<Watched> {
        // SAFETY: the socket owns its descriptor and lives inside the registration, which nobody takes apart.
        let inner = unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?;
        Ok(Watched { inner })
    }

    /// Reads all that waits; true when there was anything.
    ///
    /// # Errors
    /// When the socket is broken.
    pub fn drain(&mut self) -> Result<bool> {
        self.socket.events()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// A monitor that a tokio runtime watches.
pub struct Watched {
    inner: AsyncFd<Monitor>,
}

impl Watched {
    /// Ends when something changed. May be dropped and called again without losing a change.
    ///
    /// # Errors
    /// When the socket is broken.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.inner.readable_mut().await?;
            let any = ready.get_inner_mut().drain().map_err(io::Error::other)?;
            ready.clear_ready();
            if any {
                return Ok(());
            }
        }
    }
}
