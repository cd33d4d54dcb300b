//! Rx (TS 29.214, application 16777236) as the application function (AF) beside an existing PCRF: a session machine
//! without I/O, and the map between legs and AVPs.
//!
//! Desired legs and the PCRF's messages go into [`Machine::handle`]; facts to be recorded, answers and requests come
//! out of [`Machine::poll_output`], each message behind the fact that justifies it ([`Gate`]).
#![forbid(unsafe_code)]

mod counters;
mod fact;
pub mod filter;
mod gate;
mod heard;
pub mod limits;
mod machine;
mod rates;
mod reason;
mod session_id;
mod settings;
mod terms;
mod write;

pub use counters::Counters;
pub use fact::{Access, AfSession, Certainty, Closed, Fact, Host, Mark, Output, Token};
pub use gate::Gate;
pub use machine::{Desire, Input, Known, Machine};
pub use rates::Rates;
pub use settings::{Pcrf, Reports, Settings, SettingsError};
pub use terms::{Floor, MediaType, Sponsor, Terms};
