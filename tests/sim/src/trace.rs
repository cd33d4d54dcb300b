//! The trace of a run: a digest over all steps, the last ones in words.

use crate::actor::Message;
use crate::rng::Digest;
use std::collections::VecDeque;
use tollway_model::Timestamp;

/// Steps that a failure shows.
const LAST: usize = 40;

#[derive(Default)]
pub struct Trace {
    digest: Digest,
    last: VecDeque<String>,
    prints: bool,
}

impl Trace {
    pub fn new(prints: bool) -> Trace {
        Trace { prints, ..Trace::default() }
    }

    pub fn digest(&self) -> u64 {
        self.digest.value()
    }

    pub fn last(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }

    pub fn note(&mut self, at: Timestamp, text: &str) {
        self.line(format!("{at:?} {text}"));
    }

    pub fn step(&mut self, at: Timestamp, verb: &str, who: &str, what: &str) {
        self.line(format!("{at:?} {who} {verb} {what}"));
    }

    pub fn message(&mut self, at: Timestamp, way: &str, who: &str, message: &Message) {
        self.line(format!("{at:?} broker {way} {who}: {}", summary(message)));
    }

    /// A durable record: printed, not part of the digest (the journal's bytes are).
    pub fn record(&self, envelope: &tollway_core::Envelope) {
        if self.prints {
            eprintln!("{:?} durable {} {:?}", envelope.at, envelope.seq, envelope.record);
        }
    }

    fn line(&mut self, line: String) {
        self.digest.feed(line.as_bytes());
        if self.prints {
            eprintln!("{line}");
        }
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

/// A message in one line; answers by the digest of their bytes.
fn summary(message: &Message) -> String {
    let name = message.name();
    match message {
        Message::Request { wire, body, .. } => match body {
            crate::actor::Body::Client { command, .. } => format!("{name} {wire} {command:?}"),
            crate::actor::Body::Configure { base, .. } => format!("{name} {wire} from {base}"),
            crate::actor::Body::TopUp { customer, amount, .. } => {
                format!("{name} {wire} {customer} {amount}")
            }
        },
        Message::Reply { wire, reply } => {
            let bytes = minicbor::to_vec(reply).unwrap_or_default();
            let word = match reply {
                tollway_core::Reply::Quote(quote) => quote.id.to_string(),
                tollway_core::Reply::Reservation(r) => format!("{} {}", r.id, r.promise.as_str()),
                tollway_core::Reply::Refused(refusal) => refusal.code.as_str().to_owned(),
                tollway_core::Reply::ToppedUp { balance, .. } => balance.to_string(),
                tollway_core::Reply::Configured { revision, .. } => format!("revision {revision}"),
            };
            format!("{name} {wire} {word} {:016x}", Digest::of(&bytes))
        }
        Message::Reports { number, reports, .. } => format!("{name} {number} ({})", reports.len()),
        Message::Policy(command) => format!("{name} {}", command.leg()),
        Message::Desired { legs, acked, .. } => format!("{name} of {} legs, acked {acked}", legs.len()),
        Message::Ack { number } => format!("{name} {number}"),
        Message::Connect { connection, .. } | Message::Broken { connection } => {
            format!("{name} {connection}")
        }
        Message::Unavailable { wire } => format!("{name} {wire}"),
    }
}
