//! `broker.toml`: parsed and validated whole before anything starts. Every problem says where it is and how
//! to mend it.

mod check;
mod file;
mod gx;
mod problem;
pub mod promises;
mod shape;

pub use gx::Gx;
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
    /// Gateways, where there are any.
    pub gx: Option<Gx>,
}

/// Reads and validates a file.
///
/// # Errors
/// Every problem that was found, each with its place and a way out.
pub fn load(path: &Path) -> Result<Settings, Error> {
    let text =
        std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    // Files that it names lie beside it.
    let dir = path.parent().unwrap_or(Path::new("."));
    checked(&path.display().to_string(), &text, Some(dir))
}

/// Validates a text; `name` is what messages call it. Files that it names are not read.
///
/// # Errors
/// As [`load`].
pub fn parse(name: &str, text: &str) -> Result<Settings, Error> {
    checked(name, text, None)
}

fn checked(name: &str, text: &str, dir: Option<&Path>) -> Result<Settings, Error> {
    let file = shape::read(name, text).map_err(Error::Form)?;
    check::settings(name, text, file, dir).map_err(Error::Invalid)
}
