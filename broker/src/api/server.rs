//! The HTTP server: bounded in connections and in how long a request's head may take, which
//! `axum::serve` is not. A graceful end answers what is under way.

use super::limits::{CONNECTIONS_MAX, HEAD_BYTES_MAX, HEAD_TIMEOUT};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Pause after the kernel could not give a connection (no descriptors left).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How much a client may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    pub connections_max: usize,
    pub head_timeout: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { connections_max: CONNECTIONS_MAX, head_timeout: HEAD_TIMEOUT }
    }
}

/// Serves until `closed` is done, then no longer accepts and returns when every connection has ended.
pub async fn serve(listener: TcpListener, router: Router, bounds: Bounds, closed: impl Future<Output = ()>) {
    let room = Arc::new(Semaphore::new(bounds.connections_max));
    let (ending, end) = watch::channel(false);
    let mut closed = std::pin::pin!(closed);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut closed => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let Some((stream, permit)) = accepted else { continue };
        tokio::spawn(connection(stream, router.clone(), bounds, end.clone(), permit));
    }
    drop(listener);
    ending.send_replace(true);
    let all = u32::try_from(bounds.connections_max).unwrap_or(u32::MAX);
    // Closed only by dropping it, which nobody does: every permit comes back.
    let _ = room.acquire_many(all).await;
}

/// The next connection, when there is room for one more.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_RETRY).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    bounds: Bounds,
    mut end: watch::Receiver<bool>,
    permit: OwnedSemaphorePermit,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection cannot be set to send at once");
    }
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = asked(&mut end) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
    drop(permit);
}

async fn asked(end: &mut watch::Receiver<bool>) {
    // An error says that the server is gone, which is an end as well.
    let _ = end.wait_for(|end| *end).await.map(|_| ());
}
