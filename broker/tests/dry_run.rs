//! A configuration against a market that has promises: what refuses it, in the operator's words, before and at a
//! start; what a start would change; and that a market is not made by a start that cannot serve.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use std::path::Path;
use std::process::{Command, Output};
use support::{Broker, Dir};

const TOLLWAY: &str = env!("CARGO_BIN_EXE_tollway");

/// `old` → `new`, once each.
fn edited(dir: &Path, edits: &[(&str, &str)]) -> String {
    let text = edits.iter().fold(support::config_text(0, 0), |text, (old, new)| {
        assert!(text.contains(old), "the good configuration has no {old:?}");
        text.replacen(old, new, 1)
    });
    let path = dir.join("broker.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn tollway(args: &[&str]) -> Output {
    Command::new(TOLLWAY).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const MOVED: &[(&str, &str)] = &[
    ("enforcement_point = \"router1\"", "enforcement_point = \"r9\""),
    ("agent = \"router1\"", "agent = \"r9\""),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_a_start_would_refuse_or_change_is_said_before_and_changes_nothing() {
    let dir = Dir::new("dry");
    let data = dir.path().join("data");
    let broker = Broker::start(&data).await;
    broker.top_up(1, 9_000_000).await.unwrap();
    let held = broker.hold(10, 2_000_000, 0, 600).await;
    let booked = broker.confirm(12, &held).await;
    let id = broker.started.ids.reservation(booked.id);
    let data = data.to_str().unwrap();
    let run = |edits: &[(&str, &str)]| {
        let file = edited(dir.path(), edits);
        tollway(&["check-config", &file, "--data", data])
    };
    let before = broker.last_seq().await;
    // The broker runs, and goes on.
    let same = run(&[]);
    assert_eq!(same.status.code(), Some(0), "{}", text(&same.stderr));
    assert!(text(&same.stdout).contains("a start would change nothing"), "{}", text(&same.stdout));
    let until = tollway::api::instant::format(booked.window.until);
    for (edits, what) in [
        (MOVED, "access shop is enforced elsewhere and in use"),
        (
            &[
                ("[[customer]]\nname = \"shop-pos\"", "[[customer]]\nname = \"other\""),
                ("customer = \"shop-pos\"", "customer = \"other\""),
            ],
            "customer shop-pos is removed and has reservations",
        ),
    ] {
        let refused = run(edits);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        let who = format!("reservation {id} of customer shop-pos, running, until {until}");
        assert!(said.contains(what) && said.contains(&who) && said.contains("mend: "), "{said}");
        assert!(!said.contains("r1 "), "no number of the engine's own: {said}");
    }
    let changed = run(&[
        ("up_bps = 38_800_000", "up_bps = 1_000_000"),
        ("rate_max_bps = 30_000_000", "rate_max_bps = 20_000_000"),
    ]);
    let said = text(&changed.stdout);
    assert_eq!(changed.status.code(), Some(0), "{said}{}", text(&changed.stderr));
    for wanted in [
        "pool shared is changed",
        "tier gold is changed: revision 2",
        "a deficit pool=shared direction=up",
        &id,
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let other = run(&[("slot_s = 5", "slot_s = 10")]);
    assert_eq!(other.status.code(), Some(2), "{}", text(&other.stderr));
    assert_eq!(broker.last_seq().await, before, "nothing changed");
    broker.stop().await;
    // A start refuses in the same words.
    let file = edited(dir.path(), MOVED);
    let refused = tollway(&["serve", "--config", &file, "--data", data]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains(&id), "{}", text(&refused.stderr));
    let nowhere = dir.path().join("none");
    let none = tollway(&["check-config", &edited(dir.path(), &[]), "--data", nowhere.to_str().unwrap()]);
    assert_eq!(none.status.code(), Some(1), "{}", text(&none.stderr));
    assert!(!nowhere.exists(), "looking makes nothing");
}

#[test]
fn a_start_that_cannot_listen_makes_no_market() {
    let dir = Dir::new("ports");
    let data = dir.path().join("data");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    let file = edited(dir.path(), &[("http = \"127.0.0.1:0\"", &format!("http = \"{port}\""))]);
    let out = tollway(&["serve", "--config", &file, "--data", data.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains(&port), "{}", text(&out.stderr));
    assert!(!data.exists(), "nothing was made");
}
