//! The journal is found out when it was touched, cut or torn.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection};
use std::path::Path;
use support::{Broker, Dir};
use tollway::driver::Unavailable;
use tollway::store::{self, DATABASE_FILE, Error, SqliteStore, Store, dump_projections};

async fn open(dir: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(dir.join(DATABASE_FILE));
    SqliteConnection::connect_with(&options).await.unwrap()
}

async fn exec(conn: &mut SqliteConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.unwrap();
}

async fn filled(name: &str, records: u64) -> (Dir, u64) {
    let dir = Dir::new(name);
    let broker = Broker::start(dir.path()).await;
    let last = broker.work(records).await;
    broker.stop().await;
    (dir, last.0)
}

async fn first_bad(dir: &Path) -> u64 {
    match store::verify(dir).await {
        Err(Error::Corrupt { seq, .. }) => seq.0,
        other => panic!("not found: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_touched_row_is_found_with_its_sequence() {
    let (dir, last) = filled("touched", 1_000).await;
    let verified = store::verify(dir.path()).await.unwrap();
    assert_eq!((verified.records, verified.last.0), (last, last));
    assert!(last >= 1_000);
    let mut conn = open(dir.path()).await;
    // Every byte is flipped in the unit test of the chain; here it is each column, through the file.
    let columns = [
        "epoch = epoch + 1",
        "at = at ^ 1",
        "due = coalesce(due, 0) + 1",
        "kind = kind % 14 + 1",
        "version = version + 1",
        "crc = crc ^ 1",
        "crc = -crc - 1",
        "kind = 70000",
        "bytes = substr(bytes, 1, length(bytes) - 1)",
        "bytes = CAST(bytes || x'00' AS BLOB)",
        "bytes = x''",
    ];
    let columns = columns.map(|change| change.replace('^', "+"));
    for (index, change) in columns.iter().enumerate() {
        for seq in [1, 2 + index as u64 * 83 % last, last] {
            let sql = format!("CREATE TEMP TABLE kept AS SELECT * FROM journal WHERE seq = {seq}");
            exec(&mut conn, sql).await;
            exec(&mut conn, format!("UPDATE journal SET {change} WHERE seq = {seq}")).await;
            assert_eq!(first_bad(dir.path()).await, seq, "{change}");
            exec(&mut conn, "REPLACE INTO journal SELECT * FROM kept; DROP TABLE kept".to_owned()).await;
        }
    }
    store::verify(dir.path()).await.unwrap();
    // Holes, swapped rows, a cut end.
    exec(&mut conn, "CREATE TEMP TABLE whole AS SELECT * FROM journal".to_owned()).await;
    let cuts = [("DELETE FROM journal WHERE seq = 500", 500), ("DELETE FROM journal WHERE seq = 1", 1)];
    let swap = "UPDATE journal SET bytes = (SELECT bytes FROM whole WHERE seq = 700) WHERE seq = 701";
    for (sql, bad) in cuts.into_iter().chain([(swap, 701)]) {
        exec(&mut conn, sql.to_owned()).await;
        assert_eq!(first_bad(dir.path()).await, bad, "{sql}");
        exec(&mut conn, "DELETE FROM journal; INSERT INTO journal SELECT * FROM whole".to_owned()).await;
    }
    exec(&mut conn, format!("DELETE FROM journal WHERE seq > {}", last - 3)).await;
    assert_eq!(first_bad(dir.path()).await, last - 2);
    // A start does not go on from there either, and leaves the proof as it is.
    let options = support::options(&support::settings());
    let error = tollway::driver::start(dir.path(), options).await.err().unwrap();
    assert!(error.to_string().contains(&format!("corrupt at sequence {}", last - 2)), "{error}");
    assert_eq!(first_bad(dir.path()).await, last - 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_record_is_refused_by_name_and_a_corrupt_one_stops_the_start() {
    let (dir, last) = filled("newer", 40).await;
    let mut store = SqliteStore::open(dir.path()).await.unwrap();
    store.load(&mut |_| {}).await.unwrap();
    drop(store);
    let mut conn = open(dir.path()).await;
    exec(&mut conn, format!("UPDATE journal SET at = at + 1 WHERE seq = {last}")).await;
    let error =
        tollway::driver::start(dir.path(), support::options(&support::settings())).await.err().unwrap();
    assert!(error.to_string().contains(&format!("corrupt at sequence {last}")), "{error}");
    exec(&mut conn, format!("UPDATE journal SET at = at - 1 WHERE seq = {last}")).await;
    exec(&mut conn, "PRAGMA user_version = 99".to_owned()).await;
    let error = SqliteStore::open(dir.path()).await.err().unwrap();
    assert!(matches!(error, Error::Layout { found: 99, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_dropped_whole() {
    let dir = Dir::new("torn");
    let broker = Broker::start(dir.path()).await;
    let last = broker.work(60).await.0;
    // As a power cut leaves it: the database and its log, copied while the broker runs, cut anywhere.
    let log = std::fs::read(dir.path().join(format!("{DATABASE_FILE}-wal"))).unwrap();
    let base = std::fs::read(dir.path().join(DATABASE_FILE)).unwrap();
    broker.stop().await;
    let mut seen = std::collections::BTreeSet::new();
    for cut in (0..log.len()).rev().step_by(4_999).take(40) {
        let copy = Dir::new("torn-copy");
        std::fs::write(copy.path().join(DATABASE_FILE), &base).unwrap();
        std::fs::write(copy.path().join(format!("{DATABASE_FILE}-wal")), &log[..cut]).unwrap();
        let mut store = SqliteStore::open(copy.path()).await.unwrap();
        let loaded = store.load(&mut |_| {}).await.unwrap();
        store.close().await;
        let verified = store::verify(copy.path()).await.unwrap();
        assert_eq!(verified.last, loaded.last);
        assert!(loaded.last.0 <= last);
        seen.insert(loaded.last.0);
        // The projections were cut at the same place.
        let before = dump_projections(copy.path()).await.unwrap();
        store::rebuild_projections(copy.path()).await.unwrap();
        assert_eq!(before, dump_projections(copy.path()).await.unwrap(), "cut at {cut}");
    }
    assert!(seen.len() > 5, "the cuts fell at different places: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_database_says_so_and_goes_on_when_there_is_room() {
    let (dir, last) = filled("full", 40).await;
    let mut store = SqliteStore::open(dir.path()).await.unwrap();
    let mut kept = Vec::new();
    store.load(&mut |envelope| kept.push(envelope)).await.unwrap();
    // The same records again at the journal's end would not fold; a top-up does.
    let model =
        kept.iter().find(|e| matches!(e.record, tollway_core::Record::ToppedUp { .. })).cloned().unwrap();
    let at = kept.last().unwrap().at;
    let model = tollway_core::Envelope { at, ..model };
    store.limit_pages(1).await.unwrap();
    let mut next = last;
    let mut full = None;
    for _ in 0..2_000 {
        let batch: Vec<_> = (1..=50)
            .map(|n| tollway_core::Envelope { seq: tollway_model::Seq(next + n), ..model.clone() })
            .collect();
        match store.append(&batch).await {
            Ok(()) => next += 50,
            Err(error) => {
                full = Some(error);
                break;
            }
        }
    }
    let error = full.unwrap();
    assert!(matches!(error, Error::Full { .. }), "{error:?}");
    assert!(matches!(store.probe().await, Err(Error::Full { .. })));
    // Another connection has no such limit: space has come back.
    let loaded = store.load(&mut |_| {}).await.unwrap();
    assert_eq!(loaded.last.0, next);
    store.probe().await.unwrap();
    let envelope = tollway_core::Envelope { seq: tollway_model::Seq(next + 1), ..model };
    store.append(&[envelope]).await.unwrap();
    store.close().await;
    assert_eq!(store::verify(dir.path()).await.unwrap().last.0, next + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn projections_made_again_are_equal_byte_for_byte() {
    let (dir, last) = filled("rebuild", 400).await;
    let before = dump_projections(dir.path()).await.unwrap();
    for table in ["reservation ", "event ", "interval ", "entry ", "account ", "config ", "projected "] {
        assert!(before.lines().any(|line| line.starts_with(table)), "no row in {table}");
    }
    let rebuilt = store::rebuild_projections(dir.path()).await.unwrap();
    assert_eq!(rebuilt.records, last);
    assert_eq!(dump_projections(dir.path()).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_answer_that_was_touched_is_not_given() {
    let dir = Dir::new("touched-answer");
    let broker = Broker::start(dir.path()).await;
    let first = broker.top_up(1, 9_000_000).await.unwrap();
    let last = broker.last_seq().await.0;
    assert_eq!(broker.top_up(1, 9_000_000).await, Ok(first.clone()));
    let mut conn = open(dir.path()).await;
    let rows = [last, last - 1];
    for seq in rows {
        exec(&mut conn, format!("UPDATE journal SET crc = crc + 1 WHERE seq = {seq}")).await;
        let repeated = broker.top_up(1, 9_000_000).await;
        assert!(matches!(repeated, Err(Unavailable::Stalled { .. })), "{repeated:?}");
        exec(&mut conn, format!("UPDATE journal SET crc = crc - 1 WHERE seq = {seq}")).await;
    }
    assert_eq!(broker.top_up(1, 9_000_000).await, Ok(first));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_copy_can_lead_above_what_agents_have_obeyed() {
    let (dir, _) = filled("restored", 10).await;
    let mut store = SqliteStore::open(dir.path()).await.unwrap();
    let epoch = store.epoch();
    store.lead_above(epoch + 40).await.unwrap();
    assert_eq!(store.epoch(), epoch + 41);
    store.lead_above(1).await.unwrap();
    assert_eq!(store.epoch(), epoch + 41, "never lower");
}
