//! Connections for the agents' gRPC server, bounded.

use crate::listen::{Connection, Listener, UNTAKEN_WAIT};
use std::io::Error;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Connections at once: one for each agent of a large market, and as many again that are being replaced.
pub const CONNECTIONS_MAX: usize = 1_024;

/// A peer that does not begin to speak HTTP/2 within this time is no agent.
const OPENING_WAIT: Duration = Duration::from_secs(10);

/// Accepts until the stream is dropped.
pub fn incoming(listener: TcpListener) -> ReceiverStream<Result<Connection, Error>> {
    let listener = Listener::new(listener, CONNECTIONS_MAX, UNTAKEN_WAIT);
    let (out, stream) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let connection = tokio::select! {
                biased;
                () = out.closed() => return,
                connection = listener.accept() => connection.opens_within(OPENING_WAIT),
            };
            if out.send(Ok(connection)).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(stream)
}
