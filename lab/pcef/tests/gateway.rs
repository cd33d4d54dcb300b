//! The gateway without sockets: what it sends again, when its rules change, and its bounds.

use diameter::dictionary::Dictionary;
use diameter::{ApplicationId, CommandCode, flags};
use std::sync::Arc;
use tollway_pcef::command;
use tollway_pcef::event::Event;
use tollway_pcef::gateway::{Gateway, Output, Settings};
use tollway_pcef::limits::RULES_MAX;
use tollway_pcef::message::{self, Fields, GX, Head, Message};

const OK: u32 = 2001;

/// A gateway and the scripted other end of its connection.
struct Rig {
    gateway: Gateway,
    dictionary: Arc<Dictionary>,
    sent: Vec<Message>,
    events: Vec<Event>,
}

impl Rig {
    fn new() -> Rig {
        let settings = Settings {
            host: "pcef.example.net".into(),
            realm: "example.net".into(),
            peer_realm: "example.net".into(),
            address: [127, 0, 0, 1].into(),
            state_id: 1,
            applications: vec![GX],
            watchdog_ms: 0,
            has_reports: true,
        };
        let dictionary = Arc::new(message::dictionary());
        Rig { gateway: Gateway::new(settings), dictionary, sent: Vec::new(), events: Vec::new() }
    }

    /// Connected, with one session open: `pcef.example.net;1;1`.
    fn open() -> Rig {
        let mut rig = Rig::new();
        rig.connect();
        rig.does(r#"{"do":"open","imsi":"999700000000001","apn":"internet","address":"10.45.0.1"}"#);
        rig.answer(|_| ());
        rig.events.clear();
        rig
    }

    fn drain(&mut self) {
        while let Some(output) = self.gateway.poll_output() {
            match output {
                Output::Send(frame) => {
                    self.sent.push(Message::decode(&frame, &self.dictionary).expect("it reads itself"));
                }
                Output::Event(event) => self.events.push(event),
                Output::Dial | Output::Close | Output::Done => {}
                Output::Enforce { .. } | Output::Lift { .. } => {}
            }
        }
    }

    fn does(&mut self, line: &str) {
        self.gateway.command(0, command::parse(line).expect("a command"));
        self.drain();
    }

    fn until(&mut self, now_ms: u64) {
        self.gateway.tick(now_ms);
        self.drain();
    }

    fn connect(&mut self) {
        self.does(r#"{"do":"connect"}"#);
        self.gateway.connected();
        self.drain();
        self.answer(|_| ());
    }

    fn receive(&mut self, head: Head, fill: impl FnOnce(&mut Fields)) {
        let frame = message::encode(&self.dictionary, head, fill);
        self.gateway.received(0, &frame);
        self.drain();
    }

    /// Answers what was sent last.
    fn answer(&mut self, more: impl FnOnce(&mut Fields)) {
        let head = self.sent.pop().expect("something was sent").head;
        self.receive(head.answer(false), |w| {
            w.number("Result-Code", OK);
            w.text("Origin-Host", "broker.example.net");
            w.text("Origin-Realm", "example.net");
            more(w);
        });
    }

    /// A RAR that installs rules of these names and times.
    fn push(&mut self, rules: &[(String, Option<u32>, Option<u32>)]) {
        let head = Head {
            command: CommandCode::ReAuth,
            application: ApplicationId::Gx,
            flags: flags::REQUEST | flags::PROXYABLE,
            hop_by_hop: 5,
            end_to_end: 5,
        };
        self.receive(head, |w| {
            w.text("Session-Id", "pcef.example.net;1;1");
            for (name, from, until) in rules {
                w.group("Charging-Rule-Install", |w| {
                    w.group("Charging-Rule-Definition", |w| w.text("Charging-Rule-Name", name));
                    for (avp, time) in [("Rule-Activation-Time", from), ("Rule-Deactivation-Time", until)] {
                        if let Some(time) = time {
                            w.time(avp, *time);
                        }
                    }
                    w.number("Resource-Allocation-Notification", 0);
                });
            }
        });
    }

    /// `(command, CC-Request-Number, T flag)` of what was sent since the last look.
    fn looks(&mut self) -> Vec<(CommandCode, Option<u32>, bool)> {
        let look = |m: Message| {
            let is_repeat = m.head.flags & flags::RETRANSMIT != 0;
            (m.head.command, m.view().number("CC-Request-Number"), is_repeat)
        };
        self.sent.drain(..).map(look).collect()
    }
}

#[test]
fn what_has_no_answer_is_sent_again_with_its_number() {
    let mut rig = Rig::open();
    rig.does(r#"{"do":"update","session":"pcef.example.net;1;1","usage":[{"key":"tw-1-0","down":5}]}"#);
    rig.does(r#"{"do":"crash"}"#);
    // Asked for without a connection: not yet sent, so it is no repetition.
    rig.does(r#"{"do":"update","session":"pcef.example.net;1;1"}"#);
    assert_eq!(rig.looks(), [(CommandCode::CreditControl, Some(1), false)]);
    rig.connect();
    let again = [(CommandCode::CreditControl, Some(1), true), (CommandCode::CreditControl, Some(2), false)];
    assert_eq!(rig.looks(), again);
    rig.does(r#"{"do":"restart"}"#);
    rig.gateway.connected();
    rig.drain();
    assert_eq!(rig.sent.last().and_then(|cer| cer.view().number("Origin-State-Id")), Some(2));
    rig.answer(|_| ());
    assert_eq!(rig.looks(), [], "a new life knows nothing of the old one's requests");
}

#[test]
fn rules_start_and_end_by_the_clock() {
    let mut rig = Rig::open();
    rig.push(&[("tw-1-0".into(), Some(100), Some(200)), ("tw-2-0".into(), None, Some(150))]);
    assert_eq!(
        rig.looks(),
        [(CommandCode::ReAuth, None, false), (CommandCode::CreditControl, Some(1), false)]
    );
    let names = |rig: &mut Rig| -> Vec<String> {
        let one = |event: Event| {
            if let Event::Active { rule, .. } = event {
                Some(format!("{rule} active"))
            } else if let Event::Gone { rule, .. } = event {
                Some(format!("{rule} gone"))
            } else {
                None
            }
        };
        rig.events.drain(..).filter_map(one).collect()
    };
    assert_eq!(names(&mut rig), ["tw-2-0 active"]);
    for (now_s, said) in [
        (99, &[][..]),
        (100, &["tw-1-0 active"][..]),
        (149, &[][..]),
        (150, &["tw-2-0 gone"][..]),
        (300, &["tw-1-0 gone"][..]),
    ] {
        rig.until(now_s * 1_000);
        assert_eq!(names(&mut rig), said, "{now_s}");
    }
    assert_eq!(rig.looks(), [(CommandCode::CreditControl, Some(2), false)], "ACTIVE of tw-1-0");
}

#[test]
fn rules_beyond_the_bound_are_reported_inactive() {
    let mut rig = Rig::open();
    let rules: Vec<_> = (0..=RULES_MAX).map(|n| (format!("tw-{n}-0"), None, None)).collect();
    for some in rules.chunks(64) {
        rig.push(some);
    }
    let last = rig.sent.pop().expect("a report");
    let reports: Vec<_> = last.view().groups("Charging-Rule-Report").collect();
    let said = |at: usize| {
        (
            reports[at].text("Charging-Rule-Name"),
            reports[at].number("PCC-Rule-Status"),
            reports[at].number("Rule-Failure-Code"),
        )
    };
    assert_eq!((reports.len(), said(0)), (1, (Some(format!("tw-{RULES_MAX}-0")), Some(1), Some(6))));
}
