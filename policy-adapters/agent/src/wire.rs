//! Between the protocol's messages and the domain. What cannot be said in the domain is refused with a
//! reason; the leg's name is read even then, so that the refusal reaches it.

use crate::limits::SEGMENTS_MAX;
use std::net::IpAddr;
use tollway_linux::limits::FLOWS_MAX;
use tollway_model::{
    BitsPerSecond, Direction, Flow, LegId, Protocol, ReservationId, Schedule, Segment, Timestamp, Window,
};
use tollway_policy::{ClassShape, DesiredLeg, PolicyReport, PortReading, Reading, Report, Side, SlotReading};
use tollway_proto::agent_v1 as v1;

/// Why a leg of the broker is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub leg: LegId,
    pub attempt: u32,
    pub reason: String,
}

pub fn leg_id(reservation: u64, index: u32) -> LegId {
    LegId { reservation: ReservationId(reservation), index }
}

/// Reads one desired leg.
pub fn leg(wire: v1::Leg, enforcement_point: &str) -> Result<DesiredLeg, Refusal> {
    let (id, attempt) = (leg_id(wire.reservation, wire.index), wire.attempt);
    desired(wire, enforcement_point).map_err(|reason| Refusal { leg: id, attempt, reason })
}

fn desired(wire: v1::Leg, enforcement_point: &str) -> Result<DesiredLeg, String> {
    let direction = match wire.direction() {
        v1::Direction::Up => Direction::Up,
        v1::Direction::Down => Direction::Down,
        v1::Direction::Unspecified => return Err("no direction".into()),
    };
    if wire.flows.len() > FLOWS_MAX {
        return Err(format!("{} flows; at most {FLOWS_MAX} are taken", wire.flows.len()));
    }
    let mut flows = Vec::with_capacity(wire.flows.len());
    for wire in &wire.flows {
        flows.push(flow(wire)?);
    }
    Ok(DesiredLeg {
        leg: leg_id(wire.reservation, wire.index),
        attempt: wire.attempt,
        enforcement_point: enforcement_point.to_owned(),
        direction,
        up: side(wire.up, "up")?,
        down: side(wire.down, "down")?,
        flows,
        shape: ClassShape {
            packet_bytes: wire.packet_bytes,
            queue_ms_max: wire.queue_ms_max,
            borrow: wire.borrow,
        },
        valid_until: Timestamp(wire.valid_until_ms),
        road: None,
    })
}

fn side(wire: Option<v1::Side>, name: &str) -> Result<Side, String> {
    let wire = wire.ok_or_else(|| format!("no {name} side"))?;
    if wire.segments.len() > SEGMENTS_MAX {
        return Err(format!("{} segments; at most {SEGMENTS_MAX} are taken", wire.segments.len()));
    }
    let segments = wire.segments.iter().map(|segment| Segment {
        window: Window::new(Timestamp(segment.from_ms), Timestamp(segment.until_ms)),
        rate: BitsPerSecond(segment.rate_bps),
    });
    let schedule = Schedule::from_segments(segments)
        .ok_or_else(|| format!("the segments of the {name} side overlap or are out of order"))?;
    Ok(Side { port: wire.port, schedule })
}

fn flow(wire: &v1::Flow) -> Result<Flow, String> {
    let port = |port: u32| u16::try_from(port).map_err(|_| format!("port {port}"));
    let protocol = match wire.protocol {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        other => return Err(format!("protocol {other}; 6 and 17 are taken")),
    };
    let flow = Flow {
        protocol,
        device: address(&wire.device)?,
        device_port: wire.device_port.map(port).transpose()?,
        remote: address(&wire.remote)?,
        remote_port: port(wire.remote_port)?,
    };
    if !flow.is_one_family() {
        return Err(format!("flow {flow} has ends of two address families"));
    }
    Ok(flow)
}

fn address(bytes: &[u8]) -> Result<IpAddr, String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes)
        .map(IpAddr::from)
        .map_err(|_| format!("an address of {} bytes; 4 and 16 are taken", bytes.len()))
}

/// Writes one report. `None` for what an agent never says: it reads the kernel back, and it learns no accesses.
pub fn report(report: &Report) -> Option<v1::Report> {
    let report = match report {
        Report::Leg { leg, attempt, report } => v1::report::Report::Leg(leg_report(*leg, *attempt, report)?),
        Report::Usage(reading) => v1::report::Report::Usage(slot_reading(reading)),
        Report::Port(reading) => v1::report::Report::Port(port_reading(reading)),
        Report::Session(_) => return None,
    };
    Some(v1::Report { report: Some(report) })
}

fn leg_report(leg: LegId, attempt: u32, report: &PolicyReport) -> Option<v1::LegReport> {
    use v1::leg_report::Kind;
    let (kind, at, reason) = match report {
        PolicyReport::Accepted => (Kind::Accepted, Timestamp::ZERO, ""),
        PolicyReport::Active { at } => (Kind::Active, *at, ""),
        PolicyReport::Refused { reason } => (Kind::Refused, Timestamp::ZERO, reason.as_str()),
        PolicyReport::Removed { at } => (Kind::Removed, *at, ""),
        PolicyReport::Lost { at, reason } => (Kind::Lost, *at, reason.as_str()),
        PolicyReport::Unconfirmed { .. } | PolicyReport::Withdrawn { .. } => return None,
    };
    Some(v1::LegReport {
        reservation: leg.reservation.0,
        index: leg.index,
        attempt,
        kind: kind.into(),
        at_ms: at.ms(),
        reason: reason.to_owned(),
    })
}

fn counters(reading: &Reading) -> Option<v1::Counters> {
    Some(v1::Counters { bytes: reading.bytes, packets: reading.packets, drops: reading.drops })
}

fn slot_reading(reading: &SlotReading) -> v1::SlotReading {
    v1::SlotReading {
        reservation: reading.leg.reservation.0,
        index: reading.leg.index,
        attempt: reading.attempt,
        incarnation: reading.incarnation,
        seq: reading.seq,
        slot: reading.slot.0,
        sold: counters(&reading.sold),
        reverse: counters(&reading.reverse),
        active_ms: reading.active_ms,
        busy_ms: reading.busy_ms,
        gap_ms_max: reading.gap_ms_max,
        seen: reading.seen,
        last: reading.last,
        at_ms: reading.at.ms(),
    }
}

fn port_reading(reading: &PortReading) -> v1::PortReading {
    let direction = match reading.direction {
        Direction::Up => v1::Direction::Up,
        Direction::Down => v1::Direction::Down,
    };
    v1::PortReading {
        port: reading.port.clone(),
        direction: direction.into(),
        slot: reading.slot.0,
        incarnation: reading.incarnation,
        default_class: counters(&reading.default_class),
        default_rate_min_bps: reading.default_rate_min.get(),
        backlog_bytes: reading.backlog_bytes,
        direct_packets: reading.direct_packets,
        up: reading.up,
        delivered_bytes: reading.delivered_bytes,
        busy_ms: reading.busy_ms,
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
