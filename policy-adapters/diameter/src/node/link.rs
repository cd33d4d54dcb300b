//! Connections: accept, dial, and the task that reads and writes one.

use super::tls::Tls;
use crate::error::Error;
use crate::framer::Framer;
use crate::limits::{HANDSHAKES_MAX, LINGER_MS_MAX, OPEN_MS_MAX, READ_LEN, WRITE_LEN_MAX, WRITE_MS_MAX};
use crate::message::Header;
use crate::peer::ConnId;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

/// A byte stream, with TLS or without.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection that stands.
pub struct Established {
    pub io: Box<dyn Io>,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// With TLS: the configured peers, by number, that its certificate names.
    pub proven: Option<Vec<usize>>,
}

/// What connections tell the driver.
pub enum FromLink {
    Accepted(Established),
    Dialed(ConnId, Established),
    NotDialed(ConnId, std::io::Error),
    Frame(ConnId, Vec<u8>),
    Garbage(ConnId, Error, Option<Header>),
    Closed(ConnId),
}

fn within<T>(result: Result<std::io::Result<T>, tokio::time::error::Elapsed>) -> std::io::Result<T> {
    result.unwrap_or_else(|elapsed| Err(std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed)))
}

const OPEN: Duration = Duration::from_millis(OPEN_MS_MAX);

/// Accepts until the driver is gone. Each handshake has its own task, so a slow one delays nobody.
pub async fn accept(
    listener: TcpListener,
    tls: Option<Tls>,
    names: Arc<[(usize, String)]>,
    inputs: mpsc::Sender<FromLink>,
) {
    let permits = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = inputs.closed() => return,
        };
        let Ok((stream, _)) = stream else {
            // Out of descriptors, most likely: others will close.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        let (tls, names, inputs) = (tls.clone(), Arc::clone(&names), inputs.clone());
        tokio::spawn(async move {
            let established = within(timeout(OPEN, handshake(stream, tls, &names)).await);
            drop(permit);
            match established {
                // The driver may be gone; then so is the connection.
                Ok(established) => drop(inputs.send(FromLink::Accepted(established)).await),
                Err(error) => tracing::info!(%error, "a connection did not open"),
            }
        });
    }
}

async fn handshake(
    stream: TcpStream,
    tls: Option<Tls>,
    names: &[(usize, String)],
) -> std::io::Result<Established> {
    stream.set_nodelay(true)?;
    let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
    let (io, proven) = match tls {
        Some(tls) => {
            let (io, proven) = tls.accept(stream, names).await?;
            (io, Some(proven))
        }
        None => (Box::new(stream) as Box<dyn Io>, None),
    };
    Ok(Established { io, local, remote, proven })
}

/// Connects to a peer; with TLS its certificate must name it.
pub async fn dial(
    conn: ConnId,
    address: String,
    tls: Option<Tls>,
    host: String,
    inputs: mpsc::Sender<FromLink>,
) {
    let connect = async {
        let stream = TcpStream::connect(&address).await?;
        stream.set_nodelay(true)?;
        let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
        let io = match tls {
            Some(tls) => tls.connect(stream, &host).await?,
            None => Box::new(stream) as Box<dyn Io>,
        };
        Ok(Established { io, local, remote, proven: None })
    };
    let message = match within(timeout(OPEN, connect).await) {
        Ok(established) => FromLink::Dialed(conn, established),
        Err(error) => FromLink::NotDialed(conn, error),
    };
    // Without a driver nobody wants the connection.
    drop(inputs.send(message).await);
}

/// Frames that wait for a socket, and how many bytes they are.
pub struct Queue {
    pub frames: mpsc::Receiver<Vec<u8>>,
    pub bytes: Arc<AtomicUsize>,
}

/// Reads and writes one connection until either ends.
pub async fn run(conn: ConnId, io: Box<dyn Io>, queue: Queue, inputs: mpsc::Sender<FromLink>) {
    let (mut reader, writer) = tokio::io::split(io);
    tokio::select! {
        () = read(conn, &mut reader, &inputs) => {}
        result = write(writer, queue) => match result {
            Ok(()) => linger(&mut reader).await,
            Err(error) => tracing::debug!(?conn, %error, "writing"),
        }
    }
    // Without a driver nobody wants to know.
    drop(inputs.send(FromLink::Closed(conn)).await);
}

/// Cancel-safe: bytes between reads lie in the framer, and a read that is dropped has taken none.
async fn read(conn: ConnId, reader: &mut ReadHalf<Box<dyn Io>>, inputs: &mpsc::Sender<FromLink>) {
    let mut framer = Framer::default();
    let mut buffer = vec![0; READ_LEN];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return,
            Ok(len) => framer.push(&buffer[..len]),
            Err(error) => return tracing::debug!(?conn, %error, "reading"),
        }
        loop {
            let message = match framer.next_frame() {
                Ok(Some(frame)) => FromLink::Frame(conn, frame.to_vec()),
                Ok(None) => break,
                Err(error) => FromLink::Garbage(conn, error, Header::peek(framer.rest())),
            };
            let is_end = matches!(message, FromLink::Garbage(..));
            if inputs.send(message).await.is_err() {
                return;
            }
            if is_end {
                // What follows cannot be cut; the driver closes when the answer is out.
                return std::future::pending().await;
            }
        }
    }
}

/// Lets the other end read our last frames before the connection goes.
async fn linger(reader: &mut ReadHalf<Box<dyn Io>>) {
    let mut buffer = [0; 1_024];
    let rest = async { while matches!(reader.read(&mut buffer).await, Ok(1..)) {} };
    // Either end will do.
    let _ = timeout(Duration::from_millis(LINGER_MS_MAX), rest).await;
}

/// Writes what is queued, many frames at once, until the driver lets go of the queue.
async fn write(mut writer: WriteHalf<Box<dyn Io>>, mut queue: Queue) -> std::io::Result<()> {
    let mut out: Vec<u8> = Vec::new();
    while let Some(first) = queue.frames.recv().await {
        out.clear();
        out.extend_from_slice(&first);
        while out.len() < WRITE_LEN_MAX
            && let Ok(next) = queue.frames.try_recv()
        {
            out.extend_from_slice(&next);
        }
        queue.bytes.fetch_sub(out.len(), Ordering::Relaxed);
        let writing = async {
            writer.write_all(&out).await?;
            writer.flush().await
        };
        within(timeout(Duration::from_millis(WRITE_MS_MAX), writing).await)?;
    }
    within(timeout(Duration::from_millis(WRITE_MS_MAX), writer.shutdown()).await)
}
