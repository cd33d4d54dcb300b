//! Reads, served from the projections: committed state only.

use super::row::{from_sql, to_sql};
use super::sqlite::{SqliteStore, journal_row};
use super::table::{decode, owner_column};
use super::{Error, EventKind, row::Tail};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Row, Sqlite};
use std::path::Path;
use tollway_billing::{AccountId, Entry};
use tollway_core::record::UsageFact;
use tollway_core::{Record, Reply, Reservation};
use tollway_model::{Amount, Currency, CustomerId, Micros, ReservationId, Seq, Timestamp};

/// Rows of one list that is not paged: readings of 31 days at 5 s would be more than anyone can read at once.
const ROWS_MAX: u32 = 600_000;

/// One event of a reservation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventRow {
    pub seq: Seq,
    pub at: Timestamp,
    pub kind: EventKind,
    pub detail: Option<String>,
}

/// A stretch of time in which a leg was `active`, `lost` or `absent`; the last one is open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LegInterval {
    pub from: Timestamp,
    pub until: Option<Timestamp>,
    pub state: String,
    pub reason: Option<String>,
}

/// A customer's prepaid money.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wallet {
    pub balance: Amount,
    /// What open holds reserve of it.
    pub held: Amount,
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    pool: SqlitePool,
}

impl Reader {
    /// # Errors
    /// When the database cannot be opened.
    pub async fn open(dir: &Path) -> Result<Reader, Error> {
        Ok(Reader { pool: SqliteStore::readers(dir).await? })
    }

    /// # Errors
    /// When the store cannot be read, like every read below.
    pub async fn reservation(&self, id: ReservationId) -> Result<Option<Reservation>, Error> {
        let doc: Option<Vec<u8>> = sqlx::query_scalar("SELECT doc FROM reservation WHERE id = ?")
            .bind(to_sql(id.0))
            .fetch_optional(&self.pool)
            .await
            .map_err(Error::of("read a reservation"))?;
        doc.map(|doc| decode("reservation", &doc)).transpose()
    }

    /// In the order of their making; `after` is the last one of the page before.
    pub async fn reservations(
        &self,
        customer: Option<CustomerId>,
        state: Option<&str>,
        after: Option<ReservationId>,
        limit: u32,
    ) -> Result<Vec<Reservation>, Error> {
        let mut query: QueryBuilder<Sqlite> = QueryBuilder::new("SELECT doc FROM reservation WHERE id > ");
        query.push_bind(after.map_or(-1, |id| to_sql(id.0)));
        if let Some(customer) = customer {
            query.push(" AND customer = ").push_bind(i64::from(customer.0));
        }
        if let Some(state) = state {
            query.push(" AND state = ").push_bind(state.to_owned());
        }
        query.push(" ORDER BY id LIMIT ").push_bind(i64::from(limit));
        let docs: Vec<Vec<u8>> =
            query.build_query_scalar().fetch_all(&self.pool).await.map_err(Error::of("list reservations"))?;
        docs.iter().map(|doc| decode("reservation", doc)).collect()
    }

    /// In the journal's order.
    pub async fn usage(&self, id: ReservationId) -> Result<Vec<UsageFact>, Error> {
        let docs: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT doc FROM usage WHERE reservation = ? ORDER BY seq, n LIMIT ?")
                .bind(to_sql(id.0))
                .bind(i64::from(ROWS_MAX))
                .fetch_all(&self.pool)
                .await
                .map_err(Error::of("read usage"))?;
        docs.iter().map(|doc| decode("usage", doc)).collect()
    }

    pub async fn events(&self, id: ReservationId) -> Result<Vec<EventRow>, Error> {
        let rows = sqlx::query(
            "SELECT seq, at, kind, detail FROM event WHERE reservation = ? ORDER BY seq, n LIMIT ?",
        )
        .bind(to_sql(id.0))
        .bind(i64::from(ROWS_MAX))
        .fetch_all(&self.pool)
        .await
        .map_err(Error::of("read events"))?;
        rows.iter().map(event_row).collect()
    }

    /// In time order, each until the next one's start.
    pub async fn intervals(&self, id: ReservationId) -> Result<Vec<LegInterval>, Error> {
        let rows = sqlx::query(
            "SELECT since, state, reason FROM interval WHERE reservation = ? ORDER BY seq, n LIMIT ?",
        )
        .bind(to_sql(id.0))
        .bind(i64::from(ROWS_MAX))
        .fetch_all(&self.pool)
        .await
        .map_err(Error::of("read intervals"))?;
        let mut intervals: Vec<LegInterval> = Vec::with_capacity(rows.len());
        for row in &rows {
            let from = Timestamp(from_sql(get(row, "interval", "since")?));
            // An agent's clock may be a little behind the record before.
            let from = intervals.last().map_or(from, |last| last.from.max(from));
            if let Some(last) = intervals.last_mut() {
                last.until = Some(from);
            }
            intervals.push(LegInterval {
                from,
                until: None,
                state: get(row, "interval", "state")?,
                reason: get(row, "interval", "reason")?,
            });
        }
        // What took no time is no interval, and what it parted is one again.
        intervals.retain(|interval| interval.until != Some(interval.from));
        intervals.dedup_by(|next, kept| {
            let same = next.state == kept.state && next.reason == kept.reason;
            if same {
                kept.until = next.until;
            }
            same
        });
        Ok(intervals)
    }

    pub async fn wallet(&self, customer: CustomerId, currency: Currency) -> Result<Wallet, Error> {
        let id = AccountId::wallet(customer, currency);
        let row =
            sqlx::query("SELECT balance, held FROM account WHERE kind = ? AND owner = ? AND currency = ?")
                .bind(id.kind.as_str())
                .bind(owner_column(id))
                .bind(currency.as_str().to_owned())
                .fetch_optional(&self.pool)
                .await
                .map_err(Error::of("read a wallet"))?;
        let (balance, held) = match &row {
            Some(row) => (get(row, "account", "balance")?, get(row, "account", "held")?),
            None => (0, 0),
        };
        let amount = |micros| Amount { micros: Micros(micros), currency };
        Ok(Wallet { balance: amount(balance), held: amount(held) })
    }

    /// A customer's entries in the ledger's order; `after` is the last one of the page before.
    pub async fn entries(
        &self,
        customer: CustomerId,
        after: Option<(Seq, u32)>,
        limit: u32,
    ) -> Result<Vec<Entry>, Error> {
        let (seq, n) = after.map_or((-1, -1), |(seq, n)| (to_sql(seq.0), i64::from(n)));
        let docs: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT doc FROM entry WHERE customer = ? AND (seq, n) > (?, ?) ORDER BY seq, n LIMIT ?",
        )
        .bind(i64::from(customer.0))
        .bind(seq)
        .bind(n)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(Error::of("read entries"))?;
        docs.iter().map(|doc| decode("entry", doc)).collect()
    }

    /// The stored answer of a key, at its place in the journal.
    pub async fn answer(&self, at: Seq) -> Result<Reply, Error> {
        let corrupt = |what: &str| Error::Corrupt { seq: at, what: what.to_owned() };
        let row =
            sqlx::query("SELECT seq, epoch, at, due, kind, version, bytes, crc FROM journal WHERE seq = ?")
                .bind(to_sql(at.0))
                .fetch_optional(&self.pool)
                .await
                .map_err(Error::of("read a stored answer"))?
                .ok_or_else(|| corrupt("the row is missing"))?;
        let row = journal_row(&row, Tail { seq: at.0.saturating_sub(1), ..Tail::default() })?;
        let record: Record = minicbor::decode(&row.bytes).map_err(|error| corrupt(&error.to_string()))?;
        if let Record::Answered(answered) = record {
            return Ok(answered.reply);
        }
        Err(corrupt("a key points at it and it is no answer"))
    }

    /// Ends its connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn event_row(row: &SqliteRow) -> Result<EventRow, Error> {
    let kind: String = get(row, "event", "kind")?;
    let kind = EventKind::parse(&kind).ok_or_else(|| Error::Projection {
        table: "event",
        what: format!("there is no event kind {kind:?}"),
    })?;
    Ok(EventRow {
        seq: Seq(from_sql(get(row, "event", "seq")?)),
        at: Timestamp(from_sql(get(row, "event", "at")?)),
        kind,
        detail: get(row, "event", "detail")?,
    })
}

fn get<'r, T>(row: &'r SqliteRow, table: &'static str, column: &str) -> Result<T, Error>
where
    T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
{
    row.try_get(column).map_err(|error| Error::Projection { table, what: error.to_string() })
}
