//! From domain to wire: what an agent is told.

use std::net::IpAddr;
use tollway_model::{Direction, Flow, Schedule, Timestamp};
use tollway_policy::{DesiredLeg, PolicyCommand, Side};
use tollway_proto::{AGENT_PROTOCOL_VERSION, agent_v1 as proto};

pub(super) fn message(message: proto::to_agent::Message) -> proto::ToAgent {
    proto::ToAgent { message: Some(message) }
}

pub(super) fn welcome(
    epoch: u64,
    market: &str,
    protocol: u32,
    slot_s: u32,
    now: Timestamp,
    acked: u64,
) -> proto::ToAgent {
    // The older of the two versions is the one that both speak.
    let protocol = protocol.min(AGENT_PROTOCOL_VERSION);
    let welcome = proto::Welcome { epoch, protocol, slot_s, now_ms: now.0, acked, market: market.to_owned() };
    message(proto::to_agent::Message::Welcome(welcome))
}

pub(super) fn desired_set(epoch: u64, legs: &[DesiredLeg]) -> proto::ToAgent {
    let legs = legs.iter().map(leg).collect();
    message(proto::to_agent::Message::Desired(proto::DesiredSet { epoch, legs }))
}

pub(super) fn ack(number: u64) -> proto::ToAgent {
    message(proto::to_agent::Message::Ack(proto::Ack { number }))
}

pub(super) fn command(command: &PolicyCommand) -> proto::ToAgent {
    message(match command {
        PolicyCommand::Desire(desired) => proto::to_agent::Message::Upsert(leg(desired)),
        PolicyCommand::Release { leg, attempt, .. } => proto::to_agent::Message::Release(proto::Release {
            reservation: leg.reservation.0,
            index: leg.index,
            attempt: *attempt,
        }),
    })
}

fn leg(desired: &DesiredLeg) -> proto::Leg {
    let direction = match desired.direction {
        Direction::Up => proto::Direction::Up,
        Direction::Down => proto::Direction::Down,
    };
    proto::Leg {
        reservation: desired.leg.reservation.0,
        index: desired.leg.index,
        attempt: desired.attempt,
        direction: direction.into(),
        up: Some(side(&desired.up)),
        down: Some(side(&desired.down)),
        flows: desired.flows.iter().map(flow).collect(),
        packet_bytes: desired.shape.packet_bytes,
        queue_ms_max: desired.shape.queue_ms_max,
        borrow: desired.shape.borrow,
        valid_until_ms: desired.valid_until.0,
    }
}

fn side(side: &Side) -> proto::Side {
    proto::Side { port: side.port.clone(), segments: segments(&side.schedule) }
}

fn segments(schedule: &Schedule) -> Vec<proto::Segment> {
    schedule
        .segments()
        .iter()
        .map(|segment| proto::Segment {
            from_ms: segment.window.from.0,
            until_ms: segment.window.until.0,
            rate_bps: segment.rate.0,
        })
        .collect()
}

fn flow(flow: &Flow) -> proto::Flow {
    proto::Flow {
        protocol: u32::from(flow.protocol.number()),
        device: octets(flow.device),
        device_port: flow.device_port.map(u32::from),
        remote: octets(flow.remote),
        remote_port: u32::from(flow.remote_port),
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
