//! Namespaces, links and raw sockets of the lab. Everything that is made here dies with the process.

pub mod namespace;
pub mod offload;
pub mod packet;
pub mod rtnl;
pub mod topology;
pub mod userns;
