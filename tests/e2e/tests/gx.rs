//! A broker process as the PCRF of a gateway: what is bought on a subscriber's access becomes a rule there, is
//! metered by the gateway's reports and billed; sessions and rules outlive a broker that is killed.

mod support;

use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::gateway::{Gateway, HOST, imsi, session};
use support::{Broker, Scratch, binary, call, free_port, parse, wait_for};
use tollway_diameter::avp::tgpp::TGPP_SGSN_MCC_MNC;

const BASE: &str = "/qos-transfers/v0.1";
const BOUND: Duration = Duration::from_secs(60);
const SUBSCRIBERS: u8 = 20;

/// A broker with `[gx]`, twenty subscribers and one customer who may buy for all of them.
fn broker(dir: &Path, reports: &str, args: &[&str]) -> (Broker, u16) {
    let port = free_port();
    let columns = "identity,apn,subscriber,qci,priority_level,ambr_up_bps,ambr_down_bps,standing";
    let rows: String = (1..=SUBSCRIBERS)
        .map(|n| format!("imsi:{},internet,{n},9,15,10000000,50000000,any:all:10\n", imsi(n)))
        .collect();
    std::fs::write(dir.join("subscribers.csv"), format!("{columns}\n{rows}")).expect("profiles");
    let more = format!(
        r#"
[[tier]]
name = "air"
kind = "target"
legal_basis = {{ subscriber_choice = {{}} }}
start_grace_s = 60
tariff = "plain"
gx = {{ qci = 8, priority_level = 10, rating_group = 77, usage_bytes = 1_000_000 }}
[gx]
origin_host = "pcrf.e2e.example"
origin_realm = "e2e.example"
listen = "127.0.0.1:{port}"
home_plmns = ["99970"]
profiles = "subscribers.csv"
[[gx.apns]]
name = "internet"
up = ["shared"]
down = ["shared"]
price_pool = "shared"
[[gx.peers]]
origin_host = "{HOST}"
addresses = ["127.0.0.1"]
watchdog_s = 6
[[gx.gateways]]
origin_host = "*"
reports = "{reports}"
ENDPOINTS, {{ access = "internet/*" }}"#
    );
    (Broker::start_with(dir, &more, args), port)
}

fn get(broker: &Broker, path: &str) -> Value {
    let (status, text) = call(&broker.url, "GET", path, &broker.keys[0], None, None).expect("an answer");
    assert_eq!(status, 200, "{path}: {text}");
    parse(&text)
}

fn post(broker: &Broker, path: &str, key: &str, body: &Value) -> (u16, Value) {
    let sent = call(&broker.url, "POST", path, &broker.keys[0], Some(key), Some(body));
    let (status, text) = sent.expect("an answer");
    (status, parse(&text))
}

/// Buys a rate down to a subscriber's device; gives back the path of the reservation and its rule's name.
fn buy(broker: &Broker, gateway: &Gateway, subscriber: u8, rate_bps: u64, seconds: u64) -> (String, String) {
    let access = format!("internet/{subscriber}");
    let body = json!({"access": access, "direction": "down", "tier": "air",
        "need": {"rate": {"rate_bps": rate_bps}}, "end_in_s": seconds});
    let key = |what: &str| format!("{what}-{subscriber}");
    let (status, quote) = post(broker, &format!("{BASE}/quotes"), &key("quote"), &body);
    assert_eq!(status, 201, "{quote}");
    let offer = &quote["offers"][0];
    assert_eq!((&offer["access"], &offer["kind"]), (&json!(access), &json!("target")));
    let body = json!({"offer_id": offer["offer_id"]});
    let (status, held) = post(broker, &format!("{BASE}/reservations"), &key("hold"), &body);
    assert_eq!(status, 201, "{held}");
    let path = format!("{BASE}/reservations/{}", held["reservation_id"].as_str().expect("an id"));
    let flow = |device: String| {
        json!({"flows": [{"protocol": "tcp", "device": {"address": device, "port": 5000},
            "remote": {"address": "198.51.100.10", "port": 443}}]})
    };
    let confirm = format!("{path}/confirm");
    let (status, refused) = post(broker, &confirm, &key("wrong"), &flow("10.45.0.99".to_owned()));
    assert_eq!(status, 403, "a device of somebody else: {refused}");
    let (status, confirmed) = post(broker, &confirm, &key("confirm"), &flow(format!("10.45.0.{subscriber}")));
    assert_eq!(status, 200, "{confirmed}");
    let rule = wait_for("the rule at the gateway", BOUND, || gateway.held(&session(subscriber)).pop());
    (path, rule)
}

fn leg_is(broker: &Broker, path: &str, state: &str) {
    wait_for(state, BOUND, || (get(broker, path)["leg"]["state"] == state).then_some(()));
}

fn noc(broker: &Broker, args: &[&str]) -> String {
    let mut command = Command::new(binary("tollway"));
    command.args(["noc", "peers", "--url", &broker.url]).args(args).env("TOLLWAY_NOC_KEY", &broker.noc);
    let output = command.output().expect("noc peers runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_subscribers_rate_is_bought_enforced_metered_and_billed() {
    let scratch = Scratch::new("gx-buy");
    let capture = scratch.0.join("diameter.pcap");
    let (mut broker, port) =
        broker(&scratch.0, "full", &["--diameter-pcap", capture.to_str().expect("a path of text")]);
    broker.top_up(0, 100_000_000);
    let gateway = Gateway::start(port);
    let accesses = format!("{BASE}/accesses");
    assert!(!get(&broker, &accesses).to_string().contains("internet/"), "nobody was seen yet");
    wait_for("an attach", BOUND, || (gateway.attach(17) == Some(2001)).then_some(()));
    assert_eq!(gateway.attach(99), Some(5030), "no profile");
    reads_profiles_again(&broker, &gateway, &scratch.0.join("subscribers.csv"));
    wait_for("a learnt access", BOUND, || {
        let seen = get(&broker, &accesses);
        let line = json!({"name": "internet/17", "apn": "internet", "attached": true});
        seen["accesses"].as_array().is_some_and(|all| all.contains(&line)).then_some(())
    });

    let (path, rule) = buy(&broker, &gateway, 17, 8_000_000, 15);
    leg_is(&broker, &path, "accepted");
    assert_eq!(gateway.active(17, 2, &rule), Some(2001));
    leg_is(&broker, &path, "active");
    assert_eq!(gateway.used(17, 3, &rule, 3_000_000), Some(2001));
    // The same again, as a gateway sends what it believes unanswered.
    assert_eq!(gateway.used(17, 3, &rule, 3_000_000), Some(2001));

    let table = noc(&broker, &[]);
    assert!(table.contains(HOST) && table.contains("R-Open") && table.contains("CCR"), "{table}");
    let peers = parse(&noc(&broker, &["--output", "json"]));
    assert_eq!((&peers["peers"][0]["usable"], &peers["gateways"][0]["sessions"]), (&json!(true), &json!(2)));
    assert_eq!(peers["events"]["duplicates"], 1, "{peers}");
    let (_, metrics) = call(&broker.url, "GET", "/metrics", "", None, None).expect("metrics");
    for line in ["tollway_gx_ready 1", &format!("tollway_gx_sessions{{gateway=\"{HOST}\"}} 2")] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }

    // The window ends: the rule is taken off, and its last usage is what it is billed with.
    wait_for("the rule's removal", BOUND, || gateway.held(&session(17)).is_empty().then_some(()));
    assert_eq!(gateway.used(17, 4, &rule, 500_000), Some(2001));
    let done =
        wait_for("the bill", BOUND, || Some(get(&broker, &path)).filter(|seen| seen["settled"] == true));
    assert_eq!(done["leg"]["state"], "absent", "{done}");
    let usage = get(&broker, &format!("{path}/usage"));
    assert_eq!(usage["metered_bytes"], 3_500_000, "each byte once: {usage}");
    let charges = get(&broker, &format!("{path}/charges"));
    let amount = |name: &str| charges[name].as_i64().unwrap_or_else(|| panic!("{name}: {charges}"));
    let (total, voided) = (amount("total_micros"), amount("voided_micros"));
    assert_eq!(total + voided, amount("held_at_first_micros"), "{charges}");
    // The share of the 15 s in which the gateway said that it was in force, to the rounding.
    let readings = usage["readings"].as_array().expect("readings");
    let active_ms: i64 = readings.iter().filter_map(|reading| reading["active_ms"].as_i64()).sum();
    let share = amount("held_at_first_micros") * active_ms / 15_000;
    assert!(total > 0 && (total - share).abs() <= 2, "{total} for {active_ms} ms, not {share}: {charges}");
    assert_eq!(gateway.end(17, 5), Some(2001));
    assert_eq!(broker.stop(), Some(0));
    shows_in_wireshark(&capture);
}

/// SIGHUP; what cannot be read changes nothing.
fn reads_profiles_again(broker: &Broker, gateway: &Gateway, file: &Path) {
    let before = std::fs::read_to_string(file).expect("profiles");
    std::fs::write(file, format!("{before}nonsense\n")).expect("profiles");
    broker.hang_up();
    assert_eq!(gateway.attach(99), Some(5030));
    std::fs::write(file, format!("{before}imsi:{},internet,99,9,15,1,1,\n", imsi(99))).expect("profiles");
    broker.hang_up();
    wait_for("the new subscriber", BOUND, || (gateway.attach(99) == Some(2001)).then_some(()));
    assert_eq!(gateway.ask(gateway.ccr(2, 1, &session(17), |_| ())), Some(2001), "who was there stays");
}

/// The capture file opens as Diameter, request and answer, without a malformed frame.
fn shows_in_wireshark(capture: &Path) {
    let fields =
        ["-T", "fields", "-e", "diameter.cmd.code", "-e", "diameter.flags.request", "-e", "_ws.malformed"];
    let Ok(output) = Command::new("tshark").arg("-r").arg(capture).args(fields).output() else {
        return println!("skipped: no tshark here to open the capture file with");
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let count = |code: &str| text.lines().filter(|line| line.starts_with(&format!("{code}\t"))).count();
    assert!(count("257") == 2 && count("258") >= 4 && count("272") >= 14, "{text}");
    assert!(text.lines().all(|line| line.split('\t').nth(2).is_none_or(str::is_empty)), "{text}");
}

#[test]
fn time_that_no_gateway_confirms_is_told_and_a_subscriber_who_moves_out_loses_his_rule() {
    let scratch = Scratch::new("gx-silent");
    let (mut broker, port) = broker(&scratch.0, "none", &[]);
    broker.top_up(0, 100_000_000);
    let gateway = Gateway::start(port);
    wait_for("an attach", BOUND, || (gateway.attach(5) == Some(2001)).then_some(()));
    let (path, rule) = buy(&broker, &gateway, 5, 1_000_000, 3_600);
    leg_is(&broker, &path, "unconfirmed");
    assert_eq!(gateway.active(5, 1, &rule), Some(2001), "what it says all the same is not believed");
    wait_for("a reading", BOUND, || {
        let usage = get(&broker, &format!("{path}/usage"));
        let readings = usage["readings"].as_array().expect("readings");
        readings.iter().any(|reading| reading["unconfirmed_ms"].as_u64() > Some(0)).then_some(())
    });
    leg_is(&broker, &path, "unconfirmed");

    let moved = gateway.ccr(2, 2, &session(5), |w| w.text(TGPP_SGSN_MCC_MNC, "26201"));
    assert_eq!(gateway.ask(moved), Some(2001), "his ordinary traffic goes on");
    wait_for("the rule's removal", BOUND, || gateway.held(&session(5)).is_empty().then_some(()));
    let ended =
        wait_for("the end", BOUND, || Some(get(&broker, &path)).filter(|seen| seen["settled"] == true));
    assert_eq!(ended["end_reason"], "terminated", "{ended}");
    let events = get(&broker, &format!("{path}/events")).to_string();
    assert!(events.contains("MOVED_OUT"), "{events}");
    let charges = get(&broker, &format!("{path}/charges"));
    assert_eq!((&charges["total_micros"], &charges["charge_unconfirmed"]), (&json!(0), &json!(false)));
    assert_eq!(broker.stop(), Some(0));
}

#[test]
fn killed_with_sessions_open_the_rules_are_right_and_none_twice() {
    let scratch = Scratch::new("gx-kill");
    let (mut broker, port) = broker(&scratch.0, "full", &[]);
    broker.top_up(0, 10_000_000_000);
    let gateway = Gateway::start(port);
    let mut bought = Vec::new();
    for subscriber in 1..=SUBSCRIBERS {
        wait_for("an attach", BOUND, || (gateway.attach(subscriber) == Some(2001)).then_some(()));
        let (path, rule) = buy(&broker, &gateway, subscriber, 1_000_000, 3_600);
        assert_eq!(gateway.active(subscriber, 1, &rule), Some(2001));
        bought.push((path, rule));
    }
    bought.iter().for_each(|(path, _)| leg_is(&broker, path, "active"));
    let before = gateway.rules.lock().expect("no poison").installs;

    broker.kill();
    assert_eq!(gateway.ask(gateway.ccr(2, 2, &session(1), |_| ())), None, "nobody is there");
    broker.spawn();
    // It is dialed again, and every session is known: no CCR-I, and no 5002.
    wait_for("an update", BOUND, || {
        (gateway.ask(gateway.ccr(2, 2, &session(1), |_| ())) == Some(2001)).then_some(())
    });
    wait_for("every rule to be told again", BOUND, || {
        (gateway.rules.lock().expect("no poison").installs >= before + usize::from(SUBSCRIBERS)).then_some(())
    });
    let rules: Vec<_> = (1..=SUBSCRIBERS).flat_map(|n| gateway.held(&session(n))).collect();
    let wanted: Vec<_> = bought.iter().map(|(_, rule)| rule.clone()).collect();
    assert_eq!(rules, wanted, "as they were, each once");
    assert_eq!(gateway.rules.lock().expect("no poison").removals, 0);
    bought.iter().for_each(|(path, _)| leg_is(&broker, path, "active"));

    // What is cancelled now is taken off; a subscriber who leaves takes his rule with him.
    let (path, _) = &bought[1];
    let (status, cancelled) = post(&broker, &format!("{path}/cancel"), "cancel-2", &json!({}));
    assert_eq!(status, 200, "{cancelled}");
    wait_for("the rule's removal", BOUND, || gateway.held(&session(2)).is_empty().then_some(()));
    assert_eq!(gateway.end(3, 2), Some(2001));
    leg_is(&broker, &bought[2].0, "lost");
    assert_eq!(broker.stop(), Some(0));
}
