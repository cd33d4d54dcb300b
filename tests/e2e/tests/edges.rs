//! The edges of the crate graph, the pure crates' short list of third-party crates, and what `deny.toml`
//! says about licences, sources and duplicates. Read from `cargo metadata`, without a network.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Who may depend on whom inside the tree (normal and build dependencies). A new edge is an ADR.
const EDGES: &[(&str, &[&str])] = &[
    ("tollway-model", &[]),
    ("tollway-billing", &["tollway-model"]),
    ("tollway-policy", &["tollway-model"]),
    ("tollway-core", &["tollway-model", "tollway-billing", "tollway-policy"]),
    ("tollway-netlink", &["tollway-policy", "tollway-model"]),
    ("tollway-linux", &["tollway-netlink", "tollway-policy", "tollway-model"]),
    ("tollway-agent", &["tollway-linux", "tollway-proto", "tollway-policy", "tollway-model"]),
    ("tollway-diameter", &[]),
    ("tollway-gx", &["tollway-diameter", "tollway-policy", "tollway-model"]),
    ("tollway-rx", &["tollway-diameter", "tollway-policy", "tollway-model"]),
    ("tollway-proto", &[]),
    ("tollway-link", &[]),
    ("tollway-lab", &["tollway-link", "tollway-netlink", "tollway-proto", "tollway-policy", "tollway-model"]),
    ("tollway-pcef", &["tollway-netlink", "tollway-link"]),
    (
        "tollway",
        &[
            "tollway-model",
            "tollway-billing",
            "tollway-policy",
            "tollway-core",
            "tollway-proto",
            "tollway-diameter",
            "tollway-gx",
            "tollway-lab",
        ],
    ),
    (
        "tollway-sim",
        &[
            "tollway-core",
            "tollway-billing",
            "tollway-policy",
            "tollway-model",
            "tollway-gx",
            "tollway-diameter",
        ],
    ),
    (
        "tollway-bench",
        &[
            "tollway-core",
            "tollway-billing",
            "tollway-policy",
            "tollway-model",
            "tollway-gx",
            "tollway-diameter",
        ],
    ),
    ("tollway-e2e", &[]),
];

/// All that a pure crate may use from outside.
const PURE: &[&str] = &[
    "tollway-model",
    "tollway-billing",
    "tollway-policy",
    "tollway-core",
    "tollway-netlink",
    "tollway-link",
];
const PURE_MAY_USE: &[&str] = &["minicbor", "thiserror"];

fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform"])
        .arg("x86_64-unknown-linux-gnu")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// Names of a package's dependencies that are compiled into it.
fn dependencies(package: &Value) -> BTreeSet<&str> {
    list(package, "dependencies")
        .iter()
        .filter(|d| d["kind"].as_str() != Some("dev"))
        .map(|d| text(d, "name"))
        .collect()
}

fn members(metadata: &Value) -> Vec<&Value> {
    list(metadata, "packages").iter().filter(|package| package["source"].is_null()).collect()
}

#[test]
fn crates_depend_only_along_the_graph() {
    let metadata = metadata();
    let edges: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    for package in members(&metadata) {
        let name = text(package, "name");
        let allowed = edges.get(name).unwrap_or_else(|| panic!("{name} is not in the graph: write an ADR"));
        for dependency in dependencies(package).into_iter().filter(|d| d.starts_with("tollway")) {
            assert!(allowed.contains(&dependency), "{name} may not depend on {dependency}");
        }
    }
}

#[test]
fn pure_crates_use_only_the_short_list() {
    let metadata = metadata();
    for package in members(&metadata) {
        let name = text(package, "name");
        if !PURE.contains(&name) {
            continue;
        }
        for dependency in dependencies(package) {
            let known = dependency.starts_with("tollway") || PURE_MAY_USE.contains(&dependency);
            assert!(known, "{name} is pure and may not use {dependency}");
        }
        let manifest = text(package, "manifest_path").replace("Cargo.toml", "clippy.toml");
        let clippy =
            std::fs::read_to_string(&manifest).unwrap_or_else(|_| panic!("{name} has no clippy.toml"));
        assert!(clippy.contains("Instant::now") && clippy.contains("HashMap::iter"), "{manifest}");
    }
}

#[test]
fn only_the_agent_links_libnftnl() {
    let metadata = metadata();
    for package in members(&metadata) {
        let links = dependencies(package).iter().any(|d| d.starts_with("nftnl") || *d == "mnl");
        assert!(
            !links || text(package, "name") == "tollway-linux",
            "{} links libnftnl",
            text(package, "name")
        );
    }
}

fn deny() -> toml::Table {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deny.toml");
    std::fs::read_to_string(path).expect("deny.toml is readable").parse().expect("deny.toml is TOML")
}

fn strings(table: &toml::Table, section: &str, key: &str) -> Vec<String> {
    let values = table[section][key].as_array().cloned().unwrap_or_default();
    values.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// An SPDX expression holds if one of its alternatives consists of allowed terms.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let flat = expression.replace(['(', ')'], " ").replace('/', " OR ");
    flat.split(" OR ").any(|side| {
        side.split(" AND ")
            .map(|term| term.split_whitespace().collect::<Vec<_>>().join(" "))
            .all(|t| allowed.contains(&t))
    })
}

/// Packages that are really built here, by id.
fn resolved(metadata: &Value) -> BTreeSet<&str> {
    list(&metadata["resolve"], "nodes").iter().map(|node| text(node, "id")).collect()
}

#[test]
fn licences_and_sources_are_allowed() {
    let metadata = metadata();
    let allowed = strings(&deny(), "licenses", "allow");
    let built = resolved(&metadata);
    for package in list(&metadata, "packages").iter().filter(|p| built.contains(text(p, "id"))) {
        let name = text(package, "name");
        let license = text(package, "license");
        assert!(is_allowed(license, &allowed), "{name}: licence {license:?} is not in deny.toml");
        let source = text(package, "source");
        assert!(source.is_empty() || source.starts_with("registry+"), "{name} comes from {source}");
    }
}

#[test]
fn one_version_of_each_crate() {
    let metadata = metadata();
    let skip = strings(&deny(), "bans", "skip");
    let built = resolved(&metadata);
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in list(&metadata, "packages").iter().filter(|p| built.contains(text(p, "id"))) {
        versions.entry(text(package, "name")).or_default().insert(text(package, "version"));
    }
    let twice: Vec<String> = versions
        .iter()
        .filter(|(name, versions)| versions.len() > 1 && !skip.iter().any(|s| s == *name))
        .map(|(name, versions)| format!("{name} {versions:?}"))
        .collect();
    assert!(twice.is_empty(), "several versions, without a reason in deny.toml: {twice:#?}");
    for name in &skip {
        let still = versions.get(name.as_str()).is_some_and(|versions| versions.len() > 1);
        assert!(still, "deny.toml skips {name}, which has one version now");
    }
}
