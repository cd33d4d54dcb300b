//! The driver: one task owns the engine. It feeds inputs by priority, appends records one batch at a time
//! while the next is computed, and lets outputs leave when the records that justify them are durable.

mod gate;
pub mod handle;
pub mod poison;
mod preview;
mod run;
pub mod snapshot;
mod start;
mod writer;

pub use handle::{Handle, Lane, Unavailable};
pub use preview::{Preview, preview};
pub use run::Stopped;
pub use snapshot::{Gauges, Snapshot};
pub use start::{Error, Market, Options, Started, start, start_on};
