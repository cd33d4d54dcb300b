//! The broker around the engine: driver, store, API, configuration, agents, command line.
#![deny(unsafe_op_in_unsafe_fn)]

pub mod agents;
pub mod api;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod driver;
pub mod gx;
pub mod listen;
pub mod parser_words;
pub mod public_id;
pub mod store;
pub mod telemetry;
