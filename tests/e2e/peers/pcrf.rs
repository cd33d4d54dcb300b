//! The PCRF: the node's sockets and the session machine, with a store that is always up.

use super::capture::Capture;
use super::within;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tollway_diameter::capabilities::Local;
use tollway_diameter::machine::{Failure, PeerSettings, Proof, RequestId};
use tollway_diameter::node::{
    Config, Dial, Direction, Event, Events, Handle, Link, Listen, Node, PeerConfig,
};
use tollway_diameter::node::{RequestError, Responder};
use tollway_diameter::watchdog::Timing;
use tollway_diameter::{Frame, Origin, application};
use tollway_gx::profile::Table;
use tollway_gx::{Desire, Gate, Gateway, Input, Known, Machine, Output, QosClass, Settings, Terms, Token};
use tollway_model::{
    BitsPerSecond, Flow, LegId, Protocol, ReservationId, Schedule, SlotLength, Timestamp, Window,
};
use tollway_policy::{
    ClassShape, DesiredLeg, Metering, MobileAccess, PolicyReport, Report, SessionReport, Side, SubscriberRef,
};

pub const HOST: &str = "broker.example.net";
pub const REALM: &str = "example.net";
pub const APN: &str = "internet";
pub const NETWORK: &str = "99970";
const SLOT_S: u32 = 5;

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    Timestamp(since.as_millis() as u64)
}

pub fn imsi(subscriber: u64) -> String {
    format!("99970{subscriber:010}")
}

pub fn device(subscriber: u8) -> [u8; 4] {
    [10, 45, 0, subscriber]
}

fn profiles() -> Table {
    let rows: Vec<String> = (1..=20)
        .map(|n| format!("imsi:{},internet,{n},9,15,100000000,100000000,any:standing:10", imsi(n)))
        .collect();
    Table::from_csv(&format!("{}\n{}\n", tollway_gx::profile::COLUMNS, rows.join("\n"))).expect("good rows")
}

/// A peer that connects to us from one of these addresses, or that we dial.
pub struct Peer {
    pub host: &'static str,
    pub from: IpAddr,
    pub dial: Option<SocketAddr>,
    /// Between watchdog requests of ours.
    pub watchdog_ms: u64,
    pub is_relay: bool,
}

impl Peer {
    fn config(self) -> PeerConfig {
        let settings = PeerSettings {
            host: self.host.into(),
            realm: REALM.into(),
            relays: if self.is_relay { vec![REALM.into()] } else { Vec::new() },
            dials: self.dial.is_some(),
            proof: Proof::Addresses(vec![self.from]),
            watchdog: Timing { interval_ms: self.watchdog_ms, jitter_ms: self.watchdog_ms / 10, seed: 5 },
        };
        let dial = self.dial.map(|address| Dial { address: address.to_string(), is_tls: false });
        PeerConfig { settings, dial }
    }
}

pub struct Pcrf {
    pub handle: Handle,
    pub address: SocketAddr,
    pub capture: Capture,
    inputs: mpsc::UnboundedSender<Input>,
    said: mpsc::UnboundedReceiver<String>,
}

/// What answers of pushes and test inputs come through.
struct Driver {
    machine: Machine<Table>,
    gate: Gate,
    handle: Handle,
    relays: Vec<&'static str>,
    inputs: mpsc::UnboundedSender<Input>,
    said: mpsc::UnboundedSender<String>,
    responders: BTreeMap<Token, Responder>,
    next_token: u64,
}

enum Next {
    Event(Event),
    Input(Input),
}

impl Pcrf {
    /// Listens on `address` and starts with these peers.
    pub async fn start(address: SocketAddr, peers: Vec<Peer>, gateway: Gateway) -> Pcrf {
        let capture = Capture::default();
        let relays = peers.iter().filter(|peer| peer.is_relay).map(|peer| peer.host).collect();
        let origin = Origin { host: HOST.into(), realm: REALM.into(), state_id: now().ms() as u32 / 1_000 };
        let local = Local {
            origin: origin.clone(),
            addresses: vec![address.ip()],
            product: "tollway".into(),
            firmware: 1,
            applications: vec![application::GX],
        };
        let frames = capture.clone();
        let trace = move |direction: Direction, link: &Link, bytes: &[u8]| match direction {
            Direction::In => frames.take(link.remote, link.local, bytes),
            Direction::Out => frames.take(link.local, link.remote, bytes),
        };
        let config = Config {
            local,
            peers: peers.into_iter().map(Peer::config).collect(),
            listen: vec![Listen { address, is_tls: false }],
            tls: None,
            trace: Some(Arc::new(trace)),
        };
        let (handle, events) = Node::start(config).await.expect("the node starts");
        let settings = Settings {
            origin,
            apns: vec![APN.into()],
            home_plmns: vec![NETWORK.into()],
            gateways: BTreeMap::new(),
            gateway,
            slot_length: SlotLength::from_secs(SLOT_S).expect("a length"),
            incarnation: 1,
        };
        let (inputs, from_inputs) = mpsc::unbounded_channel();
        let (said, facts) = mpsc::unbounded_channel();
        let driver = Driver {
            machine: Machine::new(settings, profiles()).expect("good settings"),
            gate: Gate::default(),
            handle: handle.clone(),
            relays,
            inputs: inputs.clone(),
            said,
            responders: BTreeMap::new(),
            next_token: 0,
        };
        tokio::spawn(driver.run(events, from_inputs));
        inputs.send(Input::Ready).expect("the driver runs");
        let address = handle.listening()[0];
        Pcrf { handle, address, capture, inputs, said: facts }
    }

    pub fn input(&self, input: Input) {
        self.inputs.send(input).expect("the driver runs");
    }

    pub fn desire(&self, desire: Desire) {
        self.input(Input::Desire(Box::new(desire)));
    }

    pub fn release(&self, reservation: u64, subscriber: u64) {
        self.input(Input::Release { leg: leg(reservation), attempt: 1, access: access(subscriber) });
    }

    /// The next word that starts so; those before it are passed over.
    pub async fn hears(&mut self, start: &str) -> String {
        let mut passed = Vec::new();
        let waiting = async {
            loop {
                let word = self.said.recv().await.expect("the driver runs");
                if word.starts_with(start) {
                    return word;
                }
                passed.push(word);
            }
        };
        match tokio::time::timeout(super::BOUND, waiting).await {
            Ok(word) => word,
            Err(_) => panic!("{start:?} was not said; instead: {passed:#?}"),
        }
    }

    /// Words that were said and not yet heard.
    pub fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.said.try_recv().ok()).collect()
    }

    pub async fn stop(self) -> Capture {
        within("the node stops", self.handle.stop()).await;
        self.capture
    }
}

impl Driver {
    async fn run(mut self, mut events: Events, mut inputs: mpsc::UnboundedReceiver<Input>) {
        loop {
            let wait_ms = self.machine.poll_timeout().map_or(1_000, |due| due.ms_since(now()));
            let next = async {
                tokio::select! {
                    event = events.recv() => event.map(Next::Event),
                    input = inputs.recv() => input.map(Next::Input),
                }
            };
            match tokio::time::timeout(Duration::from_millis(wait_ms), next).await {
                Ok(Some(Next::Event(event))) => self.event(event),
                Ok(Some(Next::Input(input))) => self.machine.handle(now(), input),
                Ok(None) => return,
                Err(_) => self.machine.handle(now(), Input::Tick),
            }
            self.drain();
        }
    }

    fn say(&self, word: String) {
        // The test may have heard enough.
        let _ = self.said.send(word);
    }

    fn event(&mut self, event: Event) {
        let input = match event {
            Event::Usable { peer } => {
                self.say(format!("usable {peer}"));
                let is_relay = self.relays.contains(&&*peer);
                Input::PeerUp { origin_host: (!is_relay).then(|| peer.to_string()) }
            }
            Event::Restarted { host, state_id } => {
                self.say(format!("restarted {host} {state_id}"));
                Input::Restarted { origin_host: host }
            }
            Event::Request(request) => {
                self.next_token += 1;
                let token = Token(self.next_token);
                self.responders.insert(token, request.responder);
                Input::Request { token, frame: request.frame }
            }
            Event::Suspect { peer } => return self.say(format!("suspect {peer}")),
            Event::Lost { peer, why } => return self.say(format!("peer {peer} lost: {why}")),
            Event::Refused { peer, why, code } => return self.say(format!("refused {peer}: {why} {code}")),
            Event::Stranger { host, code, .. } => return self.say(format!("stranger {host:?} {code}")),
        };
        self.machine.handle(now(), input);
    }

    fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            if let Some(Output::Fact { mark, fact }) = self.gate.push(output) {
                self.gate.durable(mark);
                self.say(word(&fact));
            }
        }
        while let Some(output) = self.gate.pop() {
            match output {
                Output::Answer { token, bytes, .. } => {
                    self.responders.remove(&token).expect("a request waits").answer(bytes);
                }
                Output::Request { id, bytes, timeout_ms, .. } => self.push(id, bytes, timeout_ms),
                Output::Fact { .. } => unreachable!("facts pass the gate"),
            }
        }
    }

    fn push(&self, id: RequestId, bytes: Vec<u8>, timeout_ms: u64) {
        let (handle, inputs) = (self.handle.clone(), self.inputs.clone());
        tokio::spawn(async move {
            let timeout = Duration::from_millis(timeout_ms);
            let input = match handle.request(bytes, Some(timeout)).await {
                Ok(answer) => Input::Answered { id, frame: answer.frame },
                Err(RequestError::Failed(failure)) => Input::Failed { id, failure },
                Err(RequestError::Stopped) => Input::Failed { id, failure: Failure::NoRoute },
            };
            // Without the driver nobody waits for it.
            let _ = inputs.send(input);
        });
    }
}

/// A fact in short words.
fn word(fact: &Report) -> String {
    match fact {
        Report::Session(SessionReport::Open(session)) if session.number == 0 => {
            format!("learnt {} {}", session.access.subscriber.0, session.name.session_id)
        }
        Report::Session(SessionReport::Open(session)) => {
            format!("changed {} {}", session.access.subscriber.0, session.number)
        }
        Report::Session(SessionReport::Closed { name, reason }) => {
            format!("closed {}: {reason}", name.session_id)
        }
        Report::Usage(reading) => format!(
            "usage {} sold {} reverse {} last {}",
            reading.leg.reservation.0, reading.sold.bytes, reading.reverse.bytes, reading.last
        ),
        Report::Port(reading) => format!("port {}", reading.port),
        Report::Leg { leg, report, .. } => {
            let report = match report {
                PolicyReport::Accepted => "accepted".to_owned(),
                PolicyReport::Active { .. } => "active".to_owned(),
                PolicyReport::Refused { reason } => format!("refused: {reason}"),
                PolicyReport::Removed { .. } => "removed".to_owned(),
                PolicyReport::Lost { reason, .. } => format!("lost: {reason}"),
                PolicyReport::Unconfirmed { .. } => "unconfirmed".to_owned(),
                PolicyReport::Withdrawn { reason, .. } => format!("withdrawn: {reason}"),
            };
            format!("leg {} {report}", leg.reservation.0)
        }
    }
}

pub fn leg(reservation: u64) -> LegId {
    LegId { reservation: ReservationId(reservation), index: 0 }
}

fn access(subscriber: u64) -> MobileAccess {
    MobileAccess { subscriber: SubscriberRef(subscriber), apn: APN.into() }
}

/// 5 Mbit/s down for `len_s` from now on.
pub fn desire(reservation: u64, subscriber: u8, len_s: u64) -> Desire {
    desire_after(reservation, subscriber, 0, len_s)
}

/// The same, which starts in `after_s`.
pub fn desire_after(reservation: u64, subscriber: u8, after_s: u64, len_s: u64) -> Desire {
    let from = now().plus_ms(after_s * 1_000);
    let window = Window::new(from, from.plus_ms(len_s * 1_000));
    let rate = |bps| Schedule::constant(window, BitsPerSecond(bps).class_rate(1_500));
    let flow = Flow {
        protocol: Protocol::Udp,
        device: device(subscriber).into(),
        device_port: Some(5_000),
        remote: [192, 0, 2, 1].into(),
        remote_port: 443,
    };
    Desire {
        desired: DesiredLeg {
            leg: leg(reservation),
            attempt: 1,
            enforcement_point: "gx".into(),
            direction: tollway_model::Direction::Down,
            up: Side { port: "up".into(), schedule: rate(150_000) },
            down: Side { port: "down".into(), schedule: rate(5_000_000) },
            flows: vec![flow],
            shape: ClassShape { packet_bytes: 1_500, queue_ms_max: 50, borrow: false },
            valid_until: window.until,
            road: None,
        },
        access: access(subscriber.into()),
        terms: Terms {
            class: QosClass::new(4, 9, None).expect("a class"),
            precedence: 100,
            rating_group: 77,
            service_identifier: Some(5),
            metering: Metering::Volume,
            online: false,
            offline: true,
            mbr_bps_min: 0,
            usage_bytes: Some(1_000_000),
        },
        known: Known::New,
    }
}

/// A frame of a test's own making.
pub fn frame(bytes: Vec<u8>) -> Frame {
    Frame::new(bytes).expect("a frame")
}
