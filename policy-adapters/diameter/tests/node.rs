//! Nodes over real sockets: loopback TCP and TLS. Every wait is for an event, with a bound.
#![allow(clippy::unwrap_used)]

mod support;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use support::messages::{self, ccr_initial, local, rar};
use support::rig::{PCEF, US, answer_to, code, header, peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tollway_diameter::avp::ietf;
use tollway_diameter::framer::Framer;
use tollway_diameter::machine::{Failure, PeerSettings, Proof};
use tollway_diameter::node::{
    Answer, Config, Dial, Direction, Event, Events, Handle, Listen, Node, PeerConfig, RequestError,
    StartError, Tls,
};
use tollway_diameter::watchdog::Timing;
use tollway_diameter::{Message, Writer, answer, application, command, result};

const APPLICATIONS: [u32; 1] = [application::GX];

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it happens within 20 s")
}

/// `(direction, command and kind)` of each frame, as it passes.
type Frames = mpsc::UnboundedReceiver<(Direction, String)>;

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn settings(host: &str, watchdog_ms: u64) -> PeerSettings {
    PeerSettings {
        proof: Proof::Addresses(vec![loopback().ip()]),
        watchdog: Timing { interval_ms: watchdog_ms, jitter_ms: watchdog_ms / 10, seed: 3 },
        ..peer(host, "example.net")
    }
}

fn config(host: &str, peers: Vec<PeerConfig>) -> (Config, Frames) {
    let (sender, frames) = mpsc::unbounded_channel();
    let trace = move |direction, _: &tollway_diameter::node::Link, bytes: &[u8]| {
        let header = tollway_diameter::Header::peek(bytes).expect("a frame");
        let name = tollway_diameter::grammar::name(header.application, header.command, header.is_request());
        let _ = sender.send((direction, name.to_owned()));
    };
    let listen = vec![Listen { address: loopback(), is_tls: false }];
    let local = local(host, &APPLICATIONS);
    (Config { local, peers, listen, tls: None, trace: Some(Arc::new(trace)) }, frames)
}

fn awaited(host: &str, watchdog_ms: u64) -> PeerConfig {
    PeerConfig { settings: settings(host, watchdog_ms), dial: None }
}

fn dialed(host: &str, watchdog_ms: u64, to: SocketAddr) -> PeerConfig {
    PeerConfig {
        settings: settings(host, watchdog_ms),
        dial: Some(Dial { address: to.to_string(), is_tls: false }),
    }
}

async fn until(events: &mut Events, wanted: impl Fn(&Event) -> bool) -> Event {
    within(async {
        loop {
            let event = events.recv().await.expect("the node runs");
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
}

async fn usable(events: &mut Events) {
    until(events, |event| matches!(event, Event::Usable { .. })).await;
}

async fn seen(frames: &mut Frames, direction: Direction, name: &str, times: usize) {
    for _ in 0..times {
        within(async {
            while frames.recv().await.expect("the node runs") != (direction, name.to_owned()) {}
        })
        .await;
    }
}

/// Answers every request with success.
fn serve(mut events: Events) {
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let Event::Request(request) = event {
                let message = request.frame.message();
                let answer =
                    answer::answer_with(&message, &messages::origin("any.example.net"), result::SUCCESS);
                request.responder.answer(answer.finish().expect("it fits"));
            }
        }
    });
}

fn code_of(answer: &Answer) -> u32 {
    code(answer.frame.bytes())
}

async fn pair(watchdog_ms: u64) -> ((Handle, Events, Frames), (Handle, Events, Frames)) {
    let (pcrf, pcrf_frames) = config(US, vec![awaited(PCEF, watchdog_ms)]);
    let (pcrf, mut pcrf_events) = Node::start(pcrf).await.unwrap();
    let (pcef, pcef_frames) = config(PCEF, vec![dialed(US, watchdog_ms, pcrf.listening()[0])]);
    let (pcef, mut pcef_events) = Node::start(pcef).await.unwrap();
    usable(&mut pcrf_events).await;
    usable(&mut pcef_events).await;
    ((pcrf, pcrf_events, pcrf_frames), (pcef, pcef_events, pcef_frames))
}

#[tokio::test]
async fn two_nodes_meet_watch_each_other_and_part() {
    let ((pcrf, mut pcrf_events, mut pcrf_frames), (pcef, _pcef_events, mut pcef_frames)) = pair(50).await;
    seen(&mut pcrf_frames, Direction::In, "CER", 1).await;
    seen(&mut pcrf_frames, Direction::Out, "CEA", 1).await;
    seen(&mut pcef_frames, Direction::In, "DWA", 3).await;
    seen(&mut pcrf_frames, Direction::In, "DWR", 3).await;
    let view = &pcrf.peers().await[0];
    assert_eq!((view.host.as_str(), view.state, view.is_usable), (PCEF, "R-Open", true));
    assert!(view.counters.watchdogs.requests_in >= 3);
    within(pcef.stop()).await;
    seen(&mut pcrf_frames, Direction::In, "DPR", 1).await;
    seen(&mut pcef_frames, Direction::In, "DPA", 1).await;
    let lost = until(&mut pcrf_events, |event| matches!(event, Event::Lost { .. })).await;
    assert!(matches!(lost, Event::Lost { why: "the peer disconnects", .. }));
    assert_eq!(pcef.request(rar(), None).await, Err(RequestError::Stopped));
    within(pcrf.stop()).await;
}

#[tokio::test]
async fn requests_go_both_ways_over_one_connection() {
    let ((pcrf, pcrf_events, _), (pcef, pcef_events, _)) = pair(30_000).await;
    serve(pcrf_events);
    serve(pcef_events);
    let mut tasks = Vec::new();
    for _ in 0..200 {
        let (pcrf, pcef) = (pcrf.clone(), pcef.clone());
        tasks.push(tokio::spawn(async move {
            // As each names the other in Destination-Host; the CCR names only the realm.
            let (up, down) = tokio::join!(pcef.request(ccr_initial(), None), pcrf.request(rar(), None));
            (code_of(&up.unwrap()), code_of(&down.unwrap()))
        }));
    }
    for task in tasks {
        assert_eq!(within(task).await.unwrap(), (result::SUCCESS, result::SUCCESS));
    }
    let view = &pcrf.peers().await[0];
    let counters = &view.counters;
    assert_eq!(counters.requests_in.get(&(application::GX, command::CREDIT_CONTROL)), 200);
    assert_eq!(counters.requests_out.get(&(application::GX, command::RE_AUTH)), 200);
    assert_eq!((view.pending, view.incoming, counters.opened, counters.duplicates), (0, 0, 1, 0));
}

/// A gateway that gets a RAR before the CCA of the same session does not know the session yet.
#[tokio::test]
async fn an_answer_leaves_before_what_was_asked_after_it() {
    let ((pcrf, mut pcrf_events, mut frames), (pcef, pcef_events, _)) = pair(30_000).await;
    serve(pcef_events);
    for _ in 0..50 {
        let asking = tokio::spawn({
            let pcef = pcef.clone();
            async move { pcef.request(ccr_initial(), None).await }
        });
        let event = until(&mut pcrf_events, |event| matches!(event, Event::Request(_))).await;
        let Event::Request(request) = event else { unreachable!("it was looked at") };
        let answer = answer::answer_with(&request.frame.message(), &messages::origin(US), result::SUCCESS);
        request.responder.answer(answer.finish().unwrap());
        within(pcrf.request(rar(), None)).await.unwrap();
        within(asking).await.unwrap().unwrap();
        let out = std::iter::from_fn(|| frames.try_recv().ok());
        let out: Vec<String> =
            out.filter(|(direction, _)| *direction == Direction::Out).map(|(_, name)| name).collect();
        assert!(out.ends_with(&["CCA".to_owned(), "RAR".to_owned()]), "{out:?}");
    }
}

#[tokio::test]
async fn both_dial_and_one_connection_stays() {
    // Ports are reserved first, since each must know the other's.
    let ports: Vec<std::net::TcpListener> =
        (0..2).map(|_| std::net::TcpListener::bind(loopback()).unwrap()).collect();
    let addresses: Vec<SocketAddr> = ports.iter().map(|port| port.local_addr().unwrap()).collect();
    drop(ports);
    let (mut pcrf, _) = config(US, vec![dialed(PCEF, 30_000, addresses[1])]);
    let (mut pcef, _) = config(PCEF, vec![dialed(US, 30_000, addresses[0])]);
    pcrf.listen[0].address = addresses[0];
    pcef.listen[0].address = addresses[1];
    let ((pcrf, mut pcrf_events), (pcef, mut pcef_events)) =
        within(async { tokio::join!(Node::start(pcrf), Node::start(pcef)) }).await.map_both();
    usable(&mut pcrf_events).await;
    usable(&mut pcef_events).await;
    serve(pcef_events);
    serve(pcrf_events);
    assert_eq!(code_of(&within(pcrf.request(rar(), None)).await.unwrap()), result::SUCCESS);
    assert_eq!(code_of(&within(pcef.request(ccr_initial(), None)).await.unwrap()), result::SUCCESS);
}

trait Both<T> {
    fn map_both(self) -> (T, T);
}

impl<T, E: std::fmt::Debug> Both<T> for (Result<T, E>, Result<T, E>) {
    fn map_both(self) -> (T, T) {
        (self.0.unwrap(), self.1.unwrap())
    }
}

/// A scripted other end on a plain socket.
struct Raw {
    stream: TcpStream,
    framer: Framer,
}

impl Raw {
    async fn send(&mut self, bytes: &[u8]) {
        within(self.stream.write_all(bytes)).await.unwrap();
    }

    /// The next frame, or none when the other side has closed.
    async fn frame(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(frame) = self.framer.next_frame().unwrap() {
                return Some(frame.to_vec());
            }
            let mut buffer = [0; 4096];
            let len = within(self.stream.read(&mut buffer)).await.unwrap_or(0);
            if len == 0 {
                return None;
            }
            self.framer.push(&buffer[..len]);
        }
    }

    async fn connect(to: SocketAddr) -> Raw {
        Raw { stream: within(TcpStream::connect(to)).await.unwrap(), framer: Framer::default() }
    }

    /// Connects as a peer and gets its CEA.
    async fn open(to: SocketAddr, host: &str) -> Raw {
        let mut raw = Raw::connect(to).await;
        raw.send(&local(host, &APPLICATIONS).cer().unwrap()).await;
        assert_eq!(code(&raw.frame().await.unwrap()), result::SUCCESS);
        raw
    }
}

#[tokio::test]
async fn bytes_may_come_one_by_one_and_bad_ones_close_their_connection_only() {
    let (node, _) = config(US, vec![awaited(PCEF, 30_000), awaited("two.example.net", 30_000)]);
    let (node, mut events) = Node::start(node).await.unwrap();
    let mut slow = Raw::connect(node.listening()[0]).await;
    for byte in local(PCEF, &APPLICATIONS).cer().unwrap() {
        slow.send(&[byte]).await;
    }
    assert_eq!(code(&slow.frame().await.unwrap()), result::SUCCESS);
    for bytes in [vec![1, 0, 0, 0], vec![0x16, 3, 1, 0], ccr_initial()] {
        let mut bad = Raw::connect(node.listening()[0]).await;
        bad.send(&bytes).await;
        assert_eq!(bad.frame().await, None);
    }
    // An open peer that sends nonsense hears why and is closed.
    let mut two = Raw::open(node.listening()[0], "two.example.net").await;
    let mut long = ccr_initial();
    long[1] = 0xff;
    two.send(&long).await;
    assert_eq!(code(&two.frame().await.unwrap()), result::INVALID_MESSAGE_LENGTH);
    assert_eq!(two.frame().await, None);
    until(&mut events, |event| matches!(event, Event::Lost { peer, .. } if &**peer == "two.example.net"))
        .await;
    for (what, bytes, expected) in messages::killers() {
        slow.send(&bytes).await;
        assert_eq!(code(&slow.frame().await.unwrap()), expected, "{what}");
    }
    slow.send(&ccr_initial()).await;
    until(&mut events, |event| matches!(event, Event::Request(_))).await;
    // The responder was dropped with the event.
    assert_eq!(code(&slow.frame().await.unwrap()), result::UNABLE_TO_COMPLY);
}

#[tokio::test]
async fn a_cer_without_our_applications_gets_5010() {
    let (node, _) = config(US, vec![awaited(PCEF, 30_000)]);
    let (node, mut events) = Node::start(node).await.unwrap();
    let mut raw = Raw::connect(node.listening()[0]).await;
    raw.send(&local(PCEF, &[4]).cer().unwrap()).await;
    assert_eq!(code(&raw.frame().await.unwrap()), result::NO_COMMON_APPLICATION);
    assert_eq!(raw.frame().await, None);
    let is_told =
        |event: &Event| matches!(event, Event::Stranger { code: result::NO_COMMON_APPLICATION, .. });
    until(&mut events, is_told).await;
}

#[tokio::test]
async fn a_silent_peer_is_suspect_and_its_request_goes_elsewhere() {
    let relay = PeerConfig { settings: settings("relay.example.net", 30_000), dial: None };
    let (node, _) = config(US, vec![awaited(PCEF, 100), relay]);
    let (node, mut events) = Node::start(node).await.unwrap();
    let mut silent = Raw::open(node.listening()[0], PCEF).await;
    let mut relay = Raw::connect(node.listening()[0]).await;
    relay.send(&local("relay.example.net", &[application::RELAY]).cer().unwrap()).await;
    assert_eq!(code(&relay.frame().await.unwrap()), result::SUCCESS);
    let asking = tokio::spawn({
        let node = node.clone();
        async move { node.request(rar(), Some(Duration::from_secs(15))).await }
    });
    let is_rar = |bytes: &[u8]| header(bytes).command == command::RE_AUTH;
    let mut first = silent.frame().await.unwrap();
    while !is_rar(&first) {
        first = silent.frame().await.unwrap();
    }
    let first = header(&first);
    until(&mut events, |event| matches!(event, Event::Suspect { .. })).await;
    let again = relay.frame().await.unwrap();
    assert!(is_rar(&again) && header(&again).is_retransmitted() && !first.is_retransmitted());
    assert_eq!(header(&again).end_to_end, first.end_to_end);
    relay.send(&answer_to(&again, result::SUCCESS)).await;
    let answered = within(asking).await.unwrap().unwrap();
    assert_eq!((&*answered.peer, code_of(&answered)), ("relay.example.net", result::SUCCESS));
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_closed() {
    let (node, _) = config(US, vec![awaited(PCEF, 30_000)]);
    let (node, mut events) = Node::start(node).await.unwrap();
    let _deaf = Raw::open(node.listening()[0], PCEF).await;
    usable(&mut events).await;
    let mut writer = Writer::request(command::RE_AUTH, application::GX);
    writer.text(ietf::DESTINATION_REALM, "example.net");
    writer.octets(ietf::CLASS, &[0; 60_000]);
    let bytes = writer.finish().unwrap();
    for _ in 0..2_000 {
        tokio::spawn({
            let (node, bytes) = (node.clone(), bytes.clone());
            async move { node.request(bytes, None).await }
        });
    }
    until(&mut events, |event| matches!(event, Event::Lost { .. })).await;
}

#[tokio::test]
async fn a_dialer_tries_again_and_says_why_not() {
    let port = TcpListener::bind(loopback()).await.unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let (node, _) = config(PCEF, vec![dialed(US, 30_000, address)]);
    let (node, mut events) = Node::start(node).await.unwrap();
    until(&mut events, |event| matches!(event, Event::Refused { why: "no connection", .. })).await;
    let no_route = RequestError::Failed(Failure::NoRoute);
    assert_eq!(within(node.request(ccr_initial(), None)).await, Err(no_route));
    let (mut other, _) = config(US, vec![awaited(PCEF, 30_000)]);
    other.listen[0].address = address;
    let (_other, _other_events) = Node::start(other).await.unwrap();
    usable(&mut events).await;
}

/// Certificate and key of a name, and the authority that its holder believes.
fn tls(name: &str) -> Tls {
    let read =
        |file: String| std::fs::read(format!("{}/tests/tls/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let key = read(format!("{name}.key"));
    Tls::from_pem(&read(format!("{name}.pem")), &key, &read("ca.pem".to_owned())).unwrap()
}

async fn tls_node(host: &str, tls: &Tls, peers: Vec<PeerConfig>) -> (Handle, Events) {
    let (mut config, _) = config(host, peers);
    config.listen[0].is_tls = true;
    config.tls = Some(tls.clone());
    Node::start(config).await.unwrap()
}

fn by_certificate(mut peer: PeerConfig) -> PeerConfig {
    peer.settings.proof = Proof::Certificate;
    peer.dial.iter_mut().for_each(|dial| dial.is_tls = true);
    peer
}

#[tokio::test]
async fn tls_is_mutual_and_the_certificate_binds_the_name() {
    let peers =
        vec![by_certificate(awaited(PCEF, 30_000)), by_certificate(awaited("two.example.net", 30_000))];
    let (pcrf, mut pcrf_events) = tls_node(US, &tls("pcrf"), peers).await;
    let address = pcrf.listening()[0];
    let good = by_certificate(dialed(US, 30_000, address));
    let (pcef, mut pcef_events) = tls_node(PCEF, &tls("pcef"), vec![good.clone()]).await;
    usable(&mut pcrf_events).await;
    usable(&mut pcef_events).await;
    serve(pcef_events);
    assert_eq!(code_of(&within(pcrf.request(rar(), None)).await.unwrap()), result::SUCCESS);
    // The certificate names pcef, the CER somebody else.
    let (_liar, mut liar_events) = tls_node("two.example.net", &tls("pcef"), vec![good.clone()]).await;
    until(&mut liar_events, |event| matches!(event, Event::Refused { code: result::UNKNOWN_PEER, .. })).await;
    let is_told = |event: &Event| matches!(event, Event::Stranger { code: result::UNKNOWN_PEER, .. });
    until(&mut pcrf_events, is_told).await;
    // Signed by somebody else: no handshake.
    let (_other, mut other_events) = tls_node("two.example.net", &tls("stranger"), vec![good]).await;
    until(&mut other_events, |event| matches!(event, Event::Refused { .. })).await;
    // A dialer wants the name it dials.
    let wrong = by_certificate(dialed("x.example.net", 30_000, address));
    let (_wrong, mut wrong_events) = tls_node("two.example.net", &tls("two"), vec![wrong]).await;
    until(&mut wrong_events, |event| matches!(event, Event::Refused { why: "no connection", .. })).await;
    assert!(pcef.peers().await[0].is_usable);
}

#[tokio::test]
async fn tls_without_a_certificate_does_not_start() {
    let (mut config, _) = config(US, Vec::new());
    config.listen[0].is_tls = true;
    assert!(matches!(Node::start(config).await, Err(StartError::NoTls)));
    let (config, _) = self::config(US, vec![by_certificate(awaited(PCEF, 1))]);
    assert!(matches!(Node::start(config).await, Err(StartError::Unreachable(_))));
    let message = Message::parse(&rar()).map(|message| message.is_request());
    assert_eq!(message, Ok(true));
}
