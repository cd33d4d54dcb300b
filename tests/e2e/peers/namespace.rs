//! A test in a network of its own: the test process starts itself again for one test in new namespaces, so that no
//! thread exists before. All traffic stays there, and all of it is gone with the process.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

const INSIDE: &str = "TOLLWAY_TEST_NAMESPACE";

/// Runs `body` with loopback up and these addresses on it; `name` is the test's full name.
pub fn in_namespace(name: &str, addresses: &[&str], body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        sh("ip link set lo up");
        for address in addresses {
            sh(&format!("ip address add {address} dev lo"));
        }
        body();
        return;
    }
    let mut child = Command::new(std::env::current_exe().expect("the test's own path"));
    child.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    // SAFETY: both calls have no preconditions.
    let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
    // SAFETY: between fork and exec only system calls and writes to /proc; no other thread runs there.
    unsafe { child.pre_exec(move || enter(uid, gid)) };
    match child.status() {
        Ok(status) => assert!(status.success(), "{name} failed inside its namespace: {status}"),
        Err(error) => println!("skipped: this host gives no namespaces: {error}"),
    }
}

fn enter(uid: libc::uid_t, gid: libc::gid_t) -> io::Result<()> {
    // SAFETY: plain system calls without pointers.
    unsafe {
        if libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::CLONE_NEWNS) == 0 {
            std::fs::write("/proc/self/setgroups", "deny")?;
            std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
            return std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"));
        }
        if libc::unshare(libc::CLONE_NEWNET) == 0 {
            return Ok(());
        }
    }
    Err(io::Error::last_os_error())
}

/// Runs a tool; gives its output.
pub fn sh(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
