//! A constant-rate UDP stream: a flood, or a flow that fills its promise.

use crate::clock;
use crate::error::{Error, Result};
use crate::net::topology::Host;
use crate::traffic::series::{Received, Series};
use crate::traffic::{Rng, socket, transfer};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// IPv4 and UDP headers.
const HEADER_BYTES: u64 = 28;
const RECEIVE_BUFFER_BYTES: i32 = 8 << 20;
const LOOK: Duration = Duration::from_millis(50);
/// After the sender stops, the receiver still takes what is on the way for so long.
const DRAIN: Duration = Duration::from_millis(400);

/// What to send.
#[derive(Clone)]
pub struct Order {
    pub name: String,
    pub from: Host,
    pub to: Host,
    pub port: u16,
    /// Layer-3 bits per second.
    pub rate_bps: u64,
    /// Layer-3 bytes of each packet.
    pub packet_bytes: u64,
    pub dscp: u8,
    pub seed: u64,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    drained: AtomicBool,
    sent: AtomicU64,
}

/// A running UDP stream; its series counts layer-3 bytes.
pub struct Udp {
    series: Series,
    shared: Arc<Shared>,
    sender: Option<JoinHandle<()>>,
    receiver: Option<JoinHandle<()>>,
}

/// What was sent and what arrived.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub sent_packets: u64,
    pub received: Received,
}

impl Outcome {
    /// Share of the packets that did not arrive.
    pub fn loss(&self) -> f64 {
        if self.sent_packets == 0 {
            return 0.0;
        }
        self.sent_packets.saturating_sub(self.received.packets) as f64 / self.sent_packets as f64
    }
}

impl Udp {
    /// Binds the receiver, then starts sending.
    pub fn start(order: Order) -> Result<Udp> {
        let (series, shared) = (Series::default(), Arc::new(Shared::default()));
        let address = SocketAddr::from((order.to.address, order.port));
        let bound = order
            .to
            .ns
            .call(move || UdpSocket::bind(address))?
            .map_err(Error::io(format!("binding {address}")))?;
        socket::receive_buffer(&bound, RECEIVE_BUFFER_BYTES);
        let (state, seen) = (shared.clone(), series.clone());
        let receiver =
            order.to.ns.spawn(&format!("{}-rx", order.name), move || receive(&bound, &seen, &state))?;
        let local = SocketAddr::from((order.from.address, 0));
        let out = order
            .from
            .ns
            .call(move || UdpSocket::bind(local).and_then(|s| s.connect(address).map(|()| s)))?
            .map_err(Error::io(format!("binding {local}")))?;
        socket::set_dscp(&out, order.dscp).map_err(Error::io("setting the DSCP"))?;
        let (state, plan) = (shared.clone(), order.clone());
        let sender = order.from.ns.spawn(&format!("{}-tx", order.name), move || send(&out, &plan, &state))?;
        Ok(Udp { series, shared, sender: Some(sender), receiver: Some(receiver) })
    }

    pub fn received(&self) -> Received {
        self.series.read()
    }

    pub fn sent_packets(&self) -> u64 {
        self.shared.sent.load(Ordering::Acquire)
    }

    /// Stops sending, takes in what is on the way, and joins.
    pub fn stop(mut self) -> Outcome {
        self.halt(DRAIN);
        Outcome { sent_packets: self.sent_packets(), received: self.series.read() }
    }

    fn halt(&mut self, drain: Duration) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
            std::thread::sleep(drain);
        }
        self.shared.drained.store(true, Ordering::Release);
        if let Some(receiver) = self.receiver.take() {
            let _ = receiver.join();
        }
    }
}

impl Drop for Udp {
    fn drop(&mut self) {
        self.halt(Duration::ZERO);
    }
}

fn receive(socket: &UdpSocket, series: &Series, shared: &Shared) {
    let _ = socket.set_read_timeout(Some(LOOK));
    let mut buffer = [0u8; 2048];
    while !shared.drained.load(Ordering::Acquire) {
        match socket.recv(&mut buffer) {
            Ok(len) => series.record(clock::now_ns(), len as u64 + HEADER_BYTES),
            Err(error) if transfer::is_timeout(&error) => {}
            Err(_) => return,
        }
    }
}

/// Sends at the mean rate with gaps between half and one and a half times the mean: a strictly periodic
/// sender would beat with the queue and always, or never, find it full.
fn send(socket: &UdpSocket, order: &Order, shared: &Shared) {
    clock::wake_sharply();
    let payload = vec![0x33u8; usize::try_from(order.packet_bytes.saturating_sub(HEADER_BYTES)).unwrap_or(0)];
    let mut rng = Rng::new(order.seed);
    let mean_ns = order.packet_bytes * 8 * clock::SECOND / order.rate_bps.max(1);
    let start = clock::now_ns();
    let mut sent = 0u64;
    while !shared.stop.load(Ordering::Acquire) {
        // From the start, not from the last packet: the mean does not drift.
        let base = start + sent * mean_ns;
        let at = base + rng.below(mean_ns + 1);
        // Sleeping for less than a wake-up costs is not worth it: fast streams go out in small bursts.
        if at > clock::now_ns() + 200_000 {
            clock::sleep_until(at);
        }
        // An unreachable host (a port that is down) is loss, and loss is what is measured.
        let _ = socket.send(&payload);
        sent += 1;
        shared.sent.store(sent, Ordering::Release);
    }
}
