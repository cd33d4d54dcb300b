//! The user-space line: frames from one veth through a hop to the other, both directions in one thread.
//!
//! A frame is never sent early. How late frames were sent is measured on every one of them, because a lab
//! that does not know its own lateness blames the product for the host.

use crate::clock;
use crate::error::{Error, Result};
use crate::lateness::Lateness;
use crate::line::{FlowMatch, Snapshot};
use crate::net::namespace::Namespace;
use crate::net::packet::{Frame, PacketSocket};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tollway_link::{Config, Hop};

const ETHERNET_BYTES: usize = 14;
/// Longest sleep: bounds how long a stop or a snapshot waits.
const SLEEP_NS_MAX: u64 = 10 * clock::MS;
const SNAPSHOT_EVERY_NS: u64 = 5 * clock::MS;

/// A direction of the line: up is from the router to the server.
#[derive(Clone, Copy)]
enum Direction {
    Up,
    Down,
}

struct FlowDrops {
    flow: FlowMatch,
    packets: u64,
    l3_bytes: u64,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    snapshot: Mutex<Snapshot>,
    lateness: Mutex<Lateness>,
    flows: Mutex<Vec<FlowDrops>>,
}

/// A running line.
pub struct UserLine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl UserLine {
    /// Starts forwarding between the links `near` and `far` of a namespace.
    pub fn start(ns: &Namespace, up: Config, down: Config) -> Result<UserLine> {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let (ready, opened) = std::sync::mpsc::channel();
        let thread = ns.spawn("line", move || {
            let sockets = PacketSocket::open("near").and_then(|near| Ok((near, PacketSocket::open("far")?)));
            match sockets {
                Err(error) => drop(ready.send(Err(error))),
                Ok((near, far)) => {
                    let _ = ready.send(Ok(()));
                    Forwarder::new(near, far, up, down, &theirs).run();
                }
            }
        })?;
        opened.recv().map_err(|_| Error::Thread("line".into()))??;
        Ok(UserLine { shared, thread: Some(thread) })
    }

    /// At most a few milliseconds old.
    pub fn snapshot(&self) -> Snapshot {
        lock(&self.shared.snapshot).clone()
    }

    pub fn lateness(&self) -> Lateness {
        lock(&self.shared.lateness).clone()
    }

    /// Counts this flow's drops apart from now on.
    pub fn watch(&self, flow: FlowMatch) {
        let mut flows = lock(&self.shared.flows);
        if !flows.iter().any(|known| known.flow == flow) {
            flows.push(FlowDrops { flow, packets: 0, l3_bytes: 0 });
        }
    }

    /// Packets and layer-3 bytes of a watched flow that the hop dropped.
    pub fn dropped(&self, flow: FlowMatch) -> (u64, u64) {
        lock(&self.shared.flows)
            .iter()
            .find(|known| known.flow == flow)
            .map_or((0, 0), |known| (known.packets, known.l3_bytes))
    }
}

impl Drop for UserLine {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Packet = Box<[u8]>;

struct Forwarder<'a> {
    near: PacketSocket,
    far: PacketSocket,
    up: Hop<Packet>,
    down: Hop<Packet>,
    shared: &'a Shared,
    /// Lateness since it was last published.
    fresh: Lateness,
    refused: u64,
    published_ns: u64,
}

impl<'a> Forwarder<'a> {
    fn new(near: PacketSocket, far: PacketSocket, up: Config, down: Config, shared: &'a Shared) -> Self {
        Forwarder {
            near,
            far,
            up: Hop::new(up),
            down: Hop::new(down),
            shared,
            fresh: Lateness::default(),
            refused: 0,
            published_ns: 0,
        }
    }

    fn run(&mut self) {
        clock::wake_sharply();
        prefer_this_thread();
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.wait();
            // Until both are empty: a batch may be smaller than what waits.
            while self.take_in(Direction::Up) + self.take_in(Direction::Down) > 0 {
                self.send_due();
            }
            self.send_due();
            let now = clock::now_ns();
            if now >= self.published_ns + SNAPSHOT_EVERY_NS {
                self.publish(now);
            }
        }
    }

    fn wait(&self) {
        let now = clock::now_ns();
        let next = [self.up.next(), self.down.next()].into_iter().flatten().min();
        let sleep_ns = next.map_or(SLEEP_NS_MAX, |at| at.saturating_sub(now)).min(SLEEP_NS_MAX);
        let timeout = libc::timespec { tv_sec: 0, tv_nsec: i64::try_from(sleep_ns).unwrap_or(0) };
        let mut polls = [
            libc::pollfd { fd: self.near.fd(), events: libc::POLLIN, revents: 0 },
            libc::pollfd { fd: self.far.fd(), events: libc::POLLIN, revents: 0 },
        ];
        // SAFETY: two valid pollfds, a valid timeout, no signal mask.
        unsafe { libc::ppoll(polls.as_mut_ptr(), 2, &raw const timeout, std::ptr::null()) };
    }

    fn take_in(&mut self, direction: Direction) -> usize {
        let (socket, hop) = match direction {
            Direction::Up => (&mut self.near, &mut self.up),
            Direction::Down => (&mut self.far, &mut self.down),
        };
        let shared = self.shared;
        let read = socket.receive(|frame: Frame<'_>| {
            let len = u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX);
            if let Err(dropped) = hop.push(frame.arrived_ns, len, frame.bytes.into()) {
                count_drop(shared, &dropped);
            }
        });
        read.unwrap_or(0)
    }

    fn send_due(&mut self) {
        let now = clock::now_ns();
        while let Some(arrived) = self.up.pop(now) {
            self.refused += u64::from(!self.far.send(&arrived.packet));
            self.fresh.record(arrived.due_ns, clock::now_ns());
        }
        while let Some(arrived) = self.down.pop(now) {
            self.refused += u64::from(!self.near.send(&arrived.packet));
            self.fresh.record(arrived.due_ns, clock::now_ns());
        }
    }

    fn publish(&mut self, now_ns: u64) {
        self.published_ns = now_ns;
        self.refused += u64::from(self.near.overruns()) + u64::from(self.far.overruns());
        *lock(&self.shared.snapshot) =
            Snapshot { up: self.up.counters(), down: self.down.counters(), kernel_drops: self.refused };
        lock(&self.shared.lateness).absorb(&mut self.fresh);
    }
}

fn count_drop(shared: &Shared, frame: &[u8]) {
    let Some((flow, l3_bytes)) = read_flow(frame) else { return };
    let mut flows = lock(&shared.flows);
    if let Some(known) = flows.iter_mut().find(|known| known.flow == flow) {
        known.packets += 1;
        known.l3_bytes += l3_bytes;
    }
}

/// The flow of an IPv4 TCP or UDP frame and its layer-3 length.
fn read_flow(frame: &[u8]) -> Option<(FlowMatch, u64)> {
    let ip = frame.get(ETHERNET_BYTES..)?;
    if frame.get(12..14)? != [0x08, 0x00] || ip.first()? >> 4 != 4 {
        return None;
    }
    let header = usize::from(ip[0] & 0x0f) * 4;
    let word = |at: usize| Some(u16::from_be_bytes(ip.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| {
        let octets: [u8; 4] = ip.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets))
    };
    let flow = FlowMatch {
        protocol: *ip.get(9)?,
        source: address(12)?,
        destination: address(16)?,
        destination_port: word(header + 2)?,
    };
    Some((flow, u64::from(word(2)?)))
}

/// Puts the forwarder before ordinary threads where this host allows it; without it a busy host only makes
/// the run later, which is measured.
fn prefer_this_thread() {
    let param = libc::sched_param { sched_priority: 10 };
    // SAFETY: a valid sched_param for the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_read_from_a_frame_and_short_frames_are_not() {
        let mut frame = vec![0u8; 14 + 28];
        frame[12] = 0x08;
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&1500u16.to_be_bytes());
        frame[23] = 17;
        frame[26..30].copy_from_slice(&[10, 10, 0, 2]);
        frame[30..34].copy_from_slice(&[10, 20, 0, 2]);
        frame[36..38].copy_from_slice(&5001u16.to_be_bytes());
        let want = FlowMatch {
            protocol: 17,
            source: Ipv4Addr::new(10, 10, 0, 2),
            destination: SERVER,
            destination_port: 5001,
        };
        assert_eq!(read_flow(&frame), Some((want, 1500)));
        for len in 0..38 {
            assert_eq!(read_flow(&frame[..len]), None, "{len}");
        }
    }

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 2);
}
