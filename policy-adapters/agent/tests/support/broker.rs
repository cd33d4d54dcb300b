//! A broker that a test holds in its hand: it desires what it is told to, acknowledges reports once it has
//! them, and can be away.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tollway_proto::agent_v1::agent_link_server::{AgentLink, AgentLinkServer};
use tollway_proto::agent_v1::{self as v1, from_agent, report, to_agent};
use tonic::{Request, Response, Status, Streaming};

pub const TOKEN: &str = "agent-token";

pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("fits")
}

#[derive(Default)]
pub struct Inner {
    pub epoch: u64,
    pub slot_s: u32,
    pub market: String,
    /// Tokens are not taken.
    pub refuses: bool,
    /// Broker's time minus the hello's, one for each hello.
    pub hello_ages_ms: Vec<u64>,
    pub desired: Vec<v1::Leg>,
    pub hellos: Vec<v1::Hello>,
    pub heartbeats: u64,
    /// Batches by number, as first received.
    pub batches: BTreeMap<u64, Vec<v1::Report>>,
    /// Batches that came again with other contents: a broken promise.
    pub changed: Vec<u64>,
    /// Numbers are taken in but not acknowledged.
    pub deaf: bool,
    down: Option<mpsc::Sender<Result<v1::ToAgent, Status>>>,
}

impl Inner {
    pub fn acked(&self) -> u64 {
        self.batches.keys().next_back().copied().unwrap_or(0)
    }

    pub fn reports(&self) -> impl Iterator<Item = &report::Report> {
        self.batches.values().flatten().filter_map(|report| report.report.as_ref())
    }

    pub fn usage(&self) -> Vec<v1::SlotReading> {
        let usage = self.reports().filter_map(|report| match report {
            report::Report::Usage(reading) => Some(*reading),
            report::Report::Leg(_) | report::Report::Port(_) => None,
        });
        usage.collect()
    }

    pub fn kinds(&self, reservation: u64) -> Vec<String> {
        let kinds = self.reports().filter_map(|report| match report {
            report::Report::Leg(leg) if leg.reservation == reservation => {
                Some(format!("{:?} {}", leg.kind(), leg.reason).trim().to_owned())
            }
            report::Report::Leg(_) | report::Report::Usage(_) | report::Report::Port(_) => None,
        });
        kinds.collect()
    }
}

#[derive(Clone)]
struct Service(Arc<Mutex<Inner>>);

type Down = Pin<Box<dyn Stream<Item = Result<v1::ToAgent, Status>> + Send>>;

#[tonic::async_trait]
impl AgentLink for Service {
    type LinkStream = Down;

    async fn link(&self, request: Request<Streaming<v1::FromAgent>>) -> Result<Response<Down>, Status> {
        let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let refuses = self.0.lock().expect("not poisoned").refuses;
        if refuses || given != Some(&format!("Bearer {TOKEN}")) {
            return Err(Status::unauthenticated("who are you?"));
        }
        let mut from = request.into_inner();
        let (down, stream) = mpsc::channel(64);
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            while let Some(Ok(message)) = from.next().await {
                for answer in on_message(&inner, message.message, &down) {
                    if down.send(Ok(answer)).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

fn on_message(
    inner: &Mutex<Inner>,
    message: Option<from_agent::Message>,
    down: &mpsc::Sender<Result<v1::ToAgent, Status>>,
) -> Vec<v1::ToAgent> {
    let mut inner = inner.lock().expect("not poisoned");
    let say = |message| v1::ToAgent { message: Some(message) };
    match message {
        Some(from_agent::Message::Hello(hello)) => {
            inner.hello_ages_ms.push(now_ms().abs_diff(hello.now_ms));
            inner.hellos.push(hello);
            inner.down = Some(down.clone());
            let welcome = v1::Welcome {
                epoch: inner.epoch,
                protocol: 1,
                slot_s: inner.slot_s,
                now_ms: now_ms(),
                acked: inner.acked(),
                market: inner.market.clone(),
            };
            let set = v1::DesiredSet { epoch: inner.epoch, legs: inner.desired.clone() };
            vec![say(to_agent::Message::Welcome(welcome)), say(to_agent::Message::Desired(set))]
        }
        Some(from_agent::Message::Reports(batch)) => {
            match inner.batches.get(&batch.number) {
                Some(first) if *first != batch.reports => inner.changed.push(batch.number),
                Some(_) => {}
                None => {
                    inner.batches.insert(batch.number, batch.reports);
                }
            }
            if inner.deaf {
                return Vec::new();
            }
            vec![say(to_agent::Message::Ack(v1::Ack { number: batch.number }))]
        }
        Some(from_agent::Message::Heartbeat(_)) => {
            inner.heartbeats += 1;
            Vec::new()
        }
        None => Vec::new(),
    }
}

pub struct Broker {
    inner: Arc<Mutex<Inner>>,
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Broker {
    pub fn new() -> Broker {
        let inner = Inner { epoch: 1, slot_s: 1, ..Inner::default() };
        let address = "127.0.0.1:7420".parse().expect("an address");
        let mut broker = Broker { inner: Arc::new(Mutex::new(inner)), address, runtime: None };
        broker.start();
        broker
    }

    pub fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let service = AgentLinkServer::new(Service(Arc::clone(&self.inner)));
        let address = self.address;
        // Listening before this returns: the runtime of the last one may still be closing its socket.
        let listener = runtime.block_on(async {
            loop {
                match tokio::net::TcpListener::bind(address).await {
                    Ok(listener) => return listener,
                    Err(_) => drop(
                        tokio::time::timeout(Duration::from_millis(5), std::future::pending::<()>()).await,
                    ),
                }
            }
        });
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        self.runtime = Some(runtime);
    }

    /// Away: every stream breaks, nobody listens.
    pub fn stop(&mut self) {
        self.inner().down = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
    }

    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("not poisoned")
    }

    /// Upserts a leg if an agent is there.
    pub fn send_if(&self, leg: v1::Leg) -> bool {
        let down = self.inner().down.clone();
        let message = v1::ToAgent { message: Some(to_agent::Message::Upsert(leg)) };
        down.is_some_and(|down| down.try_send(Ok(message)).is_ok())
    }

    /// Ends the agent's stream as the real broker does when another one comes.
    pub fn replace(&self) {
        let down = self.inner().down.take().expect("an agent is there");
        let status = Status::aborted("a newer connection of this agent replaced this one");
        down.try_send(Err(status)).expect("room");
    }

    pub fn send(&self, message: to_agent::Message) {
        let down = self.inner().down.clone().expect("an agent is there");
        down.try_send(Ok(v1::ToAgent { message: Some(message) })).expect("room");
    }
}
