//! Reads, served from the projections: committed state only.

use super::page::{EVENTS, INTERVALS, List, Page, Place, USAGE};
use super::row::{Tail, from_sql, to_sql};
use super::sqlite::{SqliteStore, journal_row};
use super::table::{self, decode, owner_column};
use super::{Error, EventKind};
use sqlx::sqlite::{SqliteExecutor, SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Row, Sqlite};
use std::path::Path;
use std::sync::Arc;
use tollway_billing::{AccountId, Entry};
use tollway_core::record::UsageFact;
use tollway_core::reservation::LegState;
use tollway_core::{Record, Reply, Reservation};
use tollway_model::{AccessId, Amount, Currency, CustomerId, Micros, ReservationId, Seq, Timestamp};
use tollway_policy::SubscriberRef;

/// The state of an interval that is told however short it was.
const LOST: &str = LegState::Lost.as_str();

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

/// Money that the NOC credited.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopUpRow {
    pub seq: Seq,
    pub at: Timestamp,
    pub amount: Amount,
    pub actor: String,
    pub reason: String,
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    pool: SqlitePool,
    dir: Arc<Path>,
}

impl Reader {
    /// # Errors
    /// When the database cannot be opened.
    pub async fn open(dir: &Path) -> Result<Reader, Error> {
        Ok(Reader { pool: SqliteStore::readers(dir).await?, dir: dir.into() })
    }

    /// The data directory, for messages.
    pub fn dir(&self) -> &Path {
        &self.dir
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

    /// Whether a line of a family has a session; `None` when it was never seen.
    pub async fn line(&self, family: AccessId, subscriber: SubscriberRef) -> Result<Option<bool>, Error> {
        sqlx::query_scalar("SELECT attached FROM learnt_access WHERE family = ? AND subscriber = ?")
            .bind(i64::from(family.0))
            .bind(to_sql(subscriber.0))
            .fetch_optional(&self.pool)
            .await
            .map_err(Error::of("read a learnt access"))
    }

    /// Lines of a family in a fixed order, each with whether it has a session; `after` is the last one of the
    /// page before.
    pub async fn lines(
        &self,
        family: AccessId,
        after: Option<SubscriberRef>,
        limit: u32,
    ) -> Result<Vec<(SubscriberRef, bool)>, Error> {
        let mut query: QueryBuilder<Sqlite> =
            QueryBuilder::new("SELECT subscriber, attached FROM learnt_access WHERE family = ");
        query.push_bind(i64::from(family.0));
        if let Some(after) = after {
            query.push(" AND subscriber > ").push_bind(to_sql(after.0));
        }
        query.push(" ORDER BY subscriber LIMIT ").push_bind(i64::from(limit));
        let rows: Vec<(i64, bool)> =
            query.build_query_as().fetch_all(&self.pool).await.map_err(Error::of("list learnt accesses"))?;
        Ok(rows
            .into_iter()
            .map(|(subscriber, attached)| (SubscriberRef(from_sql(subscriber)), attached))
            .collect())
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

    /// Readings after a place, and the reservation as they and those before them made it: both of one
    /// instant, so that its totals are the sum over all pages.
    pub async fn usage(
        &self,
        id: ReservationId,
        after: Place,
        limit: u32,
    ) -> Result<Option<(Reservation, Page<UsageFact>)>, Error> {
        let mut snapshot = self.pool.begin().await.map_err(Error::of("read usage"))?;
        let Some(reservation) = table::reservation(&mut snapshot, id).await? else { return Ok(None) };
        let read = |row: &SqliteRow| {
            let doc: Vec<u8> = get(row, "usage", "doc")?;
            decode("usage", &doc)
        };
        let found = rows(&mut *snapshot, &USAGE, (id, after, limit + 1), read).await?;
        snapshot.commit().await.map_err(Error::of("read usage"))?;
        Ok(Some((reservation, Page::of(found, after, limit))))
    }

    pub async fn events(&self, id: ReservationId, after: Place, limit: u32) -> Result<Page<EventRow>, Error> {
        let found = rows(&self.pool, &EVENTS, (id, after, limit + 1), event_row).await?;
        Ok(Page::of(found, after, limit))
    }

    /// In time order, each until the next one's start.
    pub async fn intervals(
        &self,
        id: ReservationId,
        after: Place,
        limit: u32,
    ) -> Result<Page<LegInterval>, Error> {
        // The row before the page says when it may begin, the one behind it where its last one ends.
        let mut found = rows(&self.pool, &INTERVALS, (id, after, limit + 2), interval_row).await?;
        for at in 1..found.len() {
            // An agent's clock may be a little behind the record before.
            let from = found[at].1.from.max(found[at - 1].1.from);
            found[at].1.from = from;
            found[at - 1].1.until = Some(from);
        }
        if found.first().is_some_and(|(place, _)| *place == after) {
            found.remove(0);
        }
        let mut page = Page::of(found, after, limit);
        // What took no time is no interval, and what it parted is one again; but a loss that was repaired within
        // the millisecond is told, with its reason.
        page.rows.retain(|interval| interval.until != Some(interval.from) || interval.state == LOST);
        page.rows.dedup_by(|next, kept| {
            let same = next.state == kept.state && next.reason == kept.reason;
            if same {
                kept.until = next.until;
            }
            same
        });
        Ok(page)
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

    /// A customer's top-ups, the newest first; `after` is the last one of the page before.
    pub async fn top_ups(
        &self,
        customer: CustomerId,
        after: Place,
        limit: u32,
    ) -> Result<Page<TopUpRow>, Error> {
        let before = if after == Place::START { i64::MAX } else { to_sql(after.seq.0) };
        let found = sqlx::query(
            "SELECT seq, at, amount, currency, actor, reason FROM top_up WHERE customer = ? AND seq < ? \
             ORDER BY seq DESC LIMIT ?",
        )
        .bind(i64::from(customer.0))
        .bind(before)
        .bind(i64::from(limit) + 1)
        .fetch_all(&self.pool)
        .await
        .map_err(Error::of("read top-ups"))?;
        let rows: Result<Vec<(Place, TopUpRow)>, Error> = found
            .iter()
            .map(|row| top_up_row(row).map(|top_up| (Place { seq: top_up.seq, n: 0 }, top_up)))
            .collect();
        Ok(Page::of(rows?, after, limit))
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

    /// The stored answer of a key, at its place in the journal. The row is checked against the one before
    /// it, as at a replay: what was touched since is no answer.
    pub async fn answer(&self, at: Seq) -> Result<Reply, Error> {
        let found = sqlx::query(
            "SELECT seq, epoch, at, due, kind, version, bytes, crc FROM journal WHERE seq IN (?, ?) ORDER BY seq",
        )
        .bind(to_sql(at.0.saturating_sub(1)))
        .bind(to_sql(at.0))
        .fetch_all(&self.pool)
        .await
        .map_err(Error::of("read a stored answer"))?;
        let corrupt = |what: &str| Error::Corrupt { seq: at, what: what.to_owned() };
        let (row, before) = match found.as_slice() {
            [earlier, row] => {
                let place = Tail { seq: at.0.saturating_sub(2), ..Tail::default() };
                (row, journal_row(earlier, place)?.tail())
            }
            // The journal's first row stands after nothing; any other fails the check.
            [row] => (row, Tail { seq: at.0.saturating_sub(1), ..Tail::default() }),
            _ => return Err(corrupt("the row is missing")),
        };
        if let Record::Answered(answered) = journal_row(row, before)?.check(before)?.record {
            return Ok(answered.reply);
        }
        Err(corrupt("a key points at it and it is no answer"))
    }

    /// Ends its connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// At most so many rows of a reservation's list, from a place on.
async fn rows<T>(
    from: impl SqliteExecutor<'_>,
    list: &List,
    (id, after, limit): (ReservationId, Place, u32),
    read: impl Fn(&SqliteRow) -> Result<T, Error>,
) -> Result<Vec<(Place, T)>, Error> {
    let found = sqlx::query(list.sql)
        .bind(to_sql(id.0))
        .bind(to_sql(after.seq.0))
        .bind(i64::from(after.n))
        .bind(i64::from(limit))
        .fetch_all(from)
        .await
        .map_err(Error::of(list.doing))?;
    let place = |row: &SqliteRow| {
        Ok(Place { seq: Seq(from_sql(get(row, list.table, "seq")?)), n: get(row, list.table, "n")? })
    };
    found.iter().map(|row| Ok((place(row)?, read(row)?))).collect()
}

fn interval_row(row: &SqliteRow) -> Result<LegInterval, Error> {
    Ok(LegInterval {
        from: Timestamp(from_sql(get(row, "interval", "since")?)),
        until: None,
        state: get(row, "interval", "state")?,
        reason: get(row, "interval", "reason")?,
    })
}

fn top_up_row(row: &SqliteRow) -> Result<TopUpRow, Error> {
    let currency: String = get(row, "top_up", "currency")?;
    let currency = Currency::parse(&currency).ok_or_else(|| Error::Projection {
        table: "top_up",
        what: format!("there is no currency {currency:?}"),
    })?;
    Ok(TopUpRow {
        seq: Seq(from_sql(get(row, "top_up", "seq")?)),
        at: Timestamp(from_sql(get(row, "top_up", "at")?)),
        amount: Amount { micros: Micros(get(row, "top_up", "amount")?), currency },
        actor: get(row, "top_up", "actor")?,
        reason: get(row, "top_up", "reason")?,
    })
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
