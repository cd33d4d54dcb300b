//! Projections: what readers ask for, folded from records. A fold reads one record and its own row, nothing
//! else, so that a rebuild makes the same rows from the journal alone.

use super::row::encode;
use super::{Error, EventKind, table};
use sqlx::sqlite::SqliteConnection;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, btree_map};
use tollway_billing::{AccountId, Entry as LedgerEntry};
use tollway_core::config::{AccessDef, Change};
use tollway_core::entries::entries_of;
use tollway_core::record::{Configured, Fact, FloorFact, Reported, SessionFact, UsageFact};
use tollway_core::reservation::{LegState, Promise};
use tollway_core::{Envelope, Record, Reservation};
use tollway_model::{AccessId, Amount, CustomerId, Micros, ReservationId, Seq, Timestamp};
use tollway_policy::{PortReading, SessionReport, SubscriberRef};

/// One reading of one reservation, at its place in the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct UsageRow {
    pub(super) reservation: ReservationId,
    pub(super) seq: Seq,
    pub(super) n: u32,
    pub(super) fact: UsageFact,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct EventFold {
    pub(super) seq: Seq,
    pub(super) n: u32,
    pub(super) reservation: ReservationId,
    pub(super) customer: CustomerId,
    pub(super) at: Timestamp,
    pub(super) kind: EventKind,
    pub(super) detail: Option<String>,
}

/// Since when a leg has been what it is; an interval ends where the next one begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct IntervalRow {
    pub(super) reservation: ReservationId,
    pub(super) seq: Seq,
    pub(super) n: u32,
    pub(super) since: Timestamp,
    pub(super) state: &'static str,
    pub(super) reason: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct AccountRow {
    pub(super) balance: i64,
    pub(super) held: i64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ConfigRow {
    pub(super) revision: u64,
    pub(super) name: String,
    pub(super) removed: bool,
    pub(super) doc: Vec<u8>,
}

/// What a port's default class carried in one slot, and what that was judged to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PortRow {
    pub(super) enforcement_point: String,
    pub(super) reading: PortReading,
    pub(super) judged: Option<FloorFact>,
}

/// Money that the NOC credited: when, who, why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TopUpFold {
    pub(super) customer: CustomerId,
    pub(super) seq: Seq,
    pub(super) at: Timestamp,
    pub(super) amount: Amount,
    pub(super) actor: String,
    pub(super) reason: String,
}

/// A line of a family of learnt accesses. Where its subscriber is to be found is no reader's business.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LineRow {
    pub(super) road: (String, String),
    pub(super) attached: bool,
}

/// What one batch changes; the last word on each row.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Changes {
    pub(super) reservations: BTreeMap<ReservationId, Reservation>,
    pub(super) usage: Vec<UsageRow>,
    pub(super) ports: Vec<PortRow>,
    pub(super) events: Vec<EventFold>,
    pub(super) intervals: Vec<IntervalRow>,
    pub(super) entries: Vec<LedgerEntry>,
    pub(super) top_ups: Vec<TopUpFold>,
    pub(super) accounts: BTreeMap<AccountId, AccountRow>,
    pub(super) config: BTreeMap<(&'static str, u32), ConfigRow>,
    pub(super) lines: BTreeMap<(AccessId, SubscriberRef), LineRow>,
    /// Lines of before this batch whose session ended in it.
    pub(super) detached: BTreeSet<(AccessId, SubscriberRef)>,
    /// Accesses of which no line is left but those of this enforcement point and APN; before the other two.
    pub(super) lines_gone: Vec<(AccessId, Option<(String, String)>)>,
}

/// Keeps the rows of live reservations and of accounts, so that a fold rarely reads.
#[derive(Debug, Default)]
pub(super) struct Projector {
    reservations: HashMap<ReservationId, Reservation>,
    accounts: HashMap<AccountId, AccountRow>,
}

impl Projector {
    /// Folds a batch into its own rows and returns what became of them. When the batch does not become
    /// durable the projector is ahead and must be dropped.
    pub(super) async fn fold(
        &mut self,
        conn: &mut SqliteConnection,
        batch: &[Envelope],
    ) -> Result<Changes, Error> {
        let mut changes = Changes::default();
        for envelope in batch {
            self.fetch(conn, envelope).await?;
            let entries =
                entries_of(envelope, |id| self.reservations.get(&id).map(|r| (r.customer, r.total.currency)));
            for entry in &entries {
                self.fetch_account(conn, entry.debit).await?;
                self.fetch_account(conn, entry.credit).await?;
            }
            self.post(entries, &mut changes);
            self.fold_one(envelope, &mut changes)?;
        }
        Ok(changes)
    }

    /// Rows of settled reservations change no more: they are read again in the rare case they are named.
    pub(super) fn forget_settled(&mut self, changes: &Changes) {
        for id in changes.reservations.values().filter(|row| row.settled).map(|row| row.id) {
            self.reservations.remove(&id);
        }
    }

    /// Has the rows that a record names, and the wallets behind them.
    async fn fetch(&mut self, conn: &mut SqliteConnection, envelope: &Envelope) -> Result<(), Error> {
        if let Record::Held(held) = &envelope.record {
            return self.fetch_account(conn, wallet_of(&Reservation::open(envelope.at, held))).await;
        }
        for id in named(&envelope.record) {
            let wallet = match self.reservations.entry(id) {
                Entry::Occupied(row) => wallet_of(row.get()),
                Entry::Vacant(place) => {
                    let row = table::reservation(conn, id).await?;
                    wallet_of(place.insert(row.ok_or_else(|| stranger(envelope.seq, id))?))
                }
            };
            self.fetch_account(conn, wallet).await?;
        }
        Ok(())
    }

    async fn fetch_account(&mut self, conn: &mut SqliteConnection, id: AccountId) -> Result<(), Error> {
        if let Entry::Vacant(place) = self.accounts.entry(id) {
            place.insert(table::account(conn, id).await?);
        }
        Ok(())
    }

    fn post(&mut self, entries: Vec<LedgerEntry>, changes: &mut Changes) {
        for entry in &entries {
            let amount = entry.amount.micros.0;
            self.account(entry.debit, changes, |row| row.balance -= amount);
            self.account(entry.credit, changes, |row| row.balance += amount);
        }
        changes.entries.extend(entries);
    }

    fn account(&mut self, id: AccountId, changes: &mut Changes, change: impl FnOnce(&mut AccountRow)) {
        let row = self.accounts.entry(id).or_default();
        change(row);
        changes.accounts.insert(id, *row);
    }

    fn fold_one(&mut self, envelope: &Envelope, changes: &mut Changes) -> Result<(), Error> {
        match &envelope.record {
            Record::Held(held) => {
                let reservation = Reservation::open(envelope.at, held);
                self.account(wallet_of(&reservation), changes, |row| row.held += reservation.money.held.0);
                let mut out = Out::new(envelope, changes);
                out.event(&reservation, EventKind::Held, None);
                changes.reservations.insert(reservation.id, reservation.clone());
                self.reservations.insert(reservation.id, reservation);
            }
            Record::Reported(reported) => self.fold_reported(envelope, reported, changes)?,
            Record::Configured(configured) => fold_configured(configured, changes),
            Record::HoldExpired { .. }
            | Record::Confirmed { .. }
            | Record::FlowsBound { .. }
            | Record::Started { .. }
            | Record::LegRetried { .. }
            | Record::LegsTold(_)
            | Record::Ended(_)
            | Record::Settled { .. } => {
                for id in named(&envelope.record) {
                    let mut out = Out::new(envelope, changes);
                    let at = envelope.at;
                    let row = self.row(envelope.seq, id)?;
                    let before = Before::of(row);
                    row.fold(at, &envelope.record);
                    out.transitions(&before, row, &envelope.record);
                    self.finish(id, before.held, changes);
                }
            }
            Record::ToppedUp { customer, amount, actor, reason } => changes.top_ups.push(TopUpFold {
                customer: *customer,
                seq: envelope.seq,
                at: envelope.at,
                amount: *amount,
                actor: actor.clone(),
                reason: reason.clone(),
            }),
            Record::MarketMade(_) | Record::Quoted(_) | Record::Answered(_) => {}
        }
        Ok(())
    }

    fn fold_reported(
        &mut self,
        envelope: &Envelope,
        reported: &Reported,
        changes: &mut Changes,
    ) -> Result<(), Error> {
        let mut places = (0, 0);
        for (index, fact) in reported.facts.iter().enumerate() {
            if let Fact::Port(reading, judged) = fact {
                let enforcement_point = reported.enforcement_point.clone();
                changes.ports.push(PortRow { enforcement_point, reading: reading.clone(), judged: *judged });
            }
            if let Fact::Session(session) = fact {
                fold_session(&reported.enforcement_point, session, changes);
            }
            let Some(id) = fact_names(fact) else { continue };
            if let Fact::Usage(usage) = fact {
                let n = u32::try_from(index).unwrap_or(u32::MAX);
                changes.usage.push(UsageRow { reservation: id, seq: envelope.seq, n, fact: usage.clone() });
            }
            let mut out = Out { places, ..Out::new(envelope, changes) };
            let row = self.row(envelope.seq, id)?;
            let before = Before::of(row);
            row.fold_fact(envelope.at, fact);
            out.transitions(&before, row, &envelope.record);
            places = out.places;
            self.finish(id, before.held, changes);
        }
        Ok(())
    }

    fn row(&mut self, seq: Seq, id: ReservationId) -> Result<&mut Reservation, Error> {
        self.reservations.get_mut(&id).ok_or_else(|| stranger(seq, id))
    }

    /// The row's new content, and what it now holds of its wallet.
    fn finish(&mut self, id: ReservationId, held_before: Micros, changes: &mut Changes) {
        let Some(row) = self.reservations.get(&id) else { return };
        let wallet = wallet_of(row);
        let delta = row.money.held.0 - held_before.0;
        changes.reservations.insert(id, row.clone());
        if delta != 0 {
            self.account(wallet, changes, |account| account.held += delta);
        }
    }
}

fn stranger(seq: Seq, id: ReservationId) -> Error {
    Error::Corrupt { seq, what: format!("it names {id}, which no record before it opened") }
}

fn wallet_of(reservation: &Reservation) -> AccountId {
    AccountId::wallet(reservation.customer, reservation.total.currency)
}

/// Reservations that a record changes and does not open.
fn named(record: &Record) -> Vec<ReservationId> {
    match record {
        Record::HoldExpired { reservation }
        | Record::Confirmed { reservation, .. }
        | Record::FlowsBound { reservation, .. }
        | Record::Started { reservation }
        | Record::Settled { reservation, .. } => vec![*reservation],
        Record::LegRetried { leg, .. } => vec![leg.reservation],
        Record::LegsTold(told) => told.legs.iter().map(|leg| leg.reservation).collect(),
        Record::Ended(ended) => vec![ended.reservation],
        Record::Reported(reported) => reported.facts.iter().filter_map(fact_names).collect(),
        Record::MarketMade(_)
        | Record::Configured(_)
        | Record::Quoted(_)
        | Record::Held(_)
        | Record::ToppedUp { .. }
        | Record::Answered(_) => Vec::new(),
    }
}

fn fact_names(fact: &Fact) -> Option<ReservationId> {
    match fact {
        Fact::Leg { leg, .. } => Some(leg.reservation),
        Fact::Usage(usage) => Some(usage.reading.leg.reservation),
        Fact::Port(..) | Fact::Session(_) => None,
    }
}

/// What must be known of a row to see what a record did to it.
struct Before {
    promise: Promise,
    leg: &'static str,
    reason: Option<String>,
    held: Micros,
}

impl Before {
    fn of(row: &Reservation) -> Before {
        let (leg, reason) = seen(row);
        Before { promise: row.promise, leg, reason: reason.map(str::to_owned), held: row.money.held }
    }
}

/// The leg's state as evidence tells it, with the reason when it is not there.
fn seen(row: &Reservation) -> (&'static str, Option<&str>) {
    match row.leg.state {
        LegState::Active => ("active", None),
        LegState::Unconfirmed => ("unconfirmed", None),
        LegState::Lost => ("lost", row.leg.reason.as_deref()),
        LegState::Absent | LegState::Sent | LegState::Accepted | LegState::Removing | LegState::Refused => {
            ("absent", row.leg.reason.as_deref())
        }
    }
}

/// Numbers events and intervals inside one record.
struct Out<'a> {
    envelope: &'a Envelope,
    changes: &'a mut Changes,
    /// The next event's and the next interval's place in the record.
    places: (u32, u32),
}

impl<'a> Out<'a> {
    fn new(envelope: &'a Envelope, changes: &'a mut Changes) -> Out<'a> {
        Out { envelope, changes, places: (0, 0) }
    }

    fn event(&mut self, row: &Reservation, kind: EventKind, detail: Option<String>) {
        self.changes.events.push(EventFold {
            seq: self.envelope.seq,
            n: self.places.0,
            reservation: row.id,
            customer: row.customer,
            at: self.envelope.at,
            kind,
            detail,
        });
        self.places.0 += 1;
    }

    /// Events and intervals that follow from what a record did to a row.
    fn transitions(&mut self, before: &Before, row: &Reservation, record: &Record) {
        if let Record::Confirmed { .. } = record {
            self.event(row, EventKind::Confirmed, None);
        }
        if row.promise == Promise::Running && before.promise != Promise::Running {
            self.event(row, EventKind::Started, None);
        }
        let (leg, reason) = seen(row);
        let confirmed = matches!(record, Record::Confirmed { .. });
        if confirmed || leg != before.leg || reason != before.reason.as_deref() {
            self.interval(row, leg, reason.map(str::to_owned));
        }
        if row.promise.is_live() && leg != before.leg {
            match (before.leg, leg) {
                ("active", "unconfirmed") | ("unconfirmed", "active") => {}
                ("active" | "unconfirmed", _) => {
                    self.event(row, EventKind::Degraded, reason.map(str::to_owned))
                }
                ("lost", "active" | "unconfirmed") => self.event(row, EventKind::Restored, None),
                (_, _) => {}
            }
        }
        if let (Promise::Ended { reason, .. }, true) = (row.promise, before.promise.is_live()) {
            let more = if let Record::Ended(ended) = record { ended.detail.as_deref() } else { None };
            let word = reason.as_str();
            let detail = more.map_or_else(|| word.to_owned(), |more| format!("{word}: {more}"));
            self.event(row, EventKind::Ended, Some(detail));
        }
    }

    fn interval(&mut self, row: &Reservation, state: &'static str, reason: Option<String>) {
        self.changes.intervals.push(IntervalRow {
            reservation: row.id,
            seq: self.envelope.seq,
            n: self.places.1,
            since: row.leg.since,
            state,
            reason,
        });
        self.places.1 += 1;
    }
}

fn fold_session(point: &str, fact: &SessionFact, changes: &mut Changes) {
    let line = (fact.family, fact.subscriber);
    match &fact.report {
        SessionReport::Open(session) => {
            let road = (point.to_owned(), session.access.apn.clone());
            changes.lines.insert(line, LineRow { road, attached: true });
        }
        SessionReport::Closed { .. } => match changes.lines.entry(line) {
            btree_map::Entry::Occupied(mut row) => row.get_mut().attached = false,
            btree_map::Entry::Vacant(_) => {
                changes.detached.insert(line);
            }
        },
    }
}

/// As the engine does: lines stay as long as their family is at the same enforcement point and APN.
fn fold_family(id: AccessId, def: Option<&AccessDef>, changes: &mut Changes) {
    let road = def.and_then(|def| Some((def.enforcement_point.clone(), def.apn()?.to_owned())));
    changes.lines.retain(|(family, _), row| *family != id || Some(&row.road) == road.as_ref());
    changes.lines_gone.push((id, road));
}

fn fold_configured(configured: &Configured, changes: &mut Changes) {
    for change in &configured.changes {
        match change {
            Change::Access(id, def) => fold_family(*id, Some(def), changes),
            Change::AccessRemoved(id) => fold_family(*id, None, changes),
            Change::Pool(..)
            | Change::PoolRemoved(_)
            | Change::Tier(..)
            | Change::TierWithdrawn(_)
            | Change::Customer(..)
            | Change::CustomerRemoved(_) => {}
        }
        let (kind, id, name, removed) = match change {
            Change::Pool(id, def) => ("pool", id.0, def.name.clone(), false),
            Change::PoolRemoved(id) => ("pool", id.0, String::new(), true),
            Change::Tier(id, _, def) => ("tier", id.0, def.name.clone(), false),
            Change::TierWithdrawn(id) => ("tier", id.0, String::new(), true),
            Change::Access(id, def) => ("access", id.0, def.name.clone(), false),
            Change::AccessRemoved(id) => ("access", id.0, String::new(), true),
            Change::Customer(id, def) => ("customer", id.0, def.name.clone(), false),
            Change::CustomerRemoved(id) => ("customer", id.0, String::new(), true),
        };
        let row = ConfigRow { revision: configured.revision, name, removed, doc: encode(change) };
        changes.config.insert((kind, id), row);
    }
}
