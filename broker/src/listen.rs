//! Listening, bounded: in connections, in how long a peer may not take what it is sent, and in how fast a
//! process without descriptors tries again.

use socket2::SockRef;
use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Pause after the kernel could not give a connection (no descriptors left).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How long the kernel keeps on offering bytes that a peer does not take, whether it is gone or only does not
/// read: a connection with an answer in it holds a descriptor and the answer.
pub const UNTAKEN_WAIT: Duration = Duration::from_secs(30);

/// HTTP/2 begins with so many fixed bytes (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;

/// Descriptors for all else: the database and its readers, the logs, the runtime.
const OTHER_DESCRIPTORS: usize = 64;

/// A listener with so many places; who finds none waits in the kernel's queue.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    places: Arc<Semaphore>,
    places_max: u32,
    untaken_wait: Duration,
}

impl Listener {
    pub fn new(tcp: TcpListener, connections_max: usize, untaken_wait: Duration) -> Listener {
        let places = Arc::new(Semaphore::new(connections_max));
        let places_max = u32::try_from(connections_max).unwrap_or(u32::MAX);
        Listener { tcp, places, places_max, untaken_wait }
    }

    /// The next connection, when there is room for one more.
    pub async fn accept(&self) -> Connection {
        loop {
            let place = Arc::clone(&self.places).acquire_owned().await.expect("nobody closes the places");
            match self.tcp.accept().await {
                Ok((stream, _)) => {
                    self.prepare(&stream);
                    return Connection { stream, opening: None, _place: place };
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    /// No longer listens; done when every connection has ended.
    pub async fn finish(self) {
        drop(self.tcp);
        // An error would say that the places are closed, which nobody does: every one comes back.
        let _ = self.places.acquire_many(self.places_max).await;
    }

    fn prepare(&self, stream: &TcpStream) {
        let untaken = SockRef::from(stream).set_tcp_user_timeout(Some(self.untaken_wait));
        if let Err(error) = stream.set_nodelay(true).and(untaken) {
            tracing::debug!(%error, "a connection's options cannot be set");
        }
    }
}

/// A connection; its place is free again when it is dropped.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    opening: Option<Opening>,
    _place: OwnedSemaphorePermit,
}

/// What a peer has to say before anything else, and until when.
#[derive(Debug)]
struct Opening {
    bytes_left: usize,
    until: Pin<Box<Sleep>>,
}

impl Connection {
    /// Ends with an error unless HTTP/2 begins within this time; once it has, its pings find who is silent.
    pub fn opens_within(self, wait: Duration) -> Connection {
        let until = Box::pin(tokio::time::sleep(wait));
        Connection { opening: Some(Opening { bytes_left: PREFACE_BYTES, until }), ..self }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(opening) = &mut self.opening else { return read };
        opening.bytes_left = opening.bytes_left.saturating_sub(buffer.filled().len() - before);
        if opening.bytes_left == 0 {
            self.opening = None;
        } else if read.is_pending() && opening.until.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "HTTP/2 did not begin")));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, Error>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

/// Says so when this process may not have as many descriptors as so many connections need.
pub fn warn_of_few_descriptors(connections_max: usize) {
    let needed = u64::try_from(connections_max + OTHER_DESCRIPTORS).unwrap_or(u64::MAX);
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes one `rlimit` into the place that it is given.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if failed == 0 && limit.rlim_cur < needed {
        tracing::warn!(
            limit = limit.rlim_cur,
            needed,
            "fewer descriptors than all connections would need: start with `ulimit -n {needed}`, or \
             `LimitNOFILE={needed}` in the systemd unit"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Longest wait for anything in these tests.
    const PATIENCE: Duration = Duration::from_secs(20);

    async fn listener(places: usize, untaken_wait: Duration) -> (Listener, std::net::SocketAddr) {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        (Listener::new(tcp, places, untaken_wait), address)
    }

    #[tokio::test]
    async fn who_finds_no_place_is_let_in_when_one_goes() {
        let (listener, address) = listener(1, PATIENCE).await;
        let _clients =
            [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let first = listener.accept().await;
        let mut second = std::pin::pin!(listener.accept());
        let waits = tokio::select! {
            biased;
            _ = &mut second => false,
            () = tokio::task::yield_now() => true,
        };
        assert!(waits, "there is one place only");
        drop(first);
        tokio::time::timeout(PATIENCE, second).await.expect("the place is free again");
    }

    #[tokio::test]
    async fn who_does_not_read_is_given_up() {
        let (listener, address) = listener(1, Duration::from_secs(1)).await;
        let client = TcpStream::connect(address).await.unwrap();
        let mut connection = listener.accept().await;
        let answer = vec![0u8; 64 << 20];
        let sent = tokio::time::timeout(PATIENCE, connection.write_all(&answer)).await;
        let error = sent.expect("it is not offered for ever").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        drop(client);
    }

    #[tokio::test]
    async fn who_does_not_begin_is_given_up_and_who_has_begun_is_not() {
        let (listener, address) = listener(2, PATIENCE).await;
        let short = Duration::from_millis(50);
        let mut bytes = [0u8; 64];
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(b"PRI").await.unwrap();
        let mut connection = listener.accept().await.opens_within(short);
        assert_eq!(connection.read(&mut bytes).await.unwrap(), 3);
        let ended = tokio::time::timeout(PATIENCE, connection.read(&mut bytes)).await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::TimedOut);
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&[7u8; PREFACE_BYTES]).await.unwrap();
        let mut connection = listener.accept().await.opens_within(short);
        connection.read_exact(&mut bytes[..PREFACE_BYTES]).await.unwrap();
        assert!(connection.opening.is_none(), "nothing is waited for any more");
    }
}
