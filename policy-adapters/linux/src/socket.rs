//! A netlink socket: one request is one `sendmsg`; the kernel answers before the call returns, so that
//! answers are read without waiting, and dumps until their end.

use crate::error::{Error, Result};
use crate::limits::{
    ANSWER_MS_MAX, DATAGRAM_BYTES_MAX, DUMP_TRIES_MAX, RECEIVE_BUFFER_BYTES, SEND_BUFFER_BYTES,
};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use tollway_netlink::wire::{self, Message, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR};

const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// Attributes of an error follow the code and the quoted header.
const ERROR_ATTRS_AT: usize = 20;

/// The kernel's answer to one message of a request; `code` 0 is yes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub seq: u32,
    pub code: i32,
    pub message: Option<String>,
}

impl Answer {
    /// The refusal as an error.
    pub fn refused(&self, doing: impl Into<String>) -> Error {
        Error::Kernel {
            doing: doing.into(),
            source: io::Error::from_raw_os_error(-self.code),
            message: self.message.clone(),
        }
    }
}

#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    seq: u32,
    buffer: Vec<u8>,
}

fn last(doing: &'static str) -> Error {
    Error::Socket { doing, source: io::Error::last_os_error() }
}

impl Socket {
    /// Opens and binds a socket of a netlink protocol; `groups` is a mask of multicast groups.
    ///
    /// # Errors
    /// When the kernel has no such protocol or no permission is given.
    pub fn open(protocol: i32, groups: u32, nonblocking: bool) -> Result<Socket> {
        let mut kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        if nonblocking {
            kind |= libc::SOCK_NONBLOCK;
        }
        // SAFETY: plain system call without pointers.
        let raw = unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) };
        if raw < 0 {
            return Err(last("open a netlink socket"));
        }
        // SAFETY: `raw` is a descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        // SAFETY: all-zero bytes are a valid sockaddr_nl.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = groups;
        // SAFETY: the pointer and length describe `address`, which lives through the call.
        let bound = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                std::mem::size_of::<libc::sockaddr_nl>() as libc::socklen_t,
            )
        };
        if bound < 0 {
            return Err(last("bind a netlink socket"));
        }
        let socket = Socket { fd, seq: 1, buffer: vec![0; DATAGRAM_BYTES_MAX] };
        socket.tune();
        Ok(socket)
    }

    /// Sizes and error texts: every one may be refused (no privilege, old kernel) and is then done without.
    fn tune(&self) {
        let forced = self.option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SEND_BUFFER_BYTES);
        if !forced {
            self.option(libc::SOL_SOCKET, libc::SO_SNDBUF, SEND_BUFFER_BYTES);
        }
        let forced = self.option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES);
        if !forced {
            self.option(libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER_BYTES);
        }
        self.option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1);
        self.option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1);
        let time = libc::timeval { tv_sec: ANSWER_MS_MAX / 1000, tv_usec: 0 };
        // SAFETY: the pointer and length describe `time`, which lives through the call.
        unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const time).cast(),
                std::mem::size_of::<libc::timeval>() as libc::socklen_t,
            );
        }
    }

    fn option(&self, level: i32, name: i32, value: i32) -> bool {
        // SAFETY: the pointer and length describe `value`, which lives through the call.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                (&raw const value).cast(),
                std::mem::size_of::<i32>() as libc::socklen_t,
            )
        };
        result == 0
    }

    /// Takes `count` sequence numbers; returns the first.
    pub fn sequence(&mut self, count: u32) -> u32 {
        if self.seq > u32::MAX / 2 {
            self.seq = 1;
        }
        let first = self.seq;
        self.seq += count;
        first
    }

    pub fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        // SAFETY: the pointer and length describe `bytes`, which the kernel only reads.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 {
            return Err(last("send a netlink request"));
        }
        Ok(())
    }

    /// One datagram into the buffer; `None` when there is none and `flags` say not to wait.
    fn receive(&mut self, flags: i32, doing: &'static str) -> Result<Option<usize>> {
        loop {
            // SAFETY: the pointer and length describe `buffer`, which is exclusively borrowed.
            let got = unsafe {
                libc::recv(
                    self.fd.as_raw_fd(),
                    self.buffer.as_mut_ptr().cast(),
                    self.buffer.len(),
                    flags | libc::MSG_TRUNC,
                )
            };
            if let Ok(got) = usize::try_from(got) {
                if got > self.buffer.len() {
                    // A datagram larger than ever seen: make room; the caller asks again.
                    self.buffer.resize(got.next_power_of_two(), 0);
                    return Err(Error::Overrun { doing });
                }
                return Ok(Some(got));
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN) if flags & libc::MSG_DONTWAIT != 0 => return Ok(None),
                Some(libc::ENOBUFS) => return Err(Error::Overrun { doing }),
                Some(_) | None => {
                    return Err(Error::Socket { doing: "receive from the kernel", source: error });
                }
            }
        }
    }

    /// Throws away whatever waits: answers of an earlier request that failed half-way.
    fn drain(&mut self) {
        while let Ok(Some(_)) | Err(Error::Overrun { .. }) = self.receive(libc::MSG_DONTWAIT, "draining") {}
    }

    /// Sends a request of any number of messages at once; gives every answer, and every other message that
    /// came back (echoes) to `echo`.
    ///
    /// # Errors
    /// When it cannot be sent or answers were lost; what the kernel did is then unknown.
    pub fn request(&mut self, bytes: &[u8], mut echo: impl FnMut(Message<'_>)) -> Result<Vec<Answer>> {
        self.drain();
        self.send(bytes)?;
        let mut answers = Vec::new();
        while let Some(got) = self.receive(libc::MSG_DONTWAIT, "reading answers")? {
            for message in wire::messages(&self.buffer[..got]) {
                match (message.kind, message.error_code()) {
                    (NLMSG_ERROR, Some(code)) => answers.push(answer(&message, code)),
                    _ => echo(message),
                }
            }
        }
        Ok(answers)
    }

    /// Sends a dump request and gives every message to `each`, from the start again when the dump was
    /// interrupted; `reset` is called before each start.
    ///
    /// # Errors
    /// A refusal, lost messages, or interruption again and again.
    pub fn dump<S>(
        &mut self,
        doing: &'static str,
        bytes: &[u8],
        mut reset: impl FnMut() -> S,
        mut each: impl FnMut(&mut S, Message<'_>),
    ) -> Result<S> {
        for _ in 0..DUMP_TRIES_MAX {
            self.drain();
            self.send(bytes)?;
            let mut into = reset();
            match self.dump_once(doing, &mut into, &mut each) {
                Ok(true) => return Ok(into),
                Ok(false) | Err(Error::Overrun { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Restless { doing })
    }

    /// `false`: interrupted.
    fn dump_once<S>(
        &mut self,
        doing: &'static str,
        into: &mut S,
        each: &mut impl FnMut(&mut S, Message<'_>),
    ) -> Result<bool> {
        let mut whole = true;
        loop {
            let Some(got) = self.receive(0, doing)? else { return Ok(false) };
            for message in wire::messages(&self.buffer[..got]) {
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match (message.kind, message.error_code()) {
                    (NLMSG_ERROR, Some(code)) if code != 0 => {
                        return Err(answer(&message, code).refused(doing));
                    }
                    (NLMSG_DONE, Some(code)) if code < 0 => {
                        if -code == libc::EINTR || -code == libc::EAGAIN {
                            return Ok(false);
                        }
                        return Err(answer(&message, code).refused(doing));
                    }
                    (NLMSG_DONE, _) => return Ok(whole),
                    _ => each(into, message),
                }
            }
        }
    }

    /// Reads events without waiting. `Ok(true)` when any came; an overrun counts as one.
    pub fn events(&mut self) -> Result<bool> {
        let mut any = false;
        loop {
            match self.receive(libc::MSG_DONTWAIT, "reading events") {
                Ok(Some(_)) | Err(Error::Overrun { .. }) => any = true,
                Ok(None) => return Ok(any),
                Err(error) => return Err(error),
            }
        }
    }
}

fn answer(message: &Message<'_>, code: i32) -> Answer {
    let text = (message.flags & NLM_F_ACK_TLVS != 0).then(|| {
        let quoted = if message.flags & NLM_F_CAPPED != 0 {
            ERROR_ATTRS_AT
        } else {
            let len = message.payload.get(4..8).and_then(wire::get_u32).unwrap_or(16) as usize;
            4 + ((len + 3) & !3)
        };
        let attrs = message.payload.get(quoted..).unwrap_or(&[]);
        wire::attribute(attrs, NLMSGERR_ATTR_MSG).and_then(wire::get_str).map(str::to_owned)
    });
    Answer { seq: message.seq, code, message: text.flatten() }
}
