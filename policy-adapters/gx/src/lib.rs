//! Gx (TS 29.212, application 16777238) as the PCRF: a session machine without I/O, and the map between legs and
//! AVPs.
//!
//! Desired legs and gateways' messages go into [`Machine::handle`]; facts to be recorded, answers and requests come
//! out of [`Machine::poll_output`], each message behind the fact that justifies it ([`Gate`]).
#![forbid(unsafe_code)]

mod address;
mod ccr;
mod counters;
mod fact;
pub mod filter;
mod gate;
pub mod limits;
mod machine;
mod plmn;
pub mod profile;
mod qos;
mod rule;
mod settings;
mod write;

pub use counters::Counters;
pub use fact::{Closed, Mark, Output, Token};
pub use gate::Gate;
pub use machine::{Desire, HostView, Input, Known, Machine, NotGx};
pub use plmn::Plmn;
pub use profile::Profile;
pub use qos::{QosClass, QosError, Rates};
pub use rule::{RuleName, Terms};
pub use settings::{Feature, Gateway, Reports, RuleTimes, Settings, SettingsError};
