//! Projections as rows: total upserts, one statement per table and batch.

use super::Error;
use super::projection::{AccountRow, Changes, ConfigRow, LineRow};
use super::row::{encode, from_sql, to_sql};
use sqlx::query_builder::Separated;
use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Row, Sqlite};
use tollway_billing::{AccountId, Entry};
use tollway_core::Reservation;
use tollway_core::reservation::Promise;
use tollway_model::{AccessId, ReservationId};
use tollway_policy::SubscriberRef;

/// Rows in one statement: SQLite binds at most 32,766 values, and the widest row has 9.
const ROWS_MAX: usize = 2_048;

/// The owner column of accounts that nobody owns.
const NOBODY: i64 = -1;

/// One multi-row statement and what it is for.
struct Statement {
    doing: &'static str,
    query: QueryBuilder<Sqlite>,
}

pub(super) async fn write(conn: &mut SqliteConnection, changes: &Changes) -> Result<(), Error> {
    let mut all = Vec::new();
    lives(&mut all, changes);
    floors(&mut all, changes);
    money(&mut all, changes);
    top_ups(&mut all, changes);
    configuration(&mut all, changes);
    learnt(&mut all, changes);
    for Statement { doing, mut query } in all {
        query.build().persistent(false).execute(&mut *conn).await.map_err(Error::of(doing))?;
    }
    Ok(())
}

fn lives(out: &mut Vec<Statement>, changes: &Changes) {
    statements(
        out,
        (
            "INSERT INTO reservation (id, customer, state, ended, doc) ",
            " ON CONFLICT (id) DO UPDATE SET customer = excluded.customer, state = excluded.state, \
           ended = excluded.ended, doc = excluded.doc",
        ),
        "write reservations",
        changes.reservations.values(),
        |mut value, row: &Reservation| {
            let ended = match row.promise {
                Promise::Ended { at, .. } => Some(to_sql(at.0)),
                Promise::Held { .. } | Promise::Booked | Promise::Running => None,
            };
            value
                .push_bind(to_sql(row.id.0))
                .push_bind(i64::from(row.customer.0))
                .push_bind(row.promise.as_str())
                .push_bind(ended)
                .push_bind(encode(row));
        },
    );
    statements(
        out,
        (
            "INSERT INTO usage (reservation, seq, n, doc) ",
            " ON CONFLICT (reservation, seq, n) DO UPDATE SET doc = excluded.doc",
        ),
        "write usage",
        &changes.usage,
        |mut value, row| {
            value
                .push_bind(to_sql(row.reservation.0))
                .push_bind(to_sql(row.seq.0))
                .push_bind(i64::from(row.n))
                .push_bind(encode(&row.fact));
        },
    );
    statements(
        out,
        (
            "INSERT INTO event (seq, n, reservation, customer, at, kind, detail) ",
            " ON CONFLICT (seq, n) DO UPDATE SET reservation = excluded.reservation, \
           customer = excluded.customer, at = excluded.at, kind = excluded.kind, detail = excluded.detail",
        ),
        "write events",
        &changes.events,
        |mut value, row| {
            value
                .push_bind(to_sql(row.seq.0))
                .push_bind(i64::from(row.n))
                .push_bind(to_sql(row.reservation.0))
                .push_bind(i64::from(row.customer.0))
                .push_bind(to_sql(row.at.0))
                .push_bind(row.kind.as_str())
                .push_bind(row.detail.clone());
        },
    );
    statements(
        out,
        (
            "INSERT INTO interval (reservation, seq, n, since, state, reason) ",
            " ON CONFLICT (reservation, seq, n) DO UPDATE SET since = excluded.since, state = excluded.state, \
           reason = excluded.reason",
        ),
        "write intervals",
        &changes.intervals,
        |mut value, row| {
            value
                .push_bind(to_sql(row.reservation.0))
                .push_bind(to_sql(row.seq.0))
                .push_bind(i64::from(row.n))
                .push_bind(to_sql(row.since.0))
                .push_bind(row.state)
                .push_bind(row.reason.clone());
        },
    );
}

fn floors(out: &mut Vec<Statement>, changes: &Changes) {
    statements(
        out,
        (
            "INSERT INTO port_reading \
           (enforcement_point, port, direction, slot, floor_bps, measured_bps, kept, doc) ",
            " ON CONFLICT (enforcement_point, port, direction, slot) DO UPDATE SET \
           floor_bps = excluded.floor_bps, measured_bps = excluded.measured_bps, kept = excluded.kept, \
           doc = excluded.doc",
        ),
        "write port readings",
        &changes.ports,
        |mut value, row| {
            value
                .push_bind(row.enforcement_point.clone())
                .push_bind(row.reading.port.clone())
                .push_bind(row.reading.direction.as_str())
                .push_bind(to_sql(row.reading.slot.0))
                .push_bind(row.judged.map(|fact| to_sql(fact.floor.0)))
                .push_bind(row.judged.map(|fact| to_sql(fact.measured.0)))
                .push_bind(row.judged.map(|fact| fact.is_kept))
                .push_bind(encode(&row.reading));
        },
    );
}

fn configuration(out: &mut Vec<Statement>, changes: &Changes) {
    statements(
        out,
        (
            "INSERT INTO config (kind, id, revision, name, removed, doc) ",
            " ON CONFLICT (kind, id) DO UPDATE SET revision = excluded.revision, name = excluded.name, \
           removed = excluded.removed, doc = excluded.doc",
        ),
        "write the configuration",
        changes.config.iter(),
        |mut value, ((kind, id), row): (&(&'static str, u32), &ConfigRow)| {
            value
                .push_bind(*kind)
                .push_bind(i64::from(*id))
                .push_bind(to_sql(row.revision))
                .push_bind(row.name.clone())
                .push_bind(row.removed)
                .push_bind(row.doc.clone());
        },
    );
}

fn learnt(out: &mut Vec<Statement>, changes: &Changes) {
    for (family, kept) in &changes.lines_gone {
        let mut query = QueryBuilder::new("DELETE FROM learnt_access WHERE family = ");
        query.push_bind(i64::from(family.0));
        if let Some((point, apn)) = kept {
            query.push(" AND (enforcement_point, apn) <> (").push_bind(point.clone());
            query.push(", ").push_bind(apn.clone()).push(")");
        }
        out.push(Statement { doing: "forget learnt accesses", query });
    }
    for (family, subscriber) in &changes.detached {
        let mut query = QueryBuilder::new("UPDATE learnt_access SET attached = 0 WHERE family = ");
        query.push_bind(i64::from(family.0)).push(" AND subscriber = ").push_bind(to_sql(subscriber.0));
        out.push(Statement { doing: "write detached accesses", query });
    }
    statements(
        out,
        (
            "INSERT INTO learnt_access (family, subscriber, enforcement_point, apn, attached) ",
            " ON CONFLICT (family, subscriber) DO UPDATE SET \
           enforcement_point = excluded.enforcement_point, apn = excluded.apn, attached = excluded.attached",
        ),
        "write learnt accesses",
        changes.lines.iter(),
        |mut value, ((family, subscriber), row): (&(AccessId, SubscriberRef), &LineRow)| {
            value
                .push_bind(i64::from(family.0))
                .push_bind(to_sql(subscriber.0))
                .push_bind(row.road.0.clone())
                .push_bind(row.road.1.clone())
                .push_bind(row.attached);
        },
    );
}

fn top_ups(out: &mut Vec<Statement>, changes: &Changes) {
    statements(
        out,
        (
            "INSERT INTO top_up (customer, seq, at, amount, currency, actor, reason) ",
            " ON CONFLICT (customer, seq) DO UPDATE SET at = excluded.at, amount = excluded.amount, \
           currency = excluded.currency, actor = excluded.actor, reason = excluded.reason",
        ),
        "write top-ups",
        &changes.top_ups,
        |mut value, row| {
            value
                .push_bind(i64::from(row.customer.0))
                .push_bind(to_sql(row.seq.0))
                .push_bind(to_sql(row.at.0))
                .push_bind(row.amount.micros.0)
                .push_bind(row.amount.currency.as_str().to_owned())
                .push_bind(row.actor.clone())
                .push_bind(row.reason.clone());
        },
    );
}

fn money(out: &mut Vec<Statement>, changes: &Changes) {
    statements(
        out,
        (
            "INSERT INTO entry (seq, n, customer, kind, debit, credit, amount, currency, doc) ",
            " ON CONFLICT (seq, n) DO UPDATE SET customer = excluded.customer, kind = excluded.kind, \
           debit = excluded.debit, credit = excluded.credit, amount = excluded.amount, \
           currency = excluded.currency, doc = excluded.doc",
        ),
        "write entries",
        &changes.entries,
        |mut value, row: &Entry| {
            value
                .push_bind(to_sql(row.seq.0))
                .push_bind(i64::from(row.n))
                .push_bind(row.debit.owner.or(row.credit.owner).map(|owner| i64::from(owner.0)))
                .push_bind(row.kind.as_str())
                .push_bind(row.debit.kind.as_str())
                .push_bind(row.credit.kind.as_str())
                .push_bind(row.amount.micros.0)
                .push_bind(row.amount.currency.as_str().to_owned())
                .push_bind(encode(row));
        },
    );
    statements(
        out,
        (
            "INSERT INTO account (kind, owner, currency, balance, held) ",
            " ON CONFLICT (kind, owner, currency) DO UPDATE SET balance = excluded.balance, \
           held = excluded.held",
        ),
        "write accounts",
        changes.accounts.iter(),
        |mut value, (id, row): (&AccountId, &AccountRow)| {
            value
                .push_bind(id.kind.as_str())
                .push_bind(owner_column(*id))
                .push_bind(id.currency.as_str().to_owned())
                .push_bind(row.balance)
                .push_bind(row.held);
        },
    );
}

/// One multi-row statement per chunk; nothing for no rows.
fn statements<T>(
    out: &mut Vec<Statement>,
    (head, tail): (&'static str, &'static str),
    doing: &'static str,
    rows: impl IntoIterator<Item = T>,
    bind: impl Fn(Separated<'_, Sqlite, &'static str>, T),
) {
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        let mut query: QueryBuilder<Sqlite> = QueryBuilder::new(head);
        query.push_values(rows.by_ref().take(ROWS_MAX), &bind);
        query.push(tail);
        out.push(Statement { doing, query });
    }
}

pub(super) async fn set_watermark(conn: &mut SqliteConnection, seq: u64) -> Result<(), Error> {
    sqlx::query("UPDATE projected SET seq = ? WHERE id = 1")
        .bind(to_sql(seq))
        .execute(conn)
        .await
        .map(drop)
        .map_err(Error::of("write the projections' watermark"))
}

pub(super) async fn watermark(conn: &mut SqliteConnection) -> Result<u64, Error> {
    let seq: Option<i64> = sqlx::query_scalar("SELECT seq FROM projected WHERE id = 1")
        .fetch_optional(conn)
        .await
        .map_err(Error::of("read the projections' watermark"))?;
    Ok(seq.map_or(0, from_sql))
}

pub(super) async fn reservation(
    conn: &mut SqliteConnection,
    id: ReservationId,
) -> Result<Option<Reservation>, Error> {
    let doc: Option<Vec<u8>> = sqlx::query_scalar("SELECT doc FROM reservation WHERE id = ?")
        .bind(to_sql(id.0))
        .fetch_optional(conn)
        .await
        .map_err(Error::of("read a reservation"))?;
    doc.map(|doc| decode("reservation", &doc)).transpose()
}

pub(super) async fn account(conn: &mut SqliteConnection, id: AccountId) -> Result<AccountRow, Error> {
    let row = sqlx::query("SELECT balance, held FROM account WHERE kind = ? AND owner = ? AND currency = ?")
        .bind(id.kind.as_str())
        .bind(owner_column(id))
        .bind(id.currency.as_str().to_owned())
        .fetch_optional(conn)
        .await
        .map_err(Error::of("read an account"))?;
    let Some(row) = row else { return Ok(AccountRow::default()) };
    let column = |name: &str| row.try_get::<i64, _>(name).map_err(Error::of("read an account"));
    Ok(AccountRow { balance: column("balance")?, held: column("held")? })
}

pub(super) fn owner_column(id: AccountId) -> i64 {
    id.owner.map_or(NOBODY, |owner| i64::from(owner.0))
}

pub(super) fn decode<'b, T: minicbor::Decode<'b, ()>>(
    table: &'static str,
    doc: &'b [u8],
) -> Result<T, Error> {
    minicbor::decode(doc).map_err(|error| Error::Projection { table, what: error.to_string() })
}
