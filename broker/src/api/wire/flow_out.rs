//! Flows as they are shown.

use super::words::Protocol;
use serde::Serialize;
use std::net::IpAddr;
use tollway_model::Flow;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub struct FlowView {
    pub protocol: Protocol,
    pub device: DeviceView,
    pub remote: RemoteView,
}

#[derive(Serialize, ToSchema)]
pub struct DeviceView {
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// Null: every port of the device.
    pub port: Option<u16>,
}

#[derive(Serialize, ToSchema)]
pub struct RemoteView {
    #[schema(value_type = String)]
    pub address: IpAddr,
    pub port: u16,
}

pub fn flow_view(flow: &Flow) -> FlowView {
    FlowView {
        protocol: flow.protocol.into(),
        device: DeviceView { address: flow.device, port: flow.device_port },
        remote: RemoteView { address: flow.remote, port: flow.remote_port },
    }
}
