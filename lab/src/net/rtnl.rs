//! One rtnetlink socket: sends a request, gives the answers back or the kernel's errno.

use crate::error::{Error, Result};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use tollway_netlink::htb::{self, Params};
use tollway_netlink::leaf::{self, Leaf};
use tollway_netlink::link::{self, Class, End, Link, Mac};
use tollway_netlink::tc::Handle;
use tollway_netlink::wire::{self, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLMSG_DONE, NLMSG_ERROR, Writer};

/// Burst of a rate beyond 1 ms at it: one frame.
const RATE_BURST_BYTES: u64 = 1_600;
const RECEIVE_BYTES: usize = 64 * 1024;

fn built(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    write(&mut writer);
    writer.into_bytes()
}

/// A socket that stays in the namespace in which it was opened.
pub struct Rtnl {
    fd: OwnedFd,
    seq: u32,
}

impl Rtnl {
    pub fn open() -> Result<Rtnl> {
        // SAFETY: plain socket(2); the descriptor is checked and then owned.
        let raw = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE)
        };
        if raw < 0 {
            return Err(Error::Netlink {
                doing: "open a netlink socket".into(),
                source: io::Error::last_os_error(),
            });
        }
        // SAFETY: `raw` was just made by socket(2) and nobody else holds it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Rtnl { fd, seq: 0 })
    }

    /// Sends what `build` makes for the next sequence number and collects the payloads until the end.
    fn ask(&mut self, doing: &str, build: impl FnOnce(u32) -> Vec<u8>) -> Result<Vec<Vec<u8>>> {
        self.seq += 1;
        let request = build(self.seq);
        self.exchange(&request).map_err(|source| Error::Netlink { doing: doing.into(), source })
    }

    fn exchange(&self, request: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let fd = self.fd.as_raw_fd();
        // SAFETY: the buffer is valid for its length; an unbound netlink socket sends to the kernel.
        let sent = unsafe { libc::send(fd, request.as_ptr().cast(), request.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut answers = Vec::new();
        let mut buffer = vec![0u8; RECEIVE_BYTES];
        loop {
            // SAFETY: the buffer is valid and writable for its length.
            let got = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let Ok(len) = usize::try_from(got) else {
                return Err(io::Error::last_os_error());
            };
            for message in wire::messages(&buffer[..len]) {
                if message.seq != self.seq {
                    continue;
                }
                match message.kind {
                    NLMSG_ERROR => match message.error_code() {
                        Some(0) => return Ok(answers),
                        code => return Err(io::Error::from_raw_os_error(-code.unwrap_or(-libc::EIO))),
                    },
                    NLMSG_DONE => return Ok(answers),
                    _ => answers.push(message.payload.to_vec()),
                }
                let multipart = message.flags & 0x2 != 0;
                if !multipart {
                    return Ok(answers);
                }
            }
        }
    }

    pub fn veth(&mut self, near: &End<'_>, far: &End<'_>) -> Result<()> {
        let doing = format!("make the veth pair {} and {}", near.name, far.name);
        self.ask(&doing, |seq| link::new_veth(seq, near, far)).map(drop)
    }

    pub fn bridge(&mut self, name: &str) -> Result<()> {
        self.ask(&format!("make the bridge {name}"), |seq| link::new_bridge(seq, name)).map(drop)
    }

    pub fn link(&mut self, name: &str) -> Result<Link> {
        let answers = self.ask(&format!("show the link {name}"), |seq| link::get_link(seq, name))?;
        answers.first().and_then(|payload| link::read_link(payload)).ok_or_else(|| Error::Netlink {
            doing: format!("show the link {name}"),
            source: io::Error::from_raw_os_error(libc::ENODEV),
        })
    }

    pub fn set_up(&mut self, name: &str, up: bool) -> Result<()> {
        let index = self.link(name)?.index;
        let word = if up { "up" } else { "down" };
        self.ask(&format!("take {name} {word}"), |seq| link::set_up(seq, index, up)).map(drop)
    }

    pub fn set_master(&mut self, name: &str, master: &str) -> Result<()> {
        let (index, master) = (self.link(name)?.index, self.link(master)?.index);
        self.ask(&format!("put {name} on the bridge"), |seq| link::set_master(seq, index, master)).map(drop)
    }

    pub fn rename(&mut self, name: &str, new: &str) -> Result<()> {
        let index = self.link(name)?.index;
        self.ask(&format!("rename {name} to {new}"), |seq| link::rename(seq, index, new)).map(drop)
    }

    pub fn address(&mut self, name: &str, address: Ipv4Addr, prefix: u8) -> Result<()> {
        let index = self.link(name)?.index;
        let doing = format!("give {name} the address {address}/{prefix}");
        self.ask(&doing, |seq| link::add_address(seq, index, address, prefix)).map(drop)
    }

    pub fn default_route(&mut self, gateway: Ipv4Addr) -> Result<()> {
        let doing = format!("set the default route by {gateway}");
        self.ask(&doing, |seq| link::add_route(seq, Ipv4Addr::UNSPECIFIED, 0, gateway)).map(drop)
    }

    /// A neighbour that needs no ARP: under a flood ARP itself would be lost.
    pub fn neighbour(&mut self, name: &str, address: Ipv4Addr, mac: Mac) -> Result<()> {
        let index = self.link(name)?.index;
        let doing = format!("set the neighbour {address}");
        self.ask(&doing, |seq| link::set_neighbour(seq, index, address, mac)).map(drop)
    }

    /// A fixed delay on everything that a link sends.
    pub fn netem(&mut self, name: &str, delay_ns: u64, limit_packets: u32) -> Result<()> {
        let index = self.link(name)?.index;
        let doing = format!("put netem on {name}");
        self.ask(&doing, |seq| link::new_netem(seq, index, delay_ns, limit_packets)).map(drop)
    }

    /// A rate with a droptail buffer in bytes on everything that a link sends.
    pub fn rate(&mut self, name: &str, rate_bps: u64, buffer_bytes: u32) -> Result<()> {
        let index = self.link(name)?.index.cast_unsigned();
        let (root, class) = (Handle::new(1, 0), Handle::new(1, 1));
        let bytes_per_s = rate_bps / 8;
        let tick_ns = htb::tick_ns(&std::fs::read_to_string("/proc/net/psched").unwrap_or_default());
        let burst = htb::ticks(RATE_BURST_BYTES + bytes_per_s / 1_000, bytes_per_s, tick_ns);
        let params = Params {
            rate: bytes_per_s,
            ceil: bytes_per_s,
            buffer: burst,
            cbuffer: burst,
            quantum: 3_000,
            prio: 0,
        };
        let leaf = Leaf::Bfifo { limit_bytes: buffer_bytes };
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let doing = format!("put a rate on {name}");
        self.ask(&doing, |seq| built(|w| htb::new_root(w, flags, seq, index, root, class.minor())))?;
        self.ask(&doing, |seq| {
            built(|w| htb::new_class(w, NLM_F_ACK | NLM_F_CREATE, seq, index, class, root, &params))
        })?;
        let handle = Handle::new(2, 0);
        self.ask(&doing, |seq| built(|w| leaf::new_leaf(w, flags, seq, index, handle, class, &leaf)))
            .map(drop)
    }

    /// The traffic classes of a link.
    pub fn classes(&mut self, name: &str) -> Result<Vec<Class>> {
        let index = self.link(name)?.index;
        let answers =
            self.ask(&format!("list the classes of {name}"), |seq| link::dump_classes(seq, index))?;
        Ok(answers.iter().filter_map(|payload| link::read_class(payload)).collect())
    }
}
