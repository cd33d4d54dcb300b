//! The measured floor: from an agent's port readings to rows and figures, through a restart and an upgrade.
#![allow(clippy::unwrap_used)]

mod support;

use sqlx::{ConnectOptions, Connection};
use std::path::Path;
use support::{Broker, Dir};
use tollway::agents::AgentDirectory;
use tollway::store::{DATABASE_FILE, dump_projections, rebuild_projections};
use tollway::telemetry::metrics::Metrics;
use tollway_core::Input;
use tollway_model::{BitsPerSecond, Direction, Slot};
use tollway_policy::{PortReading, Reading, Report};

const FLOOR_BPS: u64 = 19_400_000;

fn reading(slot: u64, rate_min: u64) -> Report {
    Report::Port(PortReading {
        port: "wan0".to_owned(),
        direction: Direction::Up,
        slot: Slot(slot),
        incarnation: 1,
        default_class: Reading::default(),
        default_rate_min: BitsPerSecond(rate_min),
        backlog_bytes: 0,
        direct_packets: 3,
        up: true,
        delivered_bytes: 0,
        busy_ms: 0,
    })
}

/// Reports as an agent does; an input that has no reply is followed by one that has.
async fn report(broker: &Broker, key: u64, number: u64, reports: Vec<Report>) {
    let enforcement_point = "router1".to_owned();
    let input = Input::Reports { enforcement_point, number, reports };
    let handle = broker.started.handle.clone();
    let sent = tokio::spawn(async move { handle.submit(tollway::driver::Lane::Reports, |_| input).await });
    broker.top_up(key, 1).await.unwrap();
    sent.abort();
    broker.last_seq().await;
}

fn figures(broker: &Broker) -> Vec<String> {
    let text =
        Metrics::new().unwrap().render(&broker.started.handle, &AgentDirectory::default(), None).unwrap();
    let ours = ["tollway_floor_measured", "tollway_floor_slots", "tollway_port_direct"];
    text.lines().filter(|line| ours.iter().any(|name| line.starts_with(name))).map(str::to_owned).collect()
}

fn rows(dump: &str) -> usize {
    dump.lines().filter(|line| line.starts_with("port_reading ")).count()
}

/// As the release before left a database: without the table, and saying so.
async fn downgrade(dir: &Path) {
    let mut conn =
        sqlx::sqlite::SqliteConnectOptions::new().filename(dir.join(DATABASE_FILE)).connect().await.unwrap();
    sqlx::raw_sql("DROP TABLE port_reading; PRAGMA user_version = 1").execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn port_readings_become_rows_and_figures() {
    let dir = Dir::new("floor");
    let broker = Broker::start(dir.path()).await;
    let slot = broker.started.handle.snapshot().gauges.at.0 / 5_000;
    report(&broker, 1, 1, vec![reading(slot - 2, FLOOR_BPS), reading(slot - 1, FLOOR_BPS / 2)]).await;
    report(&broker, 2, 2, vec![reading(slot, FLOOR_BPS / 4 * 3), reading(slot, FLOOR_BPS)]).await;
    let labels = "direction=\"up\",enforcement_point=\"router1\",port=\"wan0\"";
    let want = [
        format!("tollway_floor_measured_ratio{{{labels}}} 0.75"),
        format!("tollway_floor_slots_total{{{labels},verdict=\"broken\"}} 2"),
        format!("tollway_floor_slots_total{{{labels},verdict=\"kept\"}} 1"),
        format!("tollway_port_direct_packets_total{{{labels}}} 3"),
    ];
    assert_eq!(figures(&broker), want);
    broker.stop().await;
    let dump = dump_projections(dir.path()).await.unwrap();
    assert_eq!(rows(&dump), 3, "{dump}");
    rebuild_projections(dir.path()).await.unwrap();
    assert_eq!(dump_projections(dir.path()).await.unwrap(), dump);

    downgrade(dir.path()).await;
    let broker = Broker::start(dir.path()).await;
    assert_eq!(figures(&broker), want, "counted again from the journal");
    broker.stop().await;
    assert_eq!(rows(&dump_projections(dir.path()).await.unwrap()), 3);
}
