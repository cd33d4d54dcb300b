//! CCR and CCA (TS 29.212 §5.6.2, §5.6.3).

use super::session::Session;
use super::{Gateway, Link, Output};
use crate::command::{Open, Update, Usage};
use crate::event::Event;
use crate::message::{self, Fields, GX, Head, Message, SUCCESS, TGPP, UNKNOWN_SESSION_ID};
use crate::rule;
use diameter::{ApplicationId, CommandCode, flags};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

const INITIAL: u32 = 1;
const UPDATE: u32 = 2;
const TERMINATION: u32 = 3;
/// Event-Trigger (TS 29.212 §5.3.7).
const PLMN_CHANGE: u32 = 4;
const SUCCESSFUL_RESOURCE_ALLOCATION: u32 = 22;
const USAGE_REPORT: u32 = 33;
/// DIAMETER_LOGOUT (RFC 6733 §8.15).
const LOGOUT: u32 = 1;
const FLAGS_AT: usize = 4;
const HOP_BY_HOP_AT: usize = 12;

/// A CCR without its answer.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub session: String,
    pub kind: u32,
    pub number: u32,
    pub bytes: Vec<u8>,
    pub was_sent: bool,
}

fn digits_plus(digits: &str, n: u32) -> String {
    let sum = digits.parse::<u64>().unwrap_or(0).saturating_add(u64::from(n));
    format!("{sum:0width$}", width = digits.len())
}

fn write_identities(w: &mut Fields, imsi: &str, msisdn: Option<&str>) {
    let mut identity = |kind: u32, data: &str| {
        w.group("Subscription-Id", |w| {
            w.number("Subscription-Id-Type", kind);
            w.text("Subscription-Id-Data", data);
        });
    };
    identity(1, imsi);
    if let Some(msisdn) = msisdn {
        identity(0, msisdn);
    }
}

/// What a bearer is opened with; the ARP in full (TS 29.212 §5.3.45 to §5.3.47).
fn write_bearer(w: &mut Fields, open: &Open) {
    w.group("Supported-Features", |w| {
        w.number("Vendor-Id", TGPP);
        w.number("Feature-List-ID", 1);
        // Rel8, Rel9, Rel10, as a real gateway sends it (TS 29.212 §5.4.1).
        w.number("Feature-List", 11);
    });
    w.number("Network-Request-Support", 1);
    // 3GPP-EPS and EUTRAN (TS 29.212 §5.3.27, §5.3.31).
    w.number("IP-CAN-Type", 5);
    w.number("RAT-Type", 1_004);
    w.group("QoS-Information", |w| {
        w.number("APN-Aggregate-Max-Bitrate-UL", open.up_bps);
        w.number("APN-Aggregate-Max-Bitrate-DL", open.down_bps);
    });
    w.group("Default-EPS-Bearer-QoS", |w| {
        w.number("QoS-Class-Identifier", 9);
        w.group("Allocation-Retention-Priority", |w| {
            w.number("Priority-Level", 15);
            w.number("Pre-emption-Capability", 1);
            w.number("Pre-emption-Vulnerability", 0);
        });
    });
}

fn write_usage(w: &mut Fields, usage: &Usage) {
    w.group("Usage-Monitoring-Information", |w| {
        w.text("Monitoring-Key", &usage.key);
        w.group("Used-Service-Unit", |w| {
            w.wide("CC-Total-Octets", usage.up.saturating_add(usage.down));
            w.wide("CC-Input-Octets", usage.up);
            w.wide("CC-Output-Octets", usage.down);
        });
        // PCC_RULE_LEVEL (TS 29.212 §5.3.61).
        w.number("Usage-Monitoring-Level", 1);
    });
}

fn write_update(w: &mut Fields, update: &Update) {
    let mut triggers = update.triggers.clone();
    let is_active = |report: &crate::command::RuleReport| report.status == crate::command::RuleStatus::Active;
    let implied = [
        (SUCCESSFUL_RESOURCE_ALLOCATION, update.reports.iter().any(is_active)),
        (USAGE_REPORT, !update.usage.is_empty()),
        (PLMN_CHANGE, update.mcc_mnc.is_some()),
    ];
    for (trigger, is_implied) in implied {
        if is_implied && !triggers.contains(&trigger) {
            triggers.push(trigger);
        }
    }
    triggers.iter().for_each(|trigger| w.number("Event-Trigger", *trigger));
    for report in &update.reports {
        w.group("Charging-Rule-Report", |w| {
            w.text("Charging-Rule-Name", &report.rule);
            w.number("PCC-Rule-Status", report.status as u32);
            if let Some(failure) = report.failure {
                w.number("Rule-Failure-Code", failure);
            }
        });
    }
    if let Some(network) = &update.mcc_mnc {
        w.text("3GPP-SGSN-MCC-MNC", network);
    }
    update.usage.iter().for_each(|usage| write_usage(w, usage));
}

impl Gateway {
    fn ask(&mut self, session: &str, kind: u32, number: u32, fill: impl FnOnce(&mut Fields)) {
        let id = self.next_id();
        let head = Head {
            command: CommandCode::CreditControl,
            application: ApplicationId::Gx,
            flags: flags::REQUEST | flags::PROXYABLE,
            hop_by_hop: id,
            end_to_end: id,
        };
        let bytes = message::encode(&self.dictionary, head, |w| {
            w.text("Session-Id", session);
            w.number("Auth-Application-Id", GX);
            w.text("Origin-Host", &self.settings.host);
            w.text("Origin-Realm", &self.settings.realm);
            w.text("Destination-Realm", &self.settings.peer_realm);
            w.number("CC-Request-Type", kind);
            w.number("CC-Request-Number", number);
            w.number("Origin-State-Id", self.settings.state_id);
            fill(w);
        });
        let pending = Pending { session: session.to_owned(), kind, number, bytes, was_sent: false };
        self.pending.insert(id, pending);
        self.send_pending(id);
    }

    /// Sends a CCR that waits, if it can be sent.
    fn send_pending(&mut self, id: u32) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        if self.link != Link::Open {
            return;
        }
        let is_repeat = pending.bytes[FLAGS_AT] & flags::RETRANSMIT != 0;
        pending.was_sent = true;
        self.last = Some(pending.clone());
        let (session, kind, number) = (pending.session.clone(), pending.kind, pending.number);
        self.outputs.push_back(Output::Send(pending.bytes.clone()));
        self.say(Event::Asked { session, kind, number, is_repeat });
    }

    /// The same request once more, with another hop-by-hop id.
    fn again(&mut self, mut pending: Pending) {
        let id = self.next_id();
        if pending.was_sent {
            pending.bytes[FLAGS_AT] |= flags::RETRANSMIT;
        }
        pending.bytes[HOP_BY_HOP_AT..HOP_BY_HOP_AT + 4].copy_from_slice(&id.to_be_bytes());
        self.pending.insert(id, pending);
        self.send_pending(id);
    }

    /// What has no answer is asked again on a new connection; usage with its old number.
    pub(super) fn resend(&mut self) {
        for (_, pending) in std::mem::take(&mut self.pending) {
            self.again(pending);
        }
    }

    pub(super) fn repeat(&mut self) {
        match self.last.clone() {
            Some(last) => self.again(last),
            None => self.problem("repeat: nothing was sent yet"),
        }
    }

    pub(super) fn open(&mut self, open: &Open) {
        for n in 0..open.count {
            self.next_session += 1;
            let id = format!("{};{};{}", self.settings.host, self.settings.state_id, self.next_session);
            let address = Ipv4Addr::from_bits(open.address.to_bits().wrapping_add(n));
            let (imsi, msisdn) =
                (digits_plus(&open.imsi, n), open.msisdn.as_deref().map(|m| digits_plus(m, n)));
            let session = Session {
                imsi: imsi.clone(),
                apn: open.apn.clone(),
                address,
                number: 1,
                rules: BTreeMap::new(),
                meters: BTreeMap::new(),
                reports: Vec::new(),
                used_up: Vec::new(),
            };
            self.sessions.insert(id.clone(), session);
            let own = self.settings.address;
            self.ask(&id, INITIAL, 0, |w| {
                write_identities(w, &imsi, msisdn.as_deref());
                w.octets("Framed-IP-Address", &address.octets());
                write_bearer(w, open);
                if let Some(network) = &open.mcc_mnc {
                    w.text("3GPP-SGSN-MCC-MNC", network);
                }
                w.address("AN-GW-Address", own);
                w.text("Called-Station-Id", &open.apn);
                w.number("Online", 0);
                w.number("Offline", 1);
            });
        }
    }

    /// A script may name a session that is none: then it lies, with the number 1.
    fn take_number(&mut self, id: &str) -> u32 {
        self.sessions.get_mut(id).map_or(1, |session| {
            session.number += 1;
            session.number - 1
        })
    }

    pub(super) fn update(&mut self, update: &Update) {
        let number = self.take_number(&update.session);
        self.ask(&update.session, UPDATE, number, |w| write_update(w, update));
    }

    pub(super) fn close(&mut self, id: &str, mut usage: Vec<Usage>) {
        let number = self.take_number(id);
        if let Some(session) = self.sessions.get_mut(id)
            && self.settings.has_reports
        {
            let keys: Vec<String> = session.meters.keys().cloned().collect();
            usage.extend(keys.iter().filter_map(|key| session.take_usage(key)));
        }
        self.forget(id, "its session ends");
        self.ask(id, TERMINATION, number, |w| {
            w.number("Termination-Cause", LOGOUT);
            usage.iter().for_each(|usage| write_usage(w, usage));
        });
    }

    /// Says what sessions have to say: one CCR-U each.
    pub(super) fn report(&mut self) {
        for id in std::mem::take(&mut self.dirty) {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let reports = std::mem::take(&mut session.reports);
            let keys = std::mem::take(&mut session.used_up);
            let usage: Vec<Usage> = keys.iter().filter_map(|key| session.take_usage(key)).collect();
            self.update(&Update { session: id, reports, usage, ..Update::default() });
        }
    }

    pub(super) fn answered(&mut self, now_ms: u64, message: &Message, frame: &[u8]) {
        let Some(pending) = self.pending.remove(&message.head.hop_by_hop) else {
            self.say(Event::Odd { what: format!("a CCA of {} bytes that nobody waits for", frame.len()) });
            return;
        };
        let view = message.view();
        let (vendor, code) = message.result().unwrap_or((0, 0));
        let rules: Vec<rule::Rule> = view.groups("Charging-Rule-Install").flat_map(rule::installed).collect();
        let removed: Vec<String> = view.groups("Charging-Rule-Remove").flat_map(rule::removed).collect();
        self.say(Event::Answered {
            session: pending.session.clone(),
            kind: pending.kind,
            number: pending.number,
            vendor,
            code,
            installed: rules.iter().map(|rule| rule.name.clone()).collect(),
            removed: removed.clone(),
        });
        let is_success = (vendor, code) == (0, SUCCESS);
        let is_over = pending.kind == INITIAL && !is_success
            || pending.kind == UPDATE && (vendor, code) == (0, UNKNOWN_SESSION_ID);
        if is_over {
            self.forget(&pending.session, "its session was refused");
        } else if is_success {
            self.grant(&pending.session, view);
            removed.iter().for_each(|name| self.lift(&pending.session, name, "removed"));
            self.install(now_ms, &pending.session, rules);
        }
    }
}
