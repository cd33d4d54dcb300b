//! The lab's own world: a user namespace where it is not root already, and a network and mount namespace.

use crate::error::{Error, Result};
use std::fs;
use std::io;

/// Whether this process is root in its user namespace.
fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions.
    unsafe { libc::geteuid() == 0 }
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(1, |dir| dir.count())
}

/// Makes this process root of its own namespaces. A user namespace can only be entered before the first
/// thread exists; as root it is not needed and only network and mounts are separated.
///
/// Errors with [`Error::Host`], naming what the host forbids.
pub fn enter_user_namespace() -> Result<()> {
    if !is_root() {
        let (uid, gid) = ids();
        if threads() > 1 {
            return Err(Error::Host {
                capability: "the lab must be started before any thread (a user namespace cannot be entered \
                             later)"
                    .into(),
            });
        }
        unshare(libc::CLONE_NEWUSER, "unprivileged user namespaces")?;
        write("/proc/self/setgroups", "deny")?;
        write("/proc/self/uid_map", &format!("0 {uid} 1"))?;
        write("/proc/self/gid_map", &format!("0 {gid} 1"))?;
    }
    unshare(libc::CLONE_NEWNS, "mount namespaces")?;
    make_mounts_private()?;
    unshare(libc::CLONE_NEWNET, "network namespaces")
}

fn ids() -> (u32, u32) {
    // SAFETY: geteuid and getegid have no preconditions.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

fn unshare(flags: i32, what: &str) -> Result<()> {
    // SAFETY: unshare takes flags only and changes the calling thread's namespaces.
    if unsafe { libc::unshare(flags) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(Error::Host { capability: format!("{what}: {error}{}", way_out()) })
}

fn make_mounts_private() -> Result<()> {
    let root = c"/";
    // SAFETY: the target is a NUL-terminated string; source, type and data may be null for a propagation
    // change.
    let done = unsafe {
        libc::mount(
            std::ptr::null(),
            root.as_ptr(),
            std::ptr::null(),
            libc::MS_REC | libc::MS_PRIVATE,
            std::ptr::null(),
        )
    };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EINVAL) {
        let capability = "a root folder that is a mount point (a plain chroot is none: `mount --bind` it onto \
                          itself before entering it)";
        return Err(Error::Host { capability: capability.into() });
    }
    Err(Error::Io { doing: "making the mounts private".into(), source: error })
}

fn write(path: &str, text: &str) -> Result<()> {
    fs::write(path, text)
        .map_err(|e| Error::Host { capability: format!("writing {path} ({e}){}", way_out()) })
}

/// The line that mends the usual refusals.
fn way_out() -> String {
    let set = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    if set("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        return "; AppArmor forbids it here: run as root, or `sysctl \
                kernel.apparmor_restrict_unprivileged_userns=0`"
            .into();
    }
    if set("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        return "; run as root, or `sysctl kernel.unprivileged_userns_clone=1`".into();
    }
    if set("/proc/sys/user/max_user_namespaces").as_deref() == Some("0") {
        return "; run as root, or `sysctl user.max_user_namespaces=1000`".into();
    }
    "; run as root".into()
}
