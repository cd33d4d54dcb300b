//! The store: the journal, which is the truth, and the projections, which are made from it.

pub mod journal;
mod lock;
pub mod page;
pub mod projection;
pub mod read;
mod row;
mod schema;
mod sqlite;
mod table;

#[doc(hidden)]
pub use journal::dump_projections;
pub use journal::{Rebuilt, Verified, rebuild_projections, replay, verify};
pub use page::{Page, Place};
pub use read::{EventRow, LegInterval, Reader, TopUpRow, Wallet};
pub use sqlite::SqliteStore;

use std::future::Future;
use std::path::PathBuf;
use tollway_core::Envelope;
use tollway_model::Seq;

/// File name of the database inside the data directory.
pub const DATABASE_FILE: &str = "tollway.db";

/// Records in one append; larger batches only add latency, since one sync serves them all.
pub const BATCH_RECORDS_MAX: usize = 256;

/// What kind of event a reservation's stream tells.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum EventKind {
    Held,
    Confirmed,
    Started,
    /// Its leg was active and is not.
    Degraded,
    /// Its leg is active again.
    Restored,
    /// `detail` is the reason's word, and after `: ` more of it when there is more.
    Ended,
}

impl EventKind {
    pub const ALL: [EventKind; 6] = [
        EventKind::Held,
        EventKind::Confirmed,
        EventKind::Started,
        EventKind::Degraded,
        EventKind::Restored,
        EventKind::Ended,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            EventKind::Held => "held",
            EventKind::Confirmed => "confirmed",
            EventKind::Started => "started",
            EventKind::Degraded => "degraded",
            EventKind::Restored => "restored",
            EventKind::Ended => "ended",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<EventKind> {
        EventKind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk, or the database's own limit. Passes when there is space again.
    #[error("no space left while trying to {doing}")]
    Full {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// The file system or the database said no. May pass.
    #[error("cannot {doing}")]
    Io {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// Another process took the lease over: what this one decides is no longer valid.
    #[error("another process leads this market since (lease epoch {found}, ours is {ours})")]
    Fenced { ours: u64, found: u64 },
    #[error("the journal is corrupt at sequence {}: {what}", seq.0)]
    Corrupt { seq: Seq, what: String },
    #[error("the database file is damaged, found while trying to {doing}")]
    Damaged {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error(
        "the {table} projection holds a row that cannot be read: {what}; run `tollway rebuild-projections`"
    )]
    Projection { table: &'static str, what: String },
    #[error(
        "sequence {} is a record of kind {kind}, version {version}, which this build does not know: start \
         the newer release that wrote it", seq.0
    )]
    Newer { seq: Seq, kind: u16, version: u16 },
    #[error(
        "the database has layout {found}, this build knows up to {known}: start the newer release that wrote it"
    )]
    Layout { found: i64, known: i64 },
    #[error("{dir} is in use by another process{holder}: stop it first, or use another --data directory")]
    Held { dir: PathBuf, holder: String },
    #[error("there is no market in {0}: `tollway serve --data {0}` makes one")]
    Missing(PathBuf),
    #[error("cannot {doing} {path}")]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Whether trying again may help without anyone mending anything but the disk.
    pub const fn may_pass(&self) -> bool {
        matches!(self, Error::Full { .. } | Error::Io { .. })
    }

    /// Sorts what the database said while something was being done.
    pub(crate) fn of(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
        move |source| match primary_code(&source) {
            Some(SQLITE_FULL) => Error::Full { doing, source },
            Some(SQLITE_CORRUPT | SQLITE_NOTADB) => Error::Damaged { doing, source },
            Some(_) | None if is_out_of_space(&source) => Error::Full { doing, source },
            Some(_) | None => Error::Io { doing, source },
        }
    }
}

const SQLITE_CORRUPT: u32 = 11;
const SQLITE_FULL: u32 = 13;
const SQLITE_NOTADB: u32 = 26;

/// SQLite's primary result code: the low byte of the extended one.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?.parse::<u32>().ok()?;
    Some(code & 0xff)
}

fn is_out_of_space(error: &sqlx::Error) -> bool {
    if let sqlx::Error::Io(io) = error {
        return io.kind() == std::io::ErrorKind::StorageFull;
    }
    false
}

/// What the journal held when it was loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loaded {
    pub records: u64,
    pub last: Seq,
}

/// Where records become durable. Small, so that another database can come later; one test-suite serves all.
pub trait Store: Send + 'static {
    /// Fencing number of this process: every append is conditional on it.
    fn epoch(&self) -> u64;

    /// Reads every committed record in order, checking the chain. Afterwards appends go on from the last.
    fn load(
        &mut self,
        each: &mut (dyn FnMut(Envelope) + Send),
    ) -> impl Future<Output = Result<Loaded, Error>> + Send;

    /// Makes a batch durable, with its projections, in one transaction. After an error the store must be
    /// loaded again: only it knows whether the batch landed.
    fn append(&mut self, batch: &[Envelope]) -> impl Future<Output = Result<(), Error>> + Send;

    /// Whether it takes writes, tried with one that leaves nothing behind.
    fn probe(&mut self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Last words: what was appended goes into the main file.
    fn close(self) -> impl Future<Output = ()> + Send;
}
