//! From the quote to the bill, over HTTP, against a real driver and store.

#![allow(clippy::unwrap_used)]

mod api_support;

use api_support::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tollway::driver::Lane;
use tollway::telemetry::metrics::FIGURES;
use tollway_core::Input;
use tollway_model::{LegId, ReservationId, Slot, Timestamp};
use tollway_policy::{PolicyReport, Reading, Report, SlotReading};

const CHECKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/check-my-bill/check.py");

/// What an agent would say; the engine answers reports with acknowledgements, not with replies.
fn report(server: &Server, number: u64, reports: Vec<Report>) {
    let handle = server.started.handle.clone();
    tokio::spawn(async move {
        let make = |_| Input::Reports { enforcement_point: "router1".to_owned(), number, reports };
        let _ = handle.submit(Lane::Reports, make).await;
    });
}

async fn until(server: &Server, path: &str, what: impl Fn(&Value) -> bool) -> Value {
    // Far above what it takes: a commit on a busy disk may take seconds.
    let begun = std::time::Instant::now();
    while begun.elapsed() < 20 * PATIENCE {
        let seen = server.get(SHOP, path).await.expect(200);
        if what(&seen) {
            return seen;
        }
        tokio::task::yield_now().await;
    }
    panic!("{path} never came to be as expected: {}", server.get(SHOP, path).await.expect(200));
}

#[tokio::test]
async fn quote_reserve_confirm_flows_cancel() {
    let server = Server::start().await;
    let quote = server.quote(SHOP, &bytes_need("shop-line", 10_000_000, 20)).await.expect(201);
    let offer = &quote["offers"][0];
    assert_eq!(offer["tier"], "gold");
    assert_eq!(offer["kind"], "assured");
    assert_eq!(offer["charge_by"], "delivered");
    assert_eq!(offer["bytes_promised"], 10_000_000);
    let lines = offer["price"]["lines"].as_array().unwrap();
    let sum: i64 = lines.iter().map(|line| line["amount_micros"].as_i64().unwrap()).sum();
    assert_eq!(offer["price"]["total_micros"], sum);
    assert_eq!(lines[0]["type"], "setup");
    assert_eq!(lines[1]["type"], "delivered_bytes");

    let held = server.take(SHOP, offer["offer_id"].as_str().unwrap()).await.expect(201);
    assert_eq!(held["promise"], "held");
    assert_eq!(held["price"], offer["price"]);
    assert_eq!(held["money"]["held_micros"], sum);
    assert!(held["hold_expires_at"].is_string());
    let id = held["reservation_id"].as_str().unwrap().to_owned();
    let path = format!("{BASE}/reservations/{id}");
    let wallet = server.get(SHOP, &format!("{BASE}/wallet")).await.expect(200);
    assert_eq!(wallet["held_micros"], sum);
    assert_eq!(wallet["available_micros"], 50_000_000 - sum);

    let confirmed = server.verb(SHOP, &id, "confirm").await.expect(200);
    assert_eq!((&confirmed["promise"], &confirmed["hold_expires_at"]), (&json!("running"), &Value::Null));
    let body = json!({"flows": [flow("10.0.0.2", 5001)]});
    let bound = server
        .write("PUT", SHOP, &format!("{path}/flows"), "flows-1", body.to_string().as_bytes())
        .await
        .expect(200);
    assert_eq!(bound["flows"][0]["device"], json!({"address": "10.0.0.2", "port": null}));
    assert_eq!(server.get(SHOP, &path).await.expect(200), bound);

    let cancelled = server.verb(SHOP, &id, "cancel").await.expect(200);
    assert_eq!((&cancelled["promise"], &cancelled["end_reason"]), (&json!("ended"), &json!("cancelled")));
    let events = server.get(SHOP, &format!("{path}/events")).await.expect(200);
    let types: Vec<&str> =
        events["events"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(types.first(), Some(&"held"));
    assert_eq!(types.last(), Some(&"ended"));
    server.end().await;
}

#[tokio::test]
async fn an_offer_taken_twice_names_the_reservation_that_it_became() {
    let server = Server::start().await;
    let quote = server.quote(SHOP, &rate_need("shop-line", 1_000_000, 60)).await.expect(201);
    let offer = quote["offers"][0]["offer_id"].as_str().unwrap();
    let held = server.take(SHOP, offer).await.expect(201);
    let again = server.take(SHOP, offer).await;
    again.is_error(409, "QOS_TRANSFERS.QUOTE_EXPIRED");
    let message = again.json()["message"].as_str().unwrap().to_owned();
    assert!(message.ends_with(held["reservation_id"].as_str().unwrap()), "{message}");
    let other = server.take(LATE, offer).await.json();
    assert!(!other["message"].as_str().unwrap().contains("reservation"), "{other}");
    server.end().await;
}

/// One reservation's life as an agent reports it: active, three slots, gone.
async fn live(server: &Server, need: &Value) -> String {
    let quote = server.quote(SHOP, need).await.expect(201);
    let offer = quote["offers"][0]["offer_id"].as_str().unwrap().to_owned();
    let held = server.take(SHOP, &offer).await.expect(201);
    let id = held["reservation_id"].as_str().unwrap().to_owned();
    let path = format!("{BASE}/reservations/{id}");
    server.verb(SHOP, &id, "confirm").await.expect(200);
    let body = json!({"flows": [flow("10.0.0.2", 5001)]});
    server
        .write("PUT", SHOP, &format!("{path}/flows"), &server.new_key(), body.to_string().as_bytes())
        .await
        .expect(200);
    let leg = LegId { reservation: ReservationId(1), index: 0 };
    let from = instant(&held["window"]["from"]);
    let active = PolicyReport::Active { at: from };
    report(server, 1, vec![Report::Leg { leg, attempt: 2, report: active }]);
    until(server, &path, |r| r["leg"]["state"] == "active").await;
    let first = from.ms() / 5_000;
    let mut readings = Vec::new();
    for n in 0..4u64 {
        let start = (first + n) * 5_000;
        let inside = (start + 5_000).min(from.ms() + 15_000).saturating_sub(start.max(from.ms()));
        readings.push(Report::Usage(SlotReading {
            leg,
            attempt: 2,
            incarnation: 77,
            seq: n + 1,
            slot: Slot(first + n),
            sold: Reading { bytes: (n + 1) * 600_000, packets: (n + 1) * 400, drops: n },
            reverse: Reading { bytes: (n + 1) * 9_000, packets: (n + 1) * 200, drops: 0 },
            active_ms: u32::try_from(inside).unwrap(),
            busy_ms: 10,
            gap_ms_max: 7,
            seen: true,
            last: n == 3,
            at: Timestamp(start + 5_000),
            unconfirmed_ms: 0,
        }));
    }
    server.pass_ms(21_000);
    report(server, 2, readings);
    let gone = PolicyReport::Removed { at: Timestamp(from.ms() + 15_000) };
    report(server, 3, vec![Report::Leg { leg, attempt: 2, report: gone }]);
    until(server, &path, |r| r["settled"] == true).await;
    id
}

fn instant(text: &Value) -> Timestamp {
    tollway::api::instant::parse(text.as_str().unwrap()).unwrap()
}

/// The program that customers are given, on the answers as they came. Without Python there is nothing to run.
async fn check_with_python(server: &Server, id: &str) {
    let dir = server.dir.join("bill");
    std::fs::create_dir_all(&dir).unwrap();
    let path = format!("{BASE}/reservations/{id}");
    for (name, path) in [
        ("charges", format!("{path}/charges")),
        ("usage", format!("{path}/usage")),
        ("tiers", format!("{BASE}/tiers")),
    ] {
        std::fs::write(dir.join(format!("{name}.json")), server.get(SHOP, &path).await.bytes).unwrap();
    }
    match std::process::Command::new("python3").arg(CHECKER).arg(&dir).output() {
        Err(error) => eprintln!("skipped: python3 does not run here: {error}"),
        Ok(ran) => assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout)),
    }
}

/// The outsider's arithmetic, from `/charges` alone.
fn recompute(charges: &Value) -> i128 {
    let mut total = 0;
    for line in charges["lines"].as_array().unwrap() {
        let whole = |field: &str| line[field].as_str().unwrap().parse::<i128>().unwrap();
        let mut numerator = 0i128;
        for slot in line["slots"].as_array().unwrap() {
            let segment = &line["segments"][usize::try_from(slot["segment"].as_u64().unwrap()).unwrap()];
            let number = |value: &Value| i128::from(value.as_i64().unwrap());
            let price = number(&segment["unit_price_micros"]) * number(&segment["multiplier_ppm"]);
            let quantity = match line["unit"].as_str().unwrap() {
                "mbps_hour" => number(&segment["rate_bps"]) * number(&slot["kept_ms"]),
                "gb" => number(&slot["bytes"]),
                other => panic!("unit {other}"),
            };
            numerator += quantity * price;
        }
        assert_eq!(numerator, whole("numerator"));
        total += tollway_model::money::round_half_even(numerator, whole("scale"));
        total += i128::from(line["setup_micros"].as_i64().unwrap());
    }
    total.min(i128::from(charges["held_at_first_micros"].as_i64().unwrap()))
}

#[tokio::test]
async fn an_outsider_recomputes_the_bill() {
    for need in [rate_need("shop-line", 1_000_000, 15), bytes_need("shop-line", 1_500_000, 15)] {
        let server = Server::start().await;
        let id = live(&server, &need).await;
        let path = format!("{BASE}/reservations/{id}");
        let charges = server.get(SHOP, &format!("{path}/charges")).await.expect(200);
        assert_eq!(charges["settled"], true);
        let total = charges["total_micros"].as_i64().unwrap();
        assert!(total > 100, "more than the setup was charged: {charges}");
        assert_eq!(recompute(&charges), i128::from(total));
        check_with_python(&server, &id).await;
        let reservation = server.get(SHOP, &path).await.expect(200);
        let money = |field: &str| reservation["money"][field].as_i64().unwrap();
        assert_eq!(money("posted_micros"), total);
        assert_eq!(money("held_micros"), 0);
        let at_first = charges["held_at_first_micros"].as_i64().unwrap();
        assert_eq!(money("posted_micros") + money("voided_micros"), at_first);
        assert_eq!(charges["held_micros"], 0, "what is still held");
        assert_eq!(charges["voided_micros"], money("voided_micros"));
        let wallet = server.get(SHOP, &format!("{BASE}/wallet")).await.expect(200);
        assert_eq!(wallet["balance_micros"], 50_000_000 - total);
        assert_eq!(wallet["held_micros"], 0);

        let usage = server.get(SHOP, &format!("{path}/usage")).await.expect(200);
        assert_eq!(usage["slot_s"], 5);
        assert_eq!(usage["metered_bytes"], 2_400_000);
        assert_eq!(usage["metered_reverse_bytes"], 36_000);
        assert_eq!(usage["readings"].as_array().unwrap().len(), 4);
        assert_eq!(usage["readings"][3]["last"], true);
        let evidence = server.get(SHOP, &format!("{path}/evidence")).await.expect(200);
        let states: Vec<&str> = evidence["intervals"]
            .as_array()
            .unwrap()
            .iter()
            .map(|interval| interval["state"].as_str().unwrap())
            .collect();
        assert!(states.contains(&"active"), "{evidence}");
        let delivered: u64 = evidence["readings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|reading| reading["delivered_bytes"].as_u64().unwrap())
            .sum();
        assert_eq!(delivered, 2_400_000);
        server.end().await;
    }
}

#[tokio::test]
async fn an_old_bill_is_checked_against_the_price_that_was_sold() {
    let server = Server::start().await;
    let id = live(&server, &rate_need("shop-line", 1_000_000, 15)).await;
    let base = server.started.handle.snapshot().config.revision;
    let mut dearer = config();
    dearer.tiers[0].tariff.mbps_hour = tollway_model::Micros(40_000);
    dearer.tiers[0].tariff.setup = tollway_model::Micros(200);
    let make = |request| Input::Configure { request, base, config: dearer };
    let reply = server.started.handle.submit(Lane::Noc, make).await.unwrap();
    assert!(matches!(reply, tollway_core::Reply::Configured { changes: 1, .. }), "{reply:?}");
    let charges = server.get(SHOP, &format!("{BASE}/reservations/{id}/charges")).await.expect(200);
    assert_eq!((&charges["tier"], &charges["tier_revision"]), (&json!("gold"), &json!(1)));
    let now = until(&server, &format!("{BASE}/tiers"), |seen| seen["tiers"][0]["revision"] == 2).await;
    assert_eq!(
        (&now["tiers"][0]["revision"], &now["tiers"][0]["unit_price_micros"]),
        (&json!(2), &json!(40_000))
    );
    let sold = server.get(SHOP, &format!("{BASE}/tiers?tier=gold&revision=1")).await.expect(200);
    assert_eq!(
        (&sold["tiers"][0]["revision"], &sold["tiers"][0]["unit_price_micros"]),
        (&json!(1), &json!(20_000))
    );
    for bad in ["tier=gold&revision=3", "tier=tin", "tier=tin&revision=1"] {
        server.get(SHOP, &format!("{BASE}/tiers?{bad}")).await.is_error(404, "NOT_FOUND");
    }
    for bad in ["revision=1", "revision=x&tier=gold", "foo=1"] {
        server.get(SHOP, &format!("{BASE}/tiers?{bad}")).await.is_error(400, "INVALID_ARGUMENT");
    }
    // The bill is right beside tiers of today; its price is compared when its own revision is there.
    check_with_python(&server, &id).await;
    let dir = server.dir.join("bill");
    let check = || std::process::Command::new("python3").arg(CHECKER).arg(&dir).output();
    for (tiers, price, code, says) in [
        (&now, None, 0, "note: price of revision 1 is not in tiers.json: not compared"),
        (&sold, None, 0, "the bill is right"),
        (&sold, Some(7), 1, "WRONG: unit price 20000 is not published"),
    ] {
        let mut tiers = tiers.clone();
        if let Some(price) = price {
            tiers["tiers"][0]["unit_price_micros"] = json!(price);
        }
        std::fs::write(dir.join("tiers.json"), tiers.to_string()).unwrap();
        let Ok(ran) = check() else { break };
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(ran.status.code() == Some(code) && said.contains(says), "{said}");
        assert_eq!(says.starts_with("note"), said.contains("note:"), "{said}");
    }
    server.end().await;
}

#[tokio::test]
async fn top_ups_can_be_seen_again_also_in_an_older_database() {
    let server = Server::start().await;
    let wallet = "/noc/v0.1/wallets/shop";
    let body = json!({"amount_micros": 7, "currency": "EUR", "reason": "invoice 2"});
    server.post(NOC, &format!("{wallet}/top-ups"), &body).await.expect(201);
    let seen = server.get(NOC, wallet).await.expect(200);
    let want = json!({"customer": "shop", "balance_micros": 50_000_007, "held_micros": 0,
                      "available_micros": 50_000_007, "currency": "EUR"});
    assert_eq!(seen, want);
    let all = server.get(NOC, &format!("{wallet}/top-ups")).await.expect(200);
    let list = all["top_ups"].as_array().unwrap();
    assert_eq!((list.len(), &all["next"]), (2, &Value::Null));
    for (row, amount, reason) in [(&list[0], 7, "invoice 2"), (&list[1], 50_000_000, "tests")] {
        assert_eq!((&row["amount_micros"], &row["reason"]), (&json!(amount), &json!(reason)));
        assert_eq!(row["actor"], "noc-key");
        assert!(row["at"].is_string() && row["seq"].is_u64(), "{row}");
    }
    let first = server.get(NOC, &format!("{wallet}/top-ups?limit=1")).await.expect(200);
    let next = first["next"].as_str().unwrap();
    let second = server.get(NOC, &format!("{wallet}/top-ups?limit=1&after={next}")).await.expect(200);
    assert_eq!((&first["top_ups"][0], &second["top_ups"][0]), (&list[0], &list[1]));
    assert_eq!(second["next"], Value::Null);
    for path in [wallet.to_owned(), format!("{wallet}/top-ups")] {
        server.get(SHOP, &path).await.is_error(403, "PERMISSION_DENIED");
        server.get(NOC, &path.replace("shop", "nobody")).await.is_error(404, "NOT_FOUND");
    }
    // As the release before left it: without the table.
    let (dir, clock) = server.stop().await;
    let file = dir.join(tollway::store::DATABASE_FILE);
    let mut conn = sqlx::ConnectOptions::connect(&sqlx::sqlite::SqliteConnectOptions::new().filename(file))
        .await
        .unwrap();
    sqlx::raw_sql("DROP TABLE top_up; PRAGMA user_version = 2").execute(&mut conn).await.unwrap();
    sqlx::Connection::close(conn).await.unwrap();
    let server = Server::open(dir, clock).await;
    assert_eq!(server.get(NOC, &format!("{wallet}/top-ups")).await.expect(200), all);
    server.end().await;
}

/// All pages of a list at a path, each with at most `limit` rows.
async fn pages(server: &Server, path: &str, limit: usize) -> Vec<Value> {
    let mut pages: Vec<Value> = Vec::new();
    loop {
        let next = pages.last().map_or(Value::Null, |page| page["next"].clone());
        let after = next.as_str().map(|next| format!("&after={next}")).unwrap_or_default();
        let page = server.get(SHOP, &format!("{path}?limit={limit}{after}")).await.expect(200);
        pages.push(page);
        if pages[pages.len() - 1]["next"].is_null() {
            return pages;
        }
    }
}

fn joined(pages: &[Value], pointer: &str) -> Vec<Value> {
    pages.iter().flat_map(|page| page.pointer(pointer).unwrap().as_array().unwrap().clone()).collect()
}

#[tokio::test]
async fn long_lists_come_in_pages_and_totals_are_right_on_each() {
    let server = Server::start().await;
    let id = live(&server, &bytes_need("shop-line", 1_500_000, 15)).await;
    let path = format!("{BASE}/reservations/{id}");
    let whole = |part: &str| {
        let path = format!("{path}/{part}");
        let server = &server;
        async move { server.get(SHOP, &path).await.expect(200) }
    };
    for (part, lists) in [
        ("usage", vec!["/readings"]),
        ("charges", vec!["/lines/0/slots"]),
        ("evidence", vec!["/intervals", "/readings"]),
        ("events", vec!["/events"]),
    ] {
        let all = whole(part).await;
        assert_eq!(all["next"], Value::Null, "{part}: one page is enough by default");
        for limit in [1, 2, 3, 5_000] {
            let pages = pages(&server, &format!("{path}/{part}"), limit).await;
            for pointer in &lists {
                assert!(pages.iter().all(|p| p.pointer(pointer).unwrap().as_array().unwrap().len() <= limit));
                assert_eq!(
                    json!(joined(&pages, pointer)),
                    all.pointer(pointer).unwrap().clone(),
                    "{part} {limit}"
                );
            }
            for page in &pages {
                for total in
                    ["metered_bytes", "metered_reverse_bytes", "total_micros", "held_at_first_micros"]
                {
                    assert_eq!(page[total], all[total], "{part} {limit}");
                }
                for total in ["numerator", "setup_micros", "posted_micros"] {
                    assert_eq!(page["lines"][0][total], all["lines"][0][total], "{part} {limit}");
                }
            }
        }
        for bad in ["limit=0", "limit=5001", "after=", "after=7", "after=1-1.1-1.1-1", "after=x-1", "foo=1"] {
            server.get(SHOP, &format!("{path}/{part}?{bad}")).await.is_error(400, "INVALID_ARGUMENT");
        }
    }
    server.get(LATE, &format!("{path}/usage?limit=1")).await.is_error(404, "NOT_FOUND");
    a_part_of_a_bill_is_not_checked(&server, &path).await;
    server.end().await;
}

/// The program that customers are given says that it was given a part only.
async fn a_part_of_a_bill_is_not_checked(server: &Server, path: &str) {
    let dir = server.dir.join("part");
    std::fs::create_dir_all(&dir).unwrap();
    let tiers = format!("{BASE}/tiers");
    for (name, path) in [
        ("charges", format!("{path}/charges?limit=1")),
        ("usage", format!("{path}/usage?limit=1")),
        ("tiers", tiers),
    ] {
        std::fs::write(dir.join(format!("{name}.json")), server.get(SHOP, &path).await.bytes).unwrap();
    }
    match std::process::Command::new("python3").arg(CHECKER).arg(&dir).output() {
        Err(error) => eprintln!("skipped: python3 does not run here: {error}"),
        Ok(ran) => {
            let said = String::from_utf8_lossy(&ran.stdout).into_owned();
            assert_eq!(ran.status.code(), Some(2), "{said}");
            assert!(
                said.contains("INCOMPLETE: charges.json") && said.contains("INCOMPLETE: usage.json"),
                "{said}"
            );
        }
    }
}

#[tokio::test]
async fn the_same_key_gets_the_same_bytes() {
    let server = Server::start().await;
    let same = [("x-correlator", "attempt")];
    let write = |method: &'static str, path: String, key: &'static str, body: Value| {
        let server = &server;
        async move {
            let bearer = format!("Bearer {SHOP}");
            let mut headers = vec![
                ("authorization", bearer.as_str()),
                ("idempotency-key", key),
                ("content-type", "application/json"),
            ];
            headers.extend(same);
            server.send(method, &path, &headers, body.to_string().as_bytes()).await
        }
    };
    let quotes = format!("{BASE}/quotes");
    let first = write("POST", quotes.clone(), "k", rate_need("shop-line", 1_000_000, 60)).await;
    let quote = first.expect(201);
    assert_eq!(
        write("POST", quotes.clone(), "k", rate_need("shop-line", 1_000_000, 60)).await.bytes,
        first.bytes
    );
    write("POST", quotes.clone(), "k", rate_need("shop-line", 1_000_001, 60))
        .await
        .is_error(422, "IDEMPOTENCY_KEY_REUSED");

    // A key is of one operation: the same text elsewhere is another key.
    let offer = json!({"offer_id": quote["offers"][0]["offer_id"]});
    let take = format!("{BASE}/reservations");
    let held = write("POST", take.clone(), "k", offer.clone()).await;
    let id = held.expect(201)["reservation_id"].as_str().unwrap().to_owned();
    let confirm = format!("{BASE}/reservations/{id}/confirm");
    let confirmed = write("POST", confirm.clone(), "k", json!({})).await;
    confirmed.expect(200);
    let refused = write("POST", confirm.clone(), "k2", json!({})).await;
    refused.is_error(409, "QOS_TRANSFERS.WRONG_STATE");

    // A restart keeps every answer.
    let (dir, clock) = server.stop().await;
    let server = Server::open(dir, clock).await;
    let again = |path: String, key: &'static str, body: Value| {
        let server = &server;
        async move {
            let bearer = format!("Bearer {SHOP}");
            let headers = [
                ("authorization", bearer.as_str()),
                ("idempotency-key", key),
                ("content-type", "application/json"),
                ("x-correlator", "attempt"),
            ];
            server.send("POST", &path, &headers, body.to_string().as_bytes()).await
        }
    };
    assert_eq!(again(quotes, "k", rate_need("shop-line", 1_000_000, 60)).await.bytes, first.bytes);
    assert_eq!(again(take, "k", offer).await.bytes, held.bytes);
    assert_eq!(again(confirm.clone(), "k", json!({})).await.bytes, confirmed.bytes);
    assert_eq!(again(confirm, "k2", json!({})).await.bytes, refused.bytes);
    let all = server.get(SHOP, &format!("{BASE}/reservations")).await.expect(200);
    assert_eq!(all["reservations"].as_array().unwrap().len(), 1, "no second effect");
    server.end().await;
}

#[tokio::test]
async fn a_refusal_carries_offers_that_are_granted_at_once() {
    let server = Server::start().await;
    let refused = server.quote(LATE, &rate_need("late-line", 25_000_000, 60)).await;
    let body = refused.json();
    assert_eq!(refused.status, 409, "{body}");
    let offers = body["offers"].as_array().unwrap();
    assert!(!offers.is_empty(), "{body}");
    let quote = body["quote_id"].as_str().unwrap();
    let offer = &offers[0];
    assert!(offer["offer_id"].as_str().unwrap().starts_with(quote));
    assert!(offer["note"].is_string() && offer["variant"] != "as_asked", "{offer}");
    server.take(LATE, offer["offer_id"].as_str().unwrap()).await.expect(201);
    server.end().await;
}

#[tokio::test]
async fn keys_open_what_they_are_for() {
    let server = Server::start().await;
    let tiers = format!("{BASE}/tiers");
    let none = server.send("GET", &tiers, &[], b"").await;
    none.is_error(401, "UNAUTHENTICATED");
    assert_eq!(none.header("www-authenticate"), Some("Bearer"));
    server.get("wrong", &tiers).await.is_error(401, "UNAUTHENTICATED");
    server.get(AGENT, &tiers).await.is_error(403, "PERMISSION_DENIED");
    server.get(NOC, &format!("{BASE}/wallet")).await.is_error(403, "PERMISSION_DENIED");
    server.quote(NOC, &rate_need("shop-line", 1_000_000, 60)).await.is_error(403, "PERMISSION_DENIED");
    let body = json!({"amount_micros": 1, "currency": "EUR", "reason": "greed"});
    let before = server.state().await;
    server.post(SHOP, "/noc/v0.1/wallets/shop/top-ups", &body).await.is_error(403, "PERMISSION_DENIED");
    assert_eq!(server.state().await, before);
    server.post(NOC, "/noc/v0.1/wallets/nobody/top-ups", &body).await.is_error(404, "NOT_FOUND");
    for (field, bad) in [
        ("amount_micros", json!(0)),
        ("amount_micros", json!(u64::MAX)),
        ("currency", json!("eur")),
        ("reason", json!(" ")),
    ] {
        let mut body = body.clone();
        body[field] = bad;
        server.post(NOC, "/noc/v0.1/wallets/shop/top-ups", &body).await.is_error(400, "INVALID_ARGUMENT");
    }
    assert_eq!(server.state().await, before);
    server.end().await;
}

#[tokio::test]
async fn lists_are_paged_and_the_noc_sees_all() {
    let server = Server::start().await;
    let first = server.hold(SHOP, "shop-line", 100_000, 60).await;
    let second = server.hold(SHOP, "shop-line", 100_000, 60).await;
    let third = server.hold(LATE, "late-line", 100_000, 60).await;
    server.verb(SHOP, &second, "confirm").await.expect(200);
    let ids = |page: &Value| -> Vec<String> {
        let list = page["reservations"].as_array().unwrap().iter();
        list.map(|r| r["reservation_id"].as_str().unwrap().to_owned()).collect()
    };
    let list = format!("{BASE}/reservations");
    let page = server.get(SHOP, &format!("{list}?limit=1")).await.expect(200);
    assert_eq!(ids(&page), vec![first.clone()]);
    let next = page["next"].as_str().unwrap();
    let page = server.get(SHOP, &format!("{list}?limit=5&after={next}")).await.expect(200);
    assert_eq!((ids(&page), &page["next"]), (vec![second.clone()], &Value::Null));
    let running = server.get(SHOP, &format!("{list}?state=running")).await.expect(200);
    assert_eq!(ids(&running), vec![second.clone()]);
    let all = server.get(NOC, &list).await.expect(200);
    assert_eq!(ids(&all), [first.clone(), second, third.clone()]);
    assert_eq!(server.get(NOC, &format!("{list}/{third}")).await.expect(200)["access"], "late-line");
    server.get(SHOP, &format!("{list}/{third}")).await.is_error(404, "NOT_FOUND");
    for bad in ["?limit=0", "?limit=101", "?limit=x", "?state=dead", "?after=1", "?foo=1", "?limit=1&limit=2"]
    {
        server.get(SHOP, &format!("{list}{bad}")).await.is_error(400, "INVALID_ARGUMENT");
    }
    server.end().await;
}

#[tokio::test]
async fn operators_are_told_what_is_there() {
    let server = Server::start().await;
    server.hold(SHOP, "shop-line", 10_000_000, 60).await;
    assert_eq!(server.send("GET", "/healthz", &[], b"").await.status, 200);
    assert_eq!(server.send("GET", "/readyz", &[], b"").await.expect(200)["ready"], true);
    let described = server.send("GET", "/openapi.json", &[], b"").await;
    assert_eq!(described.bytes, tollway::api::openapi::document().into_bytes());

    let answer = server.send("GET", "/metrics", &[], b"").await;
    let text = String::from_utf8(answer.bytes).unwrap();
    let families: BTreeSet<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    let known: BTreeSet<(&str, &str)> = FIGURES.iter().map(|figure| (figure.name, figure.kind)).collect();
    let unlisted: Vec<_> = families.difference(&known).collect();
    assert!(unlisted.is_empty(), "not in docs/metrics.md: {unlisted:?}");
    for figure in FIGURES.iter().filter(|figure| !figure.labels.contains(&"enforcement_point")) {
        assert!(families.contains(&(figure.name, figure.kind)), "{} is not served", figure.name);
    }
    let route = format!("route=\"{BASE}/quotes\"");
    assert!(text.lines().any(|line| line.contains("requests_total") && line.contains(&route)), "{text}");
    assert!(text.contains("tollway_ledger_imbalance_micros 0\n"));
    server.end().await;
}

#[tokio::test]
async fn tiers_say_what_they_promise() {
    let server = Server::start().await;
    let tiers = server.get(SHOP, &format!("{BASE}/tiers")).await.expect(200);
    let gold = &tiers["tiers"][0];
    assert_eq!((&gold["name"], &gold["kind"]), (&json!("gold"), &json!("assured")));
    assert_eq!((&gold["unit"], &gold["bytes_offers"]["unit"]), (&json!("mbps_hour"), &json!("gb")));
    assert_eq!(gold["curve"], json!([[0, 1_000_000], [1_000_000, 1_000_000]]));
    let promise = gold["promise"].as_str().unwrap();
    assert!(promise.contains("3 s") && promise.contains("50 ms"), "{promise}");
    assert!(
        !String::from_utf8_lossy(&server.get(SHOP, &format!("{BASE}/tiers")).await.bytes)
            .to_lowercase()
            .contains("guarante")
    );
    server.end().await;
}

#[tokio::test]
async fn a_broker_that_stops_says_when_to_come_again() {
    let server = Server::start().await;
    server.started.stop.send(true).unwrap();
    while !server.started.driver.is_finished() {
        tokio::task::yield_now().await;
    }
    let answer = server.quote(SHOP, &rate_need("shop-line", 1_000_000, 60)).await;
    answer.is_error(503, "UNAVAILABLE");
    assert!(answer.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok()));
    std::fs::remove_dir_all(&server.dir).unwrap();
}
