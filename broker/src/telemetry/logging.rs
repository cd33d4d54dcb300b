//! Log lines on standard error: level from `RUST_LOG`, else `info`.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// What is logged when `RUST_LOG` says nothing. Libraries are quieter than we are.
pub const DEFAULT_FILTER: &str = "info,sqlx=warn,hyper=warn,h2=warn,tower=warn";

/// The filter of `RUST_LOG` could not be read.
#[derive(Debug, thiserror::Error)]
#[error("RUST_LOG is not a filter such as `info` or `tollway=debug`")]
pub struct BadFilter {
    #[source]
    source: tracing_subscriber::filter::ParseError,
}

/// Sends log lines to standard error, from now on. A second call changes nothing.
///
/// # Errors
/// When `RUST_LOG` is set and is no filter.
pub fn start() -> Result<(), BadFilter> {
    let text = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_else(|_| DEFAULT_FILTER.to_owned());
    let filter = EnvFilter::try_new(text).map_err(|source| BadFilter { source })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .finish();
    // Tests start several brokers in one process; the first one's choice stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}
