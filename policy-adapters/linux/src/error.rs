//! Errors of the kernel side: a variant says what was being done.

use std::io;
use tollway_model::LegId;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on a socket failed.
    #[error("cannot {doing}: {source}")]
    Socket {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("the kernel refused to {doing}: {}", refusal(source, message.as_deref()))]
    Kernel {
        doing: String,
        #[source]
        source: io::Error,
        message: Option<String>,
    },
    /// Messages were lost; everything is read again.
    #[error("netlink messages were lost while {doing}")]
    Overrun { doing: &'static str },
    /// Other changes interrupted a dump again and again.
    #[error("could not {doing}: it changed all the time")]
    Restless { doing: &'static str },
    /// Another process owns `table inet tollway`.
    #[error(
        "table inet tollway is owned by another process (netlink port {port}); is another agent running?"
    )]
    TableOwned { port: u32 },
    /// The state could not be made durable, so the kernel was not touched.
    #[error("cannot persist the state: {source}")]
    Persist {
        #[source]
        source: io::Error,
    },
    /// A leg that cannot be taken.
    #[error("leg {leg}: {reason}")]
    BadLeg { leg: LegId, reason: String },
    /// More legs than an enforcement point takes.
    #[error("more than {max} legs")]
    TooManyLegs { max: usize },
}

fn refusal(source: &io::Error, message: Option<&str>) -> String {
    match message {
        Some(message) => format!("{message} ({source})"),
        None => source.to_string(),
    }
}

impl Error {
    /// The errno of a refusal.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Kernel { source, .. } | Error::Socket { source, .. } => source.raw_os_error(),
            Error::Overrun { .. }
            | Error::Restless { .. }
            | Error::TableOwned { .. }
            | Error::Persist { .. }
            | Error::BadLeg { .. }
            | Error::TooManyLegs { .. } => None,
        }
    }
}
