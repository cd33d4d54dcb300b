//! Bad scenarios and what is said about them; good ones that are shipped.

use expect_test::{Expect, expect};
use tollway_lab::scenario;

const HEAD: &str = r#"[lab]
name = "x"
[line]
up   = { rate = "40mbit", delay = "10ms", buffer = "100ms" }
down = { rate = "40mbit", delay = "10ms", buffer = "100ms" }
[host.shop]
address = "10.10.0.2"
wallet = "5 EUR"
[host.poor]
"#;

const MARKET: &str = "[market]\nmbps_hour = \"0.4 EUR\"\ngb = \"1 EUR\"\n";

fn check(text: &str, want: Expect) {
    let got = match scenario::parse("bad.toml", text, &[]) {
        Ok(_) => "no problem".to_owned(),
        Err(problem) => problem.to_string(),
    };
    want.assert_eq(&got);
}

fn act(body: &str) -> String {
    format!("{HEAD}{MARKET}[[act]]\nname = \"a\"\ntitle = \"A\"\n{body}\n")
}

#[test]
fn unknown_keys_and_numbers_without_units() {
    check(
        &HEAD.replace("buffer = \"100ms\" }\ndown", "bufer = \"100ms\" }\ndown"),
        expect![[r#"
        bad.toml:4:43: unknown field `bufer`, expected one of `rate`, `delay`, `buffer`, `overhead`
          |
        4 | up   = { rate = "40mbit", delay = "10ms", bufer = "100ms" }
          |                                           ^^^^^"#]],
    );
    check(
        &HEAD.replace(
            "\"40mbit\", delay = \"10ms\", buffer = \"100ms\" }\ndown",
            "40, delay = \"10ms\", buffer = \"100ms\" }\ndown",
        ),
        expect![[r#"
            bad.toml:4:17: invalid type: integer `40`, expected a rate such as "40mbit" (bit, kbit, mbit, gbit)
              |
            4 | up   = { rate = 40, delay = "10ms", buffer = "100ms" }
              |                 ^^"#]],
    );
    check(
        &HEAD.replace("\"10ms\"", "\"10\""),
        expect![[r#"
        bad.toml:5:35: "10" is not a time such as "10ms" (us, ms, s, min)
          |
        5 | down = { rate = "40mbit", delay = "10", buffer = "100ms" }
          |                                   ^^^^"#]],
    );
    check(
        "[lab",
        expect![[r#"
        bad.toml:1:5: unclosed table, expected `]`
          |
        1 | [lab
          |     ^"#]],
    );
}

#[test]
fn names_that_mean_nothing() {
    check(
        &act("load = [\"nothing\"]"),
        expect![[r#"
            bad.toml:16:9: no load is named "nothing"; there are none
               |
            16 | load = ["nothing"]
               |         ^^^^^^^^^"#]],
    );
    check(
        &act("step = [{ transfer = { name = \"t\", from = \"shp\", bytes = \"1MB\", deadline = \"5s\" } }]"),
        expect![[r#"
            bad.toml:16:43: no host is named "shp"; there are poor, shop
               |
            16 | step = [{ transfer = { name = "t", from = "shp", bytes = "1MB", deadline = "5s" } }]
               |                                           ^^^^^"#]],
    );
    check(
        &act("expect = [{ that = \"others.beauty\", is = 1 }]"),
        expect![[r#"
        bad.toml:16:20: "others" has no figure "beauty"; it has l3_bps, rtt_p50_ms, rtt_p99_ms, rtt_loss, floor_bps, l3_over_floor
           |
        16 | expect = [{ that = "others.beauty", is = 1 }]
           |                    ^^^^^^^^^^^^^^^"#]],
    );
    check(
        &act("expect = [{ that = \"b:others.l3_bps\", is = 1 }]"),
        expect![[r#"
            bad.toml:16:20: no act is named "b"; there is a
               |
            16 | expect = [{ that = "b:others.l3_bps", is = 1 }]
               |                    ^^^^^^^^^^^^^^^^^"#]],
    );
    check(
        &act("expect = [{ that = \"others.l3_bps\", is = 1, at_most = 2 }]"),
        expect![[r#"
        bad.toml:16:11: an expectation has exactly one of is, at_least, at_most
           |
        16 | expect = [{ that = "others.l3_bps", is = 1, at_most = 2 }]
           |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^"#]],
    );
}

#[test]
fn what_cannot_be_done_is_refused() {
    check(
        &act("step = [{ at = \"1s\" }]"),
        expect![[r#"
        bad.toml:16:9: a step does exactly one of transfer, stream, broker, port_down, pause
           |
        16 | step = [{ at = "1s" }]
           |         ^^^^^^^^^^^^^"#]],
    );
    check(
        &act("step = [{ pause = \"1s\", broker = \"kill\" }]"),
        expect![[r#"
        bad.toml:16:9: a step does exactly one of transfer, stream, broker, port_down, pause
           |
        16 | step = [{ pause = "1s", broker = "kill" }]
           |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^"#]],
    );
    check(
        &act(
            "step = [{ stream = { name = \"s\", from = \"poor\", rate = \"1mbit\", length = \"5s\", buy = {} } }]",
        ),
        expect![[r#"
            bad.toml:16:86: poor has no wallet: give host.poor one to buy
               |
            16 | step = [{ stream = { name = "s", from = "poor", rate = "1mbit", length = "5s", buy = {} } }]
               |                                                                                      ^^"#]],
    );
    check(
        &act("").replacen("40mbit", "400mbit", 1),
        expect![[r#"
        bad.toml:4:17: a line carries 1 bit/s to 200 Mbit/s here
          |
        4 | up   = { rate = "400mbit", delay = "10ms", buffer = "100ms" }
          |                 ^^^^^^^^^"#]],
    );
    check(
        &act("").replace("gb =", "shape_share = \"98%\"\ngb ="),
        expect![[r#"
        bad.toml:12:15: shape at most 97% of the line: above it the queue builds in the line, where no rule can help
           |
        12 | shape_share = "98%"
           |               ^^^^^"#]],
    );
    check(
        &act("").replace("10.10.0.2", "10.20.0.2"),
        expect![[r#"
        bad.toml:7:11: 10.20.0.2 is not in the hosts' network: 10.10.0.2 to 10.10.0.254 (10.10.0.1 is the router)
          |
        7 | address = "10.20.0.2"
          |           ^^^^^^^^^^^"#]],
    );
    check(
        &act("").replace("[host.poor]", "[host.server]"),
        expect![[r#"
        bad.toml:9:7: the server is always there; name the host otherwise
          |
        9 | [host.server]
          |       ^^^^^^"#]],
    );
}

#[test]
fn a_set_value_is_checked_like_a_written_one() {
    let text = act("");
    let set = |value: &str| match scenario::parse("x.toml", &text, &[value.to_owned()]) {
        Ok(plan) => format!("{:?}", plan.up.rate_bps),
        Err(problem) => problem.to_string(),
    };
    assert_eq!(set("line.up.rate=20mbit"), "Some(20000000)");
    expect![[r#"--set line.up.rate=20: "20" is not a rate such as "40mbit" (bit, kbit, mbit, gbit)"#]]
        .assert_eq(&set("line.up.rate=20"));
    expect!["--set line.sideways=1: unknown field `sideways`, expected `up` or `down`"]
        .assert_eq(&set("line.sideways=1"));
    expect!["--set line.side.ways=1: the scenario has no `side` there; there are down, up"]
        .assert_eq(&set("line.side.ways=1"));
}

#[test]
fn the_shipped_scenarios_are_right() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).expect("scenarios") {
        let path = entry.expect("entry").path();
        let plan = scenario::load(&path, &[]);
        assert!(plan.is_ok(), "{}: {}", path.display(), plan.expect_err("an error").chain());
        count += 1;
    }
    assert!(count >= 2);
}
