//! Tools over a journal at rest: check every row, make the projections again.

use super::lock::DirLock;
use super::projection::Projector;
use super::sqlite::{exec, open_existing, read_journal, rollback};
use super::{BATCH_RECORDS_MAX, Error, schema, table};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Column, Connection, Row, TypeInfo, ValueRef};
use std::path::Path;
use tollway_core::{Envelope, Record};
use tollway_model::{Seq, Timestamp};

/// Records between two lines of progress of a rebuild.
const PROGRESS_RECORDS: u64 = 100_000;

/// What a check of a journal found to be in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    pub records: u64,
    pub last: Seq,
    pub last_at: Timestamp,
    /// Checksum of the last row: it stands for the whole chain.
    pub head: u32,
    /// Highest epoch that wrote a record.
    pub epoch: u64,
}

/// Checks that sequences have no holes, that every row is chained to the one before it, decodes, and encodes
/// to the same bytes again, and that nothing was cut off the end. Reads only; a running broker may go on.
///
/// # Errors
/// `Corrupt` with the first bad sequence.
pub async fn verify(dir: &Path) -> Result<Verified, Error> {
    let mut conn = open_existing(dir, true).await?;
    // One read transaction, so that the watermark belongs to the rows.
    exec(&mut conn, "BEGIN", "begin the check").await?;
    let mut market_made = false;
    let (tail, records) = read_journal(&mut conn, "verify", |row, before| {
        let envelope = row.check_exactly(before)?;
        let is_market = matches!(envelope.record, Record::MarketMade(_));
        if is_market != (envelope.seq == Seq(1)) {
            let what = "the market is made by the first record and by no other".to_owned();
            return Err(Error::Corrupt { seq: envelope.seq, what });
        }
        if row.at < before.at {
            let what = format!("it was decided at {}, the one before it at {}", row.at, before.at);
            return Err(Error::Corrupt { seq: envelope.seq, what });
        }
        market_made = true;
        Ok(())
    })
    .await?;
    let watermark = table::watermark(&mut conn).await?;
    if watermark > tail.seq {
        let what = format!("the journal ends before it, its projections reach {watermark}");
        return Err(Error::Corrupt { seq: Seq(tail.seq + 1), what });
    }
    let _ = conn.close().await;
    Ok(Verified {
        records,
        last: Seq(tail.seq),
        last_at: Timestamp(tail.at),
        head: tail.crc,
        epoch: tail.epoch,
    })
}

/// Hands every committed record to `each`, in order, and says how many there were. Reads only; a running broker
/// may go on.
///
/// # Errors
/// `Corrupt` with the first bad sequence; `Missing` when there is no database.
pub async fn replay(dir: &Path, each: &mut (dyn FnMut(Envelope) + Send)) -> Result<u64, Error> {
    let mut conn = open_existing(dir, true).await?;
    let (_, records) = read_journal(&mut conn, "replay", |row, before| {
        each(row.check(before)?);
        Ok(())
    })
    .await?;
    let _ = conn.close().await;
    Ok(records)
}

/// What a rebuild did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rebuilt {
    pub records: u64,
}

/// Drops every projection and folds the journal into new ones. Takes the directory's lock.
///
/// # Errors
/// `Held` while a broker runs; `Corrupt` when the journal is.
pub async fn rebuild_projections(dir: &Path) -> Result<Rebuilt, Error> {
    if !dir.is_dir() {
        return Err(Error::Missing(dir.to_owned()));
    }
    let _lock = DirLock::take(dir)?;
    let mut conn = open_existing(dir, false).await?;
    let records = refold(&mut conn).await?;
    let _ = conn.close().await;
    Ok(Rebuilt { records })
}

/// One transaction: either the old projections stay or the new ones are complete.
pub(super) async fn refold(conn: &mut SqliteConnection) -> Result<u64, Error> {
    exec(conn, "BEGIN IMMEDIATE", "begin a rebuild").await?;
    let done = refold_in_transaction(conn).await;
    if done.is_err() {
        rollback(conn).await;
    }
    done
}

async fn refold_in_transaction(conn: &mut SqliteConnection) -> Result<u64, Error> {
    for (name, _) in schema::TABLES {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("DROP TABLE IF EXISTS {name}")))
            .execute(&mut *conn)
            .await
            .map_err(Error::of("drop the projections"))?;
    }
    exec(conn, schema::PROJECTIONS, "make the projections' tables").await?;
    let mut projector = Projector::default();
    let mut tail = super::row::Tail::default();
    let mut records = 0u64;
    loop {
        let batch = next_batch(conn, &mut tail).await?;
        if batch.is_empty() {
            break;
        }
        let changes = projector.fold(conn, &batch).await?;
        table::write(conn, &changes).await?;
        projector.forget_settled(&changes);
        let before = records;
        records += u64::try_from(batch.len()).unwrap_or(0);
        if records / PROGRESS_RECORDS > before / PROGRESS_RECORDS {
            tracing::info!("rebuild: {records} records");
        }
    }
    table::set_watermark(conn, tail.seq).await?;
    exec(conn, "COMMIT", "commit the new projections").await?;
    Ok(records)
}

async fn next_batch(
    conn: &mut SqliteConnection,
    tail: &mut super::row::Tail,
) -> Result<Vec<Envelope>, Error> {
    let rows = sqlx::query(
        "SELECT seq, epoch, at, due, kind, version, bytes, crc FROM journal WHERE seq > ? ORDER BY seq LIMIT ?",
    )
    .bind(super::row::to_sql(tail.seq))
    .bind(i64::try_from(BATCH_RECORDS_MAX).unwrap_or(256))
    .fetch_all(&mut *conn)
    .await
    .map_err(Error::of("read the journal"))?;
    let mut batch = Vec::with_capacity(rows.len());
    for row in &rows {
        let row = super::sqlite::journal_row(row, *tail)?;
        batch.push(row.check(*tail)?);
        *tail = row.tail();
    }
    Ok(batch)
}

/// Every projection row as text, in key order: two databases with equal dumps have equal projections.
#[doc(hidden)]
pub async fn dump_projections(dir: &Path) -> Result<String, Error> {
    let mut conn = open_existing(dir, true).await?;
    let mut out = String::new();
    for (name, order) in schema::TABLES {
        let sql = format!("SELECT * FROM {name} ORDER BY {order}");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .fetch_all(&mut conn)
            .await
            .map_err(Error::of("dump the projections"))?;
        for row in rows {
            out.push_str(name);
            for column in row.columns() {
                out.push(' ');
                out.push_str(&cell(&row, column.name()));
            }
            out.push('\n');
        }
    }
    let _ = conn.close().await;
    Ok(out)
}

fn cell(row: &sqlx::sqlite::SqliteRow, column: &str) -> String {
    let Ok(value) = row.try_get_raw(column) else { return "?".to_owned() };
    if value.is_null() {
        return "NULL".to_owned();
    }
    match value.type_info().name() {
        "INTEGER" => row.try_get::<i64, _>(column).map_or_else(|e| e.to_string(), |v| v.to_string()),
        "BLOB" => row
            .try_get::<Vec<u8>, _>(column)
            .map_or_else(|e| e.to_string(), |v| v.iter().map(|b| format!("{b:02x}")).collect()),
        _ => row.try_get::<String, _>(column).unwrap_or_else(|e| e.to_string()),
    }
}
