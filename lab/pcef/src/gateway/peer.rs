//! The connection: capabilities, watchdog, disconnection (RFC 6733 §5.3 to §5.5).

use super::{Gateway, Link, Output, Then, Timer};
use crate::event::Event;
use crate::limits::{CLOSE_MS, CONNECT_MS, RECONNECT_MS};
use crate::message::{self, COMMAND_UNSUPPORTED, Fields, Head, Message, SUCCESS, TGPP};
use diameter::{ApplicationId, CommandCode, flags};

/// Applications from here on belong to vendors (RFC 6733 §11.3).
const VENDOR_APPLICATIONS: u32 = 0x0100_0000;
/// Disconnect-Cause REBOOTING (RFC 6733 §5.4.3).
const REBOOTING: u32 = 0;

impl Gateway {
    pub(super) fn connect(&mut self, now_ms: u64) {
        self.clear_timer(&Timer::Redial);
        if self.link == Link::Down {
            self.link = Link::Dialing;
            self.then = Then::Redial;
            self.set_timer(now_ms + CONNECT_MS, Timer::Overdue);
            self.outputs.push_back(Output::Dial);
        } else {
            self.problem("connect: there is a connection already");
        }
    }

    /// The connection that was asked for stands.
    pub fn connected(&mut self) {
        if self.link != Link::Dialing {
            self.outputs.push_back(Output::Close);
            return;
        }
        self.link = Link::Greeting;
        let settings = self.settings.clone();
        let cer = self.base_request(CommandCode::CapabilitiesExchange, |w| {
            w.address("Host-IP-Address", settings.address);
            w.number("Vendor-Id", TGPP);
            w.text("Product-Name", "tollway-pcef");
            w.number("Origin-State-Id", settings.state_id);
            w.number("Supported-Vendor-Id", TGPP);
            for id in &settings.applications {
                if *id < VENDOR_APPLICATIONS {
                    w.number("Auth-Application-Id", *id);
                } else {
                    w.group("Vendor-Specific-Application-Id", |w| {
                        w.number("Vendor-Id", TGPP);
                        w.number("Auth-Application-Id", *id);
                    });
                }
            }
        });
        self.outputs.push_back(Output::Send(cer));
    }

    /// No connection came about, or it ended.
    pub fn disconnected(&mut self, now_ms: u64, why: &str) {
        if self.link == Link::Down {
            return;
        }
        // Nobody there yet: it is tried again, and that is no news.
        let is_news = self.link != Link::Dialing || self.then != Then::Redial;
        self.link = Link::Down;
        self.clear_timer(&Timer::Watchdog);
        self.clear_timer(&Timer::Overdue);
        if is_news {
            self.say(Event::Disconnected { why: why.to_owned() });
        }
        match self.then {
            Then::Redial => self.set_timer(now_ms + RECONNECT_MS, Timer::Redial),
            Then::Wait => {}
            Then::Done => self.outputs.push_back(Output::Done),
        }
    }

    /// Breaks the connection off without a word.
    pub(super) fn hang_up(&mut self, now_ms: u64, then: Then, why: &str) {
        self.then = then;
        self.clear_timer(&Timer::Redial);
        if self.link != Link::Down {
            self.outputs.push_back(Output::Close);
            self.disconnected(now_ms, why);
        }
    }

    pub(super) fn leave(&mut self, now_ms: u64, then: Then) {
        self.clear_timer(&Timer::Redial);
        self.then = then;
        if self.link != Link::Open {
            self.hang_up(now_ms, then, "told to leave");
            if then == Then::Done && !self.outputs.contains(&Output::Done) {
                self.outputs.push_back(Output::Done);
            }
            return;
        }
        self.link = Link::Leaving;
        let dpr = self.base_request(CommandCode::DisconnectPeer, |w| w.number("Disconnect-Cause", REBOOTING));
        self.outputs.push_back(Output::Send(dpr));
        self.set_timer(now_ms + CLOSE_MS, Timer::Overdue);
    }

    /// CEA or DPA did not come.
    pub(super) fn overdue(&mut self, now_ms: u64) {
        let then = self.then;
        self.hang_up(now_ms, then, "no answer in time");
    }

    pub(super) fn watchdog(&mut self, now_ms: u64) {
        if self.link != Link::Open {
            return;
        }
        let state_id = self.settings.state_id;
        let dwr = self.base_request(CommandCode::DeviceWatchdog, |w| w.number("Origin-State-Id", state_id));
        self.outputs.push_back(Output::Send(dwr));
        if self.settings.watchdog_ms > 0 {
            self.clear_timer(&Timer::Watchdog);
            self.set_timer(now_ms + self.settings.watchdog_ms, Timer::Watchdog);
        }
    }

    fn base_request(&mut self, command: CommandCode, fill: impl FnOnce(&mut Fields)) -> Vec<u8> {
        let id = self.next_id();
        let head = Head {
            command,
            application: ApplicationId::Common,
            flags: flags::REQUEST,
            hop_by_hop: id,
            end_to_end: id,
        };
        message::encode(&self.dictionary, head, |w| {
            w.text("Origin-Host", &self.settings.host);
            w.text("Origin-Realm", &self.settings.realm);
            fill(w);
        })
    }

    pub(super) fn message(&mut self, now_ms: u64, message: &Message, frame: &[u8]) {
        let is_request = message.head.is_request();
        match (message.head.command, is_request) {
            (CommandCode::CapabilitiesExchange, false) => self.cea(now_ms, message),
            (CommandCode::DeviceWatchdog, true) => self.answer_base(message, SUCCESS),
            (CommandCode::DeviceWatchdog, false) => self.say(Event::Watched {}),
            (CommandCode::DisconnectPeer, true) => {
                self.answer_base(message, SUCCESS);
                self.outputs.push_back(Output::Close);
                self.disconnected(now_ms, "the peer disconnects");
            }
            (CommandCode::DisconnectPeer, false) => {
                self.outputs.push_back(Output::Close);
                self.disconnected(now_ms, "in agreement");
            }
            (CommandCode::ReAuth, true) => self.pushed(now_ms, message),
            (CommandCode::CreditControl, false) => self.answered(now_ms, message, frame),
            (other, true) => {
                self.answer_base(message, COMMAND_UNSUPPORTED);
                self.say(Event::Odd { what: format!("a request {other}") });
            }
            (other, false) => self.say(Event::Odd { what: format!("an answer {other}") }),
        }
    }

    fn answer_base(&mut self, request: &Message, code: u32) {
        let is_error = (3_000..4_000).contains(&code);
        let bytes = message::encode(&self.dictionary, request.head.answer(is_error), |w| {
            w.number("Result-Code", code);
            w.text("Origin-Host", &self.settings.host);
            w.text("Origin-Realm", &self.settings.realm);
        });
        self.outputs.push_back(Output::Send(bytes));
    }

    fn cea(&mut self, now_ms: u64, message: &Message) {
        if self.link != Link::Greeting {
            self.say(Event::Odd { what: "a CEA that nobody asked for".into() });
            return;
        }
        let view = message.view();
        let code = view.number("Result-Code").unwrap_or(0);
        if code != SUCCESS {
            self.say(Event::Rejected { code });
            self.hang_up(now_ms, Then::Wait, "refused");
            return;
        }
        self.link = Link::Open;
        self.clear_timer(&Timer::Overdue);
        self.peer = view.text("Origin-Host");
        let host = self.peer.clone().unwrap_or_default();
        let realm = view.text("Origin-Realm").unwrap_or_default();
        self.say(Event::Connected { host, realm, state_id: self.settings.state_id });
        if self.settings.watchdog_ms > 0 {
            self.set_timer(now_ms + self.settings.watchdog_ms, Timer::Watchdog);
        }
        self.resend();
    }
}
