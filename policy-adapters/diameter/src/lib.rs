//! Diameter (RFC 6733) for peers that may send anything.
//!
//! The codec walks borrowed bytes, checks every length before it is used and keeps what it does not know. The
//! machines are pure: `handle(now, input)`, `poll_transmit`, `poll_event`, `poll_timeout`. Nothing here knows Gx or
//! Rx beyond the tables of their AVPs and commands.

#![forbid(unsafe_code)]

pub mod answer;
pub mod avp;
pub mod capabilities;
pub mod check;
pub mod counters;
pub mod error;
pub mod framer;
pub mod grammar;
pub mod limits;
pub mod machine;
pub mod message;
pub mod node;
pub mod peer;
pub mod watchdog;
pub mod writer;

pub use answer::Origin;
pub use avp::{Avp, Definition, Key};
pub use error::{Error, result};
pub use message::{Frame, Header, Message, Outcome, application, command};
pub use writer::{WriteError, Writer};
