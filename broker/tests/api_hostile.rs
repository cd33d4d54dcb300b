//! Hostile input over HTTP, a test each: every one ends in a clear error and changes nothing.

#![allow(clippy::unwrap_used)]

mod api_support;

use api_support::*;
use serde_json::{Value, json};

const QUOTES: &str = "/qos-transfers/v0.1/quotes";

/// Sends a body as it is to `POST /quotes`, expects this error, and that nothing changed.
async fn refused(server: &Server, body: &[u8], status: u16, code: &str) -> Answer {
    let before = server.state().await;
    let answer = server.write("POST", SHOP, QUOTES, &server.new_key(), body).await;
    answer.is_error(status, code);
    assert_eq!(server.state().await, before, "nothing changed");
    answer
}

async fn invalid(server: &Server, body: &[u8], names: &str) {
    let answer = refused(server, body, 400, "INVALID_ARGUMENT").await;
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains(names), "{message:?} does not name {names:?}");
    assert!(message.chars().count() <= 513, "hostile input is not echoed at length");
}

fn quote_with(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut body = rate_need("shop-line", 1_000_000, 60);
    change(&mut body);
    body.to_string().into_bytes()
}

#[tokio::test]
async fn truncated_bodies() {
    let server = Server::start().await;
    let whole = rate_need("shop-line", 1_000_000, 60).to_string().into_bytes();
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        invalid(&server, &whole[..length], "body").await;
    }
    // Less than was announced, and then silence: the request never was.
    let before = server.state().await;
    let bearer = format!("Bearer {SHOP}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("idempotency-key", "broken-off"),
        ("content-type", "application/json"),
    ];
    let bytes = request("POST", QUOTES, &headers, &whole);
    server.raw_and_close(&bytes[..bytes.len() - 5]).await;
    assert_eq!(server.state().await, before);
    server.end().await;
}

#[tokio::test]
async fn bodies_over_64_kib() {
    let server = Server::start().await;
    for length in [65_537, 1_000_000] {
        let body = vec![b' '; length];
        refused(&server, &body, 413, "PAYLOAD_TOO_LARGE").await;
    }
    // In chunks, without an announced length.
    let before = server.state().await;
    let mut bytes = format!(
        "POST {QUOTES} HTTP/1.1\r\nhost: test\r\nconnection: close\r\nauthorization: Bearer {SHOP}\r\n\
         idempotency-key: chunked\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    for _ in 0..70 {
        bytes.extend_from_slice(b"400\r\n");
        bytes.extend_from_slice(&[b' '; 1024]);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    server.raw(&bytes).await.is_error(413, "PAYLOAD_TOO_LARGE");
    assert_eq!(server.state().await, before);
    // The largest that is taken is read as JSON.
    let mut body = rate_need("shop-line", 1_000_000, 60).to_string().into_bytes();
    body.resize(65_536, b' ');
    server.write("POST", SHOP, QUOTES, "padded", &body).await.expect(201);
    server.end().await;
}

#[tokio::test]
async fn deeply_nested_bodies() {
    let server = Server::start().await;
    for (open, close) in [("[", "]"), ("{\"need\":", "}")] {
        for depth in [10, 127, 128, 129, 5_000] {
            let body = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            refused(&server, body.as_bytes(), 400, "INVALID_ARGUMENT").await;
        }
        refused(&server, open.repeat(60_000 / open.len()).as_bytes(), 400, "INVALID_ARGUMENT").await;
    }
    server.end().await;
}

#[tokio::test]
async fn unknown_properties_at_any_depth() {
    let server = Server::start().await;
    invalid(&server, &quote_with(|b| b["price"] = json!(0)), "price").await;
    invalid(&server, &quote_with(|b| b["need"]["rate"]["burst"] = json!(1)), "need.rate").await;
    invalid(&server, &quote_with(|b| b["need"]["bytes"] = json!({"bytes": 1})), "need").await;
    invalid(&server, &quote_with(|b| b["need"] = json!({"latency": {}})), "latency").await;
    let id = server.hold(SHOP, "shop-line", 100_000, 60).await;
    let before = server.state().await;
    for (verb, body) in [
        ("confirm", json!({"flow": []})),
        ("confirm", json!({"flows": [{"protocol": "tcp", "dscp": 46}]})),
        ("cancel", json!({"refund": true})),
    ] {
        let answer = server.post(SHOP, &format!("{BASE}/reservations/{id}/{verb}"), &body).await;
        answer.is_error(400, "INVALID_ARGUMENT");
    }
    server
        .post(SHOP, &format!("{BASE}/reservations"), &json!({"offer_id": "x", "force": true}))
        .await
        .is_error(400, "INVALID_ARGUMENT");
    assert_eq!(server.state().await, before);
    server.end().await;
}

#[tokio::test]
async fn a_property_given_twice() {
    let server = Server::start().await;
    let body = r#"{"access":"shop-line","access":"late-line","direction":"up",
        "need":{"rate":{"rate_bps":1000000}},"end_in_s":60}"#;
    invalid(&server, body.as_bytes(), "access").await;
    server.end().await;
}

#[tokio::test]
async fn wrong_types() {
    let server = Server::start().await;
    for body in ["null", "1", "\"x\"", "[]", "true", "{}"] {
        refused(&server, body.as_bytes(), 400, "INVALID_ARGUMENT").await;
    }
    invalid(&server, &quote_with(|b| b["access"] = json!(7)), "access").await;
    invalid(&server, &quote_with(|b| b["direction"] = json!("sideways")), "direction").await;
    invalid(&server, &quote_with(|b| b["need"]["rate"]["rate_bps"] = json!("1000000")), "need.rate.rate_bps")
        .await;
    invalid(&server, &quote_with(|b| b["need"]["rate"]["rate_bps"] = json!(1.5)), "need.rate.rate_bps").await;
    invalid(&server, &quote_with(|b| b["need"]["rate"]["rate_bps"] = Value::Null), "need.rate.rate_bps")
        .await;
    invalid(&server, &quote_with(|b| b["end_in_s"] = json!({})), "end_in_s").await;
    invalid(&server, &quote_with(|b| b["start"] = json!("tomorrow")), "start").await;
    invalid(&server, &quote_with(|b| b["start"] = json!(1_700_000_000)), "start").await;
    server.end().await;
}

#[tokio::test]
async fn negative_not_a_number_and_overflowing() {
    let server = Server::start().await;
    for number in ["-1", "-0.5", "1e3", "1e999", "18446744073709551616", "-9223372036854775809"] {
        let body = format!(
            r#"{{"access":"shop-line","direction":"up","need":{{"rate":{{"rate_bps":{number}}}}},"end_in_s":60}}"#
        );
        invalid(&server, body.as_bytes(), "need.rate").await;
    }
    for number in ["NaN", "Infinity", "-Infinity", "0x10", "01", "+1", "1_000"] {
        let body = format!(
            r#"{{"access":"shop-line","direction":"up","need":{{"rate":{{"rate_bps":{number}}}}},"end_in_s":60}}"#
        );
        invalid(&server, body.as_bytes(), "body").await;
    }
    for number in ["-5", "0", "3153600001", "18446744073709551615", "18446744073709551616"] {
        let body = format!(
            r#"{{"access":"shop-line","direction":"up","need":{{"rate":{{"rate_bps":1000000}}}},"end_in_s":{number}}}"#
        );
        invalid(&server, body.as_bytes(), "end_in_s").await;
    }
    server.end().await;
}

#[tokio::test]
async fn not_utf8_and_not_json() {
    let server = Server::start().await;
    invalid(&server, b"\xff\xfe{\"access\":1}", "body").await;
    invalid(&server, b"{\"access\":\"\xc3\x28\"}", "body").await;
    invalid(&server, &[quote_with(|_| {}), b"{}".to_vec()].concat(), "body").await;
    let before = server.state().await;
    let bearer = format!("Bearer {SHOP}");
    for kind in ["text/plain", "application/xml", "application/jsonp", ""] {
        let headers =
            [("authorization", bearer.as_str()), ("idempotency-key", "type"), ("content-type", kind)];
        let answer = server.send("POST", QUOTES, &headers, &quote_with(|_| {})).await;
        answer.is_error(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    assert_eq!(server.state().await, before);
    let headers = [
        ("authorization", bearer.as_str()),
        ("idempotency-key", "type"),
        ("content-type", "Application/JSON; charset=utf-8"),
    ];
    server.send("POST", QUOTES, &headers, &quote_with(|_| {})).await.expect(201);
    server.end().await;
}

#[tokio::test]
async fn keys_that_are_no_keys() {
    let server = Server::start().await;
    let before = server.state().await;
    let body = quote_with(|_| {});
    let bearer = format!("Bearer {SHOP}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = server.send("POST", QUOTES, &headers, &body).await;
    answer.is_error(400, "INVALID_ARGUMENT");
    assert!(answer.json()["how_to_fix"].as_str().unwrap().contains("Idempotency-Key"));
    let long = "x".repeat(129);
    for key in ["", " ", "two words", "tab\tbed", "\u{e9}", long.as_str()] {
        server.write("POST", SHOP, QUOTES, key, &body).await.is_error(400, "INVALID_ARGUMENT");
    }
    let twice = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("idempotency-key", "a"),
        ("idempotency-key", "b"),
    ];
    server.send("POST", QUOTES, &twice, &body).await.is_error(400, "INVALID_ARGUMENT");
    assert_eq!(server.state().await, before);
    server.write("POST", SHOP, QUOTES, &long[..128], &body).await.expect(201);
    server.end().await;
}

#[tokio::test]
async fn correlators_that_would_break_a_log() {
    let server = Server::start().await;
    let long = "x".repeat(257);
    for bad in ["a b", "<script>\"", "\u{e9}", long.as_str()] {
        let answer = server.send("GET", "/healthz", &[("x-correlator", bad)], b"").await;
        answer.is_error(400, "INVALID_ARGUMENT");
    }
    let answer = server.send("GET", "/healthz", &[("x-correlator", "mine-1")], b"").await;
    assert_eq!((answer.status, answer.header("x-correlator")), (200, Some("mine-1")));
    server.end().await;
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there() {
    let server = Server::start().await;
    for path in ["/", "/qos-transfers/v0.1", "/qos-transfers/v0.2/quotes", "/../../etc/passwd", "/%00"] {
        server.get(SHOP, path).await.is_error(404, "NOT_FOUND");
    }
    server.get(SHOP, QUOTES).await.is_error(405, "METHOD_NOT_ALLOWED");
    server.send("DELETE", &format!("{BASE}/wallet"), &[], b"").await.is_error(405, "METHOD_NOT_ALLOWED");
    for id in ["1", "r1", "00000000-0000-8000-8000-000000000000", "%ff", "..%2f..%2f", "'%20OR%201=1"] {
        let answer = server.get(SHOP, &format!("{BASE}/reservations/{id}")).await;
        assert!(matches!(answer.status, 400 | 404), "{id}: {}", answer.status);
        let code = if answer.status == 404 { "NOT_FOUND" } else { "INVALID_ARGUMENT" };
        answer.is_error(answer.status, code);
    }
    server.end().await;
}

#[tokio::test]
async fn wrong_types_are_told_in_words_that_are_not_ours() {
    let server = Server::start().await;
    for (name, value, wanted) in [
        ("need", json!(5), "expected another kind of value"),
        ("need", json!({"bytes": 5}), r#"expected an object such as {"bytes": 40000000}"#),
        (
            "need",
            json!({"rate": {"rate_bps": "8M"}}),
            "this cannot be the text \"8M\", expected a whole number, 0 or more",
        ),
        (
            "need",
            json!({"rate": {"rate_bps": -1}}),
            "this cannot be the number `-1`, expected a whole number, 0 or more",
        ),
        ("need", json!({"speed": 1}), "unknown word `speed`, expected `rate` or `bytes`"),
        ("access", json!(1), "this cannot be the number `1`, expected a text"),
        ("speed", json!(1), "unknown property `speed`, expected one of"),
        ("start", json!("now"), "write a time as RFC 3339"),
    ] {
        let body = quote_with(|b| b[name] = value.clone());
        let answer = refused(&server, &body, 400, "INVALID_ARGUMENT").await;
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(wanted), "{name} {value}: {message}");
        for word in ["struct", "enum", "u64", "In ", "field", "variant"] {
            assert!(!message.contains(word), "{word} is ours: {message}");
        }
    }
    invalid(&server, br#"{"access":"shop-line"}"#, "missing property `direction`").await;
    let answer = server.get("not-a-key", &format!("{BASE}/wallet")).await;
    answer.is_error(401, "UNAUTHENTICATED");
    assert!(answer.json()["how_to_fix"].as_str().unwrap().contains("that the operator gave you"));
    server.end().await;
}

#[tokio::test]
async fn bytes_of_two_to_the_64_minus_one() {
    let server = Server::start().await;
    for bytes in [u64::MAX, 1_000_000_000_000_001, 0] {
        let body = bytes_need("shop-line", bytes, 60).to_string();
        refused(&server, body.as_bytes(), 422, "OUT_OF_RANGE").await;
    }
    server.end().await;
}

#[tokio::test]
async fn deadlines_in_the_past_or_ten_years_off() {
    let server = Server::start().await;
    for end in ["2020-01-01T00:00:00Z", "2037-01-01T00:00:00Z", "2199-12-31T23:59:59Z"] {
        let body = quote_with(|b| {
            b.as_object_mut().unwrap().remove("end_in_s");
            b["end"] = json!(end);
        });
        refused(&server, &body, 422, "OUT_OF_RANGE").await;
    }
    refused(&server, &quote_with(|b| b["end_in_s"] = json!(315_360_000)), 422, "OUT_OF_RANGE").await;
    refused(&server, &quote_with(|b| b["start"] = json!("2020-01-01T00:00:00Z")), 422, "OUT_OF_RANGE").await;
    invalid(&server, &quote_with(|b| b["end"] = json!("9999-01-01T00:00:00Z")), "end").await;
    invalid(&server, &quote_with(|b| b["end"] = json!("2030-01-01T00:00:00Z")), "end").await;
    invalid(
        &server,
        &quote_with(|b| {
            b.as_object_mut().unwrap().remove("end_in_s");
        }),
        "end",
    )
    .await;
    server.end().await;
}

#[tokio::test]
async fn a_rate_of_zero_and_one_above_the_link() {
    let server = Server::start().await;
    for rate in [0, 1, 63_999, 100_000_001, u64::MAX] {
        let body = rate_need("shop-line", rate, 60).to_string();
        refused(&server, body.as_bytes(), 422, "OUT_OF_RANGE").await;
    }
    // Within what the tier sells, above what the pool has: nobody could ever be sold that.
    let body = rate_need("shop-line", POOL_BPS + 1, 60).to_string();
    let answer = refused(&server, body.as_bytes(), 409, "QOS_TRANSFERS.DEADLINE_INFEASIBLE").await;
    assert!(answer.json()["offers"].is_array(), "a slower one is offered");
    let fix = answer.json()["how_to_fix"].as_str().unwrap().to_owned();
    assert!(fix.contains("`rate_bps` of at most ") && !fix.contains("deadline"), "{fix}");
    server.end().await;
}

#[tokio::test]
async fn an_unknown_device_and_a_strangers_flow() {
    let server = Server::start().await;
    let id = server.hold(SHOP, "shop-line", 100_000, 60).await;
    let before = server.state().await;
    let flows = format!("{BASE}/reservations/{id}/flows");
    let put = |body: Value| {
        let (server, flows) = (&server, &flows);
        async move { server.write("PUT", SHOP, flows, &server.new_key(), body.to_string().as_bytes()).await }
    };
    for device in ["10.0.1.2", "192.0.2.1", "255.255.255.255", "0.0.0.0"] {
        put(json!({"flows": [flow(device, 5001)]})).await.is_error(403, "QOS_TRANSFERS.ENDPOINT_NOT_ALLOWED");
    }
    for device in ["", "10.0.0.256", "10.0.0.2/24", "shop", "::1%eth0"] {
        put(json!({"flows": [flow(device, 5001)]})).await.is_error(400, "INVALID_ARGUMENT");
    }
    put(json!({"flows": [flow("::ffff:10.0.0.2", 5001)]})).await.is_error(400, "INVALID_ARGUMENT");
    for port in [0, 65_536, u64::MAX] {
        put(json!({"flows": [flow("10.0.0.2", port)]})).await.is_error(400, "INVALID_ARGUMENT");
    }
    let nine: Vec<Value> = (1..=9).map(|port| flow("10.0.0.2", port)).collect();
    put(json!({ "flows": nine })).await.is_error(400, "INVALID_ARGUMENT");
    put(json!({"flows": [flow("10.0.0.2", 1), flow("10.0.0.2", 1)]})).await.is_error(422, "OUT_OF_RANGE");
    assert_eq!(server.state().await, before);

    // Poor lives in a part of the same line: the flow is taken already.
    put(json!({"flows": [flow("10.0.0.130", 5001)]})).await.expect(200);
    let body = json!({"amount_micros": 1_000_000, "currency": "EUR", "reason": "tests"});
    server.post(NOC, "/noc/v0.1/wallets/poor/top-ups", &body).await.expect(201);
    let other = server.hold(POOR, "shop-line", 64_000, 30).await;
    let before = server.state().await;
    let body = json!({"flows": [flow("10.0.0.130", 5001)]}).to_string();
    let path = format!("{BASE}/reservations/{other}/flows");
    server
        .write("PUT", POOR, &path, "steal", body.as_bytes())
        .await
        .is_error(409, "QOS_TRANSFERS.FLOW_CONFLICT");
    assert_eq!(server.state().await, before);
    server.end().await;
}

#[tokio::test]
async fn another_customers_endpoint() {
    let server = Server::start().await;
    let theirs = rate_need("late-line", 1_000_000, 60).to_string();
    let known = refused(&server, theirs.as_bytes(), 403, "QOS_TRANSFERS.ENDPOINT_NOT_ALLOWED").await;
    let nobodys = rate_need("no-such-line", 1_000_000, 60).to_string();
    let unknown = refused(&server, nobodys.as_bytes(), 403, "QOS_TRANSFERS.ENDPOINT_NOT_ALLOWED").await;
    assert_eq!(known.json()["message"], unknown.json()["message"], "names cannot be probed");
    refused(&server, &quote_with(|b| b["tier"] = json!("platinum")), 404, "NOT_FOUND").await;
    server.end().await;
}

#[tokio::test]
async fn another_customers_quote_and_reservation() {
    let server = Server::start().await;
    let quote = server.quote(LATE, &rate_need("late-line", 1_000_000, 60)).await.expect(201);
    let offer = quote["offers"][0]["offer_id"].as_str().unwrap();
    let theirs = server.hold(LATE, "late-line", 100_000, 60).await;
    let before = server.state().await;
    let answer = server.take(SHOP, offer).await;
    assert!(
        (answer.status, answer.code().as_str()) == (409, "QOS_TRANSFERS.QUOTE_EXPIRED")
            || (answer.status, answer.code().as_str()) == (404, "NOT_FOUND"),
        "{}",
        answer.json()
    );
    for verb in ["confirm", "cancel"] {
        server.verb(SHOP, &theirs, verb).await.is_error(404, "NOT_FOUND");
    }
    let path = format!("{BASE}/reservations/{theirs}");
    let flows = json!({"flows": [flow("10.0.0.2", 5001)]}).to_string();
    let answer = server.write("PUT", SHOP, &format!("{path}/flows"), "steal", flows.as_bytes()).await;
    answer.is_error(404, "NOT_FOUND");
    for rest in ["", "/usage", "/evidence", "/charges", "/events"] {
        server.get(SHOP, &format!("{path}{rest}")).await.is_error(404, "NOT_FOUND");
    }
    // An offer that this market never wrote, and indexes that the quote has not.
    let quote_id = quote["quote_id"].as_str().unwrap();
    for forged in ["", "x", quote_id, &format!("{quote_id}-01"), &format!("{theirs}-0")] {
        server.take(LATE, forged).await.is_error(404, "NOT_FOUND");
    }
    server.take(LATE, &format!("{quote_id}-4294967295")).await.is_error(404, "NOT_FOUND");
    assert_eq!(server.state().await, before);
    server.take(LATE, offer).await.expect(201);
    server.end().await;
}

#[tokio::test]
async fn an_expired_quote_and_an_expired_hold() {
    let server = Server::start().await;
    let quote = server.quote(SHOP, &rate_need("shop-line", 1_000_000, 3_600)).await.expect(201);
    let id = server.hold(SHOP, "shop-line", 100_000, 3_600).await;
    server.pass_ms(121_000);
    let offer = quote["offers"][0]["offer_id"].as_str().unwrap();
    server.take(SHOP, offer).await.is_error(409, "QOS_TRANSFERS.QUOTE_EXPIRED");
    let wallet = server.get(SHOP, &format!("{BASE}/wallet")).await.expect(200);
    assert_eq!(wallet["held_micros"], 0, "the hold's money is free again");
    let answer = server.verb(SHOP, &id, "confirm").await;
    answer.is_error(409, "QOS_TRANSFERS.WRONG_STATE");
    let ended = server.get(SHOP, &format!("{BASE}/reservations/{id}")).await.expect(200);
    assert_eq!((&ended["end_reason"], &ended["settled"]), (&json!("expired"), &json!(true)));
    server.end().await;
}

#[tokio::test]
async fn confirm_twice_and_cancel_after_the_end() {
    let server = Server::start().await;
    let id = server.hold(SHOP, "shop-line", 100_000, 60).await;
    server.verb(SHOP, &id, "confirm").await.expect(200);
    let before = server.state().await;
    server.verb(SHOP, &id, "confirm").await.is_error(409, "QOS_TRANSFERS.WRONG_STATE");
    assert_eq!(server.state().await, before);
    server.verb(SHOP, &id, "cancel").await.expect(200);
    let before = server.state().await;
    server.verb(SHOP, &id, "cancel").await.is_error(409, "QOS_TRANSFERS.WRONG_STATE");
    server.verb(SHOP, &id, "confirm").await.is_error(409, "QOS_TRANSFERS.WRONG_STATE");
    assert_eq!(server.state().await, before);
    server.end().await;
}

#[tokio::test]
async fn a_verb_long_after_the_end_is_told_so() {
    let server = Server::start().await;
    let id = server.hold(SHOP, "shop-line", 100_000, 60).await;
    server.verb(SHOP, &id, "cancel").await.expect(200);
    server.pass_ms(2 * 3_600_000);
    // The engine has forgotten it; the projections have not.
    server.quote(SHOP, &rate_need("shop-line", 100_000, 60)).await.expect(201);
    server.verb(SHOP, &id, "cancel").await.is_error(409, "QOS_TRANSFERS.WRONG_STATE");
    server.end().await;
}

#[tokio::test]
async fn the_same_key_with_another_body() {
    let server = Server::start().await;
    let id = server.hold(SHOP, "shop-line", 100_000, 60).await;
    let path = format!("{BASE}/reservations/{id}/flows");
    let one = json!({"flows": [flow("10.0.0.2", 1)]}).to_string();
    let two = json!({"flows": [flow("10.0.0.2", 2)]}).to_string();
    let first = server.write("PUT", SHOP, &path, "k", one.as_bytes()).await.expect(200);
    let before = server.state().await;
    server.write("PUT", SHOP, &path, "k", two.as_bytes()).await.is_error(422, "IDEMPOTENCY_KEY_REUSED");
    assert_eq!(server.state().await, before);
    // Another spelling of the same request is the same request.
    let spaced = json!({"flows": [flow("10.0.0.2", 1)]});
    let spaced = serde_json::to_string_pretty(&spaced).unwrap();
    assert_eq!(server.write("PUT", SHOP, &path, "k", spaced.as_bytes()).await.expect(200), first);
    // Another customer's key of the same text is another key.
    server
        .write("POST", LATE, QUOTES, "k", rate_need("late-line", 100_000, 60).to_string().as_bytes())
        .await
        .expect(201);
    server.end().await;
}

#[tokio::test]
async fn the_seventeenth_open_hold() {
    let server = Server::start().await;
    let mut holds = Vec::new();
    for _ in 0..16 {
        holds.push(server.hold(SHOP, "shop-line", 64_000, 60).await);
    }
    let quote = server.quote(SHOP, &rate_need("shop-line", 64_000, 60)).await.expect(201);
    let offer = quote["offers"][0]["offer_id"].as_str().unwrap();
    let before = server.state().await;
    let body = json!({ "offer_id": offer }).to_string();
    let path = format!("{BASE}/reservations");
    let answer = server.write("POST", SHOP, &path, "seventeenth", body.as_bytes()).await;
    answer.is_error(429, "QUOTA_EXCEEDED");
    assert_eq!(server.state().await, before);
    // That answer is not remembered: with room again the same key succeeds.
    server.verb(SHOP, &holds[0], "cancel").await.expect(200);
    server.write("POST", SHOP, &path, "seventeenth", body.as_bytes()).await.expect(201);
    server.end().await;
}

#[tokio::test]
async fn more_unconfirmed_holds_than_one_customers_share() {
    let server = Server::start().await;
    server.hold(SHOP, "shop-line", 10_000_000, 60).await;
    let quote = server.quote(SHOP, &rate_need("shop-line", 5_000_000, 60)).await.expect(201);
    let before = server.state().await;
    let offer = quote["offers"][0]["offer_id"].as_str().unwrap();
    server.take(SHOP, offer).await.is_error(409, "QOS_TRANSFERS.HOLD_SHARE_EXCEEDED");
    assert_eq!(server.state().await, before);
    server.end().await;
}

#[tokio::test]
async fn an_empty_wallet() {
    let server = Server::start().await;
    let quote = server.quote(POOR, &rate_need("shop-line", 1_000_000, 60)).await.expect(201);
    let before = server.state().await;
    let offer = quote["offers"][0]["offer_id"].as_str().unwrap();
    let answer = server.take(POOR, offer).await;
    answer.is_error(409, "QOS_TRANSFERS.INSUFFICIENT_FUNDS");
    assert!(answer.json()["message"].as_str().unwrap().contains("missing"));
    assert_eq!(server.state().await, before);
    server.end().await;
}

#[tokio::test]
async fn the_sixty_fifth_open_quote() {
    let server = Server::start().await;
    for _ in 0..64 {
        server.quote(SHOP, &rate_need("shop-line", 64_000, 60)).await.expect(201);
    }
    let body = rate_need("shop-line", 64_000, 60).to_string();
    refused(&server, body.as_bytes(), 429, "QUOTA_EXCEEDED").await;
    server.end().await;
}
