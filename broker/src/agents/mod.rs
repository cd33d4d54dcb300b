//! The link to enforcement agents: gRPC `tollway.agent.v1`. Desired legs go down when their records are
//! durable, reports come up and are acknowledged when theirs are.

mod accept;
mod directory;
mod hub;
mod send;
mod service;
pub mod wire;

pub use accept::{CONNECTIONS_MAX, incoming};
pub use directory::{AgentDirectory, AgentStatus};
pub use hub::Hub;
pub(crate) use hub::Told;
pub use service::Service;
