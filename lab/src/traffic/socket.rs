//! The few socket options that the standard library does not set.

use std::io;
use std::mem;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsRawFd;

fn set<T>(fd: i32, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: `value` is a plain C struct or int, valid for its own size.
    let done = unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            std::ptr::from_ref(value).cast(),
            mem::size_of::<T>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closing then drops what is unsent instead of draining it into the next measurement.
pub fn close_hard(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let _ = set(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, &linger);
}

/// How the connection reacts to loss; needs CAP_NET_ADMIN over the namespace, which the lab has.
pub fn set_congestion(stream: &TcpStream, name: &str) -> io::Result<()> {
    // SAFETY: the name is valid for its length; the kernel copies it.
    let done = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_ptr().cast(),
            name.len() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The DSCP of what the socket sends.
pub fn set_dscp(socket: &UdpSocket, dscp: u8) -> io::Result<()> {
    set(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_TOS, &(i32::from(dscp) << 2))
}

/// A receive buffer that a descheduled reader does not overflow.
pub fn receive_buffer(socket: &UdpSocket, bytes: i32) {
    let fd = socket.as_raw_fd();
    if set(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &bytes).is_err() {
        let _ = set(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &bytes);
    }
}

/// Payload bytes of a full segment of this connection (options already taken off).
pub fn mss(stream: &TcpStream) -> Option<u32> {
    let mut value: i32 = 0;
    let mut len = mem::size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel writes one int into a buffer of that size.
    let done = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_MAXSEG,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    if done == 0 { u32::try_from(value).ok() } else { None }
}
