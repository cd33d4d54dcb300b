//! What is told over HTTP of enforcement points: who is away, what could not be installed, what was in force when.
#![allow(clippy::unwrap_used)]

mod api_support;

use api_support::*;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tollway::agents::Service;
use tollway::driver::Lane;
use tollway_core::Input;
use tollway_model::{LegId, ReservationId, Slot, Timestamp};
use tollway_policy::{PolicyReport, Reading, Report, SlotReading};
use tollway_proto::agent_v1::agent_link_client::AgentLinkClient;
use tollway_proto::agent_v1::{self as proto, FromAgent, ToAgent, from_agent, to_agent};
use tonic::{Request, Streaming};

const LEG: LegId = LegId { reservation: ReservationId(1), index: 0 };
const CHECKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/check-my-bill/check.py");

/// Asks until it is so; far longer than a commit on a busy disk takes.
async fn until(server: &Server, path: &str, what: impl Fn(&str) -> bool) -> Value {
    let begun = std::time::Instant::now();
    loop {
        let answer = server.get(SHOP, path).await;
        let text = String::from_utf8(answer.bytes.clone()).unwrap();
        if what(&text) {
            return answer.json();
        }
        assert!(begun.elapsed() < 20 * PATIENCE, "{path} never came to be as expected: {text}");
        tokio::task::yield_now().await;
    }
}

struct Agent {
    up: mpsc::Sender<FromAgent>,
    down: Streaming<ToAgent>,
}

/// The agents' side of a server: its address.
async fn light(server: &Server) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (hub, handle) = (Arc::clone(&server.started.hub), server.started.handle.clone());
    let service = Service::new(hub, handle, Arc::new(keys()));
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().serve_with_incoming(service.into_server(), incoming));
    url
}

impl Agent {
    /// Says hello and has been told what it should hold.
    async fn connect(url: &str) -> Agent {
        let mut client = AgentLinkClient::connect(url.to_owned()).await.unwrap();
        let (up, outbound) = mpsc::channel(8);
        let mut request = Request::new(ReceiverStream::new(outbound));
        request.metadata_mut().insert("authorization", format!("Bearer {AGENT}").parse().unwrap());
        let down = client.link(request).await.unwrap().into_inner();
        let mut agent = Agent { up, down };
        let hello = proto::Hello {
            agent: "router1".to_owned(),
            protocol: 1,
            software: "test".to_owned(),
            boot_id: "b".to_owned(),
            now_ms: 1,
            ..proto::Hello::default()
        };
        agent.say(from_agent::Message::Hello(hello)).await;
        while !matches!(agent.next().await, to_agent::Message::Desired(_)) {}
        agent
    }

    async fn say(&self, message: from_agent::Message) {
        self.up.send(FromAgent { message: Some(message) }).await.unwrap();
    }

    async fn next(&mut self) -> to_agent::Message {
        let next = tokio::time::timeout(20 * PATIENCE, self.down.message()).await.unwrap();
        next.unwrap().unwrap().message.unwrap()
    }
}

fn figure(value: &str) -> impl Fn(&str) -> bool {
    let line = format!("tollway_{value}\n");
    move |text| text.contains(&line)
}

async fn confirmed(server: &Server, seconds: u64) -> String {
    let id = server.hold(SHOP, "shop-line", 1_000_000, seconds).await;
    server.verb(SHOP, &id, "confirm").await.expect(200);
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enforcement_point_without_an_agent_is_named_and_nobody_waits_for_money() {
    let server = Server::start().await;
    let away = "no agent for enforcement point router1 is connected";
    let ready = server.send("GET", "/readyz", &[], b"").await.expect(200);
    let degraded = format!("{away}: not served are the accesses shop-line, late-line");
    assert_eq!(ready, json!({"ready": true, "reasons": [], "degraded": [degraded]}));
    until(&server, "/metrics", figure("agent_connected{enforcement_point=\"router1\"} 0")).await;

    let id = confirmed(&server, 60).await;
    let path = format!("{BASE}/reservations/{id}");
    assert_eq!(server.get(SHOP, &path).await.expect(200)["leg"]["reason"], away);
    server.pass_ms(11_000);
    let ended = until(&server, &path, |text| text.contains("\"settled\":true")).await;
    let detail = "NOT_INSTALLED: no agent for enforcement point router1 was connected";
    assert_eq!((&ended["end_reason"], &ended["end_detail"]), (&json!("terminated"), &json!(detail)));
    assert_eq!((&ended["leg"]["state"], &ended["money"]["held_micros"]), (&json!("absent"), &json!(0)));
    let wallet = server.get(SHOP, &format!("{BASE}/wallet")).await.expect(200);
    assert_eq!((&wallet["balance_micros"], &wallet["held_micros"]), (&json!(50_000_000), &json!(0)));
    let events = server.get(SHOP, &format!("{path}/events")).await.expect(200);
    let last = events["events"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["type"], &last["data"]["detail"]),
        (&json!("ended"), &json!(format!("terminated: {detail}")))
    );
    let evidence = server.get(SHOP, &format!("{path}/evidence")).await.expect(200);
    assert_eq!(intervals(&evidence), [format!("absent {away}")]);

    let url = light(&server).await;
    let mut agent = Agent::connect(&url).await;
    assert_eq!(server.send("GET", "/readyz", &[], b"").await.expect(200)["degraded"], json!([]));
    until(&server, "/metrics", figure("agent_connected{enforcement_point=\"router1\"} 1")).await;
    // Whatever it has of that leg, it is told to remove, and that is counted.
    let accepted = proto::LegReport {
        reservation: 1,
        attempt: 1,
        kind: proto::leg_report::Kind::Accepted.into(),
        ..proto::LegReport::default()
    };
    let report = proto::Report { report: Some(proto::report::Report::Leg(accepted)) };
    agent
        .say(from_agent::Message::Reports(proto::ReportBatch { number: 1, now_ms: 1, reports: vec![report] }))
        .await;
    assert!(matches!(agent.next().await, to_agent::Message::Release(release) if release.reservation == 1));
    until(&server, "/metrics", figure("stray_legs_total{enforcement_point=\"router1\"} 1")).await;
    assert_eq!(server.get(SHOP, &path).await.expect(200)["money"], ended["money"]);

    // What is sold while it is connected is told to it; what is sold after it went, to nobody.
    let told = confirmed(&server, 60).await;
    assert!(matches!(agent.next().await, to_agent::Message::Ack(_)));
    assert!(matches!(agent.next().await, to_agent::Message::Upsert(leg) if leg.reservation == 2));
    drop(agent);
    until(&server, "/readyz", |text| text.contains(away)).await;
    let begun = std::time::Instant::now();
    loop {
        let id = confirmed(&server, 60).await;
        let leg = server.get(SHOP, &format!("{BASE}/reservations/{id}")).await.expect(200)["leg"].clone();
        server.verb(SHOP, &id, "cancel").await.expect(200);
        if leg["reason"] == away {
            break;
        }
        assert!(begun.elapsed() < 20 * PATIENCE, "{leg}");
    }
    let leg = server.get(SHOP, &format!("{BASE}/reservations/{told}")).await.expect(200)["leg"].clone();
    assert_eq!((&leg["state"], &leg["reason"]), (&json!("sent"), &Value::Null));
    server.end().await;
}

fn intervals(evidence: &Value) -> Vec<String> {
    let text = |interval: &Value| {
        let reason = interval["reason"].as_str().unwrap_or("");
        format!("{} {reason}", interval["state"].as_str().unwrap()).trim_end().to_owned()
    };
    evidence["intervals"].as_array().unwrap().iter().map(text).collect()
}

/// What an agent would say, on a connection of its own.
async fn report(server: &Server, number: u64, reports: Vec<Report>) {
    let handle = server.started.handle.clone();
    let enforcement_point = "router1".to_owned();
    // The engine answers reports with acknowledgements, not with replies.
    tokio::spawn(async move {
        let make = |_| Input::Reports { enforcement_point, number, reports };
        let _ = handle.submit(Lane::Reports, make).await;
    });
}

fn says(report: PolicyReport) -> Report {
    Report::Leg { leg: LEG, attempt: 1, report }
}

fn reading(seq: u64, slot: u64, bytes: u64) -> Report {
    Report::Usage(SlotReading {
        unconfirmed_ms: 0,
        leg: LEG,
        attempt: 1,
        incarnation: 7,
        seq,
        slot: Slot(slot),
        sold: Reading { bytes, packets: bytes / 1_500, drops: 0 },
        reverse: Reading::default(),
        active_ms: 5_000,
        busy_ms: 0,
        gap_ms_max: 0,
        seen: true,
        last: false,
        at: Timestamp((slot + 1) * 5_000),
    })
}

fn instant(text: &Value) -> Timestamp {
    tollway::api::instant::parse(text.as_str().unwrap()).unwrap()
}

/// A rule that was deleted by hand and repaired within the millisecond was lost all the same.
#[tokio::test]
async fn a_loss_that_took_no_time_is_evidence_with_its_reason() {
    let server = Server::start().await;
    let id = confirmed(&server, 60).await;
    let path = format!("{BASE}/reservations/{id}");
    let from = instant(&server.get(SHOP, &path).await.expect(200)["window"]["from"]);
    server.pass_ms(5_000);
    let at = from.plus_ms(2_000);
    let lost = PolicyReport::Lost { at, reason: "an element was removed".to_owned() };
    let reports = [PolicyReport::Active { at: from.plus_ms(500) }, lost, PolicyReport::Active { at }];
    report(&server, 1, reports.map(says).into()).await;
    let evidence = format!("{path}/evidence");
    let seen = until(&server, &evidence, |text| text.contains("active")).await;
    let away = "absent no agent for enforcement point router1 is connected";
    assert_eq!(intervals(&seen), [away, "active", "lost an element was removed", "active"]);
    let loss = &seen["intervals"][2];
    assert_eq!((instant(&loss["from"]), instant(&loss["until"])), (at, at));
    server.end().await;
}

/// What the program that customers are given says; nothing where there is no Python to run it.
fn checked(dir: &std::path::Path) -> Option<String> {
    match std::process::Command::new("python3").arg(CHECKER).arg(dir).output() {
        Err(error) => {
            eprintln!("skipped: python3 does not run here: {error}");
            None
        }
        Ok(ran) => Some(String::from_utf8_lossy(&ran.stdout).into_owned()),
    }
}

#[tokio::test]
async fn a_row_after_missed_slots_says_what_it_covers() {
    let server = Server::start().await;
    let quote = server.quote(SHOP, &bytes_need("shop-line", 3_000_000, 60)).await.expect(201);
    let held = server.take(SHOP, quote["offers"][0]["offer_id"].as_str().unwrap()).await.expect(201);
    let id = held["reservation_id"].as_str().unwrap();
    let path = format!("{BASE}/reservations/{id}");
    server.verb(SHOP, id, "confirm").await.expect(200);
    let from = instant(&held["window"]["from"]);
    let first = from.ms() / 5_000 + 1;
    // Two slots had no reading; more was delivered than a slot is promised.
    let readings =
        [reading(1, first, 100_000), reading(2, first + 3, 900_000), reading(3, first + 4, 1_000_000)];
    report(&server, 1, vec![says(PolicyReport::Active { at: from.plus_ms(1) })]).await;
    until(&server, &path, |text| text.contains("\"state\":\"active\"")).await;
    server.pass_ms(40_000);
    report(&server, 2, readings.into()).await;
    let usage =
        until(&server, &format!("{path}/usage"), |text| text.contains("\"metered_bytes\":1000000")).await;
    let evidence = server.get(SHOP, &format!("{path}/evidence")).await.expect(200);
    let charges = server.get(SHOP, &format!("{path}/charges")).await.expect(200);
    let covered = |rows: &Value| -> Vec<u64> {
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| instant(&row["slot_from"]).ms_since(instant(&row["covers_from"]))).collect()
    };
    let after_start = first * 5_000 - from.ms() - 1;
    assert_eq!(covered(&evidence["readings"]), [after_start, 10_000, 0], "{evidence}");
    assert_eq!(covered(&charges["lines"][0]["slots"]), [after_start, 10_000, 0], "{charges}");

    let dir = server.dir.join("bill");
    std::fs::create_dir_all(&dir).unwrap();
    let write = |name: &str, value: &Value| std::fs::write(dir.join(name), value.to_string()).unwrap();
    write("usage.json", &usage);
    write("tiers.json", &server.get(SHOP, &format!("{BASE}/tiers")).await.expect(200));
    write("charges.json", &charges);
    let said = checked(&dir);
    assert!(said.as_ref().is_none_or(|said| said.contains("the bill is right")), "{said:?}");
    // Without that word the second row is above what its own slot was promised.
    let mut bare = charges.clone();
    bare["lines"][0]["slots"][1].as_object_mut().unwrap().remove("covers_from");
    write("charges.json", &bare);
    let said = checked(&dir);
    let above = |said: &String| {
        said.contains("WRONG: slot") && said.contains("bytes billed") && said.contains("promised")
    };
    assert!(said.as_ref().is_none_or(above), "{said:?}");
    server.end().await;
}
