//! Learnt accesses over HTTP: who sees them, what is sold there, and what is told of time that nobody confirms.

#![allow(clippy::unwrap_used)]

mod api_support;

use api_support::*;
use serde_json::{Value, json};
use tollway::driver::Lane;
use tollway::store::{dump_projections, rebuild_projections};
use tollway_core::Input;
use tollway_core::config::{AccessDef, ConfigDef, EndpointDef, RoadDef, TierKind};
use tollway_model::{LegId, ReservationId, Slot, Timestamp};
use tollway_policy::{
    DeviceAddress, GxTerms, Metering, MobileAccess, PolicyReport, Reading, Report, Session, SessionName,
    SessionReport, SlotReading, SubscriberRef,
};

const LINES: [u64; 4] = [3, 17, 18, 400];

fn mobile() -> ConfigDef {
    let mut config = config();
    let mut air = config.tiers[0].clone();
    (air.name, air.kind) = ("air".to_owned(), TierKind::Target);
    air.gx = Some(GxTerms {
        qci: 8,
        priority_level: 10,
        allow_priority: None,
        precedence: 100,
        rating_group: 7,
        service_identifier: None,
        metering: Metering::Volume,
        online: false,
        offline: true,
        mbr_bps_min: 0,
        usage_bytes: None,
    });
    config.tiers.push(air);
    let (name, apn) = ("internet".to_owned(), "internet".to_owned());
    let family = AccessDef {
        name,
        enforcement_point: "gx".to_owned(),
        road: Some(RoadDef::Gx { apn }),
        ..config.accesses[0].clone()
    };
    config.accesses.push(family);
    let endpoint = |access: &str| EndpointDef { access: access.to_owned(), addresses: Vec::new() };
    config.customers[0].endpoints.push(endpoint("internet/*"));
    config.customers[0].endpoints.push(endpoint("internet/17"));
    config.customers[1].endpoints.push(endpoint("internet/17"));
    config
}

fn report(server: &Server, number: u64, reports: Vec<Report>) {
    let handle = server.started.handle.clone();
    tokio::spawn(async move {
        let make = |_| Input::Reports { enforcement_point: "gx".to_owned(), number, reports };
        let _ = handle.submit(Lane::Reports, make).await;
    });
}

fn name(line: u64) -> SessionName {
    SessionName {
        session_id: format!("pcef;{line}"),
        origin_host: "pcef.test".to_owned(),
        origin_realm: "test".to_owned(),
    }
}

fn open(line: u64) -> Report {
    Report::Session(SessionReport::Open(Session {
        name: name(line),
        access: MobileAccess { subscriber: SubscriberRef(line), apn: "internet".to_owned() },
        address: DeviceAddress { v4: Some([10, 45, 0, u8::try_from(line % 256).unwrap()].into()), v6: None },
        number: 0,
        has_extended: false,
        is_away: false,
    }))
}

async fn until(server: &Server, token: &str, path: &str, what: impl Fn(&Value) -> bool) -> Value {
    // Far above what it takes: a commit on a busy disk may take seconds.
    let begun = std::time::Instant::now();
    while begun.elapsed() < 20 * PATIENCE {
        let seen = server.get(token, path).await.expect(200);
        if what(&seen) {
            return seen;
        }
        tokio::task::yield_now().await;
    }
    panic!("{path} never came to be as expected: {}", server.get(token, path).await.expect(200));
}

fn names(page: &Value) -> Vec<&str> {
    page["accesses"].as_array().unwrap().iter().map(|access| access["name"].as_str().unwrap()).collect()
}

fn line(attached: bool) -> Value {
    json!({"accesses": [
        {"name": "internet/17", "apn": "internet", "attached": attached},
        {"name": "late-line", "apn": null, "attached": null},
    ], "next": null})
}

/// A market with a mobile gateway, and money.
async fn started(test: &str) -> Server {
    let dir = std::env::temp_dir().join(format!("tollway-learnt-{}-{test}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let server = Server::open_with(dir, Moved::default(), mobile()).await;
    let body = json!({"amount_micros": 50_000_000, "currency": "EUR", "reason": "tests"});
    server.post(NOC, "/noc/v0.1/wallets/late/top-ups", &body).await.expect(201);
    server
}

#[tokio::test]
async fn accesses_are_listed_to_who_may_buy_there_without_their_addresses() {
    let server = started("list").await;
    let path = format!("{BASE}/accesses");
    assert_eq!(server.get(LATE, &path).await.expect(200), line(false));
    assert_eq!(names(&server.get(SHOP, &path).await.expect(200)), ["shop-line"]);
    report(&server, 1, LINES.map(open).to_vec());
    until(&server, LATE, &path, |seen| *seen == line(true)).await;
    let mut seen = Vec::new();
    let mut next = String::new();
    loop {
        let page = server.get(SHOP, &format!("{path}?limit=2{next}")).await.expect(200);
        assert!(!page.to_string().contains("10.45"), "{page}");
        seen.extend(names(&page).into_iter().map(str::to_owned));
        let Some(after) = page["next"].as_str() else { break };
        next = format!("&after={after}");
    }
    assert_eq!(seen, ["internet/3", "internet/17", "internet/18", "internet/400", "shop-line"]);
    for bad in ["limit=0", "limit=5001", "after=late-line", "after=internet%2F017", "before=x"] {
        server.get(SHOP, &format!("{path}?{bad}")).await.is_error(400, "INVALID_ARGUMENT");
    }
    let reason = "CCR-T".to_owned();
    report(&server, 2, vec![Report::Session(SessionReport::Closed { name: name(17), reason })]);
    until(&server, LATE, &path, |seen| *seen == line(false)).await;
    server.end().await;
}

fn any_tier(access: &str) -> Value {
    let need = json!({"rate": {"rate_bps": 1_000_000}});
    json!({"access": access, "direction": "down", "need": need, "end_in_s": 15})
}

fn instant(value: &Value) -> Timestamp {
    tollway::api::instant::parse(value.as_str().unwrap()).unwrap()
}

/// Holds and confirms a million bit/s on line 17 for 15 s.
async fn confirmed(server: &Server) -> (String, Value) {
    let quote = server.quote(LATE, &any_tier("internet/17")).await.expect(201);
    let offer = &quote["offers"][0];
    assert_eq!(quote["offers"].as_array().unwrap().len(), 1, "a tier for ports is not sold there: {quote}");
    let told = [&offer["tier"], &offer["access"], &offer["charge_unconfirmed"]];
    assert_eq!(told, [&json!("air"), &json!("internet/17"), &json!(false)]);
    let held = server.take(LATE, offer["offer_id"].as_str().unwrap()).await.expect(201);
    let path = format!("{BASE}/reservations/{}", held["reservation_id"].as_str().unwrap());
    for (device, status) in [("10.45.0.18", 403), ("10.45.0.17", 200)] {
        let body = json!({"flows": [flow(device, 5001)]});
        server.post(LATE, &format!("{path}/confirm"), &body).await.expect(status);
    }
    (path, held)
}

#[tokio::test]
async fn what_nobody_confirms_is_told_and_not_charged() {
    let server = started("unconfirmed").await;
    report(&server, 1, LINES.map(open).to_vec());
    until(&server, LATE, &format!("{BASE}/accesses"), |seen| *seen == line(true)).await;
    for unknown in ["internet/99", "internet/017", "internet/18", "internet", "internet/*", "x/1"] {
        let refused = server.quote(LATE, &any_tier(unknown)).await.expect(403);
        assert_eq!(refused["message"], "this customer may not buy for that access", "{unknown}");
    }
    let (path, held) = confirmed(&server).await;
    let leg = LegId { reservation: ReservationId(1), index: 0 };
    let from = instant(&held["window"]["from"]);
    let report_leg = |report| Report::Leg { leg, attempt: 1, report };
    report(
        &server,
        2,
        vec![report_leg(PolicyReport::Accepted), report_leg(PolicyReport::Unconfirmed { at: from })],
    );
    until(&server, LATE, &path, |seen| seen["leg"]["state"] == "unconfirmed").await;
    server.pass_ms(20_000);
    let first = from.ms() / 5_000;
    let mut readings: Vec<Report> = (0..4).map(|n| reading(leg, n, first, n == 3)).collect();
    readings.push(report_leg(PolicyReport::Removed { at: Timestamp(from.ms() + 15_000) }));
    report(&server, 3, readings);
    until(&server, LATE, &path, |seen| seen["settled"] == true).await;

    let evidence = server.get(LATE, &format!("{path}/evidence")).await.expect(200);
    let slots = evidence["readings"].as_array().unwrap();
    let unconfirmed =
        |slots: &[Value]| slots.iter().map(|s| s["unconfirmed_ms"].as_u64().unwrap()).sum::<u64>();
    assert!(
        slots.iter().filter(|slot| slot["unconfirmed_ms"] != 0).all(|slot| slot["verdict"] == "unconfirmed")
    );
    assert_eq!(unconfirmed(slots), 15_000);
    assert!(slots.iter().all(|slot| slot["kept_ms"] == 0));
    let states: Vec<&Value> =
        evidence["intervals"].as_array().unwrap().iter().map(|interval| &interval["state"]).collect();
    assert!(states.contains(&&json!("unconfirmed")), "{states:?}");
    let charges = server.get(LATE, &format!("{path}/charges")).await.expect(200);
    assert_eq!((&charges["total_micros"], &charges["charge_unconfirmed"]), (&json!(0), &json!(false)));
    assert_eq!(unconfirmed(charges["lines"][0]["slots"].as_array().unwrap()), 15_000);
    let usage = server.get(LATE, &format!("{path}/usage")).await.expect(200);
    assert_eq!(usage["metered_bytes"], 1_600_000);
    survives(server).await;
}

fn reading(leg: LegId, n: u64, first: u64, last: bool) -> Report {
    Report::Usage(SlotReading {
        leg,
        attempt: 1,
        incarnation: 9,
        seq: n + 1,
        slot: Slot(first + n),
        sold: Reading { bytes: (n + 1) * 400_000, packets: n, drops: 0 },
        reverse: Reading::default(),
        active_ms: 0,
        busy_ms: 0,
        gap_ms_max: 0,
        seen: true,
        last,
        at: Timestamp((first + n + 1) * 5_000),
        unconfirmed_ms: 5_000,
    })
}

/// What is told of lines is the journal's, over a restart, a rebuild and the end of the family.
async fn survives(server: Server) {
    let (dir, clock) = server.stop().await;
    let before = dump_projections(&dir).await.unwrap();
    rebuild_projections(&dir).await.unwrap();
    assert!(before == dump_projections(&dir).await.unwrap());
    let server = Server::open_with(dir, clock, mobile()).await;
    assert_eq!(server.get(LATE, &format!("{BASE}/accesses")).await.expect(200), line(true));
    server.pass_ms(10_000);
    let body = json!({"amount_micros": 1, "currency": "EUR", "reason": "time passes"});
    let path = "/noc/v0.1/wallets/late/top-ups";
    server.write("POST", NOC, path, "time-passes", body.to_string().as_bytes()).await.expect(201);
    let (dir, clock) = server.stop().await;
    let server = Server::open_with(dir, clock, config()).await;
    assert_eq!(names(&server.get(SHOP, &format!("{BASE}/accesses")).await.expect(200)), ["shop-line"]);
    let (dir, clock) = server.stop().await;
    let before = dump_projections(&dir).await.unwrap();
    rebuild_projections(&dir).await.unwrap();
    assert!(before == dump_projections(&dir).await.unwrap());
    // The same family again is another one: whoever is there is learnt anew.
    let server = Server::open_with(dir, clock, mobile()).await;
    assert_eq!(server.get(LATE, &format!("{BASE}/accesses")).await.expect(200), line(false));
    server.end().await;
}
