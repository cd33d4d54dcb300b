//! Buying, as an app would: quote, take an offer (or a counter-offer), name the flow, wait until the kernel
//! has it.

use super::Market;
use super::config::TIER;
use super::offer::{Refused, choose, misread, read_schedule, timestamp};
use super::rest::Client;
use crate::clock;
use crate::error::{Error, Result};
use crate::scenario::file::Take;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use tollway_model::{Schedule, Timestamp, Window};

const ACTIVE_WITHIN_NS: u64 = 10 * clock::SECOND;
const SETTLED_WITHIN_NS: u64 = 30 * clock::SECOND;
/// Quotes for one purchase, when the ones before went out of date while they were taken.
const QUOTES_MAX: usize = 5;
/// A page of the list of reservations.
const PAGE: usize = 50;

/// What is needed.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Payload bytes before the deadline.
    Bytes { bytes: u64, within_ns: u64 },
    /// Layer-3 bits per second for a time.
    Rate { rate_bps: u64, length_ns: u64 },
}

/// Who buys what for which flow.
#[derive(Clone, Debug)]
pub struct Order {
    pub host: String,
    pub need: Need,
    pub take: Take,
    pub protocol: &'static str,
    pub device: Ipv4Addr,
    pub remote: Ipv4Addr,
    pub port: u16,
}

/// A promise that is active in the kernel.
#[derive(Clone, Debug)]
pub struct Purchase {
    pub reservation_id: String,
    pub refused: Option<Refused>,
    pub schedule: Schedule,
    pub held_micros: i64,
    pub currency: String,
    pub price_lines: Vec<String>,
    pub asked_ns: u64,
    pub active_ns: u64,
    pub until_ns: u64,
}

/// A bought and ended promise, with everything that its bill rests on.
#[derive(Clone, Debug)]
pub struct Settled {
    pub reservation: Value,
    pub usage: Value,
    pub evidence: Value,
    pub charges: Value,
    pub events: Value,
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value.get(key).and_then(Value::as_str).ok_or_else(|| misread(key))
}

/// Buys; call it on a thread of the router's namespace. On a busy host so much of a window may pass between its quote
/// and its confirmation that the bytes do not fit any more: then an app asks for a new one, and so does this.
pub fn buy(client: &Client, order: &Order) -> Result<Purchase> {
    for _ in 1..QUOTES_MAX {
        match buy_once(client, order) {
            Err(Error::Refused { refused, .. }) if refused.short_code() == "QUOTE_EXPIRED" => {}
            other => return other,
        }
    }
    buy_once(client, order)
}

fn buy_once(client: &Client, order: &Order) -> Result<Purchase> {
    let asked_ns = clock::now_ns();
    let answer = client.try_write("POST", "/qos-transfers/v0.1/quotes", &quote_body(order))?;
    let (offer, refused) = choose(answer, order, clock::wall_ns() / clock::MS)?;
    let offer_id = text(&offer, "offer_id")?;
    let schedule = read_schedule(offer.get("schedule")).ok_or_else(|| misread("schedule"))?;
    let held = client.write("POST", "/qos-transfers/v0.1/reservations", &json!({ "offer_id": offer_id }))?;
    let reservation_id = text(&held, "reservation_id")?.to_owned();
    let flow = json!({
        "protocol": order.protocol,
        "device": { "address": order.device.to_string() },
        "remote": { "address": order.remote.to_string(), "port": order.port },
    });
    let path = format!("/qos-transfers/v0.1/reservations/{reservation_id}/confirm");
    let confirmed = client.write("POST", &path, &json!({ "flows": [flow] }))?;
    let money = confirmed.get("money").ok_or_else(|| misread("money"))?;
    let active_ns = wait_active(client, &reservation_id)?;
    let until = schedule.window().map_or(0, |w| w.until.ms());
    Ok(Purchase {
        reservation_id,
        refused,
        schedule,
        held_micros: money
            .get("held_micros")
            .and_then(Value::as_i64)
            .ok_or_else(|| misread("held_micros"))?,
        currency: text(money, "currency")?.to_owned(),
        price_lines: price_lines(&offer),
        asked_ns,
        active_ns,
        until_ns: clock::monotonic_of_wall_ms(until),
    })
}

fn quote_body(order: &Order) -> Value {
    let (need, length_ns) = match order.need {
        Need::Bytes { bytes, within_ns } => (json!({ "bytes": { "bytes": bytes } }), within_ns),
        Need::Rate { rate_bps, length_ns } => (json!({ "rate": { "rate_bps": rate_bps } }), length_ns),
    };
    json!({
        "access": order.host, "direction": "up", "tier": TIER, "need": need,
        "end_in_s": length_ns.div_ceil(clock::SECOND),
    })
}

fn price_lines(offer: &Value) -> Vec<String> {
    let lines = offer.pointer("/price/lines").and_then(Value::as_array).cloned().unwrap_or_default();
    lines.iter().filter_map(|line| line.get("text").and_then(Value::as_str)).map(str::to_owned).collect()
}

fn reservation_path(id: &str, rest: &str) -> String {
    format!("/qos-transfers/v0.1/reservations/{id}{rest}")
}

fn wait_active(client: &Client, id: &str) -> Result<u64> {
    let until = clock::now_ns() + ACTIVE_WITHIN_NS;
    loop {
        let reservation = client.read(&reservation_path(id, ""))?;
        let state = reservation.pointer("/leg/state").and_then(Value::as_str).unwrap_or_default();
        if state == "active" {
            return Ok(clock::now_ns());
        }
        if clock::now_ns() > until {
            let reason =
                reservation.pointer("/leg/reason").and_then(Value::as_str).unwrap_or("no reason given");
            return Err(Error::Rest {
                doing: "waiting for the reservation to be active in the kernel".into(),
                what: format!("its leg is {state:?} after 10 s ({reason})"),
            });
        }
        clock::sleep_until(clock::now_ns() + 15 * clock::MS);
    }
}

/// Waits until a reservation has ended and its money is final, then reads everything about it.
pub fn settle(market: &Market, client: &Client, purchase: &Purchase) -> Result<Settled> {
    let id = &purchase.reservation_id;
    wait_settled(market, client, id, purchase.until_ns)?;
    Ok(Settled {
        reservation: client.read(&reservation_path(id, ""))?,
        usage: client.read(&reservation_path(id, "/usage"))?,
        evidence: client.read(&reservation_path(id, "/evidence"))?,
        charges: client.read(&reservation_path(id, "/charges"))?,
        events: client.read(&reservation_path(id, "/events"))?,
    })
}

/// Waits until a reservation that ends at an instant has ended and its money is final.
fn wait_settled(market: &Market, client: &Client, id: &str, until_ns: u64) -> Result<()> {
    let until = until_ns.max(clock::now_ns()) + SETTLED_WITHIN_NS;
    loop {
        let reservation = client.read(&reservation_path(id, ""))?;
        if reservation.get("settled").and_then(Value::as_bool) == Some(true) {
            return Ok(());
        }
        if clock::now_ns() > until {
            return Err(Error::Rest {
                doing: format!("waiting for reservation {id} to be settled"),
                what: format!("30 s after its end it is not: {reservation}"),
            });
        }
        market.check_children()?;
        clock::sleep_until(clock::now_ns() + 100 * clock::MS);
    }
}

/// Cancels whatever a customer still has, whoever lost track of it, and waits until all of it has ended and
/// its money is final. Gives the number of those that were cancelled.
pub fn give_back(market: &Market, client: &Client) -> Result<usize> {
    let (mut after, mut open, mut cancelled) = (String::new(), Vec::new(), 0);
    loop {
        let page = client.read(&format!("/qos-transfers/v0.1/reservations?limit={PAGE}{after}"))?;
        let list =
            page.get("reservations").and_then(Value::as_array).ok_or_else(|| misread("reservations"))?;
        for reservation in list {
            if reservation.get("settled").and_then(Value::as_bool) != Some(true) {
                let ended = reservation.get("promise").and_then(Value::as_str) == Some("ended");
                open.push((text(reservation, "reservation_id")?.to_owned(), ended));
            }
        }
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    for (id, ended) in &open {
        // It may have ended since it was listed: that refusal is as good.
        if !ended && client.try_write("POST", &reservation_path(id, "/cancel"), &json!({}))?.is_success() {
            cancelled += 1;
        }
    }
    for (id, _) in &open {
        wait_settled(market, client, id, 0)?;
    }
    Ok(cancelled)
}

impl Purchase {
    /// Layer-3 bytes promised between two instants.
    pub fn promised_bytes(&self, from_ns: u64, until_ns: u64) -> u64 {
        let wall = |ns| Timestamp(clock::wall_ms_of_monotonic(ns));
        self.schedule.bytes_in(Window::new(wall(from_ns), wall(until_ns)))
    }

    /// Mean promised rate between two instants, in layer-3 bits per second.
    pub fn promised_bps(&self, from_ns: u64, until_ns: u64) -> f64 {
        if until_ns <= from_ns {
            return 0.0;
        }
        self.promised_bytes(from_ns, until_ns) as f64 * 8e9 / (until_ns - from_ns) as f64
    }
}

impl Settled {
    /// Layer-3 bytes metered in the reserved direction.
    pub fn metered_bytes(&self) -> Option<u64> {
        self.usage.get("metered_bytes").and_then(Value::as_u64)
    }

    /// What was charged, in millionths.
    pub fn charged_micros(&self) -> Option<i64> {
        self.charges.get("total_micros").and_then(Value::as_i64)
    }

    /// Whole time in which the leg was known not to be active between its first activity and the window's
    /// end, or the longest silence that the agent saw under backlog: whichever is more. In milliseconds;
    /// nothing when there is no evidence at all.
    pub fn gap_ms(&self) -> Option<u64> {
        let intervals = self.evidence.get("intervals").and_then(Value::as_array).cloned().unwrap_or_default();
        let is_active = |interval: &&Value| interval.get("state").and_then(Value::as_str) == Some("active");
        let lost: u64 = intervals
            .iter()
            .skip_while(|interval| !is_active(interval))
            .filter(|interval| !is_active(interval))
            .filter(|interval| !is_after_end(interval))
            .filter_map(|interval| {
                Some(timestamp(interval.get("until"))?.ms_since(timestamp(interval.get("from"))?))
            })
            .sum();
        let readings = self.evidence.get("readings").and_then(Value::as_array).cloned().unwrap_or_default();
        let longest =
            readings.iter().filter_map(|r| r.get("gap_ms_max").and_then(Value::as_u64)).max().unwrap_or(0);
        (!readings.is_empty() || intervals.iter().any(|i| is_active(&i))).then(|| lost.max(longest))
    }

    /// Whether the evidence shows activity again after a loss.
    pub fn active_again(&self) -> bool {
        let intervals = self.evidence.get("intervals").and_then(Value::as_array).cloned().unwrap_or_default();
        let states: Vec<&str> =
            intervals.iter().filter_map(|i| i.get("state").and_then(Value::as_str)).collect();
        let lost = states.iter().position(|s| *s == "lost");
        lost.is_some_and(|at| states[at..].contains(&"active"))
    }
}

/// The interval after the promise's end says `absent` and has no end, or an ordinary reason.
fn is_after_end(interval: &Value) -> bool {
    interval.get("state").and_then(Value::as_str) == Some("absent")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(intervals: Value, gaps: &[u64]) -> Settled {
        let readings: Vec<Value> = gaps.iter().map(|ms| json!({ "gap_ms_max": ms })).collect();
        Settled {
            reservation: Value::Null,
            usage: json!({ "metered_bytes": 7 }),
            evidence: json!({ "intervals": intervals, "readings": readings }),
            charges: json!({ "total_micros": 5 }),
            events: Value::Null,
        }
    }

    fn interval(state: &str, from_s: u64, until_s: u64) -> Value {
        json!({
            "state": state,
            "from": format!("2026-11-24T13:00:{from_s:02}.000Z"),
            "until": format!("2026-11-24T13:00:{until_s:02}.500Z"),
        })
    }

    #[test]
    fn only_a_loss_between_activities_is_a_gap() {
        let intervals = json!([
            interval("absent", 0, 1),
            interval("active", 1, 4),
            interval("lost", 4, 9),
            interval("active", 9, 15),
            { "state": "absent", "from": "2026-11-24T13:00:15.000Z", "until": null },
        ]);
        let outage = settled(intervals, &[0, 12]);
        assert_eq!((outage.gap_ms(), outage.active_again()), (Some(5_500), true));
        assert_eq!((outage.metered_bytes(), outage.charged_micros()), (Some(7), Some(5)));
        let quiet = settled(json!([interval("absent", 0, 1), interval("active", 1, 9)]), &[0, 12]);
        assert_eq!((quiet.gap_ms(), quiet.active_again()), (Some(12), false));
        assert_eq!(settled(json!([interval("absent", 0, 1)]), &[]).gap_ms(), None, "never in force");
    }

    #[test]
    fn a_length_is_asked_for_in_whole_seconds() {
        let body = quote_body(&Order {
            host: "late".into(),
            need: Need::Rate { rate_bps: 10_000_000, length_ns: 12_500_000_000 },
            take: Take::Asked,
            protocol: "udp",
            device: Ipv4Addr::LOCALHOST,
            remote: Ipv4Addr::LOCALHOST,
            port: 5_001,
        });
        assert_eq!(
            (body["end_in_s"].as_u64(), body["need"]["rate"]["rate_bps"].as_u64()),
            (Some(13), Some(10_000_000))
        );
    }
}
