//! A gateway that holds what it is told: a Diameter node of its own, sessions that a test opens, rules that RARs
//! install and remove.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;
use tollway_diameter::avp::ietf::{
    AUTH_APPLICATION_ID, CALLED_STATION_ID, CC_INPUT_OCTETS, CC_OUTPUT_OCTETS, CC_REQUEST_NUMBER,
    CC_REQUEST_TYPE, DESTINATION_REALM, FRAMED_IP_ADDRESS, ORIGIN_HOST, ORIGIN_REALM, SESSION_ID,
    SUBSCRIPTION_ID, SUBSCRIPTION_ID_DATA, SUBSCRIPTION_ID_TYPE, USED_SERVICE_UNIT,
};
use tollway_diameter::avp::tgpp::{
    CHARGING_RULE_DEFINITION, CHARGING_RULE_INSTALL, CHARGING_RULE_NAME, CHARGING_RULE_REMOVE,
    CHARGING_RULE_REPORT, EVENT_TRIGGER, MONITORING_KEY, PCC_RULE_STATUS, TGPP_SGSN_MCC_MNC,
    USAGE_MONITORING_INFORMATION,
};
use tollway_diameter::capabilities::Local;
use tollway_diameter::machine::{PeerSettings, Proof};
use tollway_diameter::node::{Config, Dial, Event, Events, Handle, Node, PeerConfig};
use tollway_diameter::watchdog::Timing;
use tollway_diameter::{Avp, Message, Origin, Writer, answer, application, command};

pub const HOST: &str = "pcef.e2e.example";
pub const REALM: &str = "e2e.example";
pub const BROKER: &str = "pcrf.e2e.example";

/// What the broker has it do.
#[derive(Default, Debug)]
pub struct Rules {
    /// By session and name; the value is how often it was installed.
    pub held: BTreeMap<(String, String), usize>,
    pub installs: usize,
    pub removals: usize,
}

pub struct Gateway {
    runtime: Runtime,
    node: Handle,
    pub rules: Arc<Mutex<Rules>>,
    origin: Origin,
}

impl Gateway {
    /// Connects to a broker on this port, and again whenever it is gone.
    pub fn start(port: u16) -> Gateway {
        Gateway::start_as(port, 1)
    }

    /// The same; a higher number says that it lost its sessions.
    pub fn start_as(port: u16, state_id: u32) -> Gateway {
        let runtime = Runtime::new().expect("a runtime");
        let origin = Origin { host: HOST.to_owned(), realm: REALM.to_owned(), state_id };
        let config = Config {
            local: Local {
                origin: origin.clone(),
                addresses: vec![Ipv4Addr::LOCALHOST.into()],
                product: "gateway of a test".to_owned(),
                firmware: 1,
                applications: vec![application::GX],
            },
            peers: vec![PeerConfig {
                settings: PeerSettings {
                    host: BROKER.to_owned(),
                    realm: REALM.to_owned(),
                    relays: Vec::new(),
                    dials: true,
                    proof: Proof::Addresses(Vec::new()),
                    watchdog: Timing { interval_ms: 6_000, jitter_ms: 0, seed: 1 },
                },
                dial: Some(Dial { address: format!("127.0.0.1:{port}"), is_tls: false }),
            }],
            listen: Vec::new(),
            tls: None,
            trace: None,
        };
        let (node, events) = runtime.block_on(Node::start(config)).expect("a node");
        let rules = Arc::new(Mutex::new(Rules::default()));
        runtime.spawn(serve(events, Arc::clone(&rules), origin.clone()));
        Gateway { runtime, node, rules, origin }
    }

    /// The broker's answer to a request of ours; nothing while it cannot be reached.
    pub fn ask(&self, bytes: Vec<u8>) -> Option<u32> {
        let asked = self.node.request(bytes, Some(Duration::from_secs(10)));
        let answer = self.runtime.block_on(asked).ok()?;
        answer.frame.message().result().map(|outcome| outcome.code)
    }

    /// Names of rules held on a session.
    pub fn held(&self, session: &str) -> Vec<String> {
        let rules = self.rules.lock().expect("no poison");
        rules.held.keys().filter(|(of, _)| of == session).map(|(_, name)| name.clone()).collect()
    }

    pub fn ccr(&self, kind: u32, number: u32, session: &str, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut w = Writer::request(command::CREDIT_CONTROL, application::GX);
        w.text(SESSION_ID, session);
        w.u32(AUTH_APPLICATION_ID, application::GX);
        w.text(ORIGIN_HOST, &self.origin.host);
        w.text(ORIGIN_REALM, &self.origin.realm);
        w.text(DESTINATION_REALM, REALM);
        w.u32(CC_REQUEST_TYPE, kind);
        w.u32(CC_REQUEST_NUMBER, number);
        fill(&mut w);
        w.finish().expect("it fits")
    }

    /// CCR-I of a subscriber, at 10.45.0.N.
    pub fn attach(&self, subscriber: u8) -> Option<u32> {
        self.ask(self.ccr(1, 0, &session(subscriber), |w| {
            w.group(SUBSCRIPTION_ID, |w| {
                w.u32(SUBSCRIPTION_ID_TYPE, 1);
                w.text(SUBSCRIPTION_ID_DATA, &imsi(subscriber));
            });
            w.octets(FRAMED_IP_ADDRESS, &[10, 45, 0, subscriber]);
            w.text(CALLED_STATION_ID, "internet.mnc070.mcc999.gprs");
            w.text(TGPP_SGSN_MCC_MNC, "99970");
        }))
    }

    /// CCR-U: a rule is in force.
    pub fn active(&self, subscriber: u8, number: u32, rule: &str) -> Option<u32> {
        self.ask(self.ccr(2, number, &session(subscriber), |w| {
            w.u32(EVENT_TRIGGER, 22);
            w.group(CHARGING_RULE_REPORT, |w| {
                w.text(CHARGING_RULE_NAME, rule);
                w.u32(PCC_RULE_STATUS, 0);
            });
        }))
    }

    /// CCR-U: a rule carried so many bytes since it was last said.
    pub fn used(&self, subscriber: u8, number: u32, rule: &str, down_bytes: u64) -> Option<u32> {
        self.ask(self.ccr(2, number, &session(subscriber), |w| {
            w.u32(EVENT_TRIGGER, 33);
            w.group(USAGE_MONITORING_INFORMATION, |w| {
                w.text(MONITORING_KEY, rule);
                w.group(USED_SERVICE_UNIT, |w| {
                    w.u64(CC_INPUT_OCTETS, 0);
                    w.u64(CC_OUTPUT_OCTETS, down_bytes);
                });
            });
        }))
    }

    pub fn end(&self, subscriber: u8, number: u32) -> Option<u32> {
        self.ask(self.ccr(3, number, &session(subscriber), |_| ()))
    }
}

pub fn session(subscriber: u8) -> String {
    format!("{HOST};1;{subscriber}")
}

pub fn imsi(subscriber: u8) -> String {
    format!("99970{subscriber:010}")
}

/// Takes every RAR.
async fn serve(mut events: Events, rules: Arc<Mutex<Rules>>, origin: Origin) {
    while let Some(event) = events.recv().await {
        let Event::Request(request) = event else { continue };
        let message = request.frame.message();
        take(&message, &mut rules.lock().expect("no poison"));
        let bytes = answer::answer_with(&message, &origin, 2001).finish().expect("it fits");
        request.responder.answer(bytes);
    }
}

fn take(message: &Message<'_>, rules: &mut Rules) {
    let session = message.text(SESSION_ID).unwrap_or("").to_owned();
    for name in message.all(CHARGING_RULE_REMOVE).flat_map(|group| names(&group)) {
        rules.removals += 1;
        rules.held.remove(&(session.clone(), name));
    }
    let installs = message.all(CHARGING_RULE_INSTALL);
    for rule in installs.filter_map(|install| install.find(CHARGING_RULE_DEFINITION)) {
        for name in names(&rule) {
            rules.installs += 1;
            *rules.held.entry((session.clone(), name)).or_default() += 1;
        }
    }
}

fn names(group: &Avp<'_>) -> Vec<String> {
    let of = |avp: Avp<'_>| avp.text().map(str::to_owned);
    group.children().filter(|avp| avp.key == CHARGING_RULE_NAME.key).filter_map(of).collect()
}
