//! One machine and the scripted other ends of its connections.

use super::messages::local;
use std::net::IpAddr;
use tollway_diameter::machine::{Event, Input, Machine, PeerSettings, Proof, Remote, RequestId, Settings};
use tollway_diameter::message::set_hop_by_hop;
use tollway_diameter::peer::{ConnId, Transmit};
use tollway_diameter::watchdog::Timing;
use tollway_diameter::{Message, Writer, answer, application, command, result};

pub const WATCHDOG_MS: u64 = 30_000;
pub const US: &str = "pcrf.example.net";
pub const PCEF: &str = "pcef.example.net";
pub const RELAY: &str = "relay.example.net";

pub fn address() -> IpAddr {
    IpAddr::from([127, 0, 0, 9])
}

pub fn peer(host: &str, realm: &str) -> PeerSettings {
    PeerSettings {
        host: host.into(),
        realm: realm.into(),
        relays: Vec::new(),
        dials: false,
        proof: Proof::Addresses(vec![address()]),
        watchdog: Timing { interval_ms: WATCHDOG_MS, jitter_ms: 0, seed: 1 },
    }
}

pub fn settings(peers: Vec<PeerSettings>) -> Settings {
    Settings { local: local(US, &[application::GX, application::RX]), peers, unix_s: 1, random: 5 }
}

pub struct Rig {
    pub machine: Machine,
    pub now: u64,
    accepted: u64,
}

impl Rig {
    pub fn new(peers: Vec<PeerSettings>) -> Rig {
        Rig { machine: Machine::new(settings(peers)).expect("good settings"), now: 0, accepted: 0 }
    }

    /// A PCEF and a relay that can reach it, both open.
    pub fn with_relay() -> (Rig, ConnId, ConnId) {
        let mut rig = Rig::new(vec![peer(PCEF, "example.net"), peer(RELAY, "example.net")]);
        let pcef = rig.connect(PCEF, &[application::GX]);
        let relay = rig.connect(RELAY, &[application::RELAY]);
        rig.events();
        (rig, pcef, relay)
    }

    pub fn give(&mut self, input: Input) {
        self.machine.handle(self.now, input);
    }

    pub fn accept(&mut self, from: IpAddr) -> ConnId {
        self.accepted += 1;
        let conn = ConnId::Accepted(self.accepted);
        self.give(Input::Accepted { conn, remote: Remote { address: from, proven: None } });
        conn
    }

    pub fn receive(&mut self, conn: ConnId, bytes: Vec<u8>) {
        self.give(Input::Received { conn, bytes });
    }

    /// Connects and sends a CER; what comes back is left in the machine.
    pub fn cer(&mut self, host: &str, state_id: u32, applications: &[u32], from: IpAddr) -> ConnId {
        let conn = self.accept(from);
        let mut theirs = local(host, applications);
        theirs.origin.state_id = state_id;
        self.receive(conn, theirs.cer().expect("it fits"));
        conn
    }

    pub fn connect(&mut self, host: &str, applications: &[u32]) -> ConnId {
        let conn = self.cer(host, 7, applications, address());
        let sent = self.sent();
        let cea = Message::parse(&sent[0].1).expect("a CEA");
        assert_eq!(cea.result().map(|outcome| outcome.code), Some(result::SUCCESS));
        conn
    }

    /// Frames sent since the last look; closes are asserted away.
    pub fn sent(&mut self) -> Vec<(ConnId, Vec<u8>)> {
        self.transmits()
            .into_iter()
            .map(|transmit| match transmit {
                Transmit::Send(conn, bytes) => (conn, bytes),
                other @ (Transmit::Connect(_) | Transmit::Close(_)) => panic!("{other:?}"),
            })
            .collect()
    }

    pub fn transmits(&mut self) -> Vec<Transmit> {
        std::iter::from_fn(|| self.machine.poll_transmit()).collect()
    }

    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.machine.poll_event()).collect()
    }

    /// Lets time pass up to an instant, running what is due on the way.
    pub fn until(&mut self, now: u64) {
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= now) {
            self.now = self.now.max(due);
            self.machine.timeout(self.now);
        }
        self.now = now;
    }

    pub fn ask(&mut self, id: u64, timeout_ms: u64) {
        self.give(Input::Request { id: RequestId(id), bytes: super::messages::rar(), timeout_ms });
    }

    pub fn dwa(&mut self, conn: ConnId, host: &str) {
        let request = Writer::request(command::DEVICE_WATCHDOG, application::BASE).finish().expect("it fits");
        let request = Message::parse(&request).expect("ours");
        let answer = answer::answer_with(&request, &super::messages::origin(host), result::SUCCESS);
        self.receive(conn, answer.finish().expect("it fits"));
    }
}

/// The answer of a PCEF to a request of ours.
pub fn answer_to(bytes: &[u8], code: u32) -> Vec<u8> {
    let request = Message::parse(bytes).expect("ours");
    answer::answer_with(&request, &super::messages::origin(PCEF), code).finish().expect("it fits")
}

pub fn with_hop(mut bytes: Vec<u8>, hop: u32) -> Vec<u8> {
    set_hop_by_hop(&mut bytes, hop);
    bytes
}

pub fn header(bytes: &[u8]) -> tollway_diameter::Header {
    Message::parse(bytes).expect("a message").header
}

pub fn code(bytes: &[u8]) -> u32 {
    Message::parse(bytes).expect("a message").result().expect("a result").code
}
