//! A raw packet socket on one link: whole frames in with the kernel's arrival time, whole frames out.

use crate::clock;
use crate::error::{Error, Result};
use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Frames read by one system call.
pub const BATCH: usize = 32;
/// Room for one frame: the links' MTU is 1,500.
pub const FRAME_BYTES: usize = 1_600;
const CONTROL_BYTES: usize = 64;
const SOCKET_BUFFER_BYTES: i32 = 16 << 20;
const PACKET_IGNORE_OUTGOING: i32 = 23;

/// A socket that sees everything arriving at a link and nothing that it sends itself.
pub struct PacketSocket {
    fd: OwnedFd,
    buffers: Box<[[u8; FRAME_BYTES]; BATCH]>,
    controls: Box<[[u64; CONTROL_BYTES / 8]; BATCH]>,
}

/// A frame and when the kernel received it.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    pub bytes: &'a [u8],
    pub arrived_ns: u64,
}

impl PacketSocket {
    /// Opens one in the calling thread's namespace.
    pub fn open(link: &str) -> Result<PacketSocket> {
        let fd = open_bound(link)
            .map_err(|e| Error::Host { capability: format!("packet sockets on {link}: {e}") })?;
        Ok(PacketSocket {
            fd,
            buffers: Box::new([[0; FRAME_BYTES]; BATCH]),
            controls: Box::new([[0; CONTROL_BYTES / 8]; BATCH]),
        })
    }

    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Reads what is there, at most [`BATCH`] frames, and gives how many.
    pub fn receive(&mut self, mut each: impl FnMut(Frame<'_>)) -> io::Result<usize> {
        // SAFETY: an all-zero mmsghdr and iovec are valid; the pointers are set before the call.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut vectors: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
        for index in 0..BATCH {
            vectors[index].iov_base = self.buffers[index].as_mut_ptr().cast();
            vectors[index].iov_len = FRAME_BYTES;
            headers[index].msg_hdr.msg_iov = &raw mut vectors[index];
            headers[index].msg_hdr.msg_iovlen = 1;
            headers[index].msg_hdr.msg_control = self.controls[index].as_mut_ptr().cast();
            headers[index].msg_hdr.msg_controllen = CONTROL_BYTES;
        }
        // SAFETY: every header points to buffers of this struct that outlive the call.
        let got = unsafe {
            libc::recvmmsg(
                self.fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(got) else {
            let error = io::Error::last_os_error();
            let nothing = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            return if nothing { Ok(0) } else { Err(error) };
        };
        let (now, wall) = (clock::now_ns(), clock::wall_ns());
        for (header, buffer) in headers.iter().zip(self.buffers.iter()).take(count) {
            let len = (header.msg_len as usize).min(FRAME_BYTES);
            // How long ago the kernel saw it, clamped: a step of the wall clock must not move a packet.
            let age = arrival_wall_ns(&header.msg_hdr).map_or(0, |at| wall.saturating_sub(at));
            let age = if age > clock::SECOND { 0 } else { age };
            each(Frame { bytes: &buffer[..len], arrived_ns: now - age });
        }
        Ok(count)
    }

    /// Sends one frame as it is; `false` when the kernel had no room or the link is down.
    pub fn send(&self, frame: &[u8]) -> bool {
        // SAFETY: the buffer is valid for its length; the socket is bound to its link.
        let sent = unsafe { libc::send(self.fd(), frame.as_ptr().cast(), frame.len(), libc::MSG_DONTWAIT) };
        usize::try_from(sent) == Ok(frame.len())
    }

    /// Frames that the kernel dropped because this socket was read too slowly, since the last call.
    pub fn overruns(&self) -> u32 {
        let mut stats = [0u32; 2];
        let mut len = mem::size_of_val(&stats) as libc::socklen_t;
        // SAFETY: the kernel writes struct tpacket_stats, two u32, into a buffer of that size.
        let done = unsafe {
            libc::getsockopt(
                self.fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                stats.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        if done == 0 { stats[1] } else { 0 }
    }
}

fn arrival_wall_ns(header: &libc::msghdr) -> Option<u64> {
    // SAFETY: the kernel filled the control buffer that `header` points to; CMSG_* walk it by its length,
    // and a timespec is read unaligned from the payload of a message of that type.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_SOCKET && (*message).cmsg_type == libc::SCM_TIMESTAMPNS {
                let at = libc::CMSG_DATA(message).cast::<libc::timespec>().read_unaligned();
                return Some(at.tv_sec.cast_unsigned() * clock::SECOND + at.tv_nsec.cast_unsigned());
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    None
}

fn set_option(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the value is a valid int for the length given.
    let done = unsafe {
        libc::setsockopt(fd, level, name, (&raw const value).cast(), mem::size_of::<i32>() as libc::socklen_t)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn open_bound(link: &str) -> io::Result<OwnedFd> {
    // Protocol 0: nothing is received before the socket is bound to its link.
    // SAFETY: plain socket(2); the descriptor is checked and then owned.
    let raw = unsafe {
        libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
    };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `raw` was just made by socket(2) and nobody else holds it.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    set_option(raw, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
    set_option(raw, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    // The forced size needs CAP_NET_ADMIN over this namespace; the plain one is capped by a sysctl.
    if set_option(raw, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, SOCKET_BUFFER_BYTES).is_err() {
        set_option(raw, libc::SOL_SOCKET, libc::SO_RCVBUF, SOCKET_BUFFER_BYTES)?;
    }
    if set_option(raw, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SOCKET_BUFFER_BYTES).is_err() {
        set_option(raw, libc::SOL_SOCKET, libc::SO_SNDBUF, SOCKET_BUFFER_BYTES)?;
    }
    let name = CString::new(link).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the name is NUL-terminated.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: an all-zero sockaddr_ll is valid.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index.cast_signed();
    // SAFETY: the address is a valid sockaddr_ll of the length given.
    let bound = unsafe {
        libc::bind(raw, (&raw const address).cast(), mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t)
    };
    if bound == 0 { Ok(fd) } else { Err(io::Error::last_os_error()) }
}
