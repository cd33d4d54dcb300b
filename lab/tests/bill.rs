//! The bill checker that customers are given, on a right bill and on wrong ones.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

fn checker() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/check-my-bill/check.py")
}

fn bill() -> Value {
    json!({
        "charges": {
            "tier": "gold", "tier_revision": 1, "charge_by": "delivered", "currency": "EUR",
            "total_micros": 13_763, "held_at_first_micros": 14_000, "held_micros": 0, "voided_micros": 237,
            "settled": true,
            "lines": [{
                "unit": "gb", "scale": "1000000000000000", "numerator": "13762560000000000000",
                "posted_micros": 13_763,
                "segments": [{
                    "from": "2026-11-24T13:00:00.000Z", "until": "2026-11-24T13:00:20.000Z",
                    "rate_bps": 17_280_000, "unit_price_micros": 1_000_000, "multiplier_ppm": 1_146_880,
                }],
                "slots": [
                    { "slot_from": "2026-11-24T13:00:00.000Z", "segment": 0, "kept_ms": 5000, "bytes": 10_000_000 },
                    { "slot_from": "2026-11-24T13:00:05.000Z", "segment": 0, "kept_ms": 5000, "bytes": 2_000_000 },
                ],
            }],
        },
        "usage": {
            "slot_s": 5, "metered_bytes": 12_000_500,
            "readings": [
                { "slot_from": "2026-11-24T13:00:00.000Z", "incarnation": 1, "seq": 1, "bytes": 10_000_500 },
                { "slot_from": "2026-11-24T13:00:05.000Z", "incarnation": 2, "seq": 1, "bytes": 1_500_000 },
                { "slot_from": "2026-11-24T13:00:05.000Z", "incarnation": 2, "seq": 2, "bytes": 2_000_000 },
            ],
        },
        "tiers": { "tiers": [{
            "name": "gold", "revision": 1, "unit_price_micros": 400_000, "setup_micros": 0,
            "bytes_offers": { "unit": "gb", "unit_price_micros": 1_000_000 },
        }] },
    })
}

/// Runs the checker on a bill; `None` where there is no Python.
fn check(name: &str, bill: &Value) -> Option<(bool, String)> {
    let dir = std::env::temp_dir().join(format!("tollway-bill-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    for part in ["charges", "usage", "tiers"] {
        std::fs::write(dir.join(format!("{part}.json")), bill[part].to_string()).expect("a file");
    }
    let output = Command::new("python3").arg(checker()).arg(&dir).output();
    std::fs::remove_dir_all(&dir).expect("removed");
    let Ok(output) = output else {
        println!("skipped: python3 is not installed");
        return None;
    };
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Some((output.status.success(), text))
}

#[test]
fn a_right_bill_is_right() {
    let Some((good, text)) = check("right", &bill()) else { return };
    assert!(good && text.contains("recomputed_micros 13763\n"), "{text}");
}

#[test]
fn each_lie_is_found() {
    let lies: [(&str, &str, Value); 8] = [
        ("total", "/charges/total_micros", json!(13_764)),
        ("posted", "/charges/lines/0/posted_micros", json!(13_762)),
        ("numerator", "/charges/lines/0/numerator", json!("13762560000000000001")),
        ("more-than-metered", "/charges/lines/0/slots/1/bytes", json!(2_000_001)),
        ("more-than-held", "/charges/held_at_first_micros", json!(13_000)),
        ("more-than-promised", "/charges/lines/0/segments/0/rate_bps", json!(15_999_998)),
        ("price", "/charges/lines/0/segments/0/unit_price_micros", json!(999_999)),
        ("usage", "/usage/metered_bytes", json!(12_000_501)),
    ];
    for (name, place, value) in lies {
        let mut lie = bill();
        *lie.pointer_mut(place).expect("a place") = value;
        let Some((good, text)) = check(name, &lie) else { return };
        assert!(!good && text.contains("WRONG"), "{name}: {text}");
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    let Some((good, text)) = check("unreadable", &json!({ "charges": {}, "usage": {}, "tiers": {} })) else {
        return;
    };
    assert!(!good && text.contains("cannot read the bill"), "{text}");
}
