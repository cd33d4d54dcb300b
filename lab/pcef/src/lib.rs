//! A scripted gateway (PCEF, TS 29.212) for the lab and the tests.
//!
//! It shares no codec with the broker: messages are made and read by the crate `diameter`, so that a mistake of
//! ours is not answered by the same mistake. [`gateway::Gateway`] decides without I/O; [`run`] gives it a socket,
//! a clock, commands on standard input and events on standard output.

pub mod command;
pub mod event;
pub mod frame;
pub mod gateway;
pub mod limits;
pub mod message;
pub mod rule;
pub mod run;
pub mod shape;
