//! Greedy TCP streams: the competitors.

use crate::clock;
use crate::error::{Error, Result};
use crate::net::topology::Host;
use crate::traffic::series::{Received, Series};
use crate::traffic::{socket, transfer};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const CHUNK_BYTES: usize = 32 * 1024;
const LOOK: Duration = Duration::from_millis(50);
const READY_WITHIN_NS: u64 = 20 * clock::SECOND;

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    connected: AtomicUsize,
}

/// Streams that send as much as they may until stopped.
pub struct Streams {
    series: Series,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    count: usize,
}

impl Streams {
    /// Starts them; they are ready when [`Streams::wait_ready`] says so.
    pub fn start(
        name: &str,
        from: &Host,
        to: &Host,
        port: u16,
        count: usize,
        congestion: &'static str,
    ) -> Result<Streams> {
        let (series, shared) = (Series::default(), Arc::new(Shared::default()));
        let address = SocketAddr::from((to.address, port));
        let listener = to
            .ns
            .call(move || TcpListener::bind(address))?
            .map_err(Error::io(format!("listening on {address}")))?;
        let listener = Arc::new(listener);
        let mut threads = Vec::new();
        for index in 0..count {
            let (door, seen, state) = (listener.clone(), series.clone(), shared.clone());
            threads.push(to.ns.spawn(&format!("{name}-rx{index}"), move || receive(&door, &seen, &state))?);
            let state = shared.clone();
            threads.push(from.ns.spawn(&format!("{name}-tx{index}"), move || {
                // One that is cut off is one competitor less, never an error of the lab.
                let _ = send(address, congestion, &state);
            })?);
        }
        Ok(Streams { series, shared, threads, count })
    }

    /// Waits until all are connected; `false` when some could not within 20 s.
    pub fn wait_ready(&self) -> bool {
        let until = clock::now_ns() + READY_WITHIN_NS;
        while self.shared.connected.load(Ordering::Acquire) < self.count {
            if clock::now_ns() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    pub fn received(&self) -> Received {
        self.series.read()
    }

    /// Cuts them off and joins their threads.
    pub fn stop(mut self) -> Received {
        self.halt();
        self.series.read()
    }

    fn halt(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.halt();
    }
}

fn receive(listener: &TcpListener, series: &Series, shared: &Shared) {
    let Some(mut stream) = transfer::accept(listener, &shared.stop) else { return };
    let _ = stream.set_read_timeout(Some(LOOK));
    let mut buffer = vec![0u8; CHUNK_BYTES];
    while !shared.stop.load(Ordering::Acquire) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => series.record(clock::now_ns(), count as u64),
            Err(error) if transfer::is_timeout(&error) => {}
            Err(_) => return,
        }
    }
    socket::close_hard(&stream);
}

fn send(address: SocketAddr, congestion: &str, shared: &Shared) -> io::Result<()> {
    let mut stream: TcpStream = transfer::connect(address, congestion)?;
    shared.connected.fetch_add(1, Ordering::AcqRel);
    stream.set_write_timeout(Some(LOOK))?;
    let chunk = vec![0xa5; CHUNK_BYTES];
    while !shared.stop.load(Ordering::Acquire) {
        match stream.write(&chunk) {
            Ok(_) => {}
            Err(error) if transfer::is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
    socket::close_hard(&stream);
    Ok(())
}
