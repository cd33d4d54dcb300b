//! Flows as a client names them.

use super::words::Protocol;
use crate::api::error::{ApiError, Invalid};
use serde::Deserialize;
use std::net::IpAddr;
use tollway_core::limits::FLOWS_MAX;
use tollway_model::Flow;
use utoipa::ToSchema;

/// A flow: which packets the reservation is for.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub struct FlowIn {
    pub protocol: Protocol,
    /// The endpoint behind the access line, as the enforcement point sees its address.
    pub device: DeviceIn,
    /// The other end.
    pub remote: RemoteIn,
}

#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub struct DeviceIn {
    #[schema(value_type = String, example = "10.10.0.2")]
    pub address: IpAddr,
    /// Absent: every port of the device.
    #[schema(minimum = 1)]
    pub port: Option<u16>,
}

#[derive(Deserialize, ToSchema, Debug)]
#[serde(deny_unknown_fields)]
pub struct RemoteIn {
    #[schema(value_type = String, example = "10.20.0.2")]
    pub address: IpAddr,
    #[schema(minimum = 1)]
    pub port: u16,
}

/// # Errors
/// More flows than a reservation may have, port 0, two address families in one flow.
pub fn to_flows(flows: Vec<FlowIn>) -> Result<Vec<Flow>, ApiError> {
    if flows.len() > FLOWS_MAX {
        return Err(Invalid::field("flows", format!("{} flows are too many", flows.len()))
            .fix(format!("name at most {FLOWS_MAX} flows"))
            .into());
    }
    flows.into_iter().enumerate().map(|(index, flow)| to_flow(index, &flow)).collect()
}

fn to_flow(index: usize, wire: &FlowIn) -> Result<Flow, ApiError> {
    let flow = Flow {
        protocol: wire.protocol.into(),
        device: wire.device.address,
        device_port: wire.device.port,
        remote: wire.remote.address,
        remote_port: wire.remote.port,
    };
    for (side, port) in [("device", wire.device.port), ("remote", Some(wire.remote.port))] {
        if port == Some(0) {
            return Err(Invalid::field(&format!("flows[{index}].{side}.port"), "0 is not a port")
                .fix("use a port from 1 to 65535")
                .into());
        }
    }
    if !flow.is_one_family() {
        return Err(Invalid::field(&format!("flows[{index}]"), "its ends are of two address families")
            .fix("name device and remote both by IPv4 or both by IPv6 addresses")
            .into());
    }
    Ok(flow)
}
