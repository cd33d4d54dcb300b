//! A broker's side with a gate, and a gateway that holds rules, over real bytes both ways.
#![allow(dead_code)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tollway_diameter::avp::ietf::{
    AUTH_APPLICATION_ID, CALLED_STATION_ID, CC_INPUT_OCTETS, CC_OUTPUT_OCTETS, CC_REQUEST_NUMBER,
    CC_REQUEST_TYPE, DESTINATION_REALM, FRAMED_IP_ADDRESS, ORIGIN_HOST, ORIGIN_REALM, SESSION_ID,
    SUBSCRIPTION_ID, SUBSCRIPTION_ID_DATA, SUBSCRIPTION_ID_TYPE, USED_SERVICE_UNIT,
};
use tollway_diameter::avp::tgpp::{
    CHARGING_RULE_DEFINITION, CHARGING_RULE_INSTALL, CHARGING_RULE_NAME, CHARGING_RULE_REMOVE,
    CHARGING_RULE_REPORT, MONITORING_KEY, PCC_RULE_STATUS, RULE_FAILURE_CODE, TGPP_SGSN_MCC_MNC,
    USAGE_MONITORING_INFORMATION,
};
use tollway_diameter::avp::{Avp, Kind, TGPP};
use tollway_diameter::machine::{Failure, RequestId};
use tollway_diameter::{Frame, Message, Origin, Outcome, Writer, answer, application, check, command};
use tollway_gx::profile::Table;
use tollway_gx::{
    Counters, Desire, Gate, Gateway, Input, Known, Machine, Mark, Output, QosClass, Rates, Settings, Terms,
    Token,
};
use tollway_model::{
    BitsPerSecond, Direction, Flow, LegId, Protocol, ReservationId, Schedule, SlotLength, Timestamp, Window,
};
use tollway_policy::{
    ClassShape, DesiredLeg, Metering, MobileAccess, PolicyReport, Report, Session, SessionReport, Side,
    SlotReading, SubscriberRef,
};

pub const GATEWAY: &str = "pcef.example";
pub const APN: &str = "internet";
pub const START: Timestamp = Timestamp::from_secs(1_790_000_040);

pub fn at(s: u64) -> Timestamp {
    START.plus_ms(s * 1_000)
}

pub fn settings() -> Settings {
    Settings {
        origin: Origin { host: "pcrf.example".into(), realm: "example".into(), state_id: 7 },
        apns: vec![APN.into(), "corp".into()],
        home_plmns: vec!["99970".into()],
        gateways: BTreeMap::new(),
        gateway: Gateway::default(),
        slot_length: SlotLength::from_secs(60).unwrap(),
        incarnation: 1,
    }
}

/// Finds everybody whose number is in a range, so that a thousand sessions need no file.
pub struct Everybody;

impl tollway_gx::Profile for Everybody {
    fn find(
        &self,
        identities: &[tollway_gx::profile::Identity<'_>],
        _: &str,
    ) -> Option<Arc<tollway_gx::profile::SubscriberProfile>> {
        let number: u64 = identities.first()?.digits.strip_prefix("99970")?.parse().ok()?;
        Some(Arc::new(tollway_gx::profile::SubscriberProfile {
            subscriber: SubscriberRef(number),
            default_qos: QosClass::for_default(9, 15, None).ok()?,
            ambr: Rates { up_bps: 10_000_000, down_bps: 50_000_000 },
            standing: vec![
                tollway_gx::profile::Standing::Any { name: "standing-all".into(), rating_group: 10 },
                tollway_gx::profile::Standing::Predefined("dns-free".into()),
            ],
        }))
    }
}

pub fn table() -> Table {
    Table::from_csv(&format!(
        "{}\nimsi:999700000000001,internet,1,9,15,1000,2000,std\n",
        tollway_gx::profile::COLUMNS
    ))
    .unwrap()
}

pub fn address(subscriber: u64) -> [u8; 4] {
    (0x0a00_0000 + subscriber as u32).to_be_bytes()
}

pub fn session(subscriber: u64) -> String {
    format!("{GATEWAY};{subscriber};1")
}

pub fn ccr(kind: u32, number: u32, session: &str, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    ccr_from(GATEWAY, kind, number, session, fill)
}

pub fn ccr_from(
    host: &str,
    kind: u32,
    number: u32,
    session: &str,
    fill: impl FnOnce(&mut Writer),
) -> Vec<u8> {
    let mut w = Writer::request(command::CREDIT_CONTROL, application::GX);
    w.text(SESSION_ID, session);
    w.u32(AUTH_APPLICATION_ID, application::GX);
    w.text(ORIGIN_HOST, host);
    w.text(ORIGIN_REALM, "example");
    w.text(DESTINATION_REALM, "example");
    w.u32(CC_REQUEST_TYPE, kind);
    w.u32(CC_REQUEST_NUMBER, number);
    fill(&mut w);
    w.finish().unwrap()
}

pub fn identity(w: &mut Writer, imsi: &str) {
    w.group(SUBSCRIPTION_ID, |w| {
        w.u32(SUBSCRIPTION_ID_TYPE, 1);
        w.text(SUBSCRIPTION_ID_DATA, imsi);
    });
}

pub fn attach(subscriber: u64, session: &str) -> Vec<u8> {
    attach_with(subscriber, session, APN, |_| ())
}

pub fn attach_with(subscriber: u64, session: &str, apn: &str, more: impl FnOnce(&mut Writer)) -> Vec<u8> {
    ccr(1, 0, session, |w| {
        identity(w, &format!("99970{subscriber:010}"));
        w.octets(FRAMED_IP_ADDRESS, &address(subscriber));
        w.text(CALLED_STATION_ID, apn);
        w.text(TGPP_SGSN_MCC_MNC, "99970");
        more(w);
    })
}

pub fn rule_report(w: &mut Writer, name: &str, status: u32, failure: Option<u32>) {
    w.group(CHARGING_RULE_REPORT, |w| {
        w.text(CHARGING_RULE_NAME, name);
        w.u32(PCC_RULE_STATUS, status);
        if let Some(failure) = failure {
            w.u32(RULE_FAILURE_CODE, failure);
        }
    });
}

pub fn usage(w: &mut Writer, name: &str, up: u64, down: u64) {
    w.group(USAGE_MONITORING_INFORMATION, |w| {
        w.text(MONITORING_KEY, name);
        w.group(USED_SERVICE_UNIT, |w| {
            w.u64(CC_INPUT_OCTETS, up);
            w.u64(CC_OUTPUT_OCTETS, down);
        });
    });
}

pub fn leg(reservation: u64) -> LegId {
    LegId { reservation: ReservationId(reservation), index: 0 }
}

pub fn terms() -> Terms {
    Terms {
        class: QosClass::new(4, 9, None).unwrap(),
        precedence: 100,
        rating_group: 77,
        service_identifier: Some(5),
        metering: Metering::Volume,
        online: false,
        offline: true,
        mbr_bps_min: 0,
        usage_bytes: Some(1_000_000),
    }
}

/// 5 Mbit/s down for an hour from `from`, on the session of a subscriber.
pub fn desire(reservation: u64, subscriber: u64, from: Timestamp) -> Desire {
    let window = Window::new(from, from.plus_ms(3_600_000));
    let rate = |bps| Schedule::constant(window, BitsPerSecond(bps).class_rate(1_500));
    let flow = Flow {
        protocol: Protocol::Tcp,
        device: address(subscriber).into(),
        device_port: Some(5_000),
        remote: [192, 0, 2, 1].into(),
        remote_port: 443,
    };
    Desire {
        desired: DesiredLeg {
            leg: leg(reservation),
            attempt: 1,
            enforcement_point: "gx".into(),
            direction: Direction::Down,
            up: Side { port: "up".into(), schedule: rate(150_000) },
            down: Side { port: "down".into(), schedule: rate(5_000_000) },
            flows: vec![flow],
            shape: ClassShape { packet_bytes: 1_500, queue_ms_max: 50, borrow: false },
            valid_until: window.until,
            road: None,
        },
        access: MobileAccess { subscriber: SubscriberRef(subscriber), apn: APN.into() },
        terms: terms(),
        known: Known::New,
    }
}

/// Every message of ours: well formed, no AVP unknown, of the right grammar.
pub fn judge(bytes: &[u8]) {
    let message = Message::parse(bytes).unwrap();
    check::avps(&message).unwrap();
    if message.is_request() {
        check::request(&message, &[application::GX]).unwrap();
    } else {
        assert!(message.result().is_some() && message.text(ORIGIN_HOST) == Some("pcrf.example"));
    }
    fn known(avp: Avp<'_>) {
        let definition = avp.definition().unwrap_or_else(|| panic!("unknown: {}", avp.key));
        if definition.kind == Kind::Grouped && definition.name != "Failed-AVP" {
            avp.children().for_each(known);
        }
    }
    message.avps().for_each(known);
}

pub struct World<P = Everybody> {
    pub machine: Machine<P>,
    pub now: Timestamp,
    pub gate: Gate,
    /// What is durable follows at once unless this is off.
    pub is_store_up: bool,
    pub mark: Mark,
    pub facts: Vec<Report>,
    pub answers: BTreeMap<Token, Vec<u8>>,
    pub requests: VecDeque<(RequestId, Vec<u8>)>,
    next_token: u64,
}

impl World<Everybody> {
    pub fn new(settings: Settings) -> World {
        let mut world = World::of(settings, Everybody);
        world.input(Input::Ready);
        world
    }

    /// One subscriber attached, nothing to look back at.
    pub fn attached() -> World {
        let mut world = World::new(settings());
        assert_eq!(world.ask(attach(1, &session(1))), 2001);
        world.facts.clear();
        world
    }

    /// And his rule accepted and active.
    pub fn active() -> World {
        let mut world = World::attached();
        world.input(Input::Desire(Box::new(desire(1, 1, START))));
        world.accept_one();
        assert_eq!(world.ask(ccr(2, 1, &session(1), |w| rule_report(w, "tw-1-0", 0, None))), 2001);
        assert_eq!(world.words(), ["1 accepted", "1 active"]);
        world.facts.clear();
        world
    }
}

impl<P: tollway_gx::Profile> World<P> {
    pub fn of(settings: Settings, profiles: P) -> World<P> {
        World {
            machine: Machine::new(settings, profiles).unwrap(),
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

    pub fn send(&mut self, bytes: Vec<u8>) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.input(Input::Request { token, frame: Frame::new(bytes).unwrap() });
        token
    }

    /// Sends a request; gives back the result code of the answer.
    pub fn ask(&mut self, bytes: Vec<u8>) -> u32 {
        let token = self.send(bytes);
        let answer = self.answers.get(&token).expect("an answer leaves");
        Message::parse(answer).unwrap().result().unwrap().code
    }

    pub fn ask_for(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        let token = self.send(bytes);
        self.answers.get(&token).expect("an answer leaves").clone()
    }

    /// Runs the timers up to an instant.
    pub fn until(&mut self, end: Timestamp) {
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= end) {
            assert!(due >= self.now || due <= end);
            self.now = due.max(self.now);
            self.input(Input::Tick);
        }
        self.now = end.max(self.now);
    }

    pub fn raa(&mut self, outcome: Outcome, fill: impl FnOnce(&mut Writer)) {
        let (id, bytes) = self.requests.pop_front().expect("a RAR is on its way");
        self.raa_to(id, &bytes, outcome, fill);
    }

    pub fn raa_to(&mut self, id: RequestId, rar: &[u8], outcome: Outcome, fill: impl FnOnce(&mut Writer)) {
        let gateway = Origin { host: GATEWAY.into(), realm: "example".into(), state_id: 1 };
        let mut w = answer::answer(&Message::parse(rar).unwrap(), &gateway, outcome);
        fill(&mut w);
        self.input(Input::Answered { id, frame: Frame::new(w.finish().unwrap()).unwrap() });
    }

    pub fn accept_one(&mut self) {
        self.raa(OK, |_| ());
    }

    pub fn fail_one(&mut self, failure: Failure) -> RequestId {
        let (id, _) = self.requests.pop_front().expect("a RAR is on its way");
        self.input(Input::Failed { id, failure });
        id
    }

    /// `(installed, removed)` of the RAR that waits for its answer.
    pub fn rules_of_next(&self) -> (Vec<String>, Vec<String>) {
        rules(&self.requests.front().expect("a RAR is on its way").1)
    }

    /// Reports of legs, as short words.
    pub fn words(&self) -> Vec<String> {
        self.facts.iter().filter_map(word).collect()
    }

    pub fn readings(&self) -> Vec<&SlotReading> {
        self.facts
            .iter()
            .filter_map(|fact| match fact {
                Report::Usage(reading) => Some(reading),
                Report::Session(_) | Report::Port(_) | Report::Leg { .. } => None,
            })
            .collect()
    }

    /// Sessions as they were reported open, in order.
    pub fn opened(&self) -> Vec<Session> {
        self.facts
            .iter()
            .filter_map(|fact| match fact {
                Report::Session(SessionReport::Open(session)) => Some(session.clone()),
                _ => None,
            })
            .collect()
    }

    /// Why sessions were closed, in order.
    pub fn closed(&self) -> Vec<&str> {
        self.facts
            .iter()
            .filter_map(|fact| match fact {
                Report::Session(SessionReport::Closed { reason, .. }) => Some(reason.as_str()),
                _ => None,
            })
            .collect()
    }

    pub fn counters(&self) -> Counters {
        *self.machine.counters()
    }
}

pub const OK: Outcome = Outcome { vendor: 0, code: 2001 };

pub const fn base(code: u32) -> Outcome {
    Outcome { vendor: 0, code }
}

pub const fn experimental(code: u32) -> Outcome {
    Outcome { vendor: TGPP, code }
}

fn word(fact: &Report) -> Option<String> {
    let Report::Leg { leg, report, .. } = fact else { return None };
    let word = match report {
        PolicyReport::Accepted => "accepted".to_owned(),
        PolicyReport::Active { .. } => "active".to_owned(),
        PolicyReport::Refused { reason } => format!("refused: {reason}"),
        PolicyReport::Removed { .. } => "removed".to_owned(),
        PolicyReport::Lost { reason, .. } => format!("lost: {reason}"),
        PolicyReport::Unconfirmed { .. } => "unconfirmed".to_owned(),
        PolicyReport::Withdrawn { reason, .. } => format!("withdrawn: {reason}"),
    };
    Some(format!("{} {word}", leg.reservation.0))
}

fn names(group: Avp<'_>) -> Vec<String> {
    let of = |avp: Avp<'_>| avp.text().map(str::to_owned);
    group.children().filter(|avp| avp.key == CHARGING_RULE_NAME.key).filter_map(of).collect()
}

/// `(installed, removed)` of a RAR or CCA.
pub fn rules(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
    let message = Message::parse(bytes).unwrap();
    let installed =
        message.all(CHARGING_RULE_INSTALL).filter_map(|i| i.find(CHARGING_RULE_DEFINITION)).flat_map(names);
    (installed.collect(), message.all(CHARGING_RULE_REMOVE).flat_map(names).collect())
}

/// What a gateway holds: rules by session and name, with their bytes.
#[derive(Default)]
pub struct Pcef {
    pub rules: BTreeMap<(String, String), Vec<u8>>,
    /// Installs and removals that changed something.
    pub effects: usize,
    /// The most rules ever held.
    pub gaps: usize,
}

impl Pcef {
    /// Takes a RAR.
    pub fn take(&mut self, bytes: &[u8]) {
        let message = Message::parse(bytes).unwrap();
        let session = message.text(SESSION_ID).unwrap().to_owned();
        for name in message.all(CHARGING_RULE_REMOVE).flat_map(names) {
            self.effects += usize::from(self.rules.remove(&(session.clone(), name)).is_some());
        }
        for install in message.all(CHARGING_RULE_INSTALL) {
            let definition = install.find(CHARGING_RULE_DEFINITION).unwrap();
            for name in names(definition) {
                let old = self.rules.insert((session.clone(), name), install.data.to_vec());
                self.effects += usize::from(old.as_deref() != Some(install.data));
            }
        }
    }
}
