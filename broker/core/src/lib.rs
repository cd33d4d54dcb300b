//! The engine: `handle(now, input)`, `poll_output()`, `poll_timeout()`. No clock, randomness, threads, files
//! or sockets. One step decides admission, money and state together.
#![forbid(unsafe_code)]

mod admission;
mod apply;
pub mod calendar;
mod cancel;
pub mod config;
pub mod configure;
mod confirm;
mod decide;
mod engine;
pub mod entries;
pub mod floor;
pub mod input;
mod invariants;
pub mod learnt;
mod leg;
pub mod limits;
pub mod offer;
mod presence;
mod quote;
pub mod record;
pub mod refusal;
mod report;
pub mod reservation;
pub mod state;
mod take;
mod timer;
mod wallet;

pub use config::ConfigDef;
pub use engine::Engine;
pub use input::{Command, IdempotencyKey, Input, Output, RequestId};
pub use record::{Envelope, Record, Reply};
pub use refusal::{Code, Refusal};
pub use reservation::Reservation;
pub use state::State;
