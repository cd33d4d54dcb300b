//! A broker's side with a gate, and a PCRF that holds sessions, over real bytes both ways.
#![allow(dead_code)]

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use tollway_diameter::avp::ietf::{
    AUTH_APPLICATION_ID, CC_INPUT_OCTETS, CC_OUTPUT_OCTETS, DESTINATION_HOST, DESTINATION_REALM, ORIGIN_HOST,
    ORIGIN_REALM, SESSION_ID, USED_SERVICE_UNIT, VENDOR_ID,
};
use tollway_diameter::avp::tgpp::{
    ABORT_CAUSE, FEATURE_LIST, FEATURE_LIST_ID, FLOW_DESCRIPTION, FLOW_STATUS, FLOWS,
    MAX_REQUESTED_BANDWIDTH_DL, MEDIA_COMPONENT_DESCRIPTION, MEDIA_COMPONENT_NUMBER, MEDIA_SUB_COMPONENT,
    RX_REQUEST_TYPE, SPECIFIC_ACTION, SPONSORED_CONNECTIVITY_DATA, SUPPORTED_FEATURES,
};
use tollway_diameter::avp::{Avp, Kind, TGPP};
use tollway_diameter::machine::{Failure, RequestId};
use tollway_diameter::{Frame, Message, Origin, Outcome, Writer, answer, application, check, command};
use tollway_model::{
    BitsPerSecond, Direction, Flow, LegId, Protocol, ReservationId, Schedule, Segment, SlotLength, Timestamp,
    Window,
};
use tollway_policy::{ClassShape, DesiredLeg, PolicyReport, Side, SlotReading};
use tollway_rx::{
    Access, AfSession, Certainty, Closed, Counters, Desire, Fact, Floor, Gate, Host, Input, Known, Machine,
    Mark, MediaType, Output, Pcrf, Rates, Settings, Sponsor, Terms, Token,
};

pub const HOST: &str = "pcrf.example";
pub const START: Timestamp = Timestamp::from_secs(1_790_000_040);

pub fn at(s: u64) -> Timestamp {
    START.plus_ms(s * 1_000)
}

pub fn settings_of(pcrf: Pcrf) -> Settings {
    Settings {
        origin: Origin { host: "af.example".into(), realm: "example".into(), state_id: 7 },
        pcrfs: BTreeMap::from([("east".to_owned(), pcrf)]),
        slot_length: SlotLength::from_secs(60).unwrap(),
        incarnation: 1,
        session_high: 100,
    }
}

pub fn settings() -> Settings {
    settings_of(Pcrf::of_realm("example"))
}

pub fn leg(reservation: u64) -> LegId {
    LegId { reservation: ReservationId(reservation), index: 0 }
}

pub fn device(n: u64) -> IpAddr {
    (0x0a00_0000 + n as u32).to_be_bytes().into()
}

pub fn flow(n: u64, port: u16) -> Flow {
    Flow {
        protocol: Protocol::Tcp,
        device: device(n),
        device_port: Some(port),
        remote: [192, 0, 2, 1].into(),
        remote_port: 443,
    }
}

pub fn terms() -> Terms {
    Terms {
        media_type: MediaType::Data,
        application: Some("peers".into()),
        floor: Floor::Sold,
        max_bps_min: 0,
        sponsor: None,
        usage_bytes: None,
    }
}

pub fn sponsored() -> Terms {
    let sponsor = Sponsor { sponsor: "shop".into(), provider: "peers.example".into() };
    Terms { sponsor: Some(sponsor), usage_bytes: Some(1_000_000), ..terms() }
}

fn class(bps: u64) -> BitsPerSecond {
    BitsPerSecond(bps).class_rate(1_500)
}

/// Rates downlink for so many seconds each, one after the other; 0 is a gap.
pub fn steps(from: Timestamp, steps: &[(u64, u64)]) -> Schedule {
    let mut start = from;
    let segments = steps.iter().map(|(seconds, bps)| {
        let window = Window::new(start, start.plus_ms(seconds * 1_000));
        start = window.until;
        Segment { window, rate: if *bps == 0 { BitsPerSecond::ZERO } else { class(*bps) } }
    });
    Schedule::from_segments(segments).unwrap()
}

/// 5 Mbit/s down for an hour from `from`, for a device.
pub fn desire(reservation: u64, n: u64, from: Timestamp) -> Desire {
    let window = Window::new(from, from.plus_ms(3_600_000));
    Desire {
        desired: DesiredLeg {
            leg: leg(reservation),
            attempt: 1,
            enforcement_point: "rx".into(),
            direction: Direction::Down,
            up: Side { port: "up".into(), schedule: Schedule::constant(window, class(150_000)) },
            down: Side { port: "down".into(), schedule: Schedule::constant(window, class(5_000_000)) },
            flows: vec![flow(n, 5_000)],
            shape: ClassShape { packet_bytes: 1_500, queue_ms_max: 50, borrow: false },
            valid_until: window.until,
            road: None,
        },
        access: Access { pcrf: "east".into(), apn: Some("internet".into()), ip_domain: None },
        terms: terms(),
        known: Known::New,
    }
}

pub fn with_schedule(mut desire: Desire, from: Timestamp, down: &[(u64, u64)]) -> Desire {
    let up: Vec<_> = down.iter().map(|(s, bps)| (*s, if *bps == 0 { 0 } else { 150_000 })).collect();
    desire.desired.down.schedule = steps(from, down);
    desire.desired.up.schedule = steps(from, &up);
    desire.desired.valid_until = from.plus_ms(down.iter().map(|(s, _)| s * 1_000).sum());
    desire
}

/// Every message of ours: well formed, no AVP unknown, of the right grammar.
pub fn judge(bytes: &[u8]) {
    let message = Message::parse(bytes).unwrap();
    check::avps(&message).unwrap();
    if message.is_request() {
        check::request(&message, &[application::RX]).unwrap();
    } else {
        assert!(message.result().is_some() && message.text(ORIGIN_HOST) == Some("af.example"));
    }
    fn known(avp: Avp<'_>) {
        let definition = avp.definition().unwrap_or_else(|| panic!("unknown: {}", avp.key));
        if definition.kind == Kind::Grouped && definition.name != "Failed-AVP" {
            avp.children().for_each(known);
        }
    }
    message.avps().for_each(known);
}

/// Names and values of all AVPs, one a line: what a golden holds.
pub fn dump(bytes: &[u8]) -> String {
    fn line(avp: Avp<'_>, depth: usize, out: &mut String) {
        let known = avp.definition().unwrap();
        let pad = " ".repeat(depth * 2);
        let value = match known.kind {
            Kind::Grouped => {
                out.push_str(&format!("{pad}{}\n", known.name));
                return avp.children().for_each(|child| line(child, depth + 1, out));
            }
            Kind::Unsigned32 | Kind::Enumerated => avp.u32().unwrap().to_string(),
            Kind::Unsigned64 => avp.u64().unwrap().to_string(),
            Kind::OctetString if !avp.data.iter().all(u8::is_ascii_graphic) => format!("{:02x?}", avp.data),
            _ => avp.text().unwrap().to_owned(),
        };
        out.push_str(&format!("{pad}{} {value}\n", known.name));
    }
    let mut out = String::new();
    Message::parse(bytes).unwrap().avps().for_each(|avp| line(avp, 0, &mut out));
    out
}

pub struct World {
    pub machine: Machine,
    pub now: Timestamp,
    pub gate: Gate,
    /// What is durable follows at once unless this is off.
    pub is_store_up: bool,
    pub mark: Mark,
    pub facts: Vec<Fact>,
    pub answers: BTreeMap<Token, Vec<u8>>,
    pub requests: VecDeque<(RequestId, Vec<u8>)>,
    next_token: u64,
}

impl World {
    pub fn of(settings: Settings) -> World {
        World {
            machine: Machine::new(settings).unwrap(),
            now: START,
            gate: Gate::default(),
            is_store_up: true,
            mark: Mark::default(),
            facts: Vec::new(),
            answers: BTreeMap::new(),
            requests: VecDeque::new(),
            next_token: 0,
        }
    }

    pub fn new(settings: Settings) -> World {
        let mut world = World::of(settings);
        world.input(Input::Ready);
        world
    }

    /// One leg asked for.
    pub fn asked(desire: Desire) -> World {
        let mut world = World::new(settings());
        world.input(Input::Desire(Box::new(desire)));
        world
    }

    /// And accepted, its resources reported.
    pub fn active_with(terms: Terms) -> World {
        let mut world = World::asked(Desire { terms, ..desire(1, 1, START) });
        world.accept_one();
        assert_eq!(world.ask(rar(ID, &[8], |_| ())), 2001);
        assert_eq!(world.words(), ["1 accepted", "1 active"]);
        world.facts.clear();
        world
    }

    pub fn active() -> World {
        World::active_with(terms())
    }

    pub fn desire(&mut self, desire: Desire) {
        self.input(Input::Desire(Box::new(desire)));
    }

    pub fn release(&mut self, reservation: u64) {
        self.input(Input::Release { leg: leg(reservation), attempt: 9 });
    }

    pub fn input(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        while let Some(output) = self.machine.poll_output() {
            if let Some(Output::Fact { mark, fact }) = self.gate.push(output) {
                assert!(mark > self.mark);
                self.mark = mark;
                self.facts.push(fact);
            }
        }
        if self.is_store_up {
            self.gate.durable(self.mark);
        }
        self.carry();
    }

    /// Lets out what may leave.
    pub fn carry(&mut self) {
        while let Some(output) = self.gate.pop() {
            match output {
                Output::Answer { token, bytes, .. } => {
                    judge(&bytes);
                    assert_eq!(self.answers.insert(token, bytes), None, "one answer for each request");
                }
                Output::Request { id, bytes, .. } => {
                    judge(&bytes);
                    self.requests.push_back((id, bytes));
                }
                Output::Fact { .. } => unreachable!("facts pass the gate"),
            }
        }
    }

    /// Sends a request; gives back the result code of the answer.
    pub fn ask(&mut self, bytes: Vec<u8>) -> u32 {
        let answer = self.ask_for(bytes);
        Message::parse(&answer).unwrap().result().unwrap().code
    }

    pub fn ask_for(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.input(Input::Request { token, frame: Frame::new(bytes).unwrap() });
        self.answers.get(&token).expect("an answer leaves").clone()
    }

    /// Runs the timers up to an instant.
    pub fn until(&mut self, end: Timestamp) {
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.input(Input::Tick);
        }
        self.now = end.max(self.now);
    }

    pub fn answer_one(&mut self, outcome: Outcome, fill: impl FnOnce(&mut Writer)) {
        let (id, bytes) = self.requests.pop_front().expect("a request is on its way");
        self.answer_to(id, &bytes, outcome, fill);
    }

    pub fn answer_to(
        &mut self,
        id: RequestId,
        request: &[u8],
        outcome: Outcome,
        fill: impl FnOnce(&mut Writer),
    ) {
        self.answer_from(HOST, id, request, outcome, fill);
    }

    pub fn answer_from(
        &mut self,
        host: &str,
        id: RequestId,
        request: &[u8],
        outcome: Outcome,
        fill: impl FnOnce(&mut Writer),
    ) {
        let pcrf = Origin { host: host.into(), realm: "example".into(), state_id: 1 };
        let mut w = answer::answer(&Message::parse(request).unwrap(), &pcrf, outcome);
        fill(&mut w);
        self.input(Input::Answered { id, frame: Frame::new(w.finish().unwrap()).unwrap() });
    }

    pub fn accept_one(&mut self) {
        self.answer_one(OK, features);
    }

    pub fn fail_one(&mut self, failure: Failure) -> (RequestId, Vec<u8>) {
        let (id, bytes) = self.requests.pop_front().expect("a request is on its way");
        self.input(Input::Failed { id, failure });
        (id, bytes)
    }

    /// What waits for its answer, as short words.
    pub fn asks(&self) -> Vec<String> {
        self.requests.iter().map(|(_, bytes)| ask(bytes)).collect()
    }

    /// Reports of legs, as short words.
    pub fn words(&self) -> Vec<String> {
        self.facts.iter().filter_map(word).collect()
    }

    pub fn take_words(&mut self) -> Vec<String> {
        let words = self.words();
        self.facts.clear();
        words
    }

    pub fn readings(&self) -> Vec<&SlotReading> {
        self.facts
            .iter()
            .filter_map(|fact| match fact {
                Fact::Usage(reading) => Some(reading),
                Fact::Opened(_) | Fact::Changed(_) | Fact::Closed { .. } | Fact::Leg { .. } => None,
            })
            .collect()
    }

    pub fn closed(&self) -> Vec<Closed> {
        let why = |fact: &Fact| if let Fact::Closed { why, .. } = fact { Some(*why) } else { None };
        self.facts.iter().filter_map(why).collect()
    }

    /// The last record of a session.
    pub fn record(&self, id: &str) -> Option<AfSession> {
        let of = |fact: &Fact| match fact {
            Fact::Opened(session) | Fact::Changed(session) if session.session_id == id => {
                Some(session.clone())
            }
            Fact::Opened(_) | Fact::Changed(_) | Fact::Closed { .. } | Fact::Leg { .. } | Fact::Usage(_) => {
                None
            }
        };
        self.facts.iter().rev().find_map(of)
    }

    pub fn counters(&self) -> Counters {
        *self.machine.counters()
    }
}

/// The first session that a world makes.
pub const ID: &str = "af.example;100;0;rx";

pub const OK: Outcome = Outcome { vendor: 0, code: 2001 };

pub const fn base(code: u32) -> Outcome {
    Outcome { vendor: 0, code }
}

pub const fn experimental(code: u32) -> Outcome {
    Outcome { vendor: TGPP, code }
}

/// Supported-Features of a PCRF that can do all we ask for.
pub fn features(w: &mut Writer) {
    w.group(SUPPORTED_FEATURES, |w| {
        w.u32(VENDOR_ID, TGPP);
        w.u32(FEATURE_LIST_ID, 1);
        w.u32(FEATURE_LIST, 0xffff);
    });
}

pub fn from_pcrf(code: u32, session: &str, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::request(code, application::RX);
    w.text(SESSION_ID, session);
    w.u32(AUTH_APPLICATION_ID, application::RX);
    w.text(ORIGIN_HOST, HOST);
    w.text(ORIGIN_REALM, "example");
    w.text(DESTINATION_REALM, "example");
    w.text(DESTINATION_HOST, "af.example");
    fill(&mut w);
    w.finish().unwrap()
}

pub fn rar(session: &str, actions: &[u32], fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    from_pcrf(command::RE_AUTH, session, |w| {
        actions.iter().for_each(|action| w.u32(SPECIFIC_ACTION, *action));
        fill(w);
    })
}

pub fn asr(session: &str, cause: u32) -> Vec<u8> {
    from_pcrf(command::ABORT_SESSION, session, |w| w.u32(ABORT_CAUSE, cause))
}

pub fn component(w: &mut Writer, number: u32) {
    w.group(FLOWS, |w| w.u32(MEDIA_COMPONENT_NUMBER, number));
}

pub fn usage(w: &mut Writer, up: u64, down: u64) {
    w.group(SPONSORED_CONNECTIVITY_DATA, |w| {
        w.group(USED_SERVICE_UNIT, |w| {
            w.u64(CC_INPUT_OCTETS, up);
            w.u64(CC_OUTPUT_OCTETS, down);
        });
    });
}

/// The same with an end-to-end id: without one all are 0.
pub fn numbered(mut bytes: Vec<u8>, end_to_end: u32) -> Vec<u8> {
    tollway_diameter::message::set_end_to_end(&mut bytes, end_to_end);
    bytes
}

fn word(fact: &Fact) -> Option<String> {
    let Fact::Leg { leg, report, certainty, acceptable_bps, .. } = fact else { return None };
    let word = match report {
        PolicyReport::Accepted => "accepted".to_owned(),
        PolicyReport::Active { .. } => "active".to_owned(),
        PolicyReport::Refused { reason } => format!("refused: {reason}"),
        PolicyReport::Removed { .. } => "removed".to_owned(),
        PolicyReport::Lost { reason, .. } => format!("lost: {reason}"),
        PolicyReport::Unconfirmed { .. } => "unconfirmed".to_owned(),
        PolicyReport::Withdrawn { reason, .. } => format!("withdrawn: {reason}"),
    };
    let offered = match acceptable_bps {
        Some(Rates { up_bps, down_bps }) => format!(" offered {up_bps}/{down_bps}"),
        None => String::new(),
    };
    let unconfirmed = if *certainty == Certainty::Unconfirmed { " unconfirmed" } else { "" };
    Some(format!("{} {word}{offered}{unconfirmed}", leg.reservation.0))
}

/// A request of ours in short: `initial 0 5000000`, `update 0 …`, `end 0`, with the low part of its Session-Id.
pub fn ask(bytes: &[u8]) -> String {
    let message = Message::parse(bytes).unwrap();
    let low = message.text(SESSION_ID).unwrap().split(';').nth(2).unwrap().to_owned();
    if message.header.command == command::SESSION_TERMINATION {
        return format!("end {low}");
    }
    let kind = match message.u32(RX_REQUEST_TYPE) {
        Some(0) => "initial",
        _ => "update",
    };
    let rate = message
        .all(MEDIA_COMPONENT_DESCRIPTION)
        .find_map(|component| component.find(MAX_REQUESTED_BANDWIDTH_DL).and_then(|avp| avp.u32()));
    format!("{kind} {low} {}", rate.unwrap_or(0))
}

/// What a PCRF holds: by Session-Id, its components with their filters and rate.
#[derive(Default)]
pub struct PcrfState {
    pub sessions: BTreeMap<String, BTreeMap<u32, Component>>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Component {
    pub filters: Vec<String>,
    pub max_down_bps: u32,
}

impl PcrfState {
    /// Takes a request as a PCRF does; gives back the result code.
    pub fn take(&mut self, bytes: &[u8]) -> u32 {
        let message = Message::parse(bytes).unwrap();
        let id = message.text(SESSION_ID).unwrap().to_owned();
        if message.header.command == command::SESSION_TERMINATION {
            return if self.sessions.remove(&id).is_some() { 2001 } else { 5002 };
        }
        let is_update = message.u32(RX_REQUEST_TYPE) == Some(1);
        if is_update && !self.sessions.contains_key(&id) {
            return 5002;
        }
        let session = self.sessions.entry(id).or_default();
        for group in message.all(MEDIA_COMPONENT_DESCRIPTION) {
            let number = group.find(MEDIA_COMPONENT_NUMBER).unwrap().u32().unwrap();
            if group.find(FLOW_STATUS).and_then(|avp| avp.u32()) == Some(4) {
                session.remove(&number);
                continue;
            }
            let filters = group
                .find(MEDIA_SUB_COMPONENT)
                .unwrap()
                .children()
                .filter(|avp| avp.key == FLOW_DESCRIPTION.key)
                .map(|avp| avp.text().unwrap().to_owned())
                .collect();
            let max_down_bps = group.find(MAX_REQUESTED_BANDWIDTH_DL).unwrap().u32().unwrap();
            session.insert(number, Component { filters, max_down_bps });
        }
        2001
    }
}

/// A session of an earlier life, of the leg and device of one number.
pub fn record(id: &str, reservation: u64, is_answered: bool) -> AfSession {
    let wanted = desire(reservation, reservation, START);
    let host = Host { host: HOST.into(), realm: "example".into() };
    AfSession {
        session_id: id.into(),
        leg: leg(reservation),
        access: wanted.access,
        address: device(reservation),
        answered_by: is_answered.then_some(host),
        components: 3,
        usage_seen: vec![4],
    }
}
