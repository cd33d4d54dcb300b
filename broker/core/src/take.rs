//! Taking an offer: the hold. It re-checks capacity and money in one step and answers with offers, never
//! with another price.

use crate::admission::Ask;
use crate::decide::{Answer, Decided, Decision};
use crate::limits;
use crate::offer::{Offer, Quote};
use crate::quote;
use crate::record::{Held, Record};
use crate::refusal::{Code, Refusal};
use crate::state::State;
use tollway_billing::AccountId;
use tollway_billing::ledger::Error;
use tollway_model::{Amount, CustomerId, OfferId, QuoteId, ReservationId, Timestamp};

/// Why an offer of bytes is refused although its quote is valid.
pub(crate) const TOO_LATE: &str = "too much of the window has passed: what is left does not carry the bytes";

pub(crate) fn decide(state: &State, now: Timestamp, customer: CustomerId, id: OfferId) -> Decided {
    let quote = state
        .quotes
        .get(&id.quote)
        .filter(|quote| quote.customer == customer)
        .ok_or_else(|| no_quote(state, customer, id.quote))?;
    let offer = quote
        .offers
        .iter()
        .find(|offer| offer.index == id.index)
        .ok_or_else(|| Refusal::new(Code::NotFound, "the quote has no such offer"))?;
    if now > quote.valid_until || offer.window.until <= now {
        return Err(Refusal::new(Code::QuoteExpired, "the quote is over"));
    }
    if !offer.is_in_time(now) {
        return Err(Refusal::new(Code::QuoteExpired, TOO_LATE));
    }
    let open = state.open_holds.get(&customer).map_or(0, std::collections::BTreeSet::len);
    if open >= limits::OPEN_HOLDS_MAX {
        let message = format!("{} unconfirmed holds of this customer are open", limits::OPEN_HOLDS_MAX);
        return Err(Refusal::new(Code::TooMany, message));
    }
    quote::may_use(state, customer, &quote.request)?;
    if let Some(refused) = no_longer_fits(state, now, customer, quote, offer) {
        return refused;
    }
    check_hold_share(state, customer, offer)?;
    check_funds(state, customer, offer)?;
    let reservation = ReservationId(state.next_reservation + 1);
    let expires = now.plus_ms(limits::HOLD_LIFE_MS).min(offer.window.until);
    let held = Held { reservation, customer, quote: id.quote, offer: offer.clone(), expires };
    Ok(Decision { records: vec![Record::Held(held)], answer: Answer::Reservation(reservation) })
}

/// Of its own quote a customer is told what became of it; of all others, nothing.
fn no_quote(state: &State, customer: CustomerId, quote: QuoteId) -> Refusal {
    match state.taken.get(&quote).filter(|taken| taken.customer == customer) {
        Some(taken) => {
            let message = "an offer of this quote was taken already: a quote is taken once";
            let fix = "read that reservation, or ask for a new quote to hold another one";
            Refusal::new(Code::QuoteExpired, message).fix_about(fix, taken.reservation)
        }
        None => Refusal::new(Code::QuoteExpired, "the quote is over, or never was"),
    }
}

/// `Some` when capacity went since the quote: a refusal with fresh offers for the same request, in a quote
/// that takes the old one's place.
fn no_longer_fits(
    state: &State,
    now: Timestamp,
    customer: CustomerId,
    quoted: &Quote,
    offer: &Offer,
) -> Option<Decided> {
    let def = state.config.tier_revision(offer.tier, offer.tier_revision)?;
    let ask = Ask {
        state,
        access: offer.access,
        subscriber: offer.subscriber,
        direction: offer.direction,
        tier: offer.tier,
        revision: offer.tier_revision,
        def,
        currency: offer.total.currency,
    };
    let lack = ask.lack(&offer.schedule)?;
    let message = quote::exhausted(state, Some(&lack), offer.window);
    let again = quote::make(state, now, customer, &quoted.request, Some(quoted.id));
    Some(match again {
        Ok(Decision { records, answer }) => {
            let (id, offers) = match records.first() {
                Some(Record::Quoted(quote)) => (quote.id, quote.offers.clone()),
                Some(_) | None => return Some(Ok(Decision { records, answer })),
            };
            let refusal = Refusal::new(Code::CapacityExhausted, message);
            let refusal = Refusal { quote: Some(id), offers, ..refusal };
            Ok(Decision { records, answer: Answer::Counter(refusal, id) })
        }
        Err(_) => Err(Refusal::new(Code::CapacityExhausted, message)),
    })
}

/// Beyond its first, one customer's unconfirmed holds take at most a share of what is on sale in a slot. What
/// they take changes only where one of their segments begins, so that a window of a month is not walked slot
/// by slot.
pub(crate) fn check_hold_share(state: &State, customer: CustomerId, offer: &Offer) -> Result<(), Refusal> {
    let Some(open) = state.open_holds.get(&customer).filter(|open| !open.is_empty()) else { return Ok(()) };
    let held: Vec<_> = open
        .iter()
        .filter_map(|id| state.reservations.get(id))
        .flat_map(|r| state.commitments(r.access, r.direction, &r.schedule, r.terms.shape.packet_bytes))
        .collect();
    let packet = offer.terms.shape.packet_bytes;
    for (pool, side, slots, class) in
        state.commitments(offer.access, offer.direction, &offer.schedule, packet)
    {
        let Some(def) = state.config.pools.get(&pool) else { continue };
        let share = def.on_sale(side).share_ppm(def.hold_share_ppm).0;
        let here = || held.iter().filter(|(p, s, _, _)| *p == pool && *s == side);
        let taken = |slot: u64| -> u64 {
            here().filter(|(_, _, of, _)| of.contains(&slot)).map(|(_, _, _, bps)| bps).sum()
        };
        let starts = here().map(|(_, _, of, _)| of.start).filter(|start| slots.contains(start));
        let most = starts.chain([slots.start]).map(taken).max().unwrap_or(0);
        if most + class > share {
            let message = format!(
                "unconfirmed holds of this customer may take {} of pool {} in a slot",
                tollway_model::BitsPerSecond(share),
                def.name
            );
            return Err(Refusal::new(Code::HoldShare, message));
        }
    }
    Ok(())
}

/// The gate: `available(account) ≥ amount`.
fn check_funds(state: &State, customer: CustomerId, offer: &Offer) -> Result<(), Refusal> {
    let wallet = AccountId::wallet(customer, offer.total.currency);
    match state.ledger.check_hold(wallet, offer.total.micros) {
        Ok(()) => Ok(()),
        Err(Error::Insufficient { available, wanted }) => {
            let missing = Amount::new(wanted.0.saturating_sub(available.0), offer.total.currency);
            let has = Amount { micros: available, currency: offer.total.currency };
            let message = format!(
                "the wallet has {has} available, the hold needs {}: {missing} is missing",
                offer.total
            );
            let refusal = Refusal::new(Code::InsufficientFunds, message);
            Err(Refusal { missing: Some(missing), ..refusal })
        }
        Err(other) => Err(Refusal::new(Code::InsufficientFunds, other.to_string())),
    }
}
