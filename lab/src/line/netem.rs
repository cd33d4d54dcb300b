//! The line by the kernel: rate and buffer on one side of a middle segment, delay on the other, so that the
//! delay does not eat the buffer (netem's limit counts packets in flight as well as queued).
//!
//! ```text
//! near ─ brnear ─ mid1 ═ mid2 ─ brfar ─ far        up:   HTB+bfifo on mid1, netem on far
//!                                                   down: HTB+bfifo on mid2, netem on near
//! ```

use crate::clock;
use crate::error::{Error, Result};
use crate::lateness::Lateness;
use crate::line::Snapshot;
use crate::net::namespace::Namespace;
use crate::net::offload;
use crate::net::rtnl::Rtnl;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tollway_link::{Config, Counters};
use tollway_netlink::link::End;

/// Far above delay × packet rate of any line that the lab accepts.
const LIMIT_PACKETS: u32 = 1_000_000;
const PULSE_NS: u64 = 5 * clock::MS;

/// A line that the kernel emulates.
pub struct KernelLine {
    ns: Namespace,
    lateness: Arc<Mutex<Lateness>>,
    stop: Arc<AtomicBool>,
    pulse: Option<JoinHandle<()>>,
}

/// Whether this kernel has netem: found by trying, on the loopback of a namespace of ours.
pub fn available(ns: &Namespace) -> Result<bool> {
    ns.call(|| Ok(Rtnl::open()?.netem("lo", clock::MS, 1_000).is_ok()))?
}

impl KernelLine {
    pub fn build(ns: &Namespace, up: Config, down: Config) -> Result<KernelLine> {
        for config in [&up, &down] {
            if config.overhead_bytes != 0 {
                return Err(Error::Host {
                    capability: "an overhead per frame with the netem back-end; use --backend user".into(),
                });
            }
        }
        if !available(ns)? {
            return Err(Error::Host {
                capability: "netem (kernel module sch_netem); use --backend user".into(),
            });
        }
        ns.call(move || wire_up(&up, &down))??;
        let (lateness, stop) = (Arc::new(Mutex::new(Lateness::default())), Arc::new(AtomicBool::new(false)));
        let (log, told) = (lateness.clone(), stop.clone());
        let pulse = ns.spawn("pulse", move || keep_pulse(&log, &told))?;
        Ok(KernelLine { ns: ns.clone(), lateness, stop, pulse: Some(pulse) })
    }

    pub fn snapshot(&self) -> Snapshot {
        let text = self.ns.call(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default());
        let text = text.unwrap_or_default();
        let (near, far) = (device(&text, "near"), device(&text, "far"));
        Snapshot { up: passed(near, far), down: passed(far, near), kernel_drops: 0 }
    }

    pub fn lateness(&self) -> Lateness {
        self.lateness.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for KernelLine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(pulse) = self.pulse.take() {
            let _ = pulse.join();
        }
    }
}

fn wire_up(up: &Config, down: &Config) -> Result<()> {
    let mut rtnl = Rtnl::open()?;
    let end = |name, last| End { name, mac: [0x02, 0x70, 0, 0, 6, last], netns_fd: None };
    rtnl.veth(&end("mid1", 1), &end("mid2", 2))?;
    for link in ["mid1", "mid2"] {
        offload::off(link).map_err(Error::io(format!("switching offloads off on {link}")))?;
    }
    for (bridge, ports) in [("brnear", ["near", "mid1"]), ("brfar", ["mid2", "far"])] {
        rtnl.bridge(bridge)?;
        for port in ports {
            rtnl.set_master(port, bridge)?;
            rtnl.set_up(port, true)?;
        }
        rtnl.set_up(bridge, true)?;
    }
    for (config, queue, line) in [(up, "mid1", "far"), (down, "mid2", "near")] {
        if let Some(rate) = config.rate_bps {
            rtnl.rate(queue, rate, u32::try_from(config.buffer_bytes()).unwrap_or(u32::MAX))?;
        }
        rtnl.netem(line, config.delay_ns, LIMIT_PACKETS)?;
    }
    Ok(())
}

/// A thread that only wants to be woken on time.
fn keep_pulse(lateness: &Mutex<Lateness>, stop: &AtomicBool) {
    clock::wake_sharply();
    let mut due = clock::now_ns();
    while !stop.load(Ordering::Acquire) {
        due += PULSE_NS;
        clock::sleep_until(due);
        lateness.lock().unwrap_or_else(PoisonError::into_inner).record(due, clock::now_ns());
    }
}

/// (bytes in, packets in, bytes out, packets out) of a device in the text of `/proc/net/dev`.
fn device(text: &str, name: &str) -> [u64; 4] {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    let numbers: Vec<u64> =
        line.unwrap_or_default().split_whitespace().map(|word| word.parse().unwrap_or(0)).collect();
    let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
    [at(0), at(1), at(8), at(9)]
}

/// What came in at one end and went out at the other.
fn passed(from: [u64; 4], to: [u64; 4]) -> Counters {
    Counters {
        bytes_in: from[0],
        packets_in: from[1],
        bytes_out: to[2],
        packets_out: to[3],
        ..Counters::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_from_proc() {
        let text =
            "Inter-|   Receive\n face |bytes\n  near: 100 2 0 0 0 0 0 0 300 4 0 0 0 0 0 0\n   far: 5 6\n";
        assert_eq!(device(text, "near"), [100, 2, 300, 4]);
        assert_eq!(device(text, "far"), [5, 6, 0, 0]);
        assert_eq!(device(text, "eth0"), [0; 4]);
    }
}
