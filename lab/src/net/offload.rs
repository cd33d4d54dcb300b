//! Switches segmentation, receive coalescing and checksum offload off: with them a counter sees packets that
//! were never on a wire.

use std::ffi::c_char;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
/// From `linux/ethtool.h`: receive and send checksums, TCP segmentation, generic segmentation, generic
/// receive coalescing.
const OFF: [u32; 5] = [0x15, 0x17, 0x1f, 0x24, 0x2c];

#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

#[repr(C)]
struct IfReq {
    name: [c_char; libc::IFNAMSIZ],
    data: *mut EthtoolValue,
    /// The rest of the kernel's union, which this request does not use.
    rest: [u8; 16],
}

/// Switches all of them off on a link of the calling thread's namespace. A driver that does not know one of
/// them has nothing to switch off.
pub fn off(link: &str) -> io::Result<()> {
    // SAFETY: plain socket(2); the descriptor is checked and then owned.
    let raw = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `raw` was just made by socket(2) and nobody else holds it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    for cmd in OFF {
        let mut value = EthtoolValue { cmd, data: 0 };
        let mut request = IfReq { name: [0; libc::IFNAMSIZ], data: &raw mut value, rest: [0; 16] };
        for (slot, byte) in request.name.iter_mut().zip(link.bytes().take(libc::IFNAMSIZ - 1)) {
            *slot = byte.cast_signed();
        }
        // SAFETY: `request` has the layout of struct ifreq and `value` that of struct ethtool_value; both
        // live through the call.
        let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if done != 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EOPNOTSUPP) {
                return Err(error);
            }
        }
    }
    Ok(())
}
