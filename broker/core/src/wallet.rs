//! Topping up a prepaid wallet: who and why are in the record.

use crate::decide::{Answer, Decided, Decision};
use crate::record::Record;
use crate::refusal::{Code, Refusal};
use crate::reservation::clip;
use crate::state::State;
use tollway_billing::{AccountId, Entry, EntryKind};
use tollway_model::{Amount, CustomerId};

/// The ledger entry that a top-up makes.
pub(crate) fn entry(seq: tollway_model::Seq, customer: CustomerId, amount: Amount) -> Entry {
    Entry {
        seq,
        n: 0,
        kind: EntryKind::TopUp,
        debit: AccountId::cash(amount.currency),
        credit: AccountId::wallet(customer, amount.currency),
        amount,
        hold: None,
    }
}

pub(crate) fn top_up(
    state: &State,
    customer: CustomerId,
    amount: Amount,
    actor: &str,
    reason: &str,
) -> Decided {
    let Some(def) = state.config.customers.get(&customer) else {
        return Err(Refusal::new(Code::NotFound, "there is no such customer"));
    };
    if def.currency != amount.currency {
        let message = format!("the wallet is in {}, the top-up in {}", def.currency, amount.currency);
        return Err(Refusal::new(Code::OutOfRange, message));
    }
    if reason.trim().is_empty() || actor.trim().is_empty() {
        return Err(Refusal::new(Code::OutOfRange, "a top-up says who and why"));
    }
    state
        .ledger
        .check(&entry(state.last_seq.next(), customer, amount))
        .map_err(|error| Refusal::new(Code::OutOfRange, error.to_string()))?;
    let record = Record::ToppedUp { customer, amount, actor: clip(actor), reason: clip(reason) };
    Ok(Decision { records: vec![record], answer: Answer::ToppedUp(customer) })
}
