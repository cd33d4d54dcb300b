//! `broker.toml`: parsed and validated whole before anything starts. Every problem says where it is and how
//! to mend it.

mod check;
mod file;
mod problem;
pub mod promises;
mod shape;

pub use problem::{Error, Problem};

use crate::auth::KeyDef;
use crate::driver::Market;
use std::net::SocketAddr;
use std::path::Path;
use tollway_core::ConfigDef;
use tollway_model::Currency;

/// Where the broker listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Serve {
    /// REST, health, metrics.
    pub http: SocketAddr,
    /// Agents.
    pub grpc: SocketAddr,
}

/// What the file says.
#[derive(Clone, Debug)]
pub struct Settings {
    pub market: Market,
    pub currency: Currency,
    pub serve: Serve,
    pub keys: Vec<KeyDef>,
    pub def: ConfigDef,
}

/// Reads and validates a file.
///
/// # Errors
/// Every problem that was found, each with its place and a way out.
pub fn load(path: &Path) -> Result<Settings, Error> {
    let text =
        std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    parse(&path.display().to_string(), &text)
}

/// Validates a text; `name` is what messages call it.
///
/// # Errors
/// As [`load`].
pub fn parse(name: &str, text: &str) -> Result<Settings, Error> {
    let file = shape::read(name, text).map_err(Error::Form)?;
    check::settings(name, text, file).map_err(Error::Invalid)
}
