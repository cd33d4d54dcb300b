//! The embedded store: one SQLite database, one writing connection.

use super::lock::DirLock;
use super::projection::Projector;
use super::row::{JournalRow, Tail, from_sql, to_sql};
use super::{BATCH_RECORDS_MAX, DATABASE_FILE, Error, Loaded, Store, schema, table};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, QueryBuilder, Row, Sqlite};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_stream::StreamExt;
use tollway_core::Envelope;
use tollway_model::Seq;

/// Readers at once; each has a connection and a thread of its own.
const READERS_MAX: u32 = 4;

/// A reader never waits for the writer in WAL mode; this only covers checkpoints and recovery.
const BUSY_MS: u64 = 5_000;

/// What a probe writes and takes away again: more pages than a full file has left by chance.
const PROBE_BYTES: i64 = 65_536;

/// Records between two lines of progress.
const PROGRESS_RECORDS: u64 = 100_000;

/// The only writer of one data directory.
pub struct SqliteStore {
    writer: SqliteConnection,
    dir: PathBuf,
    epoch: u64,
    tail: Tail,
    projector: Projector,
    _lock: DirLock,
}

impl SqliteStore {
    /// Takes the directory's lock, makes or checks the tables and takes the lease with the next epoch.
    ///
    /// # Errors
    /// `Held` when another process has the directory; `Layout` when a newer release wrote it.
    pub async fn open(dir: &Path) -> Result<SqliteStore, Error> {
        // Who bought what for which address is nobody else's business on this machine.
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|source| Error::File {
            doing: "make the data directory",
            path: dir.to_owned(),
            source,
        })?;
        let lock = DirLock::take(dir)?;
        let mut writer = connect(dir).await?;
        make_tables(&mut writer).await?;
        let epoch = take_lease(&mut writer).await?;
        let projector = Projector::default();
        Ok(SqliteStore { writer, dir: dir.to_owned(), epoch, tail: Tail::default(), projector, _lock: lock })
    }

    /// Leads with an epoch above one that agents have obeyed: for data restored from an older copy.
    ///
    /// # Errors
    /// When the lease cannot be written.
    pub async fn lead_above(&mut self, obeyed: u64) -> Result<(), Error> {
        let above = to_sql(obeyed.saturating_add(1));
        let epoch: i64 =
            sqlx::query_scalar("UPDATE lease SET epoch = max(epoch, ?) WHERE id = 1 RETURNING epoch")
                .bind(above)
                .fetch_one(&mut self.writer)
                .await
                .map_err(Error::of("raise the lease's epoch"))?;
        self.epoch = from_sql(epoch);
        Ok(())
    }

    /// A pool of connections that can only read.
    ///
    /// # Errors
    /// When the database cannot be opened.
    pub async fn readers(dir: &Path) -> Result<SqlitePool, Error> {
        let options = SqliteConnectOptions::new()
            .filename(dir.join(DATABASE_FILE))
            .read_only(true)
            .busy_timeout(Duration::from_millis(BUSY_MS))
            .disable_statement_logging();
        SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .connect_with(options)
            .await
            .map_err(Error::of("open the database for reading"))
    }

    /// Lets the database grow to so many pages at most, for tests of a full disk.
    #[doc(hidden)]
    pub async fn limit_pages(&mut self, pages: u32) -> Result<(), Error> {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}")))
            .execute(&mut self.writer)
            .await
            .map(drop)
            .map_err(Error::of("limit the database"))
    }

    async fn append_in_transaction(&mut self, batch: &[Envelope]) -> Result<Tail, Error> {
        self.check_lease().await?;
        let mut tail = self.tail;
        let mut rows = Vec::with_capacity(batch.len());
        for envelope in batch {
            let row = JournalRow::encode(envelope, self.epoch, tail);
            tail = row.tail();
            rows.push(row);
        }
        for rows in rows.chunks(BATCH_RECORDS_MAX) {
            insert_rows(&mut self.writer, rows).await?;
        }
        let changes = self.projector.fold(&mut self.writer, batch).await?;
        table::write(&mut self.writer, &changes).await?;
        table::set_watermark(&mut self.writer, tail.seq).await?;
        exec(&mut self.writer, "COMMIT", "commit a batch").await?;
        self.projector.forget_settled(&changes);
        Ok(tail)
    }

    /// Inside the transaction, so that nobody takes the lease between this check and the commit.
    async fn check_lease(&mut self) -> Result<(), Error> {
        let found: i64 = sqlx::query_scalar("SELECT epoch FROM lease WHERE id = 1")
            .fetch_one(&mut self.writer)
            .await
            .map_err(Error::of("check the lease"))?;
        let found = from_sql(found);
        if found == self.epoch { Ok(()) } else { Err(Error::Fenced { ours: self.epoch, found }) }
    }

    async fn reconnect(&mut self) -> Result<(), Error> {
        // A connection after a failed commit is in a state that only its end makes certain.
        let fresh = connect(&self.dir).await?;
        let old = std::mem::replace(&mut self.writer, fresh);
        if let Err(error) = old.close_hard().await {
            tracing::debug!(%error, "the old connection did not close cleanly");
        }
        Ok(())
    }

    async fn probe_in_transaction(&mut self) -> Result<(), Error> {
        self.check_lease().await?;
        sqlx::query("INSERT OR REPLACE INTO probe (id, room) VALUES (1, zeroblob(?))")
            .bind(PROBE_BYTES)
            .execute(&mut self.writer)
            .await
            .map_err(Error::of("probe the disk"))?;
        exec(&mut self.writer, "COMMIT", "probe the disk").await?;
        exec(&mut self.writer, "DELETE FROM probe", "take the probe away").await
    }
}

impl Store for SqliteStore {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    async fn load(&mut self, each: &mut (dyn FnMut(Envelope) + Send)) -> Result<Loaded, Error> {
        self.reconnect().await?;
        self.projector = Projector::default();
        let (tail, records) = read_journal(&mut self.writer, "replay", |row, before| {
            each(row.check(before)?);
            Ok(())
        })
        .await?;
        self.tail = tail;
        let watermark = table::watermark(&mut self.writer).await?;
        if watermark > tail.seq {
            // Both are written in one transaction: rows were cut off the journal's end.
            let what = format!("the journal ends before it, its projections reach {watermark}");
            return Err(Error::Corrupt { seq: Seq(tail.seq + 1), what });
        }
        if watermark < tail.seq {
            tracing::warn!(watermark, journal = tail.seq, "projections are behind: making them again");
            super::journal::refold(&mut self.writer).await?;
        }
        Ok(Loaded { records, last: Seq(tail.seq) })
    }

    async fn append(&mut self, batch: &[Envelope]) -> Result<(), Error> {
        let Some(first) = batch.first() else { return Ok(()) };
        assert_eq!(first.seq.0, self.tail.seq + 1, "a batch follows the journal's last record");
        exec(&mut self.writer, "BEGIN IMMEDIATE", "begin a batch").await?;
        match self.append_in_transaction(batch).await {
            Ok(tail) => {
                self.tail = tail;
                Ok(())
            }
            Err(error) => {
                rollback(&mut self.writer).await;
                Err(error)
            }
        }
    }

    async fn probe(&mut self) -> Result<(), Error> {
        rollback(&mut self.writer).await;
        exec(&mut self.writer, "BEGIN IMMEDIATE", "probe the disk").await?;
        let probed = self.probe_in_transaction().await;
        if probed.is_err() {
            rollback(&mut self.writer).await;
        }
        probed
    }

    async fn close(self) {
        if let Err(error) = self.writer.close().await {
            tracing::warn!(%error, "the database did not close cleanly; the next start recovers it");
        }
    }
}

/// The writing connection: every commit is synced before it returns.
async fn connect(dir: &Path) -> Result<SqliteConnection, Error> {
    SqliteConnectOptions::new()
        .filename(dir.join(DATABASE_FILE))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_millis(BUSY_MS))
        .disable_statement_logging()
        .connect()
        .await
        .map_err(Error::of("open the database"))
}

async fn make_tables(conn: &mut SqliteConnection) -> Result<(), Error> {
    let found: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *conn)
        .await
        .map_err(Error::of("read the database's layout"))?;
    if found > schema::LAYOUT {
        return Err(Error::Layout { found, known: schema::LAYOUT });
    }
    exec(conn, schema::KEPT, "make the journal's tables").await?;
    exec(conn, schema::PROJECTIONS, "make the projections' tables").await?;
    if found < schema::LAYOUT {
        // Tables that are new have missed what came before: the next load folds the journal again.
        table::set_watermark(conn, 0).await?;
    }
    let (id, layout) = (schema::APPLICATION_ID, schema::LAYOUT);
    let set = format!("PRAGMA application_id = {id}; PRAGMA user_version = {layout}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(set))
        .execute(&mut *conn)
        .await
        .map(drop)
        .map_err(Error::of("set the database's layout"))
}

/// Each start of a process is a new epoch, so that whatever an older one still holds is refused.
async fn take_lease(conn: &mut SqliteConnection) -> Result<u64, Error> {
    let holder = format!("process {}", std::process::id());
    let epoch: i64 =
        sqlx::query_scalar("UPDATE lease SET epoch = epoch + 1, holder = ? WHERE id = 1 RETURNING epoch")
            .bind(holder)
            .fetch_one(&mut *conn)
            .await
            .map_err(Error::of("take the lease"))?;
    Ok(from_sql(epoch))
}

/// Opens the database of a directory for a tool; it must exist.
pub(super) async fn open_existing(dir: &Path, read_only: bool) -> Result<SqliteConnection, Error> {
    if !dir.join(DATABASE_FILE).is_file() {
        return Err(Error::Missing(dir.to_owned()));
    }
    if !read_only {
        return connect(dir).await;
    }
    SqliteConnectOptions::new()
        .filename(dir.join(DATABASE_FILE))
        .read_only(true)
        .busy_timeout(Duration::from_millis(BUSY_MS))
        .disable_statement_logging()
        .connect()
        .await
        .map_err(Error::of("open the database for reading"))
}

/// Hands every row and the tail before it to `each`; returns the last row's place and how many there were.
pub(super) async fn read_journal(
    conn: &mut SqliteConnection,
    what: &str,
    mut each: impl FnMut(&JournalRow, Tail) -> Result<(), Error>,
) -> Result<(Tail, u64), Error> {
    let total: i64 = sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM journal")
        .fetch_one(&mut *conn)
        .await
        .map_err(Error::of("measure the journal"))?;
    let total = from_sql(total);
    let mut tail = Tail::default();
    let mut records = 0u64;
    let mut rows =
        sqlx::query("SELECT seq, epoch, at, due, kind, version, bytes, crc FROM journal ORDER BY seq")
            .fetch(&mut *conn);
    while let Some(row) = rows.next().await {
        let row = row.map_err(Error::of("read the journal"))?;
        let row = journal_row(&row, tail)?;
        each(&row, tail)?;
        tail = row.tail();
        records += 1;
        if total > PROGRESS_RECORDS && records.is_multiple_of(PROGRESS_RECORDS) {
            tracing::info!("{what}: {records} of {total} records ({} %)", records * 100 / total);
        }
    }
    Ok((tail, records))
}

/// A row whose columns do not even have the right shape is corrupt, not an I/O error.
pub(super) fn journal_row(row: &SqliteRow, before: Tail) -> Result<JournalRow, Error> {
    let seq = Seq(before.seq + 1);
    let shape = |what: &str| Error::Corrupt { seq, what: format!("its {what} is out of range") };
    let number =
        |column: &'static str| -> Result<i64, Error> { row.try_get(column).map_err(|_| shape(column)) };
    Ok(JournalRow {
        seq: from_sql(number("seq")?),
        epoch: from_sql(number("epoch")?),
        at: from_sql(number("at")?),
        due: row.try_get::<Option<i64>, _>("due").map_err(|_| shape("due"))?.map(from_sql),
        kind: u16::try_from(number("kind")?).map_err(|_| shape("kind"))?,
        version: u16::try_from(number("version")?).map_err(|_| shape("version"))?,
        bytes: row.try_get("bytes").map_err(|_| shape("bytes"))?,
        crc: u32::try_from(number("crc")?).map_err(|_| shape("crc"))?,
    })
}

async fn insert_rows(conn: &mut SqliteConnection, rows: &[JournalRow]) -> Result<(), Error> {
    let mut query: QueryBuilder<Sqlite> =
        QueryBuilder::new("INSERT INTO journal (seq, epoch, at, due, kind, version, bytes, crc) ");
    query.push_values(rows, |mut value, row| {
        value
            .push_bind(to_sql(row.seq))
            .push_bind(to_sql(row.epoch))
            .push_bind(to_sql(row.at))
            .push_bind(row.due.map(to_sql))
            .push_bind(i64::from(row.kind))
            .push_bind(i64::from(row.version))
            .push_bind(row.bytes.clone())
            .push_bind(i64::from(row.crc));
    });
    query.build().persistent(false).execute(conn).await.map(drop).map_err(Error::of("append to the journal"))
}

pub(super) async fn exec(
    conn: &mut SqliteConnection,
    sql: &'static str,
    doing: &'static str,
) -> Result<(), Error> {
    sqlx::raw_sql(sql).execute(conn).await.map(drop).map_err(Error::of(doing))
}

pub(super) async fn rollback(conn: &mut SqliteConnection) {
    // SQLite may have rolled back by itself; then there is nothing to do.
    if let Err(error) = sqlx::raw_sql("ROLLBACK").execute(conn).await {
        tracing::debug!(%error, "nothing to roll back");
    }
}
