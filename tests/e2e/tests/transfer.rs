//! The main job with everything real: broker and agent as processes, kernel rules in namespaces, a congested
//! line, and the broker killed in mid-transfer. The scenario judges: the transfer arrives in time, is metered
//! to the byte, billed to the micro-unit, and nothing is left in the kernel.

mod support;

use std::process::{Command, Stdio};
use support::{Scratch, binary};

/// Exit codes of `tollway lab run`.
const PASS: i32 = 0;
const HOST_CANNOT: i32 = 3;
const DEGRADED: i32 = 4;

/// A busy machine proves nothing either way: the run is repeated so often.
const TRIES: usize = 3;

#[test]
fn a_paid_transfer_survives_overload_and_a_dead_broker() {
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/../../lab/scenarios/paid.toml");
    let scratch = Scratch::new("transfer");
    let _ = binary("tollway-agent");
    for attempt in 1..=TRIES {
        let out = scratch.0.join(format!("run{attempt}"));
        let run = Command::new(binary("tollway"))
            .args(["lab", "run", scenario, "--out"])
            .arg(&out)
            .stdin(Stdio::null())
            .output()
            .expect("the lab runs");
        let said =
            format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        match run.status.code() {
            Some(PASS) => {
                assert!(out.join("report.html").exists(), "{said}");
                println!("passed at try {attempt}");
                return;
            }
            Some(HOST_CANNOT) => {
                println!("skipped: the host cannot run the lab: {said}");
                return;
            }
            Some(DEGRADED) => println!("try {attempt} was degraded"),
            other => panic!("the lab exited with {other:?}:\n{said}"),
        }
    }
    println!("skipped: this machine was too busy {TRIES} times");
}
