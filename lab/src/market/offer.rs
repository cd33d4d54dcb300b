//! What the broker answers to an asking: the offer to take, or a refusal with its counter-offers.

use super::purchase::Order;
use super::rest::Answer;
use crate::error::{Error, Result};
use crate::scenario::file::Take;
use serde_json::Value;
use tollway_model::{BitsPerSecond, Schedule, Segment, Timestamp, Window};

/// An offer that starts later than this is not one for now.
const SOON_MS: u64 = 2_000;

/// An offer as it is told to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// `as_asked`, `later`, `slower` or `fewer_bytes`.
    pub variant: String,
    pub rate_bps: u64,
    /// Payload bytes of a bytes offer.
    pub bytes: Option<u64>,
    pub from: Timestamp,
    pub until: Timestamp,
    pub price_micros: i64,
    pub currency: String,
    /// Milliseconds from the asking to the start; nothing for an offer that starts now.
    pub starts_in_ms: u64,
}

/// A refusal by the product, with what it offered instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    pub code: String,
    pub message: String,
    pub offers: Vec<Offered>,
    /// Place in `offers` of the one that was taken.
    pub taken: Option<usize>,
}

pub(super) fn misread(what: &str) -> Error {
    Error::Rest {
        doing: "reading the broker's answer".into(),
        what: format!("{what} is missing or malformed"),
    }
}

pub(super) fn timestamp(value: Option<&Value>) -> Option<Timestamp> {
    let at: jiff::Timestamp = value?.as_str()?.parse().ok()?;
    Some(Timestamp(u64::try_from(at.as_millisecond()).ok()?))
}

/// Reads `[{from, until, rate_bps}]`.
pub(super) fn read_schedule(value: Option<&Value>) -> Option<Schedule> {
    let segments: Option<Vec<Segment>> = value?
        .as_array()?
        .iter()
        .map(|segment| {
            let window = Window::new(timestamp(segment.get("from"))?, timestamp(segment.get("until"))?);
            Some(Segment { window, rate: BitsPerSecond(segment.get("rate_bps")?.as_u64()?) })
        })
        .collect();
    Schedule::from_segments(segments?)
}

impl Offered {
    /// Reads one offer; `now_ms` is when it was asked for.
    fn read(offer: &Value, now_ms: u64) -> Option<Offered> {
        let schedule = read_schedule(offer.get("schedule"))?;
        // A bytes offer may plan its first bytes for later than its window's start.
        let sending = |segment: &&Segment| segment.rate.get() > 0;
        let from = schedule.segments().iter().find(sending)?.window.from;
        let price = offer.get("price")?;
        Some(Offered {
            variant: offer.get("variant")?.as_str()?.to_owned(),
            rate_bps: schedule.rate_max().get(),
            bytes: offer.get("bytes_promised").and_then(Value::as_u64),
            from,
            until: schedule.window()?.until,
            price_micros: price.get("total_micros")?.as_i64()?,
            currency: price.get("currency")?.as_str()?.to_owned(),
            starts_in_ms: Some(from.ms().saturating_sub(now_ms)).filter(|ms| *ms > SOON_MS).unwrap_or(0),
        })
    }

    pub fn starts_now(&self) -> bool {
        self.starts_in_ms == 0
    }

    /// `slower, 1.94 Mbit/s from now for 12 s at 0.006888 EUR`.
    pub fn words(&self) -> String {
        let start = match self.starts_in_ms {
            0 => "from now".to_owned(),
            ms => format!("in {} s", ms.div_ceil(1000)),
        };
        let length_s = self.until.ms_since(self.from).div_ceil(1000);
        let bytes = self.bytes.map_or_else(String::new, |b| format!("{:.1} MB at up to ", b as f64 / 1e6));
        format!(
            "{}, {bytes}{:.2} Mbit/s {start} for {length_s} s at {:.6} {}",
            self.variant.replace('_', " "),
            self.rate_bps as f64 / 1e6,
            self.price_micros as f64 / 1e6,
            self.currency
        )
    }
}

impl Refused {
    pub fn read(answer: &Answer, now_ms: u64) -> Refused {
        let offers = answer.body.get("offers").and_then(Value::as_array).map(Vec::as_slice);
        Refused {
            status: answer.status,
            code: answer.code(),
            message: answer.message(),
            offers: offers.unwrap_or_default().iter().filter_map(|o| Offered::read(o, now_ms)).collect(),
            taken: None,
        }
    }

    /// The code without the name of its API.
    pub fn short_code(&self) -> &str {
        self.code.rsplit('.').next().unwrap_or_default()
    }

    /// Whether nothing that was offered instead starts now, although something was offered.
    fn only_later(&self) -> bool {
        !self.offers.is_empty() && !self.offers.iter().any(Offered::starts_now)
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the product refused ({} {}): {}", self.status, self.short_code(), self.message)?;
        if self.only_later() {
            write!(f, "; the broker offered only later starts: {}", list(&self.offers))?;
        }
        Ok(())
    }
}

/// Offers in one line.
pub fn list(offers: &[Offered]) -> String {
    offers.iter().map(Offered::words).collect::<Vec<_>>().join(" | ")
}

/// The offer to take, and the refusal before it when there was one. Only what starts now is taken: an act
/// cannot wait for later, and what it bought would stand in the way of the next one.
pub(super) fn choose(answer: Answer, order: &Order, now_ms: u64) -> Result<(Value, Option<Refused>)> {
    let raw = answer.body.get("offers").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut refused = Refused::read(&answer, now_ms);
    if refused.offers.len() != raw.len() {
        return Err(misread("offers"));
    }
    let now = |(_, offer): &(usize, &Offered)| offer.starts_now();
    match order.take {
        Take::Asked => {
            answer.success("asking for a quote")?;
            let first = refused.offers.iter().enumerate().find(now).map(|(at, _)| at);
            match first.and_then(|at| raw.get(at)) {
                Some(offer) => Ok((offer.clone(), None)),
                None if raw.is_empty() => Err(misread("offers")),
                None => Err(Error::OnlyLater { offers: refused.offers }),
            }
        }
        Take::CounterOffer => {
            if answer.is_success() {
                return Err(Error::Rest {
                    doing: "asking for more than is left".into(),
                    what: "the product was to refuse, and offered it".into(),
                });
            }
            let best = refused.offers.iter().enumerate().filter(now).max_by_key(|(_, offer)| offer.rate_bps);
            refused.taken = best.map(|(at, _)| at);
            match refused.taken.and_then(|at| raw.get(at)) {
                Some(offer) => Ok((offer.clone(), Some(refused))),
                None => {
                    let doing = "asking for more than is left, to take a counter-offer for now".into();
                    Err(Error::Refused { doing, refused: Box::new(refused) })
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::purchase::Need;
    use super::*;
    use expect_test::expect;
    use serde_json::json;
    use std::net::Ipv4Addr;

    const NOW: &str = "2020-01-01T00:00:00.000Z";
    const NOW_MS: u64 = 1_577_836_800_000;
    const LATER: &str = "2020-01-01T00:01:00.000Z";

    fn order(take: Take) -> Order {
        Order {
            host: "late".into(),
            need: Need::Rate { rate_bps: 10_000_000, length_ns: 12_500_000_000 },
            take,
            protocol: "udp",
            device: Ipv4Addr::LOCALHOST,
            remote: Ipv4Addr::LOCALHOST,
            port: 5_001,
        }
    }

    fn offer(id: &str, from: &str, rate_bps: u64) -> Value {
        let until = from.replace(":00.000Z", ":12.000Z");
        json!({
            "offer_id": id, "variant": "slower", "bytes_promised": null,
            "schedule": [{ "from": from, "until": until, "rate_bps": rate_bps }],
            "price": { "total_micros": 6_888, "currency": "EUR" },
        })
    }

    fn answer(status: u16, offers: &[Value]) -> Answer {
        let body = json!({ "code": "QOS_TRANSFERS.CAPACITY_EXHAUSTED", "message": "full", "offers": offers });
        Answer { status, body }
    }

    #[test]
    fn the_fastest_counter_offer_for_now_is_taken() {
        let offers = [offer("later", LATER, 10), offer("slow", NOW, 1), offer("fast", NOW, 2)];
        let (taken, refused) = choose(answer(409, &offers), &order(Take::CounterOffer), NOW_MS).unwrap();
        assert_eq!(taken["offer_id"], "fast");
        let refused = refused.unwrap();
        assert_eq!((refused.status, refused.offers.len(), refused.taken), (409, 3, Some(2)));
        let granted = answer(201, &[offer("asked", NOW, 10)]);
        assert!(choose(granted.clone(), &order(Take::CounterOffer), NOW_MS).is_err(), "it was to be refused");
        assert_eq!(choose(granted, &order(Take::Asked), NOW_MS).unwrap().0["offer_id"], "asked");
    }

    #[test]
    fn an_offer_for_later_is_not_taken_and_a_refusal_is_called_one() {
        let failure =
            |status, offers: &[Value], take| match choose(answer(status, offers), &order(take), NOW_MS) {
                Ok((offer, _)) => format!("took {offer}"),
                Err(error) => error.chain(),
            };
        let later = [offer("later", LATER, 10_000_000)];
        expect!["asking for a quote: the broker offered only later starts: slower, 10.00 Mbit/s in 60 s for 12 s at 0.006888 EUR"]
            .assert_eq(&failure(201, &later, Take::Asked));
        expect!["asking for more than is left, to take a counter-offer for now: the product refused (409 CAPACITY_EXHAUSTED): full; the broker offered only later starts: slower, 10.00 Mbit/s in 60 s for 12 s at 0.006888 EUR"]
            .assert_eq(&failure(409, &later, Take::CounterOffer));
        let now = [offer("now", NOW, 1_940_000)];
        expect!["asking for a quote: the product refused (409 CAPACITY_EXHAUSTED): full"]
            .assert_eq(&failure(409, &now, Take::Asked));
        expect!["asking for more than is left, to take a counter-offer for now: the product refused (409 CAPACITY_EXHAUSTED): full"]
            .assert_eq(&failure(409, &[], Take::CounterOffer));
        expect!["reading the broker's answer: offers is missing or malformed"].assert_eq(&failure(
            409,
            &[json!({})],
            Take::Asked,
        ));
    }
}
