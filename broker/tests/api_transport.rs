//! Hostile clients: who trickles, who opens connections and says nothing, whose heads do not end, whose
//! bodies are noise.

#![allow(clippy::unwrap_used)]

mod api_support;

use api_support::*;
use serde_json::json;

const QUOTES: &str = "/qos-transfers/v0.1/quotes";

#[tokio::test]
async fn clients_that_trickle() {
    let server = Server::start().await;
    let before = server.state().await;
    let bearer = format!("Bearer {SHOP}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("idempotency-key", "slow"),
        ("content-type", "application/json"),
    ];
    let whole =
        request("POST", QUOTES, &headers, rate_need("shop-line", 1_000_000, 60).to_string().as_bytes());
    // The head never ends: the server hangs up, with or without a word.
    let (answer, ()) = tokio::join!(server.raw_bytes(&whole[..40]), async {
        // Half a body: it is told so.
        server.raw(&whole[..whole.len() - 5]).await.is_error(400, "INVALID_ARGUMENT");
    });
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(server.state().await, before);
    server.end().await;
}

#[tokio::test]
async fn more_connections_than_there_is_room_for() {
    let server = Server::start().await;
    let mut idle = Vec::new();
    for _ in 0..80 {
        idle.push(tokio::net::TcpStream::connect(server.address).await.unwrap());
    }
    // 64 are let in and hang up when nothing comes; those behind them are served then.
    server.quote(SHOP, &rate_need("shop-line", 64_000, 60)).await.expect(201);
    drop(idle);
    server.end().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = Server::start().await;
    // Kept alive by HTTP/1.1's default; nothing more is asked on it, and it is read to its end.
    let answer = server.raw_bytes(b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n").await;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    server.end().await;
}

#[tokio::test]
async fn who_never_reads_gives_its_place_back() {
    let server = Server::start().await;
    let many = request("GET", "/openapi.json", &[], b"");
    let many = String::from_utf8(many).unwrap().replace("connection: close\r\n", "").repeat(2_000);
    let mut deaf = Vec::new();
    for _ in 0..64 {
        let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        // As many requests as go in; the answers stop when both buffers are full.
        let _ = stream.try_write(many.as_bytes());
        deaf.push(stream);
    }
    let answer = tokio::time::timeout(20 * PATIENCE, server.send("GET", "/healthz", &[], b""));
    assert_eq!(answer.await.expect("a place is free again").status, 200);
    drop(deaf);
    server.end().await;
}

#[tokio::test]
async fn heads_that_are_too_long() {
    let server = Server::start().await;
    let long = "x".repeat(200_000);
    let answer = server.raw_bytes(&request("GET", "/healthz", &[("x-long", &long)], b"")).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    let path = format!("/{}", "x".repeat(200_000));
    let answer = server.raw_bytes(&request("GET", &path, &[], b"")).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(server.send("GET", "/readyz", &[], b"").await.status, 200);
    server.end().await;
}

/// A small generator, so that a failure comes again.
struct Noise(u64);

impl Noise {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(below).unwrap()).unwrap()
    }
}

#[tokio::test]
async fn garbled_bodies_are_client_errors_and_nothing_else() {
    let server = Server::start().await;
    let id = server.hold(SHOP, "shop-line", 100_000, 60).await;
    let flows = json!({"flows": [flow("10.0.0.2", 1), flow("10.0.0.3", 65_535)]}).to_string();
    let seeds = [
        ("POST", QUOTES.to_owned(), rate_need("shop-line", 64_000, 60).to_string()),
        ("POST", QUOTES.to_owned(), bytes_need("shop-line", 1_000, 60).to_string()),
        ("PUT", format!("{BASE}/reservations/{id}/flows"), flows),
        ("POST", format!("{BASE}/reservations"), json!({"offer_id": "x-0"}).to_string()),
    ];
    let pieces: [&[u8]; 12] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b",",
        b":",
        b"null",
        b"-",
        b"99999999999999999999",
        b"\\u0000",
        b"\xff",
    ];
    let mut noise = Noise(0x5eed);
    for round in 0..800 {
        let (method, path, body) = &seeds[round % seeds.len()];
        let mut body = body.clone().into_bytes();
        for _ in 0..=noise.next(3) {
            let at = noise.next(body.len().max(1)).min(body.len());
            match noise.next(3) {
                0 => drop(body.splice(at..at, pieces[noise.next(pieces.len())].iter().copied())),
                1 => drop(body.splice(at..(at + noise.next(9)).min(body.len()), [])),
                _ => {
                    let at = at.min(body.len() - 1);
                    body[at] = u8::try_from(noise.next(256)).unwrap();
                }
            }
            if body.is_empty() {
                body.push(b' ');
            }
        }
        let answer = server.write(method, SHOP, path, &server.new_key(), &body).await;
        assert!(
            matches!(answer.status, 200 | 201 | 400 | 403 | 404 | 409 | 422 | 429),
            "round {round}: {} for {:?}",
            answer.status,
            String::from_utf8_lossy(&body)
        );
    }
    assert_eq!(server.send("GET", "/readyz", &[], b"").await.status, 200);
    server.end().await;
}
