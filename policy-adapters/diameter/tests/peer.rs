//! The peer machine, row by row of the table in RFC 6733 §5.6, both outcomes of the election, and its watchdog.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::IpAddr;
use std::sync::Arc;
use tollway_diameter::capabilities::{Capabilities, Local};
use tollway_diameter::message::set_hop_by_hop;
use tollway_diameter::peer::{Accepted, Change, ConnId, Event, Ids, Peer, Settings, Transmit, cause};
use tollway_diameter::watchdog::{State as Watch, Timing};
use tollway_diameter::{Message, Origin, application, command, result};

const I: ConnId = ConnId::Dialed { peer: 0, attempt: 1 };
const R: ConnId = ConnId::Accepted(1);
const R2: ConnId = ConnId::Accepted(2);
const WATCHDOG_MS: u64 = 30_000;

fn local(host: &str) -> Local {
    Local {
        origin: Origin { host: host.into(), realm: "example".into(), state_id: 1 },
        addresses: vec![IpAddr::from([127, 0, 0, 1])],
        product: "tollway".into(),
        firmware: 1,
        applications: vec![application::GX],
    }
}

fn accepted(host: &str, conn: ConnId) -> Accepted {
    let request = local(host).cer().unwrap();
    let capabilities = Capabilities::read(&Message::parse(&request).unwrap()).unwrap();
    Accepted { conn, request, capabilities }
}

/// We are `m.example`; a peer `a.example` loses elections, `z.example` wins them.
struct Bench {
    peer: Peer,
    ids: Ids,
    remote: &'static str,
    now: u64,
    last_hop: u32,
}

impl Bench {
    fn new(remote: &'static str) -> Bench {
        let settings = Settings {
            host: remote.into(),
            dials: true,
            watchdog: Timing { interval_ms: WATCHDOG_MS, jitter_ms: 0, seed: 1 },
        };
        let peer = Peer::new(0, Arc::new(local("m.example")), settings);
        Bench { peer, ids: Ids::new(0, 0), remote, now: 0, last_hop: 0 }
    }

    /// The transmits as words: `I+` connect, `I:CER` send, `I-` close.
    fn drain(&mut self) -> String {
        let mut words = Vec::new();
        while let Some(transmit) = self.peer.poll_transmit() {
            let name = |conn: ConnId| match conn {
                ConnId::Dialed { .. } => "I",
                ConnId::Accepted(1) => "R",
                ConnId::Accepted(_) => "R2",
            };
            words.push(match transmit {
                Transmit::Connect(conn) => format!("{}+", name(conn)),
                Transmit::Close(conn) => format!("{}-", name(conn)),
                Transmit::Send(conn, bytes) => {
                    let message = Message::parse(&bytes).unwrap();
                    self.last_hop = message.header.hop_by_hop;
                    let command = message.header.command;
                    let names = tollway_diameter::grammar::name(0, command, message.is_request());
                    format!("{}:{names}", name(conn))
                }
            });
        }
        words.join(" ")
    }

    fn changes(&mut self) -> String {
        let mut words = Vec::new();
        while let Some(change) = self.peer.poll_change() {
            words.push(match change {
                Change::Opened(_) => "opened",
                Change::Usable => "usable",
                Change::Suspect => "suspect",
                Change::Lost { .. } => "lost",
                Change::Refused { .. } => "refused",
            });
        }
        words.join(" ")
    }

    fn on(&mut self, event: Event<'_>) {
        self.peer.handle(self.now, event, &mut self.ids);
    }

    fn base(&mut self, conn: ConnId, bytes: &[u8]) {
        let message = Message::parse(bytes).unwrap();
        self.peer.handle(self.now, Event::Message(conn, &message), &mut self.ids);
    }

    fn cea(&mut self, code: u32, host: &str, applications: &[u32]) {
        let cer = accepted("m.example", I).request;
        let mut theirs = local(host);
        theirs.applications = applications.to_vec();
        let mut bytes = theirs.cea(&Message::parse(&cer).unwrap(), code, None).unwrap();
        set_hop_by_hop(&mut bytes, self.last_hop);
        self.base(I, &bytes);
    }

    fn request(&mut self, conn: ConnId, command: u32) {
        let mut writer = tollway_diameter::Writer::request(command, application::BASE);
        local(self.remote).origin.write_with_state(&mut writer);
        if command == command::DISCONNECT_PEER {
            writer.u32(tollway_diameter::avp::ietf::DISCONNECT_CAUSE, cause::REBOOTING);
        }
        let bytes = writer.finish().unwrap();
        self.base(conn, &bytes);
    }

    fn answer(&mut self, conn: ConnId, command: u32) {
        let writer = tollway_diameter::Writer::request(command, application::BASE);
        let request = writer.finish().unwrap();
        let request = Message::parse(&request).unwrap();
        let answer = tollway_diameter::answer::answer_with(&request, &local(self.remote).origin, 2001);
        self.base(conn, &answer.finish().unwrap());
    }

    fn expire(&mut self) {
        self.now = self.peer.poll_timeout().expect("a timer runs");
        self.peer.timeout(self.now, &mut self.ids);
    }

    /// One word of a row's script.
    fn act(&mut self, word: &str) {
        match word {
            "start" => self.on(Event::Start),
            "stop" => self.on(Event::Stop(cause::REBOOTING)),
            "i-ack" => self.on(Event::Connected(I)),
            "i-nack" => self.on(Event::NotConnected(I)),
            "r-cer" => self.on(Event::Cer(accepted(self.remote, R))),
            "r2-cer" => self.on(Event::Cer(accepted(self.remote, R2))),
            "i-cea" => self.cea(result::SUCCESS, self.remote, &[application::GX]),
            "i-cea-5010" => self.cea(result::NO_COMMON_APPLICATION, self.remote, &[application::GX]),
            "i-cea-other-host" => self.cea(result::SUCCESS, "x.example", &[application::GX]),
            "i-cea-no-common" => self.cea(result::SUCCESS, self.remote, &[4]),
            "i-non-cea" => self.request(I, command::DEVICE_WATCHDOG),
            "i-disc" => self.on(Event::Disconnected(I)),
            "r-disc" => self.on(Event::Disconnected(R)),
            "i-dwr" => self.request(I, command::DEVICE_WATCHDOG),
            "r-dwr" => self.request(R, command::DEVICE_WATCHDOG),
            "i-dwa" => self.answer(I, command::DEVICE_WATCHDOG),
            "r-dwa" => self.answer(R, command::DEVICE_WATCHDOG),
            "i-dpr" => self.request(I, command::DISCONNECT_PEER),
            "r-dpr" => self.request(R, command::DISCONNECT_PEER),
            "i-dpa" => self.answer(I, command::DISCONNECT_PEER),
            "r-dpa" => self.answer(R, command::DISCONNECT_PEER),
            "r-message" => self.on(Event::Traffic(R)),
            "timeout" => self.expire(),
            other => panic!("{other}"),
        }
    }

    /// Does the words; what the last one made, the state after it, and the changes of all.
    fn run(&mut self, script: &str) -> (String, &'static str, String) {
        let mut made = String::new();
        for word in script.split(' ') {
            self.act(word);
            made = self.drain();
        }
        (made, self.peer.state().name(), self.changes())
    }
}

const WINS: &str = "a.example";
const LOSES: &str = "z.example";

#[test]
fn every_row_of_the_table() {
    // (peer, script, what the last event made, state, changes)
    let rows = [
        (WINS, "start", "I+", "Wait-Conn-Ack", ""),
        (WINS, "r-cer", "R:CEA", "R-Open", "opened usable"),
        (WINS, "start i-ack", "I:CER", "Wait-I-CEA", ""),
        (WINS, "start i-nack", "", "Closed", "refused"),
        (WINS, "start r-cer", "", "Wait-Conn-Ack/Elect", ""),
        (WINS, "start timeout", "I-", "Closed", "refused"),
        (WINS, "start i-ack i-cea", "", "I-Open", "opened usable"),
        (WINS, "start i-ack i-cea-5010", "I-", "Closed", "refused"),
        (WINS, "start i-ack i-cea-other-host", "I-", "Closed", "refused"),
        (WINS, "start i-ack i-cea-no-common", "I-", "Closed", "refused"),
        (WINS, "start i-ack r-cer", "I- R:CEA", "R-Open", "opened usable"),
        (LOSES, "start i-ack r-cer", "", "Wait-Returns", ""),
        (WINS, "start i-ack i-disc", "", "Closed", "refused"),
        (WINS, "start i-ack i-non-cea", "I-", "Closed", "refused"),
        (WINS, "start i-ack timeout", "I-", "Closed", "refused"),
        (WINS, "start r-cer i-ack", "I:CER I- R:CEA", "R-Open", "opened usable"),
        (LOSES, "start r-cer i-ack", "I:CER", "Wait-Returns", ""),
        (WINS, "start r-cer i-nack", "R:CEA", "R-Open", "opened usable"),
        (WINS, "start r-cer r-disc", "", "Wait-Conn-Ack", ""),
        (WINS, "start r-cer r2-cer", "R2-", "Wait-Conn-Ack/Elect", ""),
        (WINS, "start r-cer timeout", "I- R-", "Closed", "refused"),
        (LOSES, "start i-ack r-cer i-disc", "R:CEA", "R-Open", "opened usable"),
        (LOSES, "start i-ack r-cer i-cea", "R-", "I-Open", "opened usable"),
        (LOSES, "start i-ack r-cer i-cea-5010", "I- R:CEA", "R-Open", "opened usable"),
        (LOSES, "start i-ack r-cer r-disc", "", "Wait-I-CEA", ""),
        (LOSES, "start i-ack r-cer r2-cer", "R2-", "Wait-Returns", ""),
        (LOSES, "start i-ack r-cer timeout", "I- R-", "Closed", "refused"),
        (WINS, "r-cer r-message", "", "R-Open", "opened usable"),
        (WINS, "r-cer r-dwr", "R:DWA", "R-Open", "opened usable"),
        (WINS, "r-cer r-dwa", "", "R-Open", "opened usable"),
        (WINS, "r-cer r2-cer", "R2-", "R-Open", "opened usable"),
        (WINS, "r-cer stop", "R:DPR", "Closing", "opened usable lost"),
        (WINS, "r-cer r-dpr", "R:DPA", "Closing", "opened usable lost"),
        (WINS, "r-cer r-disc", "", "Closed", "opened usable lost"),
        (WINS, "start i-ack i-cea i-dwr", "I:DWA", "I-Open", "opened usable"),
        (WINS, "start i-ack i-cea i-dwa", "", "I-Open", "opened usable"),
        (WINS, "start i-ack i-cea r-cer", "R-", "I-Open", "opened usable"),
        (WINS, "start i-ack i-cea stop", "I:DPR", "Closing", "opened usable lost"),
        (WINS, "start i-ack i-cea i-dpr", "I:DPA", "Closing", "opened usable lost"),
        (WINS, "start i-ack i-cea i-disc", "", "Closed", "opened usable lost"),
        (WINS, "start i-ack i-cea stop i-dpa", "I-", "Closed", "opened usable lost"),
        (WINS, "r-cer stop r-dpa", "R-", "Closed", "opened usable lost"),
        (WINS, "r-cer stop timeout", "R-", "Closed", "opened usable lost"),
        (WINS, "start i-ack i-cea stop i-disc", "", "Closed", "opened usable lost"),
        (WINS, "r-cer stop r-disc", "", "Closed", "opened usable lost"),
        // Both disconnect at once: each DPR is answered.
        (WINS, "r-cer stop r-dpr", "R:DPA", "Closing", "opened usable lost"),
        (WINS, "start stop", "I-", "Closed", "refused"),
        (WINS, "r-cer stop r-dpa r2-cer", "R2-", "Closed", "opened usable lost"),
    ];
    for (remote, script, made, state, changes) in rows {
        let got = Bench::new(remote).run(script);
        assert_eq!(got, (made.to_owned(), state, changes.to_owned()), "{remote}: {script}");
    }
}

#[test]
fn a_silent_peer_is_suspect_within_two_watchdogs_and_closed_in_three() {
    let mut bench = Bench::new(WINS);
    bench.run("r-cer");
    assert_eq!(bench.run("timeout"), ("R:DWR".into(), "R-Open", String::new()));
    assert_eq!(bench.now, WATCHDOG_MS);
    assert!(bench.peer.usable_on().is_some());
    assert_eq!(bench.run("timeout"), (String::new(), "R-Open", "suspect".into()));
    assert_eq!(bench.now, 2 * WATCHDOG_MS);
    assert!(bench.peer.usable_on().is_none() && bench.peer.open_on().is_some());
    assert_eq!(bench.run("timeout"), ("R-".into(), "Closed", "lost".into()));
    // It comes back: three answers before it is used again (RFC 3539 §3.4.1).
    assert_eq!(bench.run("r-cer"), ("R:CEA R:DWR".into(), "R-Open", "opened".into()));
    assert_eq!(bench.run("r-dwa"), ("R:DWR".into(), "R-Open", String::new()));
    assert_eq!(bench.run("r-dwa"), ("R:DWR".into(), "R-Open", String::new()));
    assert_eq!(bench.run("r-dwa"), (String::new(), "R-Open", "usable".into()));
    assert_eq!(bench.peer.watchdog(), Watch::Okay);
}

#[test]
fn an_answer_or_any_message_ends_the_suspicion() {
    for word in ["r-dwa", "r-message", "r-dwr"] {
        let mut bench = Bench::new(WINS);
        bench.run("r-cer timeout timeout");
        assert!(bench.peer.usable_on().is_none());
        assert_eq!(bench.run(word).2, "usable", "{word}");
        assert!(bench.peer.usable_on().is_some());
    }
}

#[test]
fn the_pause_between_attempts_doubles_up_to_tc() {
    let mut bench = Bench::new(WINS);
    bench.on(Event::Start);
    let mut pauses = Vec::new();
    for attempt in 1..=9 {
        bench.on(Event::NotConnected(ConnId::Dialed { peer: 0, attempt }));
        pauses.push(bench.peer.poll_timeout().unwrap() - bench.now);
        bench.expire();
    }
    assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
}
