//! The stream to the broker: connect, say hello, pass messages, and again after any failure.

use crate::limits::{
    CONNECT_MAX, EVENTS_WAITING_MAX, IN_FLIGHT_BATCHES_MAX, KEEP_ALIVE, KEEP_ALIVE_TIMEOUT,
    MESSAGE_BYTES_MAX, RECONNECT_MAX, RECONNECT_MIN,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tollway_model::SlotLength;
use tollway_proto::AGENT_PROTOCOL_VERSION;
use tollway_proto::agent_v1::agent_link_client::AgentLinkClient;
use tollway_proto::agent_v1::{FromAgent, Hello, ToAgent, Welcome, from_agent, to_agent};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Endpoint;

/// What happens on the link.
pub enum Event {
    /// A stream is open; messages up go into `up`.
    Up {
        welcome: Welcome,
        up: mpsc::Sender<FromAgent>,
    },
    Message(ToAgent),
    Down,
}

/// The broker as configured.
pub struct Broker {
    pub endpoint: Endpoint,
    pub authorization: MetadataValue<Ascii>,
}

impl Broker {
    /// # Errors
    /// When address or token cannot be used.
    pub fn new(address: &str, token: &str) -> anyhow::Result<Broker> {
        let endpoint = Endpoint::from_shared(address.to_owned())?
            .connect_timeout(CONNECT_MAX)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let mut authorization: MetadataValue<Ascii> = format!("Bearer {token}").parse()?;
        authorization.set_sensitive(true);
        Ok(Broker { endpoint, authorization })
    }
}

/// Events of the link, for as long as the receiver lives. `hello` always holds what is said next, with the
/// highest epoch seen.
pub fn start(broker: Broker, hello: watch::Receiver<Hello>) -> mpsc::Receiver<Event> {
    let (events, receiver) = mpsc::channel(EVENTS_WAITING_MAX);
    tokio::spawn(async move {
        let mut wait = RECONNECT_MIN;
        let mut away = false;
        while !events.is_closed() {
            let mut welcomed = false;
            let reason = match stream(&broker, &hello, &events, &mut welcomed).await {
                Ok(()) => "the broker closed the stream".to_owned(),
                Err(reason) => reason,
            };
            if welcomed {
                wait = RECONNECT_MIN;
                if events.send(Event::Down).await.is_err() {
                    return;
                }
            }
            if welcomed || !away {
                tracing::warn!(%reason, "broker away; enforcement goes on");
            } else {
                tracing::debug!(%reason, "broker still away");
            }
            away = true;
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RECONNECT_MAX);
        }
    });
    receiver
}

async fn stream(
    broker: &Broker,
    hello: &watch::Receiver<Hello>,
    events: &mpsc::Sender<Event>,
    welcomed: &mut bool,
) -> Result<(), String> {
    let text = |status: tonic::Status| format!("{:?}: {}", status.code(), status.message());
    let channel = broker.endpoint.connect().await.map_err(|error| chain(&error))?;
    let mut client = AgentLinkClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    // Room for every batch under way, a heartbeat each and the hello.
    let (up, receiver) = mpsc::channel(4 * IN_FLIGHT_BATCHES_MAX);
    let said = hello.borrow().clone();
    let message = FromAgent { message: Some(from_agent::Message::Hello(said)) };
    up.try_send(message).map_err(|error| error.to_string())?;
    let mut request = Request::new(ReceiverStream::new(receiver));
    request.metadata_mut().insert("authorization", broker.authorization.clone());
    let open = async {
        let mut down = client.link(request).await.map_err(text)?.into_inner();
        let first = down.message().await.map_err(text)?;
        Ok::<_, String>((down, first))
    };
    let (mut down, first) =
        tokio::time::timeout(CONNECT_MAX, open).await.map_err(|_| "no welcome in time".to_owned())??;
    let Some(to_agent::Message::Welcome(welcome)) = first.and_then(|first| first.message) else {
        return Err("the first message was no welcome".into());
    };
    check(&welcome, hello.borrow().epoch)?;
    *welcomed = true;
    let gone = |_| "stopping".to_owned();
    events.send(Event::Up { welcome, up }).await.map_err(gone)?;
    while let Some(message) = down.message().await.map_err(text)? {
        if let Some(to_agent::Message::Desired(set)) = &message.message {
            refuse_lower(set.epoch, hello.borrow().epoch)?;
        }
        events.send(Event::Message(message)).await.map_err(gone)?;
    }
    Ok(())
}

fn check(welcome: &Welcome, epoch: u64) -> Result<(), String> {
    if welcome.protocol.abs_diff(AGENT_PROTOCOL_VERSION) > 1 {
        return Err(format!(
            "protocol {} of the broker and {AGENT_PROTOCOL_VERSION} of this agent are too far apart",
            welcome.protocol
        ));
    }
    if SlotLength::from_secs(welcome.slot_s).is_none() {
        return Err(format!("a slot of {} s does not divide a day", welcome.slot_s));
    }
    refuse_lower(welcome.epoch, epoch)
}

/// A broker that was fenced off may still be talking: its word is not taken.
fn refuse_lower(offered: u64, seen: u64) -> Result<(), String> {
    if offered < seen {
        tracing::error!(offered, seen, "a broker with an older epoch is refused");
        return Err(format!("epoch {offered} is older than {seen}"));
    }
    Ok(())
}

/// An error with its causes: tonic's own text says only "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_brokers_are_refused() {
        let welcome = Welcome { epoch: 5, protocol: 1, slot_s: 60, now_ms: 0, acked: 0, market: String::new() };
        assert!(check(&welcome, 5).is_ok());
        assert!(check(&welcome, 6).is_err());
        assert!(check(&Welcome { protocol: 3, ..welcome.clone() }, 5).is_err());
        assert!(check(&Welcome { protocol: 2, ..welcome.clone() }, 5).is_ok());
        assert!(check(&Welcome { slot_s: 7, ..welcome.clone() }, 5).is_err());
        assert!(Broker::new("http://127.0.0.1:1", "bad\ntoken").is_err());
    }
}
