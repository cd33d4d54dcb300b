//! Quotes: a need becomes priced offers, or a refusal with offers that would fit.

use crate::admission::{Ask, Lack, window_of};
use crate::config::TierKind;
use crate::decide::{Answer, Decided, Decision};
use crate::limits;
use crate::offer::{Need, Offer, Quote, QuoteRequest, Variant};
use crate::record::Record;
use crate::refusal::{Code, Refusal};
use crate::state::{State, TierEntry};
use crate::take;
use tollway_model::{BitsPerSecond, CustomerId, QuoteId, Schedule, TierId, Timestamp, Window};

pub(crate) fn decide(state: &State, now: Timestamp, customer: CustomerId, request: &QuoteRequest) -> Decided {
    if open_quotes(state, now, customer) >= limits::OPEN_QUOTES_MAX {
        let message = format!("{} quotes of this customer are open", limits::OPEN_QUOTES_MAX);
        return Err(Refusal::new(Code::TooMany, message));
    }
    make(state, now, customer, request, None)
}

/// Quotes of a customer that are still valid. Those that are over are forgotten with the next record, so
/// they are counted one by one only when the bound seems reached.
fn open_quotes(state: &State, now: Timestamp, customer: CustomerId) -> usize {
    let counted = state.quotes_of.get(&customer).copied().unwrap_or(0);
    if counted < limits::OPEN_QUOTES_MAX {
        return counted;
    }
    state.quotes.values().filter(|quote| quote.customer == customer && quote.valid_until >= now).count()
}

/// Quotes without the bound on open quotes; also used when an offer that is taken no longer fits.
pub(crate) fn make(
    state: &State,
    now: Timestamp,
    customer: CustomerId,
    request: &QuoteRequest,
    replaces: Option<QuoteId>,
) -> Decided {
    may_use(state, customer, request)?;
    let window = window_of(now, request)?;
    let tiers = tiers_of(state, customer, request)?;
    check_need(&tiers, request.need)?;
    let asks: Vec<Ask<'_>> = tiers.iter().map(|(id, tier)| ask(state, request, *id, tier)).collect();
    let mut offers: Vec<Offer> =
        asks.iter().filter_map(|ask| ask.plan(window, request.need, Variant::AsAsked)).collect();
    let is_counter = offers.is_empty();
    if is_counter {
        offers = asks.first().map_or_else(Vec::new, |ask| ask.counter_offers(window, request.need));
        // Would be granted if taken at once: also by what the customer holds already.
        offers.retain(|offer| take::check_hold_share(state, customer, offer).is_ok());
    }
    for (index, offer) in offers.iter_mut().enumerate() {
        offer.index = u32::try_from(index).unwrap_or(u32::MAX);
    }
    let id = QuoteId(state.next_quote + 1);
    let valid_until = now.plus_ms(limits::QUOTE_LIFE_MS);
    let quote = Quote { id, customer, valid_until, request: request.clone(), offers, is_counter, replaces };
    let answer = if is_counter {
        let refusal = refuse(state, asks.first(), window, request.need, id, &quote.offers);
        Answer::Counter(refusal, id)
    } else {
        Answer::Quote(id)
    };
    Ok(Decision { records: vec![Record::Quoted(quote)], answer })
}

fn ask<'a>(state: &'a State, request: &QuoteRequest, tier: TierId, entry: &'a TierEntry) -> Ask<'a> {
    Ask {
        state,
        access: request.access,
        subscriber: request.subscriber,
        direction: request.direction,
        tier,
        revision: entry.revision,
        def: &entry.def,
        currency: entry.def.tariff.currency,
    }
}

/// A customer names only accesses that its configuration allows.
pub(crate) fn may_use(state: &State, customer: CustomerId, request: &QuoteRequest) -> Result<(), Refusal> {
    let access = state.config.accesses.get(&request.access);
    // A line that was never seen is answered like one that is not the customer's.
    let is_there = access.is_some_and(|access| match (access.apn(), request.subscriber) {
        (Some(_), Some(subscriber)) => state.learnt.is_known((request.access, subscriber)),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    });
    let allowed = state.config.customers.get(&customer).is_some_and(|c| {
        let covers = |access| c.endpoints.iter().any(|endpoint| endpoint.covers(access, request.subscriber));
        access.is_some_and(covers)
    });
    if !is_there || !allowed {
        return Err(Refusal::new(Code::EndpointNotAllowed, "this customer may not buy for that access"));
    }
    let line = request.subscriber.map(|subscriber| (request.access, subscriber));
    match line.and_then(|line| state.learnt.session(line)) {
        Some(session) if session.is_away => Err(Refusal::new(Code::EndpointNotAllowed, AWAY)),
        Some(_) | None => Ok(()),
    }
}

/// Nothing is sold to a subscriber in a network that is not ours.
pub(crate) const AWAY: &str = "the subscriber is in another network";

/// Tiers on sale that the customer can pay: a price is in its tariff's currency.
fn tiers_of<'a>(
    state: &'a State,
    customer: CustomerId,
    request: &QuoteRequest,
) -> Result<Vec<(TierId, &'a TierEntry)>, Refusal> {
    let currency = state.config.customers.get(&customer).map(|def| def.currency);
    let road = state.config.accesses.get(&request.access).and_then(|access| access.road.as_ref());
    let offered = |tier: &TierEntry| tier.on_sale && tier.def.kind != TierKind::Background;
    let wanted = |id: TierId| request.tier.is_none_or(|wanted| wanted == id);
    let tiers: Vec<_> = state
        .config
        .tiers
        .iter()
        .filter(|(id, tier)| {
            let payable = currency == Some(tier.def.tariff.currency);
            wanted(**id) && offered(tier) && payable && tier.def.fits(road)
        })
        .map(|(id, tier)| (*id, tier))
        .collect();
    if !tiers.is_empty() {
        return Ok(tiers);
    }
    let other = state.config.tiers.iter().find(|(id, tier)| wanted(**id) && offered(tier));
    Err(match (other, currency) {
        (Some((_, tier)), _) if !tier.def.fits(road) => {
            let message = format!("tier {} is not sold on this kind of access", tier.def.name);
            Refusal::new(Code::OutOfRange, message)
                .fix("leave `tier` out: the offers name the tiers that are sold there")
        }
        (Some((_, tier)), Some(currency)) => {
            let (name, sold) = (&tier.def.name, tier.def.tariff.currency);
            let message =
                format!("tier {name} is sold in {sold}, the wallet of this customer has {currency}");
            Refusal::new(Code::OutOfRange, message)
                .fix("name a tier that `GET /tiers` shows in the wallet's currency: nothing is converted")
        }
        (_, _) => Refusal::new(Code::OutOfRange, "no tier that is on sale fits the request")
            .fix("name a tier that `GET /tiers` shows as on sale, or leave `tier` out"),
    })
}

/// The need lies within what at least one of the tiers sells.
fn check_need(tiers: &[(TierId, &TierEntry)], need: Need) -> Result<(), Refusal> {
    let out_of_range = |message: String, fix: String| Err(Refusal::new(Code::OutOfRange, message).fix(fix));
    match need {
        Need::Rate(rate) => {
            let max = tiers.iter().map(|(_, t)| t.def.rate_max).max().unwrap_or_default();
            let min = tiers.iter().map(|(_, t)| t.def.rate_min).min().unwrap_or_default();
            if rate < min || rate > max || rate.0 > limits::RATE_BPS_MAX || rate.0 == 0 {
                let fix = format!("ask for a `rate_bps` of {} to {}", min.0, max.0.min(limits::RATE_BPS_MAX));
                return out_of_range(format!("a rate is {min} to {max} here, {rate} was asked"), fix);
            }
        }
        Need::Bytes(bytes) => {
            if bytes == 0 || bytes > limits::BYTES_MAX {
                let message = format!("a transfer has 1 to {} bytes, {bytes} were asked", limits::BYTES_MAX);
                let fix = format!("say in `bytes` how many are to be sent, 1 to {}", limits::BYTES_MAX);
                return out_of_range(message, fix);
            }
        }
    }
    Ok(())
}

fn refuse(
    state: &State,
    ask: Option<&Ask<'_>>,
    window: Window,
    need: Need,
    quote: QuoteId,
    offers: &[Offer],
) -> Refusal {
    let feasible = ask.is_some_and(|ask| ask.is_feasible_when_empty(window, need));
    let refusal = match need {
        Need::Rate(rate) if feasible => {
            let lack = ask.and_then(|ask| ask.lack(&Schedule::constant(window, rate)));
            Refusal::new(Code::CapacityExhausted, exhausted(state, lack.as_ref(), window))
        }
        Need::Bytes(_) if feasible => Refusal::new(Code::CapacityExhausted, exhausted(state, None, window)),
        Need::Rate(rate) => never_sold(ask, rate, offers),
        Need::Bytes(_) => {
            let message = "even with nothing else sold, these bytes do not fit before the deadline";
            Refusal::new(Code::DeadlineInfeasible, message)
        }
    };
    Refusal { quote: Some(quote), offers: offers.to_vec(), ..refusal }
}

/// No other time helps, so it is not called exhausted: a lower rate does.
fn never_sold(ask: Option<&Ask<'_>>, rate: BitsPerSecond, offers: &[Offer]) -> Refusal {
    let most = ask.map_or(BitsPerSecond::ZERO, Ask::most_when_empty);
    let message = format!("this access never sells {rate}: the most is {most}, with nothing else sold");
    let fix = match (most.0, offers.is_empty()) {
        (0, _) => "use another access or tier: this one sells nothing".to_owned(),
        (most, true) => format!("ask for a `rate_bps` of at most {most}"),
        (most, false) => format!("take one of `offers`, or ask for a `rate_bps` of at most {most}"),
    };
    Refusal::new(Code::DeadlineInfeasible, message).fix(fix)
}

/// In words: which pool, what is free, when it frees.
pub(crate) fn exhausted(state: &State, lack: Option<&Lack>, window: Window) -> String {
    let Some(lack) = lack else {
        return "what is free before the deadline does not carry these bytes".to_owned();
    };
    let name = state.config.pools.get(&lack.pool).map_or("?", |p| p.name.as_str());
    let seconds = lack.frees.ms_since(window.from).div_ceil(1000).max(1);
    format!(
        "pool {name} ({}) has {} free in this window; it frees {seconds} s after the asked start",
        lack.direction.as_str(),
        tollway_model::BitsPerSecond(lack.free_bps),
    )
}
