//! One rtnetlink socket: a request goes out, its answers or the kernel's errno come back.

use super::Error;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use tollway_netlink::wire::{self, NLM_F_ACK, NLMSG_DONE, NLMSG_ERROR, Writer};

const RECEIVE_BYTES: usize = 64 * 1024;
/// A part of a dump (netlink(7)).
const NLM_F_MULTI: u16 = 0x2;

pub struct Rtnl {
    fd: OwnedFd,
    seq: u32,
}

impl Rtnl {
    pub fn open() -> Result<Rtnl, Error> {
        // SAFETY: plain socket(2); the descriptor is checked and then owned.
        let raw = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE)
        };
        if raw < 0 {
            let source = io::Error::last_os_error();
            return Err(Error::Kernel { doing: "open a netlink socket".into(), source });
        }
        // SAFETY: `raw` was just made by socket(2) and nobody else holds it.
        Ok(Rtnl { fd: unsafe { OwnedFd::from_raw_fd(raw) }, seq: 0 })
    }

    /// Sends what `write` makes with these flags and number, and collects the payloads until the end.
    pub fn ask(
        &mut self,
        doing: &str,
        write: impl FnOnce(&mut Writer, u16, u32),
    ) -> Result<Vec<Vec<u8>>, Error> {
        self.seq += 1;
        let mut writer = Writer::new();
        write(&mut writer, NLM_F_ACK, self.seq);
        self.exchange(writer.bytes()).map_err(|source| Error::Kernel { doing: doing.to_owned(), source })
    }

    /// The same with a message that is made already.
    pub fn send(&mut self, doing: &str, make: impl FnOnce(u32) -> Vec<u8>) -> Result<Vec<Vec<u8>>, Error> {
        self.seq += 1;
        let request = make(self.seq);
        self.exchange(&request).map_err(|source| Error::Kernel { doing: doing.to_owned(), source })
    }

    fn exchange(&self, request: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let fd = self.fd.as_raw_fd();
        // SAFETY: the buffer is valid for its length; an unbound netlink socket sends to the kernel.
        if unsafe { libc::send(fd, request.as_ptr().cast(), request.len(), 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut answers = Vec::new();
        let mut buffer = vec![0u8; RECEIVE_BYTES];
        loop {
            // SAFETY: the buffer is valid and writable for its length.
            let got = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let len = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
            for message in wire::messages(&buffer[..len]).filter(|message| message.seq == self.seq) {
                match message.kind {
                    NLMSG_ERROR => match message.error_code() {
                        Some(0) => return Ok(answers),
                        code => return Err(io::Error::from_raw_os_error(-code.unwrap_or(-libc::EIO))),
                    },
                    NLMSG_DONE => return Ok(answers),
                    _ => answers.push(message.payload.to_vec()),
                }
                if message.flags & NLM_F_MULTI == 0 {
                    return Ok(answers);
                }
            }
        }
    }
}
