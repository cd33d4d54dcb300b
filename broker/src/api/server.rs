//! The HTTP server: bounded in connections, in how long a request's head may take and in how long an answer
//! may wait to be taken, which `axum::serve` is not. A graceful end answers what is under way.

use super::limits::{CONNECTIONS_MAX, HEAD_BYTES_MAX, HEAD_TIMEOUT};
use crate::listen::{Connection, Listener, UNTAKEN_WAIT};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How much a client may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    pub connections_max: usize,
    pub head_timeout: Duration,
    pub untaken_wait: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { connections_max: CONNECTIONS_MAX, head_timeout: HEAD_TIMEOUT, untaken_wait: UNTAKEN_WAIT }
    }
}

/// Serves until `closed` is done, then no longer accepts and returns when every connection has ended.
pub async fn serve(listener: TcpListener, router: Router, bounds: Bounds, closed: impl Future<Output = ()>) {
    let listener = Listener::new(listener, bounds.connections_max, bounds.untaken_wait);
    let (ending, end) = watch::channel(false);
    let mut closed = std::pin::pin!(closed);
    loop {
        tokio::select! {
            biased;
            () = &mut closed => break,
            accepted = listener.accept() => {
                tokio::spawn(connection(accepted, router.clone(), bounds, end.clone()));
            }
        }
    }
    ending.send_replace(true);
    listener.finish().await;
}

async fn connection(accepted: Connection, router: Router, bounds: Bounds, mut end: watch::Receiver<bool>) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(accepted), TowerToHyperService::new(router));
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
}

async fn asked(end: &mut watch::Receiver<bool>) {
    // An error says that the server is gone, which is an end as well.
    let _ = end.wait_for(|end| *end).await.map(|_| ());
}
