//! A transfer: so many bytes over one TCP connection, by a deadline, timed at the receiver.

use crate::clock;
use crate::error::{Error, Result};
use crate::net::topology::Host;
use crate::traffic::series::{Received, Series};
use crate::traffic::socket;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const CHUNK_BYTES: usize = 64 * 1024;
/// How often a blocked thread looks at the stop flag.
const LOOK: Duration = Duration::from_millis(50);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// What to move, and from where to where.
#[derive(Clone)]
pub struct Order {
    pub name: String,
    pub from: Host,
    pub to: Host,
    pub port: u16,
    pub bytes: u64,
    pub congestion: &'static str,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Receiver has everything, or the connection ended.
    completed_ns: AtomicU64,
    mss: AtomicU32,
}

/// A transfer whose receiver listens.
pub struct Transfer {
    order: Order,
    series: Series,
    shared: Arc<Shared>,
    receiver: JoinHandle<()>,
    sender: Option<JoinHandle<io::Result<()>>>,
    started_ns: u64,
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub started_ns: u64,
    pub completed_ns: Option<u64>,
    pub received: Received,
    /// Payload of a full segment over the MTU, as this connection had it.
    pub mss: Option<u32>,
}

impl Transfer {
    /// Opens the receiver; nothing is sent yet.
    pub fn prepare(order: Order) -> Result<Transfer> {
        let (series, shared) = (Series::default(), Arc::new(Shared::default()));
        let address = SocketAddr::from((order.to.address, order.port));
        let listener = order
            .to
            .ns
            .call(move || TcpListener::bind(address))?
            .map_err(Error::io(format!("listening on {address}")))?;
        let (theirs, seen, bytes) = (shared.clone(), series.clone(), order.bytes);
        let receiver = order.to.ns.spawn(&format!("{}-rx", order.name), move || {
            receive(&listener, bytes, &seen, &theirs);
        })?;
        Ok(Transfer { order, series, shared, receiver, sender: None, started_ns: 0 })
    }

    /// Connects and sends; the clock starts here.
    pub fn start(&mut self) -> Result<u64> {
        let (order, shared) = (self.order.clone(), self.shared.clone());
        self.started_ns = clock::now_ns();
        let sender =
            self.order.from.ns.spawn(&format!("{}-tx", self.order.name), move || send(&order, &shared))?;
        self.sender = Some(sender);
        Ok(self.started_ns)
    }

    pub fn received(&self) -> Received {
        self.series.read()
    }

    /// Waits until everything has arrived or the instant has come; `true` when it arrived.
    pub fn wait_until(&self, until_ns: u64) -> bool {
        while clock::now_ns() < until_ns {
            if self.shared.completed_ns.load(Ordering::Acquire) > 0 {
                return true;
            }
            clock::sleep_until((clock::now_ns() + 5 * clock::MS).min(until_ns));
        }
        self.shared.completed_ns.load(Ordering::Acquire) > 0
    }

    /// Ends it, finished or not, and joins its threads.
    pub fn finish(mut self) -> Outcome {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
        let _ = self.receiver.join();
        let completed = self.shared.completed_ns.load(Ordering::Acquire);
        let mss = self.shared.mss.load(Ordering::Acquire);
        Outcome {
            started_ns: self.started_ns,
            completed_ns: (completed > 0).then_some(completed),
            received: self.series.read(),
            mss: (mss > 0).then_some(mss),
        }
    }
}

/// Accepts one connection, or gives up when told to stop.
pub(super) fn accept(listener: &TcpListener, stop: &AtomicBool) -> Option<TcpStream> {
    listener.set_nonblocking(true).ok()?;
    while !stop.load(Ordering::Acquire) {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).ok()?;
            return Some(stream);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

fn receive(listener: &TcpListener, bytes: u64, series: &Series, shared: &Shared) {
    let Some(mut stream) = accept(listener, &shared.stop) else { return };
    let _ = stream.set_read_timeout(Some(LOOK));
    let mut buffer = vec![0u8; CHUNK_BYTES];
    let mut received = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                let now = clock::now_ns();
                received += count as u64;
                series.record(now, count as u64);
                if received >= bytes && shared.completed_ns.load(Ordering::Acquire) == 0 {
                    shared.completed_ns.store(now, Ordering::Release);
                }
            }
            Err(error) if is_timeout(&error) => {
                if shared.stop.load(Ordering::Acquire) {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    if received < bytes {
        socket::close_hard(&stream);
    }
}

pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// Under a flood even the first packets are lost: the kernel retries them until this is over.
pub(super) fn connect(address: SocketAddr, congestion: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    socket::set_congestion(&stream, congestion)?;
    Ok(stream)
}

fn send(order: &Order, shared: &Shared) -> io::Result<()> {
    let mut stream = connect(SocketAddr::from((order.to.address, order.port)), order.congestion)?;
    if let Some(mss) = socket::mss(&stream) {
        shared.mss.store(mss, Ordering::Release);
    }
    stream.set_write_timeout(Some(LOOK))?;
    let chunk = vec![0x5a; CHUNK_BYTES];
    let mut left = order.bytes;
    while left > 0 {
        if shared.stop.load(Ordering::Acquire) {
            socket::close_hard(&stream);
            return Ok(());
        }
        let take = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        match stream.write(&chunk[..take]) {
            Ok(count) => left -= count as u64,
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // Kept open until the receiver has all, so that nothing is torn down under it.
    while shared.completed_ns.load(Ordering::Acquire) == 0 {
        if shared.stop.load(Ordering::Acquire) {
            socket::close_hard(&stream);
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
