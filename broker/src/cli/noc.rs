//! `tollway noc …`: verbs that call a running broker, and keys.

use super::args::{Output, Peers, TopUp, TopUps, WalletRead};
use super::{Failure, runtime};
use crate::auth::{sha256_hex, token_sha256};
use anyhow::{Context, anyhow};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, Uri, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// Environment variable that holds a NOC key.
const KEY_VARIABLE: &str = "TOLLWAY_NOC_KEY";

/// Before the token in what `noc key new` prints.
const TOKEN_LABEL: &str = "token:";

/// How long the broker may take.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 1_048_576;

/// Random bytes of a token: 256 bits, written as hexadecimal digits.
const TOKEN_BYTES: usize = 32;

pub(super) fn new_key() -> Result<(), Failure> {
    let token = random_hex(TOKEN_BYTES)?;
    println!("{TOKEN_LABEL}  {token}");
    println!("config: sha256 = \"{}\"", sha256_hex(&token_sha256(&token)));
    Ok(())
}

pub(super) fn top_up(args: &TopUp) -> Result<(), Failure> {
    let micros = micros(&args.amount).map_err(Failure::usage)?;
    let key = noc_key(args.key_file.as_deref()).map_err(Failure::usage)?;
    let idempotency_key = match &args.idempotency_key {
        Some(key) => key.clone(),
        None => random_hex(16)?,
    };
    let body = serde_json::json!({
        "amount_micros": micros,
        "currency": args.currency,
        "reason": args.reason,
    });
    let path = format!("/noc/v0.1/wallets/{}/top-ups", escaped(&args.customer));
    let uri: Uri = format!("{}{path}", args.url.trim_end_matches('/'))
        .parse()
        .with_context(|| format!("--url {} is not a URL", args.url))
        .map_err(Failure::usage)?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header("idempotency-key", &idempotency_key)
        .body(Full::new(Bytes::from(body.to_string())))
        .context("the request cannot be made")?;
    // Before it is sent: whoever stops us here can ask again with the same key.
    eprintln!("idempotency key: {idempotency_key}");
    let answer = runtime()?.block_on(answered(request)).map_err(|error| {
        if error.downcast_ref::<Definite>().is_some() {
            return error.context("not credited");
        }
        error.context(format!(
            "not known whether it was credited; run again with --idempotency-key {idempotency_key}"
        ))
    })?;
    let balance = answer.get("balance_micros").and_then(serde_json::Value::as_i64);
    let balance = balance.ok_or_else(|| anyhow!("the broker's answer has no balance: {answer}"))?;
    let (whole, rest) = (balance / 1_000_000, (balance % 1_000_000).abs());
    println!("{}: balance {whole}.{rest:06} {}", args.customer, args.currency);
    Ok(())
}

pub(super) fn wallet(args: &WalletRead) -> Result<(), Failure> {
    let answer = read(args, "")?;
    if args.output == Output::Json {
        println!("{answer:#}");
        return Ok(());
    }
    let amount = |name: &str| decimal(answer.get(name).and_then(Value::as_i64).unwrap_or(0));
    println!("{} ({})", args.customer, text(&answer, "currency"));
    for (word, name) in
        [("balance", "balance_micros"), ("held", "held_micros"), ("available", "available_micros")]
    {
        println!("  {word:<9} {:>20}", amount(name));
    }
    Ok(())
}

pub(super) fn top_ups(args: &TopUps) -> Result<(), Failure> {
    let after = args.after.as_deref().map(|after| format!("&after={}", escaped(after))).unwrap_or_default();
    let answer = read(&args.read, &format!("/top-ups?limit={}{after}", args.limit))?;
    if args.read.output == Output::Json {
        println!("{answer:#}");
        return Ok(());
    }
    println!("{:<24} {:>8} {:>20} {:<8} {:<16} why", "time", "seq", "amount", "currency", "who");
    for row in answer.get("top_ups").and_then(Value::as_array).into_iter().flatten() {
        println!(
            "{:<24} {:>8} {:>20} {:<8} {:<16} {}",
            text(row, "at"),
            row.get("seq").and_then(Value::as_u64).unwrap_or(0),
            decimal(row.get("amount_micros").and_then(Value::as_i64).unwrap_or(0)),
            text(row, "currency"),
            text(row, "actor"),
            text(row, "reason")
        );
    }
    if let Some(next) = answer.get("next").and_then(Value::as_str) {
        println!("there are more: --after {next}");
    }
    Ok(())
}

pub(super) fn peers(args: &Peers) -> Result<(), Failure> {
    let answer = get(&args.url, args.key_file.as_deref(), "/noc/v0.1/peers")?;
    match args.output {
        Output::Json => println!("{answer:#}"),
        Output::Table => print!("{}", peers_table(&answer)),
    }
    Ok(())
}

/// Peers, what they asked and answered, gateways: a block each.
fn peers_table(answer: &Value) -> String {
    let rows =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let count = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64).unwrap_or(0);
    let peers = rows(answer, "peers");
    if peers.is_empty() {
        return "no peers: the broker's configuration has no [gx], or no peers in it\n".to_owned();
    }
    let mut out = String::new();
    if answer.get("ready").and_then(Value::as_bool) == Some(false) {
        out.push_str("gateways are not served at the moment: see /readyz\n");
    }
    out.push_str(&format!(
        "{:<32} {:<14} {:<6} {:<24} {:>7} {:>8} {:>6} {:>11}\n",
        "peer", "state", "usable", "since", "pending", "incoming", "queue", "watchdogs"
    ));
    for peer in &peers {
        let usable = peer.get("usable").and_then(Value::as_bool).unwrap_or(false);
        let events = peer.get("events").unwrap_or(&Value::Null);
        let watchdogs =
            format!("{}/{}", count(events, "watchdogs_answered"), count(events, "watchdogs_sent"));
        out.push_str(&format!(
            "{:<32} {:<14} {:<6} {:<24} {:>7} {:>8} {:>6} {:>11}\n",
            text(peer, "origin_host"),
            text(peer, "state"),
            if usable { "yes" } else { "no" },
            text(peer, "since"),
            count(peer, "pending"),
            count(peer, "incoming"),
            count(peer, "queue"),
            watchdogs
        ));
        for row in rows(peer, "requests") {
            let (direction, command) = (text(&row, "direction"), text(&row, "command"));
            let results: Vec<String> = rows(peer, "results")
                .iter()
                // An answer to their request is ours.
                .filter(|r| text(r, "direction") != direction && text(r, "command") == command)
                .map(|r| format!("{} {}", text(r, "result"), count(r, "count")))
                .collect();
            let total = count(&row, "count");
            out.push_str(&format!("  {direction:<3} {command:<4} {total:>10}   {}\n", results.join(", ")));
        }
    }
    out.push_str(&format!(
        "{:<32} {:>10} {:>14} {:>10}\n",
        "gateway", "sessions", "pushes waiting", "in flight"
    ));
    for gateway in rows(answer, "gateways") {
        out.push_str(&format!(
            "{:<32} {:>10} {:>14} {:>10}\n",
            text(&gateway, "origin_host"),
            count(&gateway, "sessions"),
            count(&gateway, "pushes_waiting"),
            count(&gateway, "pushes_in_flight")
        ));
    }
    out
}

/// What the broker says at a path below a customer's wallet.
fn read(args: &WalletRead, below: &str) -> Result<Value, Failure> {
    let path = format!("/noc/v0.1/wallets/{}{below}", escaped(&args.customer));
    get(&args.url, args.key_file.as_deref(), &path)
}

fn get(url: &str, key_file: Option<&Path>, path: &str) -> Result<Value, Failure> {
    let key = noc_key(key_file).map_err(Failure::usage)?;
    let uri: Uri = format!("{}{path}", url.trim_end_matches('/'))
        .parse()
        .with_context(|| format!("--url {url} is not a URL"))
        .map_err(Failure::usage)?;
    let request = Request::builder()
        .uri(uri)
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .body(Full::new(Bytes::new()))
        .context("the request cannot be made")?;
    Ok(runtime()?.block_on(answered(request))?)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Units of a currency with six decimals.
fn decimal(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    format!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// The whole answer in time, not only its head.
async fn answered(request: Request<Full<Bytes>>) -> anyhow::Result<serde_json::Value> {
    tokio::time::timeout(ANSWER_WAIT, call(request)).await.context("the broker did not answer in time")?
}

async fn call(request: Request<Full<Bytes>>) -> anyhow::Result<serde_json::Value> {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let authority = request.uri().to_string();
    let response = client.request(request).await.map_err(|error| {
        if error.is_connect() {
            return anyhow::Error::new(Definite(format!(
                "nobody answers at {authority}: {}\n  mend: start the broker there, or name its address with --url",
                crate::api::error::chain(&error)
            )));
        }
        anyhow::Error::new(error).context(format!("cannot call {authority}"))
    })?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| anyhow!("the broker's answer broke off: {error}"))?
        .to_bytes();
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null);
    if status.is_success() {
        return Ok(answer);
    }
    let text = |name: &str| answer.get(name).and_then(serde_json::Value::as_str).unwrap_or("").to_owned();
    let said = format!("{status}: {} {}\n  mend: {}", text("code"), text("message"), text("how_to_fix"));
    if status.is_client_error() {
        return Err(anyhow::Error::new(Definite(said)));
    }
    Err(anyhow!(said))
}

/// A failure after which it is certain that nothing was done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Definite(String);

fn noc_key(file: Option<&Path>) -> anyhow::Result<String> {
    let text = match file {
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
        }
        None => std::env::var(KEY_VARIABLE)
            .map_err(|_| anyhow!("no NOC key: set {KEY_VARIABLE} or name a file with --key-file"))?,
    };
    let from = file.map_or_else(|| KEY_VARIABLE.to_owned(), |file| file.display().to_string());
    token_in(&text).map(str::to_owned).ok_or_else(|| {
        anyhow!("{from} holds no key\n  mend: write the token alone into it, or all that `tollway noc key new` printed")
    })
}

/// The token alone, or that of what `noc key new` printed.
fn token_in(text: &str) -> Option<&str> {
    let labelled = text.lines().find_map(|line| line.trim().strip_prefix(TOKEN_LABEL));
    let token = labelled.unwrap_or(text).trim();
    (!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())).then_some(token)
}

/// Millionths of a decimal amount; exact or refused.
fn micros(text: &str) -> anyhow::Result<i64> {
    let bad = || anyhow!("--amount {text:?} is no amount: write e.g. 10.00, with at most six decimals");
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 6 {
        return Err(bad());
    }
    let whole: i64 = whole.parse().map_err(|_| bad())?;
    let decimals: i64 = format!("{decimals:0<6}").parse().map_err(|_| bad())?;
    let micros = whole.checked_mul(1_000_000).and_then(|micros| micros.checked_add(decimals));
    micros.filter(|micros| *micros > 0).ok_or_else(bad)
}

/// A path segment; names of customers may hold a slash.
fn escaped(name: &str) -> String {
    name.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

fn random_hex(bytes: usize) -> anyhow::Result<String> {
    let mut random = vec![0u8; bytes];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .context("cannot read the kernel's randomness")?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_holds_a_token_or_what_was_printed_with_it() {
        let printed = "token:  abc123\nconfig: sha256 = \"00\"\n";
        for (text, want) in [
            ("abc123\n", Some("abc123")),
            (printed, Some("abc123")),
            ("", None),
            ("token:\nconfig: sha256 = \"00\"\n", None),
            ("config: sha256 = \"00\"", None),
            ("two words", None),
        ] {
            assert_eq!(token_in(text), want, "{text:?}");
        }
    }

    #[test]
    fn amounts_are_exact_or_refused() {
        for (text, want) in [
            ("10.00", 10_000_000),
            ("0.000001", 1),
            ("7", 7_000_000),
            ("1.5", 1_500_000),
            ("1.50", 1_500_000),
        ] {
            assert_eq!(micros(text).unwrap(), want, "{text}");
        }
        for text in
            ["", "0", "0.0", "-1", "1.", ".5", "1.0000001", "1e3", "NaN", "1,5", "9223372036855", "+1"]
        {
            assert!(micros(text).is_err(), "{text}");
        }
        assert_eq!((decimal(-1).as_str(), decimal(1_500_000).as_str()), ("-0.000001", "1.500000"));
        assert_eq!(escaped("shop/a b"), "shop%2Fa%20b");
    }
}
