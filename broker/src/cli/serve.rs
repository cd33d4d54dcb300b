//! `tollway serve`.

use super::args::Serve;
use super::{Failure, runtime};
use crate::agents::{CONNECTIONS_MAX as AGENT_CONNECTIONS_MAX, Service, incoming};
use crate::api::limits::CONNECTIONS_MAX;
use crate::api::server::Bounds;
use crate::api::{self, ApiState};
use crate::auth::Keys;
use crate::clock::Kernel;
use crate::config::{self, Gx, Settings};
use crate::driver::{self, Options, Started, Stopped, poison};
use crate::gx::capture::{self, Capture};
use crate::gx::{self, Gateways};
use crate::listen;
use crate::store::{self, DATABASE_FILE, SqliteStore};
use crate::telemetry::logging;
use anyhow::{Context, anyhow};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Connections that the kernel keeps for us until they are accepted.
const BACKLOG: u32 = 1_024;

/// How long a stop waits for requests under way.
const REQUESTS_WAIT: Duration = Duration::from_secs(5);

/// A peer that does not answer within this is gone: its connection is closed.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_WAIT: Duration = Duration::from_secs(20);

pub(super) fn run(args: &Serve) -> Result<(), Failure> {
    logging::start().map_err(Failure::usage)?;
    let settings = config::load(&args.config).map_err(Failure::usage)?;
    poison::install_hook(&args.data);
    runtime()?.block_on(serve(args, settings)).map_err(|failure| in_words(&args.data, failure))
}

/// A full disk, whatever was being done when it was found: the reader can make room and nothing else.
fn in_words(data: &Path, failure: Failure) -> Failure {
    let is_full = failure.why.chain().any(|cause| {
        let by_store = cause.downcast_ref::<store::Error>();
        let by_system = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        matches!(by_store, Some(store::Error::Full { .. })) || by_system == Some(ErrorKind::StorageFull)
    });
    if !is_full {
        return failure;
    }
    let why = anyhow::anyhow!("no space left in {}: make room, then start again", data.display());
    Failure { exit: failure.exit, why }
}

async fn serve(args: &Serve, settings: Settings) -> Result<(), Failure> {
    let (gx, capture) = with_capture(settings.gx, args.diameter_pcap.as_deref())?;
    let signals = Signals::listen().context("cannot listen for signals")?;
    let keys = Arc::new(Keys::new(settings.keys).map_err(Failure::usage)?);
    let options = Options {
        market: settings.market.clone(),
        config: settings.def,
        clock: Box::new(Kernel),
        accept_clock: args.accept_clock,
        new_market_key: args.new_market_key,
    };
    let (ports, store) = open(args, settings.serve).await?;
    let started = driver::start_on(&args.data, store, options).await?;
    let ports = match ports.listen() {
        Ok(ports) => ports,
        Err(error) => {
            stop_driver(started).await?;
            return Err(error.into());
        }
    };
    listen::warn_of_few_descriptors(CONNECTIONS_MAX + AGENT_CONNECTIONS_MAX);
    let (closing, closed) = watch::channel(false);
    let (gateways, gateways_task) = match serve_gateways(gx, &started, closed.clone()).await {
        Ok(served) => served.unzip(),
        Err(error) => {
            stop_driver(started).await?;
            return Err(error.into());
        }
    };
    announce(&settings.market.name, &ports, gateways.as_ref())?;
    let state = ApiState::new(
        started.handle.clone(),
        started.reader.clone(),
        started.ids.clone(),
        Arc::clone(&keys),
        Arc::clone(&started.hub),
    )
    .context("cannot make the metrics")?
    .with_gateways(gateways);
    let http = spawn_http(ports.http, state, closed.clone());
    let grpc = spawn_grpc(ports.grpc, &started, keys, closed);
    let ended = wait(started, signals, closing, http, grpc).await;
    if let Some(task) = gateways_task
        && tokio::time::timeout(REQUESTS_WAIT, task).await.is_err()
    {
        tracing::warn!("some gateways did not let go in time");
    }
    if let Some(capture) = capture
        && tokio::time::timeout(REQUESTS_WAIT, capture.finish()).await.is_err()
    {
        tracing::warn!("the capture file may lack its end");
    }
    ended
}

/// The same with a capture file, if there is to be one.
fn with_capture(gx: Option<Gx>, file: Option<&Path>) -> Result<(Option<Gx>, Option<Capture>), Failure> {
    let Some(file) = file else { return Ok((gx, None)) };
    let Some(mut gx) = gx else {
        return Err(Failure::usage(anyhow!(
            "--diameter-pcap needs [gx] in the configuration: there are no peers"
        )));
    };
    let (trace, capture) = capture::start(file).with_context(|| format!("cannot make {}", file.display()))?;
    gx.node.trace = Some(trace);
    Ok((Some(gx), Some(capture)))
}

async fn serve_gateways(
    gx: Option<Gx>,
    started: &Started,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<Option<(Gateways, JoinHandle<()>)>> {
    let Some(gx) = gx else { return Ok(None) };
    let served = gx::start(gx, Arc::clone(&started.hub), started.handle.clone(), stop).await;
    Ok(Some(served.context("cannot serve gateways")?))
}

/// Ports and store. A directory that holds no market yet is not touched before the ports are ours; in one that does,
/// another broker that has it is a better reason than that the ports are taken too.
async fn open(args: &Serve, serve: config::Serve) -> Result<(Bound, SqliteStore), Failure> {
    let is_new = !args.data.join(DATABASE_FILE).exists();
    let early = if is_new { Some(Bound::bind(serve)?) } else { None };
    let mut store = SqliteStore::open(&args.data).await?;
    let bound = match early {
        Some(bound) => bound,
        None => Bound::bind(serve)?,
    };
    if let Some(obeyed) = args.epoch_above {
        store.lead_above(obeyed).await?;
    }
    Ok((bound, store))
}

/// Until a signal comes or the driver ends by itself; then in order: no new requests, those under way, the
/// driver's last commit, the agents' streams.
async fn wait(
    mut started: Started,
    mut signals: Signals,
    closing: watch::Sender<bool>,
    http: JoinHandle<()>,
    grpc: JoinHandle<()>,
) -> Result<(), Failure> {
    let ended = tokio::select! {
        ended = &mut started.driver => Some(ended),
        name = signals.any() => {
            tracing::info!(signal = name, "asked to stop");
            None
        }
    };
    closing.send_replace(true);
    if let Some(ended) = ended {
        return stopped(ended.context("the driver failed")?);
    }
    if tokio::time::timeout(REQUESTS_WAIT, http).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
    let done = stop_driver(started).await;
    if tokio::time::timeout(REQUESTS_WAIT, grpc).await.is_err() {
        tracing::warn!("some agents' streams did not end in time");
    }
    done
}

async fn stop_driver(started: Started) -> Result<(), Failure> {
    started.stop.send_replace(true);
    let ended = started.driver.await.context("the driver failed")?;
    stopped(ended)
}

fn stopped(ended: Stopped) -> Result<(), Failure> {
    match ended {
        Stopped::Gracefully => {
            tracing::info!("stopped; everything decided is durable");
            Ok(())
        }
        Stopped::Store(error) => Err(error.into()),
    }
}

struct Ports {
    http: TcpListener,
    grpc: TcpListener,
}

/// Ports that are ours and refuse connections until the broker is ready to answer them.
struct Bound {
    http: TcpSocket,
    grpc: TcpSocket,
}

impl Bound {
    fn bind(serve: config::Serve) -> anyhow::Result<Bound> {
        Ok(Bound { http: bind("http", serve.http)?, grpc: bind("grpc", serve.grpc)? })
    }

    fn listen(self) -> anyhow::Result<Ports> {
        let listen = |socket: TcpSocket, what: &str| {
            socket.listen(BACKLOG).with_context(|| format!("cannot listen on {what}"))
        };
        Ok(Ports { http: listen(self.http, "http")?, grpc: listen(self.grpc, "grpc")? })
    }
}

fn bind(what: &str, address: SocketAddr) -> anyhow::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let bound = socket.and_then(|socket| {
        // As every listener does: a port whose last connections still linger can be taken again.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(socket)
    });
    bound.with_context(|| format!("cannot listen on {what} = {address}"))
}

/// One line on standard output, for whoever started us and waits.
fn announce(market: &str, ports: &Ports, gateways: Option<&Gateways>) -> anyhow::Result<()> {
    let http = ports.http.local_addr().context("the listener has no address")?;
    let grpc = ports.grpc.local_addr().context("the listener has no address")?;
    let diameter: String = gateways
        .map_or(&[][..], Gateways::listening)
        .iter()
        .map(|address| format!(", diameter {address}"))
        .collect();
    println!("tollway serves market {market}: http {http}, grpc {grpc}{diameter}");
    Ok(())
}

fn spawn_http(listener: TcpListener, state: ApiState, closed: watch::Receiver<bool>) -> JoinHandle<()> {
    tokio::spawn(api::server::serve(listener, api::router(state), Bounds::default(), until(closed)))
}

fn spawn_grpc(
    listener: TcpListener,
    started: &Started,
    keys: Arc<Keys>,
    closed: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let service = Service::new(Arc::clone(&started.hub), started.handle.clone(), keys).into_server();
    tokio::spawn(async move {
        let served = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE_WAIT))
            .serve_with_incoming_shutdown(service, incoming(listener), until(closed))
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the gRPC server failed");
        }
    })
}

async fn until(mut closed: watch::Receiver<bool>) {
    // Whoever could close is gone: so is the reason to go on.
    let _ = closed.wait_for(|closed| *closed).await;
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn any(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
