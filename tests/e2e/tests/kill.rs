//! The broker is killed again and again under a continuous workload. No confirmed promise is lost or
//! doubled, every repeated key gets its first answer, every open hold belongs to one live reservation, and a
//! wallet is its top-ups less what was posted.
//!
//! `SOAK_KILLS=200` makes it `make soak`; the default is 20.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use support::{Broker, CUSTOMERS, Scratch, binary, call, parse, pause, wait_for};

const BASE: &str = "/qos-transfers/v0.1";
const TOP_UP_MICROS: i64 = 1_000_000_000;
/// Kills between append and reply that are wanted, and how often they are tried.
const AIMED: usize = 5;
const AIMED_TRIES_MAX: usize = 300;
const BOUND: Duration = Duration::from_secs(120);

/// A write that was answered: what was asked, with which key, and the first answer.
struct Answered {
    customer: usize,
    method: &'static str,
    path: String,
    key: String,
    body: Value,
    status: u16,
    text: String,
}

struct Workload<'a> {
    url: &'a str,
    keys: &'a [String],
    answered: Mutex<Vec<Answered>>,
    stop: AtomicBool,
    next: AtomicU64,
}

impl Workload<'_> {
    /// Sends a write until a whole answer comes, always with the same key, as a runtime would.
    fn write(&self, customer: usize, method: &'static str, path: String, body: Value) -> (u16, Value) {
        let key = format!("k{}", self.next.fetch_add(1, Ordering::Relaxed));
        let (status, text) = wait_for("an answer", BOUND, || {
            match call(self.url, method, &path, &self.keys[customer], Some(&key), Some(&body)) {
                Ok((503, _)) | Err(_) => {
                    pause(10);
                    None
                }
                Ok(answer) => Some(answer),
            }
        });
        let value = parse(&text);
        let answered = Answered { customer, method, path, key, body, status, text };
        self.answered.lock().expect("no poison").push(answered);
        (status, value)
    }

    fn quote(&self, customer: usize) -> Option<String> {
        let body = json!({"access": "line", "direction": "up", "need": {"rate": {"rate_bps": 64_000}}, "end_in_s": 3600});
        let (status, quote) = self.write(customer, "POST", format!("{BASE}/quotes"), body);
        assert!(status == 201 || status == 429, "{quote}");
        quote["offers"][0]["offer_id"].as_str().map(str::to_owned)
    }

    fn one_life(&self, customer: usize, round: u64) {
        let Some(offer) = self.quote(customer) else { return };
        let (status, held) =
            self.write(customer, "POST", format!("{BASE}/reservations"), json!({"offer_id": offer}));
        if status != 201 {
            return;
        }
        let id = held["reservation_id"].as_str().expect("an id").to_owned();
        let verb = |verb: &str| format!("{BASE}/reservations/{id}/{verb}");
        if round % 5 != 4 {
            let (status, confirmed) = self.write(customer, "POST", verb("confirm"), json!({}));
            assert!(status == 200 || confirmed["code"] == "QOS_TRANSFERS.QUOTE_EXPIRED", "{confirmed}");
        }
        if round.is_multiple_of(3) || round % 5 == 4 {
            self.write(customer, "POST", verb("cancel"), json!({}));
        }
    }

    fn run(&self, customer: usize) {
        let mut round = 0;
        while !self.stop.load(Ordering::Relaxed) {
            self.one_life(customer, round);
            round += 1;
            pause(10);
        }
    }
}

fn kills() -> u64 {
    std::env::var("SOAK_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20)
}

#[test]
fn killed_under_load_nothing_is_lost_or_doubled() {
    let scratch = Scratch::new("kill");
    let mut broker = Broker::start(&scratch.0);
    for customer in 0..CUSTOMERS {
        broker.top_up(customer, TOP_UP_MICROS);
    }
    let (url, keys) = (broker.url.clone(), broker.keys.clone());
    let workload = Workload {
        url: &url,
        keys: &keys,
        answered: Mutex::new(Vec::new()),
        stop: AtomicBool::new(false),
        next: AtomicU64::new(0),
    };
    let total = kills();
    let aimed = std::thread::scope(|scope| {
        // The last customer is kept for the aimed kills.
        for customer in 0..CUSTOMERS - 1 {
            let workload = &workload;
            scope.spawn(move || workload.run(customer));
        }
        for kill in 0..total {
            pause(200 + kill * 7919 % 800);
            broker.kill();
            broker.spawn();
        }
        let aimed = aimed_kills(&mut broker, &workload);
        workload.stop.store(true, Ordering::Relaxed);
        aimed
    });
    let answered = workload.answered.into_inner().expect("no poison");
    check_keys(&broker, &answered);
    let confirmed = check_promises(&broker, &answered);
    check_money(&broker);
    assert_eq!(broker.stop(), Some(0));
    let verified = std::process::Command::new(binary("tollway"))
        .args(["journal", "verify", "--data"])
        .arg(&broker.data)
        .output()
        .expect("journal verify runs");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    println!(
        "{total} kills and {aimed} between append and reply, {} answers, {confirmed} confirmed promises",
        answered.len()
    );
}

/// Kills right after a request was sent; counts those in which the effect was durable and no reply came.
fn aimed_kills(broker: &mut Broker, workload: &Workload<'_>) -> usize {
    let customer = CUSTOMERS - 1;
    let mut hit = 0;
    for attempt in 0..AIMED_TRIES_MAX {
        let Some(offer) = workload.quote(customer) else {
            pause(500);
            continue;
        };
        let path = format!("{BASE}/reservations");
        let body = json!({"offer_id": offer});
        let key = format!("aimed{attempt}");
        let (url, token) = (broker.url.clone(), broker.keys[customer].clone());
        let sent = {
            let (path, body, key) = (path.clone(), body.clone(), key.clone());
            std::thread::spawn(move || call(&url, "POST", &path, &token, Some(&key), Some(&body)))
        };
        let wait_us = 300 + (attempt as u64 * 397) % 4_000;
        std::thread::park_timeout(Duration::from_micros(wait_us));
        broker.kill();
        let killed = now_ms();
        let unanswered = sent.join().expect("the sender").is_err();
        broker.spawn();
        let (status, text) = wait_for("the repeated key's answer", BOUND, || {
            call(&broker.url, "POST", &path, &broker.keys[customer], Some(&key), Some(&body)).ok()
        });
        let held = parse(&text);
        assert!(status == 201 || held["code"] == "QOS_TRANSFERS.QUOTE_EXPIRED", "{held}");
        if status == 201 {
            let created = millis(held["created_at"].as_str().expect("a time"));
            if unanswered && created <= killed {
                hit += 1;
            }
            let id = held["reservation_id"].as_str().expect("an id");
            workload.write(customer, "POST", format!("{BASE}/reservations/{id}/cancel"), json!({}));
        }
        if hit == AIMED {
            return hit;
        }
    }
    panic!("only {hit} of {AIMED_TRIES_MAX} aimed kills fell between append and reply");
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("before the year 500 million")
}

/// Milliseconds since 1970 of an RFC 3339 UTC time.
fn millis(text: &str) -> u64 {
    let digits: Vec<u64> = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().expect("digits"))
        .collect();
    let [year, month, day, hour, minute, second, rest @ ..] = digits.as_slice() else { panic!("{text}") };
    let (y, m) = if *month <= 2 { (year - 1, month + 9) } else { (*year, month - 3) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let ms = rest.first().copied().unwrap_or(0);
    (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + ms
}

/// A sample of the keys is used again: each gets its first answer, byte by byte.
fn check_keys(broker: &Broker, answered: &[Answered]) {
    let step = (answered.len() / 500).max(1);
    for first in answered.iter().step_by(step) {
        if first.status == 429 {
            continue;
        }
        let token = &broker.keys[first.customer];
        let again = call(&broker.url, first.method, &first.path, token, Some(&first.key), Some(&first.body));
        let (status, text) = again.expect("an answer");
        let (mut before, mut after) = (parse(&first.text), parse(&text));
        // The request's own id is the one thing that is new.
        for value in [&mut before, &mut after] {
            if let Some(object) = value.as_object_mut() {
                object.remove("request_id");
            }
        }
        assert_eq!((status, after), (first.status, before), "{} {}", first.method, first.path);
    }
}

fn all_reservations(broker: &Broker, customer: usize) -> Vec<Value> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("{BASE}/reservations?limit=100{after}");
        let (status, text) =
            call(&broker.url, "GET", &path, &broker.keys[customer], None, None).expect("a reply");
        assert_eq!(status, 200, "{text}");
        let page = parse(&text);
        let list = page["reservations"].as_array().expect("a list");
        all.extend(list.iter().cloned());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return all,
        }
    }
}

/// Every promise that was confirmed exists once, and is confirmed or was cancelled by its customer.
fn check_promises(broker: &Broker, answered: &[Answered]) -> usize {
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    for customer in 0..CUSTOMERS {
        for reservation in all_reservations(broker, customer) {
            let id = reservation["reservation_id"].as_str().expect("an id").to_owned();
            assert!(known.insert(id, reservation).is_none(), "a reservation is listed twice");
        }
    }
    let mut confirmed = 0;
    for first in answered.iter().filter(|a| a.status == 200 && a.path.ends_with("/confirm")) {
        let id = parse(&first.text)["reservation_id"].as_str().expect("an id").to_owned();
        let reservation = known.get(&id).unwrap_or_else(|| panic!("{id} was confirmed and is gone"));
        let promise = reservation["promise"].as_str().expect("a promise");
        let cancelled = reservation["end_reason"] == "cancelled";
        assert!(promise == "running" || promise == "booked" || cancelled, "{reservation}");
        confirmed += 1;
    }
    // Takes that were answered 201, each with its own key, are as many reservations: none was doubled.
    let taken = answered.iter().filter(|a| a.status == 201 && a.path.ends_with("/reservations")).count();
    let own: usize = (0..CUSTOMERS - 1).map(|customer| all_reservations(broker, customer).len()).sum();
    assert_eq!(taken, own, "reservations of the workload's customers");
    confirmed
}

/// wallet = top-ups − posted; what is held is the sum of what live reservations hold.
fn check_money(broker: &Broker) {
    for customer in 0..CUSTOMERS {
        let path = format!("{BASE}/wallet");
        let (_, text) = call(&broker.url, "GET", &path, &broker.keys[customer], None, None).expect("a reply");
        let wallet = parse(&text);
        let (mut held, mut posted) = (0, 0);
        for reservation in all_reservations(broker, customer) {
            let money = &reservation["money"];
            let settled = reservation["settled"] == true;
            let sum = money["held_micros"].as_i64().expect("an integer");
            assert!(!settled || sum == 0, "{reservation}");
            held += sum;
            posted += money["posted_micros"].as_i64().expect("an integer");
        }
        assert_eq!(wallet["balance_micros"].as_i64(), Some(TOP_UP_MICROS - posted), "{wallet}");
        assert_eq!(wallet["held_micros"].as_i64(), Some(held), "{wallet}");
    }
    let (_, metrics) = call(&broker.url, "GET", "/metrics", "", None, None).expect("a reply");
    let imbalance = metrics.lines().find(|line| line.contains("ledger_imbalance") && !line.starts_with('#'));
    assert!(imbalance.is_some_and(|line| line.ends_with(" 0")), "{imbalance:?}");
}
