//! One gRPC stream per agent.

use super::hub::{Hub, Outbound, QUEUE_MESSAGES_MAX};
use super::wire;
use crate::auth::{KeyKind, Keys, Strangers};
use crate::driver::handle::{Handle, Unavailable};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tollway_core::Input;
use tollway_proto::AGENT_PROTOCOL_VERSION;
use tollway_proto::agent_v1::agent_link_server::{AgentLink, AgentLinkServer};
use tollway_proto::agent_v1::{FromAgent, ToAgent, from_agent};
use tonic::{Code, Request, Response, Status, Streaming};

/// An agent says who it is as the first thing; one that does not within this time is no agent.
const HELLO_WAIT: Duration = Duration::from_secs(10);

/// How long the last word may take to an agent whose queue is full.
const LAST_WORD_WAIT: Duration = Duration::from_secs(1);

/// Largest message an agent may send: 1,000 reports of 200 bytes, five times over.
const MESSAGE_BYTES_MAX: usize = 1_048_576;

/// The agents' side of the broker.
#[derive(Clone)]
pub struct Service {
    hub: Arc<Hub>,
    handle: Handle,
    keys: Arc<Keys>,
    strangers: Arc<Strangers>,
}

impl Service {
    pub fn new(hub: Arc<Hub>, handle: Handle, keys: Arc<Keys>) -> Service {
        Service { hub, handle, keys, strangers: Arc::default() }
    }

    /// As a tonic service.
    pub fn into_server(self) -> AgentLinkServer<Service> {
        AgentLinkServer::new(self).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The enforcement point whose key the caller has.
    fn authenticate(&self, request: &Request<Streaming<FromAgent>>) -> Result<String, Status> {
        let header = request.metadata().get("authorization").map(|value| value.as_encoded_bytes());
        let status = match self.keys.authenticate(header).map(|key| &key.kind) {
            Ok(KeyKind::Agent { enforcement_point }) => return Ok(enforcement_point.clone()),
            Ok(KeyKind::Customer { .. } | KeyKind::Noc) => {
                Status::permission_denied("this key is not an agent's")
            }
            Err(error) => Status::unauthenticated(error.to_string()),
        };
        let peer = request.remote_addr();
        if peer.is_none_or(|peer| self.strangers.is_news(peer.ip(), Instant::now())) {
            let peer = peer.map_or_else(|| "?".to_owned(), |peer| peer.to_string());
            let why = status.message();
            tracing::warn!(%peer, why, "an agent is not let in: compare its token with the [[key]] tables");
        }
        Err(status)
    }

    async fn session(
        &self,
        expected: &str,
        mut inbound: Streaming<FromAgent>,
        out: Outbound,
    ) -> Result<(), Status> {
        let hello = self.hello(expected, &mut inbound).await?;
        let agent = hello.agent.clone();
        let (connection, mut evicted) = self.hub.register(&agent, hello.protocol, out);
        self.hub.directory().connected(&hello);
        let ended = async {
            let input = Input::AdapterConnected { enforcement_point: agent.clone(), connection };
            self.handle.report(connection, input).await.map_err(unavailable)?;
            let mut last = None;
            while let Some(message) = inbound.message().await? {
                self.heard(&agent, connection, &mut last, message).await?;
            }
            Ok(())
        };
        let ended = tokio::select! {
            ended = ended => ended,
            why = &mut evicted => Err(why.unwrap_or_else(|_| Status::aborted("the connection was dropped"))),
        };
        self.hub.unregister(&agent, connection);
        // What is sold from now on is told to nobody here. A broker that is stopping need not know.
        let gone = Input::AdapterDisconnected { enforcement_point: agent, connection };
        let _ = self.handle.report(connection, gone).await;
        ended
    }

    async fn hello(&self, expected: &str, inbound: &mut Streaming<FromAgent>) -> Result<wire::Hello, Status> {
        let first = tokio::time::timeout(HELLO_WAIT, inbound.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no Hello came"))??;
        let Some(from_agent::Message::Hello(hello)) = first.and_then(|first| first.message) else {
            return Err(Status::invalid_argument("the first message is a Hello"));
        };
        let hello = wire::hello(hello).map_err(invalid)?;
        if hello.agent != expected {
            return Err(Status::permission_denied("this key is another agent's"));
        }
        if hello.protocol.abs_diff(AGENT_PROTOCOL_VERSION) > 1 || hello.protocol == 0 {
            return Err(Status::failed_precondition(format!(
                "this broker speaks protocol {AGENT_PROTOCOL_VERSION} and one to either side, the agent \
                 speaks {}",
                hello.protocol
            )));
        }
        if !hello.market.is_empty() && hello.market != self.hub.market() {
            return Err(Status::failed_precondition(format!(
                "this agent enforces market {}, this broker leads market {}: name the right broker in agent.toml, or, \
                 to move the router, run `tollway-agent uninstall` and delete the agent's data directory",
                hello.market,
                self.hub.market()
            )));
        }
        if hello.epoch > self.hub.epoch() {
            return Err(Status::failed_precondition(format!(
                "the agent has obeyed epoch {}, this broker leads epoch {}: another broker leads this market, or this data \
                 is an older copy (then start once with --epoch-above {})",
                hello.epoch,
                self.hub.epoch(),
                hello.epoch
            )));
        }
        Ok(hello)
    }

    /// One message; `last` is the highest number of a batch that this connection brought.
    async fn heard(
        &self,
        agent: &str,
        connection: u64,
        last: &mut Option<u64>,
        message: FromAgent,
    ) -> Result<(), Status> {
        match message.message {
            Some(from_agent::Message::Reports(batch)) => {
                let batch = wire::batch(batch).map_err(invalid)?;
                *last = Some(follows(*last, batch.number)?);
                self.hub.directory().heard(agent, batch.now);
                let input = Input::Reports {
                    enforcement_point: agent.to_owned(),
                    number: batch.number,
                    reports: batch.reports,
                };
                self.handle.report(connection, input).await.map_err(unavailable)
            }
            Some(from_agent::Message::Heartbeat(beat)) => {
                self.hub.directory().heard(agent, wire::heartbeat(beat).map_err(invalid)?);
                Ok(())
            }
            Some(from_agent::Message::Hello(_)) => Err(Status::invalid_argument("Hello is said once")),
            None => Err(Status::invalid_argument("an empty message")),
        }
    }
}

#[tonic::async_trait]
impl AgentLink for Service {
    type LinkStream = ReceiverStream<Result<ToAgent, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<FromAgent>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let expected = self.authenticate(&request)?;
        let inbound = request.into_inner();
        let (out, outbound) = mpsc::channel(QUEUE_MESSAGES_MAX);
        let service = self.clone();
        tokio::spawn(async move {
            let last = out.clone();
            let ended = service.session(&expected, inbound, out).await;
            say_end(&expected, ended.as_ref().err());
            if let Err(status) = ended {
                // It may be gone; then nobody needs the last word.
                let _ = tokio::time::timeout(LAST_WORD_WAIT, last.send(Err(status))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

/// How a link ended. That an agent stops, or that a line breaks, is no trouble of ours: it comes again by itself.
/// What the broker itself ended for a reason that it told before is none either.
fn say_end(agent: &str, why: Option<&Status>) {
    let by_transport = |status: &Status| std::error::Error::source(status).is_some();
    match why {
        None => tracing::info!(agent, "agent disconnected"),
        Some(status)
            if by_transport(status) || matches!(status.code(), Code::Unavailable | Code::Cancelled) =>
        {
            tracing::info!(agent, why = status.message(), "agent disconnected");
        }
        Some(status) => {
            tracing::warn!(agent, code = ?status.code(), why = status.message(), "an agent's link ended");
        }
    }
}

/// The highest number after this batch. One that leaves others out is not taken: the engine would acknowledge
/// it, and those before it would be repeats when they came. Only the first of a connection may leave some out,
/// since an agent may have had to throw away what it could not keep.
fn follows(last: Option<u64>, number: u64) -> Result<u64, Status> {
    match last {
        Some(last) if number > last.saturating_add(1) => Err(Status::data_loss(format!(
            "batch {number} came after batch {last}: connect again and send from the first one that is not \
             acknowledged"
        ))),
        Some(last) => Ok(last.max(number)),
        None => Ok(number),
    }
}

fn invalid(error: wire::Error) -> Status {
    Status::invalid_argument(error.to_string())
}

fn unavailable(why: Unavailable) -> Status {
    match why {
        Unavailable::Fault => Status::internal(why.to_string()),
        Unavailable::Busy { .. } | Unavailable::Stalled { .. } | Unavailable::Stopping => {
            Status::unavailable(why.to_string())
        }
    }
}
