//! The ledger entries that a record justifies. The engine posts them, the projections list them; their ids
//! are the record's sequence and their place in it.

use crate::record::{Envelope, Fact, Record};
use crate::wallet;
use tollway_billing::{AccountId, Entry, EntryKind, HoldId};
use tollway_model::{Amount, Currency, CustomerId, Micros, ReservationId, Seq};

/// Entries of one record; `payer` says whose money a reservation holds.
pub fn entries_of(
    envelope: &Envelope,
    payer: impl Fn(ReservationId) -> Option<(CustomerId, Currency)>,
) -> Vec<Entry> {
    let seq = envelope.seq;
    match &envelope.record {
        Record::ToppedUp { customer, amount, .. } => vec![wallet::entry(seq, *customer, *amount)],
        Record::Reported(reported) => reported
            .facts
            .iter()
            .enumerate()
            .filter_map(|(n, fact)| match fact {
                Fact::Usage(usage) if usage.posted > Micros::ZERO => {
                    let n = u32::try_from(n).unwrap_or(u32::MAX);
                    let id = usage.reading.leg.reservation;
                    from_hold(seq, n, EntryKind::Charge, id, usage.posted, payer(id)?)
                }
                Fact::Usage(_) | Fact::Leg { .. } | Fact::Port(..) | Fact::Session(_) => None,
            })
            .collect(),
        Record::Ended(ended) if ended.fee > Micros::ZERO => payer(ended.reservation)
            .and_then(|payer| from_hold(seq, 0, EntryKind::CancelFee, ended.reservation, ended.fee, payer))
            .into_iter()
            .collect(),
        Record::Ended(_)
        | Record::MarketMade(_)
        | Record::Configured(_)
        | Record::Quoted(_)
        | Record::Held(_)
        | Record::HoldExpired { .. }
        | Record::Confirmed { .. }
        | Record::FlowsBound { .. }
        | Record::Started { .. }
        | Record::LegRetried { .. }
        | Record::Settled { .. }
        | Record::Answered(_)
        | Record::LegsTold(_) => Vec::new(),
    }
}

fn from_hold(
    seq: Seq,
    n: u32,
    kind: EntryKind,
    reservation: ReservationId,
    micros: Micros,
    (customer, currency): (CustomerId, Currency),
) -> Option<Entry> {
    Some(Entry {
        seq,
        n,
        kind,
        debit: AccountId::wallet(customer, currency),
        credit: AccountId::revenue(currency),
        amount: Amount { micros, currency },
        hold: Some(HoldId { reservation, n: 0 }),
    })
}
