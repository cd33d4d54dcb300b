//! The words that every Tollway crate speaks: ids, time, rate, money, flows, schedules.
//!
//! Pure: no clock, no randomness, no files, no sockets. Every type that reaches the journal carries its
//! numbered-field encoding here; numbers are never reused.
#![forbid(unsafe_code)]

pub mod flow;
pub mod id;
pub mod money;
pub mod rate;
pub mod schedule;
pub mod time;

pub use flow::{Direction, Flow, Protocol};
pub use id::{AccessId, CustomerId, LegId, OfferId, PoolId, QuoteId, ReservationId, Seq, TierId};
pub use money::{Amount, Currency, Micros};
pub use rate::BitsPerSecond;
pub use schedule::{Schedule, Segment};
pub use time::{Slot, SlotLength, Timestamp, Window};
