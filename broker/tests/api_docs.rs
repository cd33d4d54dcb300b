//! Committed documents that are made from the code. `UPDATE_GOLDEN=1 cargo test -p tollway --test api_docs`
//! writes them again; what changed is then reviewed like code.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use tollway::api::catalogue;
use tollway::telemetry::gateways;
use tollway::telemetry::metrics::FIGURES;

fn check_golden(path: &str, wanted: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, wanted).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{} has drifted from the code: run `UPDATE_GOLDEN=1 cargo test -p tollway --test api_docs` and review",
        path.display()
    );
}

#[test]
fn the_api_description_is_committed() {
    check_golden("proto/openapi/qos-transfers.json", &tollway::api::openapi::document());
}

#[test]
fn the_api_description_is_openapi_3_1_and_complete() {
    let document: serde_json::Value = serde_json::from_str(&tollway::api::openapi::document()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = document["paths"].as_object().unwrap();
    let mut ids = BTreeSet::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
            let writes = matches!(method.as_str(), "post" | "put");
            let parameters = operation["parameters"].to_string();
            assert_eq!(parameters.contains("Idempotency-Key"), writes, "{method} {path}");
            if path.contains("/v0.1/") {
                for status in ["400", "401", "403", "404", "500", "503"] {
                    assert!(operation["responses"][status].is_object(), "{method} {path} {status}");
                }
            }
        }
    }
    // Every reference leads somewhere.
    let text = document.to_string();
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}

#[test]
fn every_error_is_listed() {
    let mut text = String::from(
        "# Errors\n\n\
         Made from the code (`broker/src/api/catalogue.rs`); \
         `UPDATE_GOLDEN=1 cargo test -p tollway --test api_docs` writes it again.\n\n\
         Every answer that is not a success is `{status, code, message, how_to_fix, request_id, offers?, \
         quote_id?}`. `code` is stable, `message` is for people. *edge*: nothing was decided and nothing is \
         stored; *engine*: it was decided, and where *stored* says yes the same `Idempotency-Key` gets the \
         same answer for 24 h. A 503 carries `Retry-After`; the same key is safe.\n\n\
         | status | code | found by | stored | who can mend it | how |\n\
         |---|---|---|---|---|---|\n",
    );
    for listed in catalogue::all() {
        writeln!(
            text,
            "| {} | `{}` | {} | {} | {} | {} |",
            listed.status,
            listed.code,
            listed.found_by,
            if listed.is_stored { "yes" } else { "no" },
            listed.mender.as_str(),
            listed.how_to_fix
        )
        .unwrap();
    }
    text.push_str(
        "\nNotes\n\
         - An access name that does not exist is answered like one that is not this customer's: 403 \
         `QOS_TRANSFERS.ENDPOINT_NOT_ALLOWED`. Names cannot be probed.\n\
         - Another customer's reservation does not exist: 404 `NOT_FOUND`, as for an id that this market never \
         wrote.\n\
         - Another customer's quote is answered like one that is over: 409 `QOS_TRANSFERS.QUOTE_EXPIRED`.\n\
         - `QUOTE_EXPIRED` also comes before the quote or the hold is over, for an offer of bytes: when so much of \
         its window has passed that what is left does not carry them (half of the tier's `overhead_ppm` may be \
         lost). By hand, ask for windows of minutes.\n\
         - A verb on a reservation that ended, and that the engine has forgotten since (an hour after it \
         settled), is answered 409 `QOS_TRANSFERS.WRONG_STATE` from the records: nothing is decided and nothing \
         is stored.\n\
         - Of a repeated answer every byte is the same but `request_id`, which names the attempt; send the \
         same `x-correlator` and that is the same too.\n\
         - `CONFIGURATION_REFUSED` reaches the operator through the command line, not this API.\n",
    );
    check_golden("docs/errors.md", &text);
}

#[test]
fn every_figure_is_listed() {
    let mut text = String::from(
        "# Metrics\n\n\
         Made from the code (`broker/src/telemetry/metrics.rs`); \
         `UPDATE_GOLDEN=1 cargo test -p tollway --test api_docs` writes it again. `GET /metrics` serves them \
         in Prometheus's text form, without a key.\n\n\
         | name | type | labels | what it says |\n\
         |---|---|---|---|\n",
    );
    for figure in FIGURES.iter().chain(&gateways::FIGURES) {
        let labels = figure.labels.join(", ");
        writeln!(text, "| `{}` | {} | {labels} | {} |", figure.name, figure.kind, figure.help).unwrap();
    }
    text.push_str(
        "\nAlarms worth having: `tollway_ready == 0`, `tollway_ledger_imbalance_micros != 0`, \
         `tollway_pool_utilisation_ratio > 1` (a deficit), \
         `increase(tollway_floor_slots_total{verdict=\"broken\"}[15m]) > 0`, \
         `tollway_port_direct_packets_total > 0`, `tollway_agent_connected == 0`, \
         `tollway_legs{state=~\"lost|refused\"} > 0`, `increase(tollway_legs_lost_total[15m]) > 0`, \
         `abs(tollway_clock_error_seconds) > 1`.\n",
    );
    check_golden("docs/metrics.md", &text);
}

/// Names of functions in all Rust files under a directory.
fn functions(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            functions(&path, found);
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let names = text.lines().filter_map(|line| line.trim_start().split_once("fn "));
            let names = names.filter_map(|(_, rest)| rest.split_once('(')).map(|(name, _)| name.to_owned());
            found.extend(names);
        }
    }
}

#[test]
fn every_test_named_in_the_promise_exists() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let promise = std::fs::read_to_string(root.join("docs/promise.md")).unwrap();
    let mut known = BTreeSet::new();
    functions(&root, &mut known);
    let mut named = 0;
    for paragraph in promise.split("\n\n") {
        let Some((_, proof)) = paragraph.split_once("Proof:") else { continue };
        for name in proof.split('`').skip(1).step_by(2) {
            assert!(known.contains(name), "docs/promise.md names {name}, which is no test");
            named += 1;
        }
    }
    assert!(named > 30, "{named} tests are named");
    assert!(!promise.to_lowercase().contains("guarante"));
}
