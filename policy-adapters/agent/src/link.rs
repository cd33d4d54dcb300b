//! The stream to the broker: connect, say hello, pass messages, and again after any failure.

use crate::limits::{
    COMPLAINT, CONNECT_MAX, EVENTS_WAITING_MAX, IN_FLIGHT_BATCHES_MAX, KEEP_ALIVE, KEEP_ALIVE_TIMEOUT,
    MESSAGE_BYTES_MAX, RECONNECT_MAX, RECONNECT_MIN, REPLACED_CALM, REPLACED_MAX,
};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tollway_model::SlotLength;
use tollway_proto::AGENT_PROTOCOL_VERSION;
use tollway_proto::agent_v1::agent_link_client::AgentLinkClient;
use tollway_proto::agent_v1::{FromAgent, Hello, ToAgent, Welcome, from_agent, to_agent};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};

/// What happens on the link.
pub enum Event {
    /// A stream is about to open: what is to be said first, as of now.
    Opening(oneshot::Sender<Hello>),
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
    pub address: String,
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
        Ok(Broker { address: address.to_owned(), endpoint, authorization })
    }
}

/// Why a stream ended or did not begin.
#[derive(Clone, PartialEq, Eq, Debug)]
enum End {
    Away(String),
    /// The token is not taken.
    Token(String),
    /// Another agent of our name came.
    Replaced(String),
    OtherMarket {
        ours: String,
        theirs: String,
    },
}

impl End {
    fn of(status: &Status) -> End {
        let text = format!("{:?}: {}", status.code(), status.message());
        let code = status.code();
        if matches!(code, Code::Unauthenticated | Code::PermissionDenied) {
            End::Token(text)
        } else if code == Code::Aborted && status.message().contains("newer connection") {
            End::Replaced(text)
        } else {
            End::Away(text)
        }
    }

    fn away(reason: &str) -> End {
        End::Away(reason.to_owned())
    }

    /// What a person must mend.
    fn complaint(&self, address: &str) -> Option<String> {
        match self {
            End::Away(_) => None,
            End::Token(reason) => Some(format!(
                "the broker refuses our token (token or token_file of agent.toml): {reason}; enforcement goes on"
            )),
            End::Replaced(reason) => {
                Some(format!("another agent uses this name or token: {reason}; enforcement goes on"))
            }
            End::OtherMarket { ours, theirs } => Some(format!(
                "this agent enforces market {ours}; broker at {address} leads market {theirs}: point it to the \
                 right broker, or uninstall and delete its data directory to change market; enforcement goes on"
            )),
        }
    }
}

/// What was said last, and when: each trouble at once, the same one again only after [`COMPLAINT`].
#[derive(Default)]
struct Said {
    away: bool,
    complaints: Vec<(std::mem::Discriminant<End>, Instant)>,
}

impl Said {
    fn may_complain(&mut self, end: &End, now: Instant) -> bool {
        let kind = std::mem::discriminant(end);
        self.complaints.retain(|(_, at)| now.duration_since(*at) < COMPLAINT);
        if self.complaints.iter().any(|(said, _)| *said == kind) {
            return false;
        }
        self.complaints.push((kind, now));
        true
    }

    fn say(&mut self, end: &End, address: &str, welcomed: bool, now: Instant) {
        let aloud = welcomed || !self.away;
        match (end, end.complaint(address)) {
            (_, Some(complaint)) if self.may_complain(end, now) => tracing::warn!("{complaint}"),
            (End::Away(reason), _) if aloud => tracing::warn!(%reason, "broker away; enforcement goes on"),
            _ => tracing::debug!(?end, "broker still away"),
        }
        self.away = true;
    }
}

/// The wait after a stream that lived so long (`None`: it was never welcomed), and the next one.
fn pause(wait: Duration, end: &End, lived: Option<Duration>) -> (Duration, Duration) {
    let (start, most) = match (end, lived) {
        (End::Replaced(_), Some(lived)) if lived >= REPLACED_CALM => (RECONNECT_MIN, REPLACED_MAX),
        (End::Replaced(_), _) => (wait, REPLACED_MAX),
        (_, Some(_)) => (RECONNECT_MIN, RECONNECT_MAX),
        (_, None) => (wait.min(RECONNECT_MAX), RECONNECT_MAX),
    };
    (start, (start * 2).min(most))
}

/// Events of the link, for as long as the receiver lives.
pub fn start(broker: Broker) -> mpsc::Receiver<Event> {
    let (events, receiver) = mpsc::channel(EVENTS_WAITING_MAX);
    tokio::spawn(async move {
        let mut wait = RECONNECT_MIN;
        let mut said = Said::default();
        while !events.is_closed() {
            let mut welcomed = None;
            let end = match stream(&broker, &events, &mut welcomed).await {
                Ok(()) => End::away("the broker closed the stream"),
                Err(end) => end,
            };
            if welcomed.is_some() && events.send(Event::Down).await.is_err() {
                return;
            }
            said.say(&end, &broker.address, welcomed.is_some(), Instant::now());
            let (now, next) = pause(wait, &end, welcomed.map(|at: Instant| at.elapsed()));
            tokio::time::sleep(now).await;
            wait = next;
        }
    });
    receiver
}

async fn stream(
    broker: &Broker,
    events: &mpsc::Sender<Event>,
    welcomed: &mut Option<Instant>,
) -> Result<(), End> {
    let failed = |status: Status| End::of(&status);
    let channel = broker.endpoint.connect().await.map_err(|error| End::Away(chain(&error)))?;
    let mut client = AgentLinkClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    // Room for every batch under way, a heartbeat each and the hello.
    let (up, receiver) = mpsc::channel(4 * IN_FLIGHT_BATCHES_MAX);
    let (ask, hello) = oneshot::channel();
    events.send(Event::Opening(ask)).await.map_err(|_| End::away("stopping"))?;
    let hello = hello.await.map_err(|_| End::away("stopping"))?;
    let (mut epoch, market) = (hello.epoch, hello.market.clone());
    let message = FromAgent { message: Some(from_agent::Message::Hello(hello)) };
    up.try_send(message).map_err(|error| End::Away(error.to_string()))?;
    let mut request = Request::new(ReceiverStream::new(receiver));
    request.metadata_mut().insert("authorization", broker.authorization.clone());
    let open = async {
        let mut down = client.link(request).await.map_err(failed)?.into_inner();
        let first = down.message().await.map_err(failed)?;
        Ok::<_, End>((down, first))
    };
    let (mut down, first) =
        tokio::time::timeout(CONNECT_MAX, open).await.map_err(|_| End::away("no welcome in time"))??;
    let Some(to_agent::Message::Welcome(welcome)) = first.and_then(|first| first.message) else {
        return Err(End::away("the first message was no welcome"));
    };
    check(&welcome, epoch, &market)?;
    epoch = welcome.epoch;
    *welcomed = Some(Instant::now());
    events.send(Event::Up { welcome, up }).await.map_err(|_| End::away("stopping"))?;
    while let Some(message) = down.message().await.map_err(failed)? {
        if let Some(to_agent::Message::Desired(set)) = &message.message {
            refuse_lower(set.epoch, epoch)?;
            epoch = set.epoch;
        }
        events.send(Event::Message(message)).await.map_err(|_| End::away("stopping"))?;
    }
    Ok(())
}

fn check(welcome: &Welcome, epoch: u64, market: &str) -> Result<(), End> {
    // An older broker says no market, a new agent knows none.
    if !market.is_empty() && !welcome.market.is_empty() && welcome.market != market {
        return Err(End::OtherMarket { ours: market.to_owned(), theirs: welcome.market.clone() });
    }
    if welcome.protocol.abs_diff(AGENT_PROTOCOL_VERSION) > 1 {
        return Err(End::Away(format!(
            "protocol {} of the broker and {AGENT_PROTOCOL_VERSION} of this agent are too far apart",
            welcome.protocol
        )));
    }
    if SlotLength::from_secs(welcome.slot_s).is_none() {
        return Err(End::Away(format!("a slot of {} s does not divide a day", welcome.slot_s)));
    }
    refuse_lower(welcome.epoch, epoch)
}

/// A broker that was fenced off may still be talking: its word is not taken.
fn refuse_lower(offered: u64, seen: u64) -> Result<(), End> {
    if offered < seen {
        tracing::error!(offered, seen, "a broker with an older epoch is refused");
        return Err(End::Away(format!("epoch {offered} is older than {seen}")));
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
        let welcome =
            Welcome { epoch: 5, protocol: 1, slot_s: 60, now_ms: 0, acked: 0, market: String::new() };
        assert!(check(&welcome, 5, "").is_ok());
        assert!(check(&welcome, 6, "").is_err());
        assert!(check(&Welcome { protocol: 3, ..welcome.clone() }, 5, "").is_err());
        assert!(check(&Welcome { protocol: 2, ..welcome.clone() }, 5, "").is_ok());
        assert!(check(&Welcome { slot_s: 7, ..welcome.clone() }, 5, "").is_err());
        let other = Welcome { market: "b".into(), ..welcome.clone() };
        let refused = End::OtherMarket { ours: "a".into(), theirs: "b".into() };
        assert_eq!(check(&other, 5, "a"), Err(refused));
        assert!(
            check(&other, 5, "").is_ok() && check(&other, 5, "b").is_ok() && check(&welcome, 5, "a").is_ok()
        );
        assert!(Broker::new("http://127.0.0.1:1", "bad\ntoken").is_err());
    }

    #[test]
    fn a_replaced_agent_comes_back_ever_more_rarely() {
        let end = End::of(&Status::aborted("a newer connection of this agent replaced this one"));
        let lived = Some(Duration::from_secs(30));
        let mut wait = RECONNECT_MIN;
        let mut waits = Vec::new();
        for _ in 0..12 {
            let (now, next) = pause(wait, &end, lived);
            waits.push(now);
            wait = next;
        }
        assert!(waits.is_sorted() && waits[1] == RECONNECT_MIN * 2, "{waits:?}");
        assert_eq!(waits.last(), Some(&REPLACED_MAX));
        assert_eq!(pause(wait, &end, Some(REPLACED_CALM)).0, RECONNECT_MIN);
        assert_eq!(pause(wait, &End::away("gone"), None), (RECONNECT_MAX, RECONNECT_MAX));
        assert_eq!(pause(wait, &End::away("gone"), lived).0, RECONNECT_MIN);
    }

    #[test]
    fn what_a_person_must_mend_is_said_once_a_minute() {
        let (mut said, begin) = (Said::default(), Instant::now());
        let token = End::of(&Status::unauthenticated("who are you?"));
        let replaced = End::of(&Status::aborted("a newer connection of this agent replaced this one"));
        assert!(said.may_complain(&token, begin) && said.may_complain(&replaced, begin));
        assert!(!said.may_complain(&token, begin + COMPLAINT - Duration::from_millis(1)));
        assert!(said.may_complain(&token, begin + COMPLAINT));
        let text = replaced.complaint("http://b").expect("a complaint");
        assert!(text.starts_with("another agent uses this name or token"), "{text}");
        assert_eq!(End::of(&Status::unavailable("later")).complaint("http://b"), None);
    }
}
