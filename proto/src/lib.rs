//! Wire contracts. Conversion between these types and the domain happens only at the edges, in `wire.rs`.
#![forbid(unsafe_code)]
#![allow(clippy::all, clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

/// `tollway.agent.v1`: desired legs down, reports up.
pub mod agent_v1 {
    tonic::include_proto!("tollway.agent.v1");
}

/// Version of the agent protocol this build speaks; N works with N ± 1.
pub const AGENT_PROTOCOL_VERSION: u32 = 1;
