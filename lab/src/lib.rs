//! The lab: an emulated network in which the product is run for real, measured, and reported on.
//!
//! [`run()`] plays a scenario. It must be entered before any thread exists: without root it makes a user
//! namespace of its own, and the kernel lets only a single-threaded process do that.

pub mod clock;
pub mod counters;
pub mod error;
pub mod lateness;
pub mod line;
pub mod market;
pub mod net;
pub mod report;
pub mod run;
pub mod scenario;
pub mod traffic;

pub use error::{Error, Result};
pub use net::userns::enter_user_namespace;
pub use run::{Exit, RunArgs, parse_backend, run};
pub use scenario::file::Backend;
