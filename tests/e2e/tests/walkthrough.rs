//! What `docs/api.md` shows is run as it stands there: every shell block, in order, in one shell, against a broker and
//! an agent that the blocks themselves configure and start. In namespaces of the test's own.

mod support;

use std::process::{Command, Stdio};
use support::{Scratch, binary};

const API: &str = include_str!("../../../docs/api.md");

/// Far above what it takes; a document that waits for ever must not hang the tests.
const BOUND_S: &str = "120";

/// The devices that the document asks for, and that nothing of it is left running.
const BEFORE: &str = r#"
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
ip link set lo up
for port in wan0 lan0; do
  ip link add $port type veth peer name $port-far
  ip link set $port-far up
  ip link set $port up
done
"#;

/// What a reader who followed it must have in the end.
const AFTER: &str = r#"
echo
[ "$(curl -s $BASE/reservations/$ID -H "$AUTH" | field end_reason)" = cancelled ]
[ "$(curl -s $BASE/wallet -H "$AUTH" | field held_micros)" = 0 ]
[ "$(curl -s $BASE/reservations/$ID/evidence -H "$AUTH" | field intervals.0.state)" != "" ]
echo followed to the end
"#;

fn shell_blocks(text: &str) -> String {
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.collect::<Vec<_>>().join("\n")
}

fn lacks() -> Option<&'static str> {
    let works = |program: &str, args: &[&str]| {
        let tried = Command::new(program).args(args).stdin(Stdio::null()).output();
        tried.is_ok_and(|output| output.status.success())
    };
    match () {
        () if !works("unshare", &["-rn", "true"]) => Some("this host allows no network namespaces"),
        () if !works("curl", &["--version"]) => Some("there is no curl"),
        () if !works("python3", &["--version"]) => Some("there is no python3"),
        () if !works("ip", &["-V"]) => Some("there is no ip"),
        () => None,
    }
}

#[test]
fn the_apis_walk_through_works_as_it_is_written() {
    if let Some(what) = lacks() {
        println!("skipped: {what}");
        return;
    }
    let scratch = Scratch::new("walk-through");
    let _ = binary("tollway-agent");
    let programs = binary("tollway").parent().expect("a program lies in a directory").to_owned();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let script = format!("set -euo pipefail\n{BEFORE}\n{}\n{AFTER}", shell_blocks(API));
    let output = Command::new("timeout")
        .args([BOUND_S, "unshare", "-rn", "bash", "-c", &script])
        .current_dir(&scratch.0)
        .env("PATH", path)
        .env("TOLLWAY_LOG", "warn")
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .output()
        .expect("a shell runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let trouble = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}\n{trouble}", output.status);
    assert!(said.ends_with("followed to the end\n"), "{said}\n{trouble}");
    assert!(!trouble.contains("WARN") && !trouble.contains("ERROR"), "{trouble}");
}
