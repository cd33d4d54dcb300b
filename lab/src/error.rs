//! What ends a run early.

use crate::market::offer::{self, Offered, Refused};
use std::io;
use std::path::PathBuf;

/// Why a run could not be carried through.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    /// The scenario (or a `--set`) is wrong: exit 2.
    #[error(transparent)]
    Scenario(#[from] crate::scenario::Problem),
    #[error("reading the scenario {path}")]
    ScenarioUnreadable { path: PathBuf, source: io::Error },
    /// Results cannot go there: exit 2.
    #[error("--out {path}: {why}; name another folder")]
    Out { path: PathBuf, why: String },
    /// This host lacks something: exit 3.
    #[error("this host cannot run the scenario: {capability}")]
    Host { capability: String },
    #[error("{doing}")]
    Io { doing: String, source: io::Error },
    #[error("the kernel refused to {doing}")]
    Netlink { doing: String, source: io::Error },
    #[error("{who} ended by itself ({status}) while it was needed; its log is {log}")]
    ChildEnded { who: String, status: String, log: PathBuf },
    #[error("{what} within {seconds} s; logs are in {logs}")]
    NeverReady { what: String, seconds: u64, logs: PathBuf },
    /// The broker answered something that the scenario does not allow for.
    #[error("{doing}: the broker answered {status} {code}: {message}")]
    Broker { doing: String, status: u16, code: String, message: String },
    /// The broker decided against it.
    #[error("{doing}: {refused}")]
    Refused { doing: String, refused: Box<Refused> },
    #[error("asking for a quote: the broker offered only later starts: {}", offer::list(offers))]
    OnlyLater { offers: Vec<Offered> },
    #[error("{doing}: {what}")]
    Rest { doing: String, what: String },
    #[error("a lab thread died: {0}")]
    Thread(String),
}

impl Error {
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let doing = doing.into();
        move |source| Error::Io { doing, source }
    }

    /// The message with its causes, on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            cause = inner.source();
        }
        text
    }
}

pub type Result<T> = std::result::Result<T, Error>;
