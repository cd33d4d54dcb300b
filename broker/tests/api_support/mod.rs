//! A real broker in this process: driver and store on a directory of its own, the router on a port of its
//! own, a clock that can be moved on; and a client that can send what no decent client would.
#![allow(dead_code)]

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tollway::api::server::{Bounds, serve};
use tollway::api::{ApiState, router};
use tollway::auth::{KeyDef, KeyKind, Keys, token_sha256};
use tollway::clock::{Kernel, Reading, Source};
use tollway::driver::{Market, Options, Started, Stopped, start};
use tollway::public_id::PublicIds;
use tollway_billing::{Curve, Tariff};
use tollway_core::config::{
    AccessDef, ChargeBy, ConfigDef, CustomerDef, EndpointDef, LegalBasis, PoolDef, SideDef, TierDef, TierKind,
};
use tollway_model::{BitsPerSecond, Currency, Micros, SlotLength};
use tollway_policy::ClassShape;

pub const BASE: &str = "/qos-transfers/v0.1";

/// Customers `shop` and `late` at accesses of their own behind one pool; `poor` has no money.
pub const SHOP: &str = "token-of-shop";
pub const LATE: &str = "token-of-late";
pub const POOR: &str = "token-of-poor";
pub const NOC: &str = "token-of-the-noc";
pub const AGENT: &str = "token-of-the-agent";

/// How long this server waits for a head and for a body.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// Class rate of the shared pool, each way; half of it is on sale.
pub const POOL_BPS: u64 = 40_000_000;

/// The kernel's clocks, moved on by hand.
#[derive(Clone, Default)]
pub struct Moved(Arc<AtomicU64>);

impl Source for Moved {
    fn read(&self) -> Reading {
        let by = self.0.load(Ordering::SeqCst);
        let now = Kernel.read();
        Reading { boot_us: now.boot_us + by, wall_us: now.wall_us + by }
    }
}

pub struct Server {
    pub dir: PathBuf,
    pub address: SocketAddr,
    pub started: Started,
    pub clock: Moved,
    serving: JoinHandle<()>,
    next_key: AtomicU64,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Its status and code, and that it has the form of every error.
    pub fn is_error(&self, status: u16, code: &str) {
        let body = self.json();
        assert_eq!((self.status, self.code().as_str()), (status, code), "{body}");
        assert_eq!(body["status"], status);
        for field in ["message", "how_to_fix", "request_id"] {
            assert!(!body[field].as_str().unwrap_or_default().is_empty(), "{field}: {body}");
        }
        assert_eq!(self.header("x-correlator"), body["request_id"].as_str());
    }

    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()
    }
}

static NEXT_DIR: AtomicU64 = AtomicU64::new(1);

impl Server {
    pub async fn start() -> Server {
        let n = NEXT_DIR.fetch_add(1, Ordering::SeqCst);
        let dir = std::env::temp_dir().join(format!("tollway-api-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let server = Server::open(dir, Moved::default()).await;
        for customer in ["shop", "late"] {
            let path = format!("/noc/v0.1/wallets/{customer}/top-ups");
            let body = json!({"amount_micros": 50_000_000, "currency": "EUR", "reason": "tests"});
            server.post(NOC, &path, &body).await.expect(201);
        }
        server
    }

    /// Serves a directory that may have been served before.
    pub async fn open(dir: PathBuf, clock: Moved) -> Server {
        Server::open_with(dir, clock, config()).await
    }

    pub async fn open_with(dir: PathBuf, clock: Moved, config: ConfigDef) -> Server {
        let options = Options {
            market: Market { name: "test".to_owned(), slot_length: SlotLength::from_secs(5).unwrap() },
            config,
            clock: Box::new(clock.clone()),
            accept_clock: false,
            new_market_key: false,
        };
        let started = start(&dir, options).await.unwrap();
        let ids = PublicIds::open(&dir).unwrap();
        let (handle, reader, hub) = (started.handle.clone(), started.reader.clone(), started.hub.clone());
        let state = ApiState::new(handle, reader, ids, Arc::new(keys()), hub).unwrap();
        let state = state.with_body_timeout(PATIENCE);
        let bounds = Bounds { connections_max: 64, head_timeout: PATIENCE, untaken_wait: PATIENCE };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener, router(state), bounds, std::future::pending()));
        Server { dir, address, started, clock, serving, next_key: AtomicU64::new(1) }
    }

    /// Stops and gives the directory and clock back.
    pub async fn stop(self) -> (PathBuf, Moved) {
        self.started.stop.send(true).unwrap();
        assert!(matches!(self.started.driver.await.unwrap(), Stopped::Gracefully));
        self.serving.abort();
        self.started.reader.close().await;
        (self.dir, self.clock)
    }

    pub async fn end(self) {
        let (dir, _) = self.stop().await;
        std::fs::remove_dir_all(dir).unwrap();
    }

    pub fn pass_ms(&self, ms: u64) {
        self.clock.0.fetch_add(ms * 1_000, Ordering::SeqCst);
    }

    pub fn new_key(&self) -> String {
        format!("key-{}", self.next_key.fetch_add(1, Ordering::SeqCst))
    }

    /// Sends bytes as they are and reads until the server is done.
    pub async fn raw(&self, bytes: &[u8]) -> Answer {
        read_answer(&self.raw_bytes(bytes).await)
    }

    /// As [`Server::raw`], whatever comes back.
    pub async fn raw_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // A server that has said no may not read on.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    }

    /// Sends what it has and closes its side: the rest never comes.
    pub async fn raw_and_close(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.raw(&request(method, path, headers, body)).await
    }

    pub async fn get(&self, token: &str, path: &str) -> Answer {
        self.send("GET", path, &[("authorization", &format!("Bearer {token}"))], b"").await
    }

    /// A write with this key.
    pub async fn write(&self, method: &str, token: &str, path: &str, key: &str, body: &[u8]) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("idempotency-key", key),
            ("content-type", "application/json"),
        ];
        self.send(method, path, &headers, body).await
    }

    /// A write with a new key.
    pub async fn post(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.write("POST", token, path, &self.new_key(), body.to_string().as_bytes()).await
    }

    pub async fn quote(&self, token: &str, body: &Value) -> Answer {
        self.post(token, &format!("{BASE}/quotes"), body).await
    }

    pub async fn take(&self, token: &str, offer: &str) -> Answer {
        self.post(token, &format!("{BASE}/reservations"), &json!({ "offer_id": offer })).await
    }

    /// A held reservation for a rate: its id.
    pub async fn hold(&self, token: &str, access: &str, rate_bps: u64, end_in_s: u64) -> String {
        let quote = self.quote(token, &rate_need(access, rate_bps, end_in_s)).await.expect(201);
        let offer = quote["offers"][0]["offer_id"].as_str().unwrap().to_owned();
        let held = self.take(token, &offer).await.expect(201);
        held["reservation_id"].as_str().unwrap().to_owned()
    }

    pub async fn verb(&self, token: &str, id: &str, verb: &str) -> Answer {
        self.post(token, &format!("{BASE}/reservations/{id}/{verb}"), &json!({})).await
    }

    /// All that a client could have changed, for before and after.
    pub async fn state(&self) -> Value {
        let mut seen = Vec::new();
        for token in [SHOP, LATE, POOR] {
            let mut wallet = self.get(token, &format!("{BASE}/wallet")).await.expect(200);
            wallet["reservations"] = self.get(token, &format!("{BASE}/reservations")).await.expect(200);
            seen.push(wallet);
        }
        Value::Array(seen)
    }
}

/// A request, whole, on a connection of its own.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !body.is_empty() || method != "GET" {
        bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

fn read_answer(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| {
        panic!("no HTTP answer: {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(200)]))
    });
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    assert!(!headers.iter().any(|(name, _)| name == "transfer-encoding"), "bodies come whole");
    Answer { status, headers, bytes: bytes[end + 4..].to_vec() }
}

pub fn rate_need(access: &str, rate_bps: u64, end_in_s: u64) -> Value {
    json!({"access": access, "direction": "up", "tier": "gold",
           "need": {"rate": {"rate_bps": rate_bps}}, "end_in_s": end_in_s})
}

pub fn bytes_need(access: &str, bytes: u64, end_in_s: u64) -> Value {
    json!({"access": access, "direction": "up", "tier": "gold",
           "need": {"bytes": {"bytes": bytes}}, "end_in_s": end_in_s})
}

pub fn flow(device: &str, remote_port: u64) -> Value {
    json!({"protocol": "tcp", "device": {"address": device},
           "remote": {"address": "10.1.0.2", "port": remote_port}})
}

pub fn keys() -> Keys {
    let customer = |name: &str| KeyKind::Customer { customer: name.to_owned() };
    let defs = [
        ("shop-key", customer("shop"), SHOP),
        ("late-key", customer("late"), LATE),
        ("poor-key", customer("poor"), POOR),
        ("noc-key", KeyKind::Noc, NOC),
        ("agent-key", KeyKind::Agent { enforcement_point: "router1".to_owned() }, AGENT),
    ];
    let defs =
        defs.map(|(name, kind, token)| KeyDef { name: name.to_owned(), kind, sha256: token_sha256(token) });
    Keys::new(defs).unwrap()
}

pub fn config() -> ConfigDef {
    let access = |name: &str| AccessDef {
        name: format!("{name}-line"),
        enforcement_point: "router1".to_owned(),
        up: SideDef { port: "wan".to_owned(), pools: vec!["uplink".to_owned()] },
        down: SideDef { port: name.to_owned(), pools: vec!["uplink".to_owned()] },
        price_pool: "uplink".to_owned(),
        subscriber: format!("{name}-owner"),
        road: None,
    };
    let customer = |name: &str, line: &str, prefix: &str| CustomerDef {
        name: name.to_owned(),
        currency: Currency::EUR,
        endpoints: vec![EndpointDef {
            access: format!("{line}-line"),
            addresses: vec![prefix.parse().unwrap()],
        }],
    };
    ConfigDef {
        pools: vec![PoolDef {
            name: "uplink".to_owned(),
            up: BitsPerSecond(POOL_BPS),
            down: BitsPerSecond(POOL_BPS),
            sell_share_ppm: 500_000,
            hold_share_ppm: 250_000,
        }],
        tiers: vec![gold()],
        accesses: vec![access("shop"), access("late")],
        customers: vec![
            customer("shop", "shop", "10.0.0.0/24"),
            customer("late", "late", "10.0.1.0/24"),
            customer("poor", "shop", "10.0.0.128/25"),
        ],
    }
}

fn gold() -> TierDef {
    TierDef {
        name: "gold".to_owned(),
        kind: TierKind::Assured,
        legal_basis: LegalBasis::SubscriberChoice,
        shape: ClassShape { packet_bytes: 1_500, queue_ms_max: 50, borrow: true },
        overhead_ppm: 50_000,
        gap_s_max: 3,
        start_grace_s: 10,
        unseen_free_s: 120,
        rate_offers: ChargeBy::Reserved,
        bytes_offers: ChargeBy::Delivered,
        rate_min: BitsPerSecond(64_000),
        rate_max: BitsPerSecond(100_000_000),
        notice_s: 0,
        cancel_fee_ppm: 0,
        tariff: Tariff {
            name: "gold-2026".to_owned(),
            currency: Currency::EUR,
            mbps_hour: Micros(20_000),
            gb: Micros(50_000),
            setup: Micros(100),
            curve: Curve::flat(),
        },
        gx: None,
        rx: None,
        charge_unconfirmed: false,
    }
}
