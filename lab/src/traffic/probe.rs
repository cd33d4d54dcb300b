//! The round-trip probe: small UDP packets echoed by the server, one clock at both ends.

use crate::clock;
use crate::error::{Error, Result};
use crate::net::topology::Host;
use crate::traffic::{Rng, transfer};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const PROBE_BYTES: usize = 72;
const LOOK: Duration = Duration::from_millis(20);
/// An echo that takes longer counts as lost.
pub const LOST_AFTER_NS: u64 = 2 * clock::SECOND;
const READY_WITHIN_NS: u64 = 10 * clock::SECOND;

/// One probe: when it was sent, and how long it took to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub sent_ns: u64,
    pub rtt_ns: Option<u64>,
}

/// What a window of samples says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    pub count: usize,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// Share that never came back.
    pub loss: f64,
}

/// Answers every probe; stops when dropped.
pub struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub fn start(at: &Host, port: u16) -> Result<Echo> {
        let address = SocketAddr::from((at.address, port));
        let socket = at
            .ns
            .call(move || UdpSocket::bind(address))?
            .map_err(Error::io(format!("binding the echo on {address}")))?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = at.ns.spawn("echo", move || {
            let _ = socket.set_read_timeout(Some(LOOK));
            let mut buffer = [0u8; 256];
            while !told.load(Ordering::Acquire) {
                if let Ok((len, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..len], from);
                }
            }
        })?;
        Ok(Echo { stop, thread: Some(thread) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A probe from one host, for as long as it lives.
pub struct Probe {
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Probe {
    /// Starts `per_second` probes a second after a first echo came back.
    pub fn start(from: &Host, to: &Host, port: u16, per_second: u64, seed: u64) -> Result<Probe> {
        let (local, remote) = (SocketAddr::from((from.address, 0)), SocketAddr::from((to.address, port)));
        let socket = from
            .ns
            .call(move || UdpSocket::bind(local).and_then(|s| s.connect(remote).map(|()| s)))?
            .map_err(Error::io(format!("binding a probe on {local}")))?;
        socket.set_read_timeout(Some(LOOK)).map_err(Error::io("setting the probe's timeout"))?;
        handshake(&socket, from)?;
        let socket = Arc::new(socket);
        let samples = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (out, log, told) = (socket.clone(), samples.clone(), stop.clone());
        let sender = from.ns.spawn("probe-tx", move || send(&out, &log, &told, per_second, seed))?;
        let (log, told) = (samples.clone(), stop.clone());
        let receiver = from.ns.spawn("probe-rx", move || receive(&socket, &log, &told))?;
        Ok(Probe { samples, stop, threads: vec![sender, receiver] })
    }

    /// Samples sent in a window.
    pub fn samples(&self, from_ns: u64, until_ns: u64) -> Vec<Sample> {
        lock(&self.samples).iter().filter(|s| from_ns <= s.sent_ns && s.sent_ns < until_ns).copied().collect()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Median, p99 and loss; a probe younger than [`LOST_AFTER_NS`] at `now_ns` is left out of the loss.
pub fn summarise(samples: &[Sample], now_ns: u64) -> Summary {
    let judged: Vec<&Sample> =
        samples.iter().filter(|s| s.rtt_ns.is_some() || s.sent_ns + LOST_AFTER_NS <= now_ns).collect();
    let mut times: Vec<u64> = judged.iter().filter_map(|s| s.rtt_ns).collect();
    times.sort_unstable();
    let quantile = |share: f64| {
        let rank = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len().max(1)) - 1;
        times.get(rank).map(|ns| *ns as f64 / 1e6)
    };
    let lost = judged.len() - times.len();
    Summary {
        count: judged.len(),
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
        loss: if judged.is_empty() { 0.0 } else { lost as f64 / judged.len() as f64 },
    }
}

fn lock(samples: &Mutex<Vec<Sample>>) -> std::sync::MutexGuard<'_, Vec<Sample>> {
    samples.lock().unwrap_or_else(PoisonError::into_inner)
}

fn handshake(socket: &UdpSocket, from: &Host) -> Result<()> {
    let until = clock::now_ns() + READY_WITHIN_NS;
    let hello = [0xffu8; PROBE_BYTES];
    let mut buffer = [0u8; 256];
    while clock::now_ns() < until {
        let _ = socket.send(&hello);
        match socket.recv(&mut buffer) {
            Ok(_) => return Ok(()),
            Err(error) if transfer::is_timeout(&error) => {}
            // ICMP says that the echo is not there yet.
            Err(_) => std::thread::sleep(LOOK),
        }
    }
    Err(Error::Thread(format!("no echo reached {} within 10 s", from.ns.name())))
}

fn send(socket: &UdpSocket, samples: &Mutex<Vec<Sample>>, stop: &AtomicBool, per_second: u64, seed: u64) {
    clock::wake_sharply();
    let mut rng = Rng::new(seed);
    let period = clock::SECOND / per_second.max(1);
    let start = clock::now_ns();
    let mut packet = [0u8; PROBE_BYTES];
    for index in 0u64.. {
        if stop.load(Ordering::Acquire) {
            return;
        }
        clock::sleep_until(start + index * period + rng.below(period / 2));
        let sent_ns = clock::now_ns();
        packet[..8].copy_from_slice(&index.to_be_bytes());
        lock(samples).push(Sample { sent_ns, rtt_ns: None });
        let _ = socket.send(&packet);
    }
}

fn receive(socket: &UdpSocket, samples: &Mutex<Vec<Sample>>, stop: &AtomicBool) {
    let mut buffer = [0u8; 256];
    while !stop.load(Ordering::Acquire) {
        let Ok(len) = socket.recv(&mut buffer) else { continue };
        let now = clock::now_ns();
        let Some(index) = buffer[..len].first_chunk::<8>().map(|b| u64::from_be_bytes(*b)) else { continue };
        let mut all = lock(samples);
        // A late greeting carries no index that was ever sent.
        if let Some(sample) = usize::try_from(index).ok().and_then(|i| all.get_mut(i)) {
            let took = now.saturating_sub(sample.sent_ns);
            if took < LOST_AFTER_NS {
                sample.rtt_ns.get_or_insert(took);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_only_what_had_time_to_return() {
        let ms = clock::MS;
        let mut samples: Vec<Sample> =
            (0..100).map(|n| Sample { sent_ns: n * ms, rtt_ns: Some((n + 1) * ms) }).collect();
        samples.push(Sample { sent_ns: 0, rtt_ns: None });
        samples.push(Sample { sent_ns: 5_000 * ms, rtt_ns: None });
        let got = summarise(&samples, 5_001 * ms);
        assert_eq!((got.count, got.p50_ms, got.p99_ms), (101, Some(50.0), Some(99.0)));
        assert!((got.loss - 1.0 / 101.0).abs() < 1e-12);
        assert_eq!(summarise(&[], 0), Summary::default());
    }
}
