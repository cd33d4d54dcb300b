//! RAR and RAA (TS 29.212 §5.6.4, §5.6.5).

use super::{Gateway, Output, Timer};
use crate::command::{Answering, RuleStatus};
use crate::event::Event;
use crate::message::{self, Fields, Message, SUCCESS, TGPP, UNKNOWN_SESSION_ID};
use crate::rule;
use diameter::flags;

/// DIAMETER_PCC_RULE_EVENT (TS 29.212 §5.5.3).
const PCC_RULE_EVENT: u32 = 5_142;

/// What a RAA says.
struct Saying {
    session: String,
    vendor: u32,
    code: u32,
    refused: Vec<(String, u32)>,
}

fn write_raa(w: &mut Fields, origin: (&str, &str), saying: &Saying) {
    w.text("Session-Id", &saying.session);
    w.text("Origin-Host", origin.0);
    w.text("Origin-Realm", origin.1);
    if saying.vendor == 0 {
        w.number("Result-Code", saying.code);
    } else {
        w.group("Experimental-Result", |w| {
            w.number("Vendor-Id", saying.vendor);
            w.number("Experimental-Result-Code", saying.code);
        });
    }
    for (name, failure) in &saying.refused {
        w.group("Charging-Rule-Report", |w| {
            w.text("Charging-Rule-Name", name);
            w.number("PCC-Rule-Status", RuleStatus::Inactive as u32);
            w.number("Rule-Failure-Code", *failure);
        });
    }
}

impl Gateway {
    fn next_answering(&mut self) -> Answering {
        let answering = self.answering.clone();
        if let Some(times) = &mut self.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.times = None;
                self.answering = Answering::Accept {};
            }
        }
        answering
    }

    pub(super) fn pushed(&mut self, now_ms: u64, message: &Message) {
        let view = message.view();
        let session = view.text("Session-Id").unwrap_or_default();
        let rules: Vec<rule::Rule> = view.groups("Charging-Rule-Install").flat_map(rule::installed).collect();
        let removed: Vec<String> = view.groups("Charging-Rule-Remove").flat_map(rule::removed).collect();
        let installed: Vec<String> = rules.iter().map(|rule| rule.name.clone()).collect();
        let mut saying = Saying { session: session.clone(), vendor: 0, code: SUCCESS, refused: Vec::new() };
        let mut delay_ms = Some(0);
        let mut obeys = true;
        if self.sessions.contains_key(&session) {
            match self.next_answering() {
                Answering::Accept {} => {}
                Answering::Refuse { failure } => {
                    (saying.vendor, saying.code, obeys) = (TGPP, PCC_RULE_EVENT, false);
                    saying.refused = installed.iter().map(|name| (name.clone(), failure)).collect();
                }
                Answering::Code { code } => (saying.code, obeys) = (code, false),
                Answering::Silent { obeys: is_obeyed } => (delay_ms, obeys) = (None, is_obeyed),
                Answering::Late { ms } => delay_ms = Some(ms),
                Answering::WrongSession {} => saying.session.push_str(";other"),
            }
        } else {
            (saying.code, obeys) = (UNKNOWN_SESSION_ID, false);
        }
        let is_error = saying.vendor == 0 && (3_000..4_000).contains(&saying.code);
        let origin = (self.settings.host.as_str(), self.settings.realm.as_str());
        let raa = message::encode(&self.dictionary, message.head.answer(is_error), |w| {
            write_raa(w, origin, &saying);
        });
        match delay_ms {
            Some(0) => self.outputs.push_back(Output::Send(raa)),
            Some(ms) => self.answer_later(now_ms + ms, raa),
            None => {}
        }
        self.say(Event::Pushed {
            session: session.clone(),
            installed,
            removed: removed.clone(),
            is_repeat: message.head.flags & flags::RETRANSMIT != 0,
            vendor: saying.vendor,
            code: if delay_ms.is_some() { saying.code } else { 0 },
        });
        if obeys {
            removed.iter().for_each(|name| self.lift(&session, name, "removed"));
            self.grant(&session, view);
            self.install(now_ms, &session, rules);
        } else if (saying.vendor, saying.code) == (0, UNKNOWN_SESSION_ID) {
            self.forget(&session, "the script forgets it");
        }
    }

    fn answer_later(&mut self, due_ms: u64, raa: Vec<u8>) {
        let at = u64::from(self.next_id());
        self.late.insert(at, raa);
        self.set_timer(due_ms, Timer::Answer(at));
    }
}
