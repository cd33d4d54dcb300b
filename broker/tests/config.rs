//! Golden messages of bad configurations: each is one change to the good one, and what is said about it lies
//! in `bad-config/`. Re-bless with `UPDATE_EXPECT=1`.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use expect_test::expect_file;
use std::path::Path;
use tollway::config;

/// `old` → `new`, once each.
fn edited(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(support::config_text(7410, 7420), |text, (old, new)| {
        assert!(text.contains(old), "the good configuration has no {old:?}");
        text.replacen(old, new, 1)
    })
}

fn check(name: &str, edits: &[(&str, &str)]) {
    let text = edited(edits);
    let said = match config::parse("broker.toml", &text) {
        Ok(_) => "in order".to_owned(),
        Err(error) => error.to_string(),
    };
    assert!(said.contains("mend: "), "{name} says no way out: {said}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/bad-config/{name}.txt"));
    expect_file![path].assert_eq(&(said + "\n"));
}

#[test]
fn every_bad_configuration_is_named_with_its_place_and_a_way_out() {
    let legal = "legal_basis = { private_network = {} }\n";
    check("unknown-key", &[("slot_s = 5", "slot_s = 5\nspeed = 7")]);
    check("unknown-table", &[("[serve]", "[server]")]);
    check("syntax", &[("slot_s = 5", "slot_s = = 5")]);
    check("unit-after-a-number", &[("slot_s = 5", "slot_s = 5s")]);
    check("text-without-quotes", &[("name = \"lab\"", "name = lab")]);
    check(
        "several-forms",
        &[
            ("slot_s = 5", "slot_s = \"5\""),
            ("sell_share_ppm = 500_000", "sell_share = 500_000"),
            ("kind = \"assured\"", "kind = \"best\""),
            ("[[customer]]", "[customers]\n[[customer]]"),
            ("10.10.0.2/32", "ten"),
        ],
    );
    check("one-pool-for-many", &[("[[access]]", "[access]")]);
    check("no-market", &[("[market]\nname = \"lab\"\nslot_s = 5\ncurrency = \"EUR\"\n", "")]);
    check("no-legal-basis", &[(legal, "")]);
    check("unknown-legal-basis", &[("private_network = {}", "we_like_it = {}")]);
    check("legal-basis-without-why", &[("private_network = {}", "specialised = { why = \" \" }")]);
    check("no-kind", &[("kind = \"assured\"\n", "")]);
    check("unknown-kind", &[("\"assured\"", "\"guaranteed\"")]);
    check("no-sell-share", &[("sell_share_ppm = 500_000\n", "")]);
    check("share-above-one", &[("sell_share_ppm = 500_000", "sell_share_ppm = 1_000_001")]);
    check("negative-share", &[("sell_share_ppm = 500_000", "sell_share_ppm = -1")]);
    check("duplicate-pool", &[("name = \"shop-line\"", "name = \"shared\"")]);
    check("zero-rate-pool", &[("up_bps = 38_800_000", "up_bps = 0")]);
    check("rate-overflow", &[("up_bps = 38_800_000", "up_bps = 99_999_999_999_999_999_999")]);
    check("float-rate", &[("up_bps = 38_800_000", "up_bps = 38.8e6")]);
    check("unknown-pool", &[("pools = [\"shop-line\", \"shared\"]", "pools = [\"shop-lime\", \"shared\"]")]);
    check("pool-twice", &[("pools = [\"shop-line\", \"shared\"]", "pools = [\"shared\", \"shared\"]")]);
    check("no-pools", &[("pools = [\"shop-line\", \"shared\"]", "pools = []")]);
    check(
        "price-pool-elsewhere",
        &[("lan0\", pools = [\"shop-line\", \"shared\"]", "lan0\", pools = [\"shop-line\"]")],
    );
    check("unknown-tariff", &[("tariff = \"gold-2026\"", "tariff = \"gold\"")]);
    check("negative-price", &[("gb_micros = 50_000", "gb_micros = -1")]);
    check("falling-curve", &[("[1_000_000, 3_000_000]", "[1_000_000, 900_000]")]);
    check("short-curve", &[("[1_000_000, 3_000_000]", "[900_000, 3_000_000]")]);
    check("concave-curve", &[("[700_000, 1_000_000]", "[700_000, 2_900_000]")]);
    check("rates-crossed", &[("rate_max_bps = 30_000_000", "rate_max_bps = 1_000")]);
    check("slot-does-not-divide", &[("slot_s = 5", "slot_s = 7")]);
    check("bad-currency", &[("currency = \"EUR\"", "currency = \"euro\"")]);
    check("bad-address", &[("http = \"127.0.0.1:7410\"", "http = \"localhost\"")]);
    check("same-address", &[("127.0.0.1:7410", "127.0.0.1:7420")]);
    check("host-bits", &[("10.10.0.2/32", "10.10.0.2/24")]);
    check("not-a-prefix", &[("10.10.0.2/32", "10.10.0.2")]);
    check("unknown-access", &[("{ access = \"shop\"", "{ access = \"shop2\"")]);
    check("unknown-customer-of-key", &[("customer = \"shop-pos\"", "customer = \"shop\"")]);
    check("key-for-nobody", &[("noc = true\n", "")]);
    check("key-for-two", &[("noc = true", "noc = true\nagent = \"router1\"")]);
    check("unknown-agent", &[("agent = \"router1\"", "agent = \"router2\"")]);
    check("token-instead-of-hash", &[("noc = true\nsha256 = \"", "noc = true\nsha256 = \"secret")]);
    check("empty-name", &[("name = \"shop-pos\"", "name = \"\"")]);
    check(
        "many",
        &[
            ("slot_s = 5", "slot_s = 7"),
            ("sell_share_ppm = 500_000", "sell_share_ppm = 2_000_000"),
            ("10.10.0.2/32", "ten"),
        ],
    );
}

#[test]
fn two_keys_with_one_token_are_found() {
    let hash = |token: &str| tollway::auth::sha256_hex(&tollway::auth::token_sha256(token));
    let text = support::config_text(1, 2).replace(&hash(support::NOC_TOKEN), &hash(support::SHOP_TOKEN));
    let error = config::parse("broker.toml", &text).unwrap_err().to_string();
    assert!(error.contains("same token") && error.contains("broker.toml:"), "{error}");
}

#[test]
fn an_unreadable_file_and_bytes_that_are_no_text_are_named() {
    let dir = support::Dir::new("config");
    let missing = config::load(&dir.path().join("none.toml")).unwrap_err().to_string();
    assert!(missing.contains("none.toml") && missing.contains("mend"), "{missing}");
    let binary = dir.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    let binary = config::load(&binary).unwrap_err().to_string();
    assert!(binary.contains("binary.toml") && binary.contains("mend"), "{binary}");
}

#[test]
fn what_is_not_said_has_its_documented_default() {
    let settings = support::settings();
    let tier = &settings.def.tiers[0];
    assert_eq!((tier.shape.packet_bytes, tier.shape.queue_ms_max, tier.shape.borrow), (1_500, 50, true));
    assert_eq!(
        (tier.overhead_ppm, tier.gap_s_max, tier.start_grace_s, tier.unseen_free_s),
        (80_000, 3, 10, 120)
    );
    assert_eq!((tier.rate_min.0, tier.notice_s, tier.cancel_fee_ppm), (64_000, 0, 0));
    assert_eq!((tier.rate_offers.as_str(), tier.bytes_offers.as_str()), ("reserved", "delivered"));
    for kind in ["target", "background"] {
        let text = support::config_text(1, 2).replace("\"assured\"", &format!("\"{kind}\""));
        assert_eq!(config::parse("x", &text).unwrap().def.tiers[0].kind.as_str(), kind);
    }
    for basis in ["subscriber_choice = {}", "outside_eu = {}", "specialised = { why = \"a till\" }"] {
        let text = support::config_text(1, 2).replace("private_network = {}", basis);
        config::parse("x", &text).unwrap();
    }
}

#[test]
fn the_example_is_in_order_and_its_defaults_are_the_defaults() {
    let example = include_str!("../examples/broker.toml");
    let plain = config::parse("broker.toml", example).unwrap();
    // `# key = value` at the start of a line is a default; everything else in a comment is prose.
    let spelt: String = example
        .lines()
        .map(|line| match line.strip_prefix("# ").filter(|rest| rest.contains(" = ")) {
            Some(rest) => format!("{rest}\n"),
            None => format!("{line}\n"),
        })
        .collect();
    let spelt = config::parse("broker.toml", &spelt).unwrap();
    assert_eq!(plain.def, spelt.def);
    assert_eq!((plain.currency, plain.keys), (spelt.currency, spelt.keys));
}
