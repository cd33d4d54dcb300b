//! What the operator sees of the process: figures and log lines.

pub mod gateways;
pub mod legs;
pub mod logging;
pub mod metrics;
