//! Golden messages of bad configurations: each is one change to the good one, and what is said about it lies
//! in `bad-config/`. Re-bless with `UPDATE_EXPECT=1`.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use expect_test::expect_file;
use std::path::Path;
use tollway::config;

const MOBILE: &str = include_str!("../examples/mobile.toml");

/// `old` → `new`, once each.
fn edited(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(support::config_text(7410, 7420), |text, (old, new)| {
        assert!(text.contains(old), "the good configuration has no {old:?}");
        text.replacen(old, new, 1)
    })
}

fn check(name: &str, edits: &[(&str, &str)]) {
    golden(name, &edited(edits));
}

fn golden(name: &str, text: &str) {
    let said = match config::parse("broker.toml", text) {
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
    let spelt = config::parse("broker.toml", &spelt(example)).unwrap();
    assert_eq!(plain.def, spelt.def);
    assert_eq!((plain.currency, plain.keys), (spelt.currency, spelt.keys));
}

/// `# key = value` at the start of a line is a default; everything else in a comment is prose.
fn spelt(example: &str) -> String {
    let line = |line: &str| match line.strip_prefix("# ").filter(|rest| rest.contains(" = ")) {
        Some(rest) => format!("{rest}\n"),
        None => format!("{line}\n"),
    };
    example.lines().map(line).collect()
}

#[test]
fn the_mobile_example_is_in_order_with_its_files_and_its_defaults_are_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mobile.toml");
    let read = config::load(&path).unwrap();
    let gx = read.gx.unwrap();
    assert_eq!((gx.table.len(), gx.machine.apns.as_slice()), (2, &["internet".to_owned()][..]));
    let plain = config::parse("mobile.toml", MOBILE).unwrap();
    let spelt = config::parse("mobile.toml", &spelt(MOBILE)).unwrap();
    assert_eq!((&plain.def, &read.def), (&spelt.def, &plain.def));
    let (plain, spelt) = (plain.gx.unwrap(), spelt.gx.unwrap());
    assert_eq!((plain.machine, plain.enforcement_point), (spelt.machine, spelt.enforcement_point));
    assert_eq!(format!("{:?}", plain.node), format!("{:?}", spelt.node));
    let family = read.def.accesses.iter().find(|access| access.name == "internet").unwrap();
    assert_eq!((family.apn(), family.enforcement_point.as_str()), (Some("internet"), "gx"));
}

#[test]
fn every_bad_section_of_gateways_is_named_with_its_place_and_a_way_out() {
    let check = |name: &str, edits: &[(&str, &str)]| {
        let text = edits.iter().fold(MOBILE.to_owned(), |text, (old, new)| {
            assert!(text.contains(old), "the good configuration has no {old:?}");
            text.replacen(old, new, 1)
        });
        golden(name, &text);
    };
    let listen = "listen = \"127.0.0.1:3868\"\n";
    check("gx-unknown-key", &[("listen =", "lisen =")]);
    check("gx-voice-apn", &[("name = \"internet\"", "name = \"IMS\""), ("internet/17", "IMS/17")]);
    check("gx-no-apn", &[("name = \"internet\"", "name = \"in_net\""), ("internet/17", "in_net/17")]);
    check("gx-bad-plmn", &[("\"99970\"", "\"999-70\"")]);
    check("gx-bad-identity", &[("\"pcrf.example.net\"", "\"pcrf example\"")]);
    check("gx-nobody-connects", &[(listen, "host_ip_addresses = [\"192.0.2.1\"]\n")]);
    check("gx-no-host-address", &[("127.0.0.1:3868", "0.0.0.0:3868")]);
    check("gx-tls-without-certificate", &[("listen = ", "listen_tls = ")]);
    check("gx-peer-cannot-prove-itself", &[("addresses = [\"127.0.0.1\"]     #", "#")]);
    check("gx-peer-is-us", &[("\"pgw.example.net\"\naddresses", "\"pcrf.example.net\"\naddresses")]);
    check("gx-peer-address", &[("addresses = [\"127.0.0.1\"]     #", "addresses = [\"localhost\"] #")]);
    check("gx-dial", &[("addresses = [\"127.0.0.1\"]     #", "dial = \"pgw.example.net\" #")]);
    check("gx-watchdog", &[("# watchdog_s = 30", "watchdog_s = 5")]);
    check(
        "gx-gateway",
        &[("# filters_max = 16", "filters_max = 17"), ("# reports = \"full\"", "reports = \"some\"")],
    );
    check("gx-filters", &[("# filters_max = 16", "filters_max = 17")]);
    check("gx-unknown-pool", &[("down = [\"cell\"]", "down = [\"sell\"]")]);
    check("gx-price-pool", &[("down = [\"cell\"]", "down = []")]);
    check("gx-endpoint-is-a-family", &[("internet/17", "internet")]);
    check("gx-endpoint-number", &[("internet/17", "internet/017")]);
    check("gx-tier-is-assured", &[("kind = \"target\"", "kind = \"assured\"")]);
    check("gx-tier-priority", &[("qci = 8 ", "qci = 1 ")]);
    check("gx-tier-level", &[("priority_level = 10", "priority_level = 2")]);
    check("gx-tier-without-usage", &[("usage_bytes = 1_000_000 ", "")]);
    check(
        "gx-agents-point",
        &[(
            "[gx]",
            "[[access]]\nname = \"shop\"\nenforcement_point = \"gx\"\nup = { port = \"a\", pools = [\"cell\"] }\ndown = { port = \"b\", pools = [\"cell\"] }\nprice_pool = \"cell\"\n[gx]",
        )],
    );
}

#[test]
fn files_that_gateways_need_are_read_with_the_configuration() {
    let dir = support::Dir::new("gx-files");
    let load = |text: &str| {
        let path = dir.path().join("mobile.toml");
        std::fs::write(&path, text).unwrap();
        config::load(&path).map(|_| ()).map_err(|error| error.to_string())
    };
    let said = load(MOBILE).unwrap_err();
    assert!(said.contains("subscribers.csv") && said.contains(":58:12:"), "{said}");
    std::fs::write(dir.path().join("subscribers.csv"), "identity\n").unwrap();
    assert!(load(MOBILE).unwrap_err().contains("line 1: the columns must be"));
    std::fs::write(dir.path().join("subscribers.csv"), include_str!("../examples/subscribers.csv")).unwrap();
    assert_eq!(load(MOBILE), Ok(()));
    let tls = "tls = { cert = \"a.pem\", key = \"a.key\", client_ca = \"ca.pem\" }\nlisten_tls";
    let text = MOBILE.replacen("listen", tls, 1);
    assert!(load(&text).unwrap_err().contains("cannot read"));
    for file in ["a.pem", "a.key", "ca.pem"] {
        std::fs::write(dir.path().join(file), "no PEM").unwrap();
    }
    let said = load(&text).unwrap_err();
    assert!(said.contains("PEM") && said.contains("mend: "), "{said}");
}
