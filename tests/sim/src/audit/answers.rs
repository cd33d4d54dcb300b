//! Invariant 5: the same key gets the same answer, byte for byte, and never a second effect.

use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use tollway_core::{Code, Envelope, IdempotencyKey, Output, Record, Reply};
use tollway_model::{QuoteId, ReservationId, Timestamp};

/// Keys are kept this long.
const KEY_LIFE_MS: u64 = 24 * 3_600_000;

#[derive(Default)]
pub struct Answers {
    /// First answer of a key that is durable: its request, its bytes, its time.
    first: BTreeMap<[u8; 16], (u64, Vec<u8>, Timestamp)>,
    taken: BTreeSet<QuoteId>,
    confirmed: BTreeSet<ReservationId>,
    ended: BTreeSet<ReservationId>,
    orders: BTreeSet<String>,
}

impl Answers {
    pub fn fold(&mut self, envelope: &Envelope) -> Result<(), String> {
        let twice = |what: String| Err(format!("invariant 5: {what} at {}", envelope.seq));
        match &envelope.record {
            Record::Answered(answered) => {
                let bytes = minicbor::to_vec(&answered.reply).map_err(|e| e.to_string())?;
                let alive = self
                    .first
                    .get(&answered.key)
                    .is_some_and(|(_, _, at)| envelope.at.ms_since(*at) < KEY_LIFE_MS);
                if alive {
                    return twice(format!("key {:?} is answered twice", answered.key));
                }
                self.first.insert(answered.key, (answered.request, bytes, envelope.at));
            }
            Record::Held(held) if !self.taken.insert(held.quote) => {
                return twice(format!("{} is taken twice", held.quote));
            }
            Record::Confirmed { reservation, .. } if !self.confirmed.insert(*reservation) => {
                return twice(format!("{reservation} is confirmed twice"));
            }
            Record::HoldExpired { reservation } if !self.ended.insert(*reservation) => {
                return twice(format!("{reservation} ends twice"));
            }
            Record::Ended(ended) if !self.ended.insert(ended.reservation) => {
                return twice(format!("{} ends twice", ended.reservation));
            }
            Record::ToppedUp { reason, .. } if !self.orders.insert(reason.clone()) => {
                return twice(format!("{reason} is paid in twice"));
            }
            Record::MarketMade(_)
            | Record::Configured(_)
            | Record::Quoted(_)
            | Record::Held(_)
            | Record::HoldExpired { .. }
            | Record::Confirmed { .. }
            | Record::FlowsBound { .. }
            | Record::Started { .. }
            | Record::LegRetried { .. }
            | Record::LegsTold(_)
            | Record::Reported(_)
            | Record::Ended(_)
            | Record::Settled { .. }
            | Record::ToppedUp { .. } => {}
        }
        Ok(())
    }

    pub fn left(
        &mut self,
        output: &Output,
        key: Option<IdempotencyKey>,
        store: &Store,
    ) -> Result<(), String> {
        let Some(key) = key else { return Ok(()) };
        let reply = match output {
            Output::Reply { reply, .. } => reply,
            Output::Repeat { at, .. } => {
                store.answer(*at).ok_or_else(|| format!("invariant 5: there is no answer at {at}"))?
            }
            Output::Policy { .. } | Output::DesiredSet { .. } | Output::Ack { .. } => return Ok(()),
        };
        if is_passing(reply) {
            return Ok(());
        }
        let bytes = minicbor::to_vec(reply).map_err(|e| e.to_string())?;
        match self.first.get(&key.key) {
            Some((request, _, _)) if *request != key.request => {
                Err(format!("invariant 5: key {:?} answers another request", key.key))
            }
            Some((_, first, _)) if *first != bytes => {
                Err(format!("invariant 5: key {:?} gets another answer than before", key.key))
            }
            Some(_) => Ok(()),
            None => Err(format!("invariant 5: the answer of key {:?} is not in the journal", key.key)),
        }
    }
}

/// Answers that are not kept: the same request may be answered otherwise later.
fn is_passing(reply: &Reply) -> bool {
    match reply {
        Reply::Refused(refusal) => matches!(
            refusal.code,
            Code::EndpointNotAllowed | Code::NotFound | Code::TooMany | Code::KeyReused
        ),
        Reply::Quote(_) | Reply::Reservation(_) | Reply::ToppedUp { .. } | Reply::Configured { .. } => false,
    }
}
