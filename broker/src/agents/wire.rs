//! From wire to domain: what an agent may say. Everything it sends is checked here; a frame that cannot be
//! true is refused whole.

use std::net::IpAddr;
use tollway_core::limits;
use tollway_model::{BitsPerSecond, Direction, LegId, ReservationId, Slot, Timestamp};
use tollway_policy::{PolicyReport, PortReading, Reading, Report, SlotReading};
use tollway_proto::agent_v1 as proto;

/// Longest name, device, capability or version text, in bytes.
pub const TEXT_BYTES_MAX: usize = 128;

/// Ports one agent may have, and capabilities it may name.
pub const LIST_MAX: usize = 256;

/// Highest time an agent may name: the year 2300. Beyond it arithmetic on times would be about nothing.
const TIME_MS_MAX: u64 = 10_413_792_000_000;

/// Bytes of one counter: 2^60, far below where sums overflow and above what a link carries in its life.
const COUNTER_MAX: u64 = 1 << 60;

/// Why a frame cannot be true.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} is missing")]
    Missing { what: &'static str },
    #[error("{what} is out of range: {value}")]
    Range { what: &'static str, value: u64 },
    #[error("{what} is longer than {max}")]
    Long { what: &'static str, max: usize },
    #[error("{what} has no such value: {value}")]
    Enum { what: &'static str, value: i32 },
    #[error("{what} is empty")]
    Empty { what: &'static str },
    #[error("an address has 4 or 16 bytes, not {0}")]
    Address(usize),
}

/// Who an agent says it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    pub agent: String,
    pub protocol: u32,
    pub software: String,
    pub boot_id: String,
    pub epoch: u64,
    /// Identity of the market whose legs it holds; empty before the first.
    pub market: String,
    pub now: Timestamp,
    pub capabilities: Vec<String>,
    pub ports: Vec<Port>,
}

/// A port as its agent sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    pub name: String,
    pub device: String,
    pub link: BitsPerSecond,
    pub up: bool,
}

pub fn hello(message: proto::Hello) -> Result<Hello, Error> {
    Ok(Hello {
        agent: name("agent", message.agent)?,
        protocol: message.protocol,
        software: text("software", message.software)?,
        boot_id: text("boot_id", message.boot_id)?,
        epoch: message.epoch,
        market: text("market", message.market)?,
        now: time("now_ms", message.now_ms)?,
        capabilities: list("capabilities", message.capabilities)?
            .into_iter()
            .map(|capability| text("capability", capability))
            .collect::<Result<_, _>>()?,
        ports: list("ports", message.ports)?.into_iter().map(port).collect::<Result<_, _>>()?,
    })
}

fn port(message: proto::Port) -> Result<Port, Error> {
    Ok(Port {
        name: name("port", message.name)?,
        device: text("device", message.device)?,
        link: rate("link_bps", message.link_bps)?,
        up: message.up,
    })
}

/// The agent's clock.
pub fn heartbeat(message: proto::Heartbeat) -> Result<Timestamp, Error> {
    time("now_ms", message.now_ms)
}

/// A numbered batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    pub number: u64,
    pub now: Timestamp,
    pub reports: Vec<Report>,
}

pub fn batch(message: proto::ReportBatch) -> Result<Batch, Error> {
    if message.reports.len() > limits::REPORTS_PER_BATCH_MAX {
        return Err(Error::Long { what: "a batch", max: limits::REPORTS_PER_BATCH_MAX });
    }
    if message.number == 0 || message.number == u64::MAX {
        return Err(Error::Range { what: "batch number", value: message.number });
    }
    Ok(Batch {
        number: message.number,
        now: time("now_ms", message.now_ms)?,
        reports: message.reports.into_iter().map(report).collect::<Result<_, _>>()?,
    })
}

fn report(message: proto::Report) -> Result<Report, Error> {
    match message.report.ok_or(Error::Missing { what: "a report's kind" })? {
        proto::report::Report::Leg(leg) => leg_report(leg),
        proto::report::Report::Usage(usage) => slot_reading(usage).map(Report::Usage),
        proto::report::Report::Port(port) => port_reading(port).map(Report::Port),
    }
}

fn leg_report(message: proto::LegReport) -> Result<Report, Error> {
    use proto::leg_report::Kind;
    let at = time("at_ms", message.at_ms)?;
    let reason = || long_text("reason", message.reason.clone(), limits::REASON_BYTES_MAX);
    let report = match Kind::try_from(message.kind) {
        Ok(Kind::Accepted) => PolicyReport::Accepted,
        Ok(Kind::Active) => PolicyReport::Active { at },
        Ok(Kind::Refused) => PolicyReport::Refused { reason: reason()? },
        Ok(Kind::Removed) => PolicyReport::Removed { at },
        Ok(Kind::Lost) => PolicyReport::Lost { at, reason: reason()? },
        Ok(Kind::Unspecified) | Err(_) => {
            return Err(Error::Enum { what: "kind", value: message.kind });
        }
    };
    let leg = leg(message.reservation, message.index)?;
    Ok(Report::Leg { leg, attempt: message.attempt, report })
}

fn slot_reading(message: proto::SlotReading) -> Result<SlotReading, Error> {
    Ok(SlotReading {
        leg: leg(message.reservation, message.index)?,
        attempt: message.attempt,
        incarnation: message.incarnation,
        seq: message.seq,
        slot: slot(message.slot)?,
        sold: counters("sold", message.sold)?,
        reverse: counters("reverse", message.reverse)?,
        active_ms: slot_ms("active_ms", message.active_ms)?,
        busy_ms: slot_ms("busy_ms", message.busy_ms)?,
        gap_ms_max: message.gap_ms_max,
        seen: message.seen,
        last: message.last,
        at: time("at_ms", message.at_ms)?,
        unconfirmed_ms: 0,
    })
}

fn port_reading(message: proto::PortReading) -> Result<PortReading, Error> {
    Ok(PortReading {
        port: name("port", message.port)?,
        direction: direction(message.direction)?,
        slot: slot(message.slot)?,
        incarnation: message.incarnation,
        default_class: counters("default_class", message.default_class)?,
        default_rate_min: rate("default_rate_min_bps", message.default_rate_min_bps)?,
        backlog_bytes: counter("backlog_bytes", message.backlog_bytes)?,
        direct_packets: counter("direct_packets", message.direct_packets)?,
        up: message.up,
        delivered_bytes: counter("delivered_bytes", message.delivered_bytes)?,
        busy_ms: slot_ms("busy_ms", message.busy_ms)?,
    })
}

fn leg(reservation: u64, index: u32) -> Result<LegId, Error> {
    if reservation == 0 || i64::try_from(reservation).is_err() {
        return Err(Error::Range { what: "reservation", value: reservation });
    }
    Ok(LegId { reservation: ReservationId(reservation), index })
}

fn direction(value: i32) -> Result<Direction, Error> {
    match proto::Direction::try_from(value) {
        Ok(proto::Direction::Up) => Ok(Direction::Up),
        Ok(proto::Direction::Down) => Ok(Direction::Down),
        Ok(proto::Direction::Unspecified) | Err(_) => Err(Error::Enum { what: "direction", value }),
    }
}

/// An address as the wire carries it.
pub fn address(bytes: &[u8]) -> Result<IpAddr, Error> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes).map(IpAddr::from).map_err(|_| Error::Address(bytes.len()))
}

fn counters(what: &'static str, message: Option<proto::Counters>) -> Result<Reading, Error> {
    let message = message.ok_or(Error::Missing { what })?;
    Ok(Reading {
        bytes: counter(what, message.bytes)?,
        packets: counter(what, message.packets)?,
        drops: counter(what, message.drops)?,
    })
}

fn counter(what: &'static str, value: u64) -> Result<u64, Error> {
    if value > COUNTER_MAX { Err(Error::Range { what, value }) } else { Ok(value) }
}

fn rate(what: &'static str, value: u64) -> Result<BitsPerSecond, Error> {
    if value > limits::RATE_BPS_MAX { Err(Error::Range { what, value }) } else { Ok(BitsPerSecond(value)) }
}

fn time(what: &'static str, value: u64) -> Result<Timestamp, Error> {
    if value > TIME_MS_MAX { Err(Error::Range { what, value }) } else { Ok(Timestamp(value)) }
}

/// A slot is at least a second long.
fn slot(value: u64) -> Result<Slot, Error> {
    if value > TIME_MS_MAX / 1_000 { Err(Error::Range { what: "slot", value }) } else { Ok(Slot(value)) }
}

/// Milliseconds inside one slot, which is at most an hour.
fn slot_ms(what: &'static str, value: u32) -> Result<u32, Error> {
    if value > 3_600_000 { Err(Error::Range { what, value: u64::from(value) }) } else { Ok(value) }
}

fn name(what: &'static str, value: String) -> Result<String, Error> {
    if value.is_empty() { Err(Error::Empty { what }) } else { text(what, value) }
}

fn text(what: &'static str, value: String) -> Result<String, Error> {
    long_text(what, value, TEXT_BYTES_MAX)
}

fn long_text(what: &'static str, value: String, max: usize) -> Result<String, Error> {
    if value.len() > max { Err(Error::Long { what, max }) } else { Ok(value) }
}

fn list<T>(what: &'static str, items: Vec<T>) -> Result<Vec<T>, Error> {
    if items.len() > LIST_MAX { Err(Error::Long { what, max: LIST_MAX }) } else { Ok(items) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn usage() -> proto::SlotReading {
        let some = Some(proto::Counters { bytes: 1, packets: 1, drops: 0 });
        proto::SlotReading { reservation: 1, sold: some, reverse: some, slot: 5, ..Default::default() }
    }

    fn of(report: proto::report::Report) -> proto::ReportBatch {
        let reports = vec![proto::Report { report: Some(report) }];
        proto::ReportBatch { number: 1, now_ms: 5, reports }
    }

    #[test]
    fn hostile_frames_are_named() {
        use proto::report::Report::{Leg, Port, Usage};
        let many = vec![proto::Report { report: Some(Usage(usage())) }; 1_001];
        let leg = |kind| proto::LegReport { reservation: 1, kind, ..Default::default() };
        let long = proto::LegReport { reason: "x".repeat(501), ..leg(5) };
        let huge = Some(proto::Counters { bytes: u64::MAX, packets: 0, drops: 0 });
        let port = proto::PortReading { port: "wan0".to_owned(), direction: 3, ..Default::default() };
        let frames = [
            proto::ReportBatch { number: 1, now_ms: 5, reports: many },
            proto::ReportBatch { number: 0, ..of(Usage(usage())) },
            proto::ReportBatch { now_ms: u64::MAX, ..of(Usage(usage())) },
            proto::ReportBatch { reports: vec![proto::Report { report: None }], ..of(Usage(usage())) },
            of(Leg(leg(0))),
            of(Leg(leg(9))),
            of(Leg(long)),
            of(Leg(proto::LegReport { reservation: 0, ..leg(1) })),
            of(Usage(proto::SlotReading { sold: None, ..usage() })),
            of(Usage(proto::SlotReading { sold: huge, ..usage() })),
            of(Usage(proto::SlotReading { slot: u64::MAX, ..usage() })),
            of(Usage(proto::SlotReading { active_ms: u32::MAX, ..usage() })),
            of(Port(port.clone())),
            of(Port(proto::PortReading { port: String::new(), ..port })),
        ];
        let seen: Vec<String> =
            frames.into_iter().map(|f| batch(f).map_or_else(|e| e.to_string(), |_| "taken".into())).collect();
        expect![[r#"
            a batch is longer than 1000
            batch number is out of range: 0
            now_ms is out of range: 18446744073709551615
            a report's kind is missing
            kind has no such value: 0
            kind has no such value: 9
            reason is longer than 500
            reservation is out of range: 0
            sold is missing
            sold is out of range: 18446744073709551615
            slot is out of range: 18446744073709551615
            active_ms is out of range: 4294967295
            direction has no such value: 3
            port is empty"#]]
        .assert_eq(&seen.join("\n"));
        assert_eq!(address(&[1, 2, 3]), Err(Error::Address(3)));
    }
}
