//! Exact counters at the receiver: nf_tables in the server's namespace, one per flow of a step and one for
//! everything else, on layer-3 bytes, before anything above can drop.

use crate::error::{Error, Result};
use crate::net::namespace::Namespace;
use crate::scenario::Plan;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

const OTHERS: &str = "others";

/// Packets and layer-3 bytes.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Count {
    pub packets: u64,
    pub bytes: u64,
}

/// What the server received so far.
#[derive(Clone, Default, Debug)]
pub struct Counts {
    by_name: BTreeMap<String, Count>,
}

impl Counts {
    pub fn flow(&self, port: u16) -> Count {
        self.by_name.get(&flow_name(port)).copied().unwrap_or_default()
    }

    /// Everything that came from the hosts and is no step's flow.
    pub fn others(&self) -> Count {
        self.by_name.get(OTHERS).copied().unwrap_or_default()
    }
}

/// The installed counters.
#[derive(Clone)]
pub struct Counters {
    ns: Namespace,
}

fn flow_name(port: u16) -> String {
    format!("flow_{port}")
}

fn protocol_name(protocol: u8) -> &'static str {
    if protocol == 6 { "tcp" } else { "udp" }
}

/// The table, as text for `nft -f`: flow by flow, then the rest.
fn table(plan: &Plan) -> String {
    let address =
        |host: &str| plan.hosts.iter().find(|h| h.name == host).map_or(Ipv4Addr::UNSPECIFIED, |h| h.address);
    let mut counters = format!("  counter {OTHERS} {{ }}\n");
    let mut rules = String::new();
    for (_, protocol, from, port) in plan.flows() {
        let (name, source) = (flow_name(port), address(from));
        let proto = protocol_name(protocol);
        counters.push_str(&format!("  counter {name} {{ }}\n"));
        rules.push_str(&format!("    ip saddr {source} {proto} dport {port} counter name {name} return\n"));
    }
    format!(
        "table ip tollway_lab {{\n{counters}  chain receive {{\n    type filter hook prerouting priority raw; \
         policy accept;\n    iifname \"eth0\" jump split\n  }}\n  chain split {{\n{rules}    ip saddr \
         10.10.0.0/24 counter name {OTHERS}\n  }}\n}}\n"
    )
}

impl Counters {
    pub fn install(ns: &Namespace, plan: &Plan) -> Result<Counters> {
        let script = table(plan);
        ns.call(move || feed(&script))??;
        Ok(Counters { ns: ns.clone() })
    }

    pub fn read(&self) -> Result<Counts> {
        let json = self.ns.call(|| nft(&["-j", "list", "counters"]))??;
        let mut by_name = BTreeMap::new();
        let objects = json.get("nftables").and_then(Value::as_array).cloned().unwrap_or_default();
        for counter in objects.iter().filter_map(|o| o.get("counter")) {
            let Some(name) = counter.get("name").and_then(Value::as_str) else { continue };
            let number = |key: &str| counter.get(key).and_then(Value::as_u64).unwrap_or(0);
            by_name.insert(name.to_owned(), Count { packets: number("packets"), bytes: number("bytes") });
        }
        Ok(Counts { by_name })
    }
}

/// Map elements of the product's table in a namespace: what a reservation leaves if nobody cleans up.
pub fn product_elements(ns: &Namespace) -> Result<usize> {
    let json = ns.call(|| nft(&["-j", "list", "ruleset"]))??;
    let objects = json.get("nftables").and_then(Value::as_array).cloned().unwrap_or_default();
    let ours = |set: &&Value| set.get("table").and_then(Value::as_str) == Some("tollway");
    Ok(objects
        .iter()
        .filter_map(|o| o.get("map").or_else(|| o.get("set")))
        .filter(ours)
        .filter_map(|set| set.get("elem").and_then(Value::as_array))
        .map(Vec::len)
        .sum())
}

fn missing(error: &std::io::Error) -> Error {
    Error::Host {
        capability: format!("the program nft (package nftables), for the receiver's counters: {error}"),
    }
}

fn feed(script: &str) -> Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| missing(&e))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script.as_bytes()).map_err(Error::io("feeding nft"))?;
    }
    let out = child.wait_with_output().map_err(Error::io("waiting for nft"))?;
    if out.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    Err(Error::Host { capability: format!("nf_tables counters: {why}") })
}

fn nft(args: &[&str]) -> Result<Value> {
    let out = Command::new("nft").args(args).stdin(Stdio::null()).output().map_err(|e| missing(&e))?;
    if !out.status.success() {
        let why = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        return Err(Error::Host { capability: format!("nf_tables counters: {why}") });
    }
    serde_json::from_slice(&out.stdout)
        .map_err(|e| Error::io("reading the answer of nft")(std::io::Error::other(e)))
}
