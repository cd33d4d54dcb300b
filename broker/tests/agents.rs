//! The agents' link: what goes down, what comes up, who is refused.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use std::sync::{Arc, Mutex, OnceLock};
use support::{AGENT_TOKEN, Broker, Dir, PATIENCE, SHOP_TOKEN, until};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tollway::agents::Service;
use tollway::auth::Keys;
use tollway::store::Place;
use tollway_core::reservation::LegState;
use tollway_model::ReservationId;
use tollway_proto::agent_v1::agent_link_client::AgentLinkClient;
use tollway_proto::agent_v1::{self as proto, FromAgent, ToAgent, from_agent, to_agent};
use tonic::{Code, Request, Status, Streaming};

struct Lit {
    broker: Broker,
    url: String,
    _dir: Dir,
}

async fn lit(name: &str) -> Lit {
    let dir = Dir::new(name);
    let broker = Broker::start(dir.path()).await;
    light(dir, broker).await
}

async fn light(dir: Dir, broker: Broker) -> Lit {
    let keys = Arc::new(Keys::new(support::settings().keys).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = Service::new(Arc::clone(&broker.started.hub), broker.started.handle.clone(), keys);
    tokio::spawn(
        tonic::transport::Server::builder()
            .serve_with_incoming(service.into_server(), TcpListenerStream::new(listener)),
    );
    Lit { broker, url, _dir: dir }
}

struct Agent {
    up: mpsc::Sender<FromAgent>,
    down: Streaming<ToAgent>,
}

fn hello() -> proto::Hello {
    proto::Hello {
        agent: "router1".to_owned(),
        protocol: 1,
        software: "test".to_owned(),
        boot_id: "b".to_owned(),
        epoch: 1,
        now_ms: 1,
        capabilities: vec!["leaf=bfifo".to_owned()],
        ports: vec![],
        market: String::new(),
    }
}

async fn open(url: &str, token: Option<&str>) -> Result<Agent, Status> {
    let mut client = AgentLinkClient::connect(url.to_owned()).await.unwrap();
    let (up, outbound) = mpsc::channel(64);
    let mut request = Request::new(ReceiverStream::new(outbound));
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let down = client.link(request).await?.into_inner();
    Ok(Agent { up, down })
}

impl Agent {
    async fn say(&self, message: from_agent::Message) {
        self.up.send(FromAgent { message: Some(message) }).await.unwrap();
    }

    async fn next(&mut self) -> Result<to_agent::Message, Status> {
        let next =
            tokio::time::timeout(PATIENCE, self.down.message()).await.expect("a message comes in time");
        match next? {
            Some(message) => Ok(message.message.unwrap()),
            None => Err(Status::cancelled("the stream ended")),
        }
    }

    /// The status that ends the stream, whatever came before.
    async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }
}

async fn connected(lit: &Lit) -> (Agent, proto::Welcome, proto::DesiredSet) {
    let mut agent = open(&lit.url, Some(AGENT_TOKEN)).await.unwrap();
    agent.say(from_agent::Message::Hello(hello())).await;
    let to_agent::Message::Welcome(welcome) = agent.next().await.unwrap() else { panic!("no welcome") };
    let to_agent::Message::Desired(desired) = agent.next().await.unwrap() else { panic!("no set") };
    (agent, welcome, desired)
}

fn leg(id: ReservationId, attempt: u32, kind: proto::leg_report::Kind, at_ms: u64) -> proto::Report {
    proto::Report {
        report: Some(proto::report::Report::Leg(proto::LegReport {
            reservation: id.0,
            index: 0,
            attempt,
            kind: kind.into(),
            at_ms,
            reason: "port down".to_owned(),
        })),
    }
}

fn batch(number: u64, reports: Vec<proto::Report>) -> from_agent::Message {
    from_agent::Message::Reports(proto::ReportBatch { number, now_ms: 1, reports })
}

async fn leg_state(lit: &Lit, id: ReservationId) -> LegState {
    lit.broker.started.reader.reservation(id).await.unwrap().unwrap().leg.state
}

#[tokio::test(flavor = "multi_thread")]
async fn desired_legs_go_down_and_reports_are_acknowledged_when_durable() {
    use proto::leg_report::Kind;
    let lit = lit("agent").await;
    lit.broker.top_up(1, 9_000_000).await.unwrap();
    let held = lit.broker.hold(10, 2_000_000, 0, 60).await;
    let sent = lit.broker.confirm(12, &held).await.leg.since.0;
    let (mut agent, welcome, desired) = connected(&lit).await;
    assert_eq!((welcome.epoch, welcome.slot_s, welcome.acked, welcome.protocol), (1, 5, 0, 1));
    assert_eq!(welcome.market, lit.broker.started.ids.market_id());
    assert_eq!(desired.legs.len(), 1);
    assert_eq!(desired.legs[0].reservation, held.id.0);
    let at = sent + 1;
    agent.say(batch(1, vec![leg(held.id, 1, Kind::Accepted, at), leg(held.id, 1, Kind::Active, at)])).await;
    let to_agent::Message::Ack(ack) = agent.next().await.unwrap() else { panic!("no ack") };
    assert_eq!(ack.number, 1);
    // What is acknowledged is what a reader sees.
    assert_eq!(leg_state(&lit, held.id).await, LegState::Active);
    // Times beyond the engine's own would be cut to it, and an interval that takes no time is none.
    until("time goes on", || lit.broker.started.handle.snapshot().gauges.at.0 > at + 9).await;
    agent.say(batch(2, vec![leg(held.id, 1, Kind::Lost, at + 5)])).await;
    agent.say(batch(2, vec![leg(held.id, 1, Kind::Active, at + 9)])).await;
    agent.say(batch(3, vec![leg(held.id, 1, Kind::Active, at + 9)])).await;
    for number in [2, 2, 3] {
        let to_agent::Message::Ack(ack) = agent.next().await.unwrap() else { panic!("no ack") };
        assert_eq!(ack.number, number);
    }
    let reader = &lit.broker.started.reader;
    let kinds: Vec<&str> = reader
        .events(held.id, Place::START, 100)
        .await
        .unwrap()
        .rows
        .iter()
        .map(|event| event.kind.as_str())
        .collect();
    assert_eq!(kinds, ["held", "confirmed", "started", "degraded", "restored"]);
    let intervals = reader.intervals(held.id, Place::START, 100).await.unwrap().rows;
    let states: Vec<&str> = intervals.iter().map(|interval| interval.state.as_str()).collect();
    assert_eq!(states.last(), Some(&"active"), "{states:?}");
    assert!(states.contains(&"lost"), "{states:?}");
    // A change goes down at once; a release when it is cancelled.
    lit.broker.cancel(30, &held).await;
    let to_agent::Message::Release(release) = agent.next().await.unwrap() else { panic!("no release") };
    assert_eq!((release.reservation, release.attempt), (held.id.0, 1));
    // The acknowledged number survives; a new connection replaces the old one.
    let (_second, welcome, desired) = connected(&lit).await;
    assert_eq!((welcome.acked, desired.legs.len()), (3, 0));
    assert_eq!(agent.end().await.code(), Code::Aborted);
    let known = lit.broker.started.hub.directory().agents();
    assert_eq!(known.len(), 1);
    assert!(known[0].connected && known[0].capabilities == ["leaf=bfifo"]);
    assert!(known[0].clock_offset_ms < -1_000, "its clock says 1970");
    lit.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_that_the_store_lost_are_asked_for_again_and_none_is_skipped() {
    use proto::leg_report::Kind;
    let dir = Dir::new("lost-reports");
    let (broker, faults) = Broker::start_faulty(dir.path()).await;
    let lit = light(dir, broker).await;
    lit.broker.top_up(1, 9_000_000).await.unwrap();
    let held = lit.broker.hold(10, 2_000_000, 0, 60).await;
    lit.broker.confirm(12, &held).await;
    let at = held.created.0 + 1;
    let first = || batch(1, vec![leg(held.id, 1, Kind::Accepted, at), leg(held.id, 1, Kind::Active, at)]);
    let second = || batch(2, vec![leg(held.id, 1, Kind::Lost, at + 1)]);
    let (mut agent, _, _) = connected(&lit).await;
    faults.next(support::Fault::Lost);
    agent.say(first()).await;
    // Said on a connection that is about to end: it must not be taken before the one that was lost.
    let _ = agent.up.send(FromAgent { message: Some(second()) }).await;
    assert_eq!(agent.end().await.code(), Code::Unavailable);
    until("the store takes records again", || lit.broker.started.handle.readiness().is_ok()).await;
    let (mut agent, welcome, desired) = connected(&lit).await;
    assert_eq!((welcome.acked, desired.legs.len()), (0, 1));
    agent.say(first()).await;
    agent.say(second()).await;
    for number in [1, 2] {
        let to_agent::Message::Ack(ack) = agent.next().await.unwrap() else { panic!("no ack") };
        assert_eq!(ack.number, number);
    }
    assert_eq!(leg_state(&lit, held.id).await, LegState::Lost);
    lit.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_leaves_others_out_ends_the_connection_and_none_is_lost() {
    use proto::leg_report::Kind;
    let lit = lit("gap").await;
    lit.broker.top_up(1, 9_000_000).await.unwrap();
    let held = lit.broker.hold(10, 2_000_000, 0, 60).await;
    lit.broker.confirm(12, &held).await;
    let at = held.created.0 + 1;
    let report = |number: u64, kind| batch(number, vec![leg(held.id, 1, kind, at + number)]);
    let (mut agent, _, _) = connected(&lit).await;
    // What the agent had to throw away is not waited for.
    agent.say(report(4, Kind::Accepted)).await;
    let to_agent::Message::Ack(ack) = agent.next().await.unwrap() else { panic!("no ack") };
    assert_eq!(ack.number, 4);
    agent.say(report(6, Kind::Lost)).await;
    let status = agent.end().await;
    assert_eq!(status.code(), Code::DataLoss);
    assert!(status.message().contains("batch 6 came after batch 4"), "{status}");
    let (mut agent, welcome, _) = connected(&lit).await;
    assert_eq!(welcome.acked, 4, "the one that came too early was not taken");
    agent.say(report(5, Kind::Active)).await;
    agent.say(report(6, Kind::Lost)).await;
    for number in [5, 6] {
        let to_agent::Message::Ack(ack) = agent.next().await.unwrap() else { panic!("no ack") };
        assert_eq!(ack.number, number);
    }
    let kinds = lit.broker.started.reader.events(held.id, Place::START, 100).await.unwrap().rows;
    assert!(kinds.iter().any(|event| event.kind.as_str() == "degraded"), "{kinds:?}");
    lit.broker.stop().await;
}

/// Everything that this process logs, for all tests of this file.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn start() -> Log {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Log::default();
            let made = log.clone();
            let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || made.clone());
            tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
            log
        })
        .clone()
    }

    /// Lines that contain all of these.
    fn lines(&self, wanted: &[&str]) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| wanted.iter().all(|want| line.contains(want))).map(str::to_owned).collect()
    }
}

fn figures(lit: &Lit) -> String {
    let metrics = tollway::telemetry::metrics::Metrics::new().unwrap();
    metrics.render(&lit.broker.started.handle, lit.broker.started.hub.directory(), None).unwrap()
}

async fn asked_again(agent: &mut Agent) -> u32 {
    loop {
        if let to_agent::Message::Upsert(leg) = agent.next().await.unwrap() {
            return leg.attempt;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_is_told_of_refused_and_lost_legs() {
    use proto::leg_report::Kind;
    let log = Log::start();
    let lit = lit("told").await;
    let point = r#"enforcement_point="router1""#;
    assert!(figures(&lit).contains(&format!("tollway_legs_lost_total{{{point}}} 0")), "from the start");
    lit.broker.top_up(1, 9_000_000).await.unwrap();
    let held = lit.broker.hold(10, 2_000_000, 0, 60).await;
    lit.broker.confirm(12, &held).await;
    let id = lit.broker.started.ids.reservation(held.id);
    let at = held.created.0 + 1;
    let (mut agent, _, _) = connected(&lit).await;
    agent.say(batch(1, vec![leg(held.id, 1, Kind::Refused, at)])).await;
    let again = asked_again(&mut agent).await;
    agent.say(batch(2, vec![leg(held.id, again, Kind::Refused, at)])).await;
    until("both are counted", || figures(&lit).contains(&format!("tollway_legs_refused_total{{{point}}} 2")))
        .await;
    let wanted = ["WARN", &id, "refused", "customer=shop-pos", "enforcement_point=router1", "port down"];
    assert_eq!(log.lines(&wanted).len(), 1, "{:?}", log.lines(&[&id]));
    let last = asked_again(&mut agent).await;
    let lost = vec![leg(held.id, last, Kind::Active, at), leg(held.id, last, Kind::Lost, at)];
    agent.say(batch(3, lost)).await;
    until("the leg is shown as lost", || {
        let shown = figures(&lit);
        shown.contains(&format!("tollway_legs{{{point},state=\"lost\"}} 1"))
            && shown.contains(&format!("tollway_legs_lost_total{{{point}}} 1"))
    })
    .await;
    assert_eq!(log.lines(&["WARN", &id, "a leg is lost", "port down"]).len(), 1, "{:?}", log.lines(&[&id]));
    assert!(log.lines(&["WARN", "10.10.0.2"]).is_empty(), "no subscriber's address");
    lit.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_wrong_versions_are_refused() {
    let log = Log::start();
    let lit = lit("stranger").await;
    for (token, code) in [
        (None, Code::Unauthenticated),
        (Some("nobody"), Code::Unauthenticated),
        (Some(SHOP_TOKEN), Code::PermissionDenied),
    ] {
        assert_eq!(open(&lit.url, token).await.err().unwrap().code(), code, "{token:?}");
    }
    let told = log.lines(&["WARN", "an agent is not let in", "127.0.0.1:"]);
    assert_eq!(told.len(), 1, "once an address and minute: {told:?}");
    assert!(told[0].contains("no API key was given") && !told[0].contains(SHOP_TOKEN), "{told:?}");
    let greetings = [
        (proto::Hello { agent: "router2".to_owned(), ..hello() }, Code::PermissionDenied),
        (proto::Hello { agent: String::new(), ..hello() }, Code::InvalidArgument),
        (proto::Hello { protocol: 3, ..hello() }, Code::FailedPrecondition),
        (proto::Hello { protocol: 0, ..hello() }, Code::FailedPrecondition),
        (proto::Hello { epoch: 2, ..hello() }, Code::FailedPrecondition),
        (proto::Hello { capabilities: vec![String::new(); 257], ..hello() }, Code::InvalidArgument),
    ];
    let other = proto::Hello { market: "0".repeat(32), ..hello() };
    for (greeting, code) in greetings.into_iter().chain([(other, Code::FailedPrecondition)]) {
        let mut agent = open(&lit.url, Some(AGENT_TOKEN)).await.unwrap();
        agent.say(from_agent::Message::Hello(greeting.clone())).await;
        assert_eq!(agent.end().await.code(), code, "{greeting:?}");
    }
    let mut agent = open(&lit.url, Some(AGENT_TOKEN)).await.unwrap();
    agent.say(from_agent::Message::Heartbeat(proto::Heartbeat { now_ms: 1 })).await;
    assert_eq!(agent.end().await.code(), Code::InvalidArgument);
    // One version to either side is spoken.
    let mut agent = open(&lit.url, Some(AGENT_TOKEN)).await.unwrap();
    agent.say(from_agent::Message::Hello(proto::Hello { protocol: 2, ..hello() })).await;
    let to_agent::Message::Welcome(welcome) = agent.next().await.unwrap() else { panic!("no welcome") };
    assert_eq!(welcome.protocol, 1);
    lit.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_frames_end_the_connection_and_change_nothing() {
    let lit = lit("hostile").await;
    let before = lit.broker.last_seq().await;
    let at = lit.broker.started.handle.snapshot().gauges.at.0;
    let good = || leg(ReservationId(1), 1, proto::leg_report::Kind::Active, at);
    let frames = [
        Some(batch(1, vec![good(); 1_001])),
        Some(batch(1, vec![proto::Report { report: None }])),
        Some(batch(0, vec![good()])),
        Some(batch(1, vec![leg(ReservationId(0), 1, proto::leg_report::Kind::Active, at)])),
        Some(batch(1, vec![leg(ReservationId(1), 1, proto::leg_report::Kind::Active, u64::MAX)])),
        Some(from_agent::Message::Hello(hello())),
        None,
    ];
    for frame in frames {
        let (mut agent, _, _) = connected(&lit).await;
        agent.up.send(FromAgent { message: frame.clone() }).await.unwrap();
        assert_eq!(agent.end().await.code(), Code::InvalidArgument, "{frame:?}");
    }
    assert_eq!(lit.broker.last_seq().await, before);
    // The next one is served as ever; what names nobody leaves a record and no fact.
    let (mut agent, welcome, _) = connected(&lit).await;
    assert_eq!(welcome.acked, 0);
    agent.say(batch(1, vec![good()])).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.push(match agent.next().await.unwrap() {
            to_agent::Message::Ack(ack) => format!("ack {}", ack.number),
            to_agent::Message::Release(release) => format!("release {}", release.reservation),
            other => panic!("{other:?}"),
        });
    }
    seen.sort();
    assert_eq!(seen, ["ack 1", "release 1"]);
    lit.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vanished_agent_is_shown_as_gone() {
    let lit = lit("vanished").await;
    let (agent, _, _) = connected(&lit).await;
    let log = Log::start();
    drop(agent);
    let directory = Arc::clone(lit.broker.started.hub.directory());
    until("the agent is shown as gone", || directory.agents().iter().all(|agent| !agent.connected)).await;
    until("it is said", || !log.lines(&["INFO", "agent disconnected", "router1"]).is_empty()).await;
    assert!(log.lines(&["WARN", "h2"]).is_empty(), "that an agent stops is no alarm");
    lit.broker.stop().await;
}
