//! The lab's network for real: namespaces, the user-space line, traffic. Its own `main`, because a user
//! namespace can only be entered before the test harness starts a thread.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use tollway_lab::RunArgs;
use tollway_lab::clock::{self, MS, SECOND};
use tollway_lab::error::Error;
use tollway_lab::line::{FlowMatch, Line};
use tollway_lab::net::topology::Topology;
use tollway_lab::net::userns;
use tollway_lab::traffic::probe::{self, Echo, Probe};
use tollway_lab::traffic::{transfer, udp};
use tollway_link::{Buffer, Config};

const DELAY_NS: u64 = 10 * MS;

fn line_config() -> Config {
    Config {
        rate_bps: Some(20_000_000),
        overhead_bytes: 0,
        buffer: Buffer::Time { ns: 50 * MS },
        delay_ns: DELAY_NS,
    }
}

struct Lab {
    topology: Topology,
    line: Line,
}

fn build() -> Result<Lab, Error> {
    let hosts =
        [("a".to_owned(), Ipv4Addr::new(10, 10, 0, 2)), ("b".to_owned(), Ipv4Addr::new(10, 10, 0, 3))];
    let topology = Topology::build(&hosts)?;
    let line = match std::env::var("LAB_BACKEND").as_deref() {
        Ok("netem") => Line::kernel(&topology.line, line_config(), line_config())?,
        _ => Line::user(&topology.line, line_config(), line_config())?,
    };
    Ok(Lab { topology, line })
}

/// A round trip is never shorter than the two delays.
fn never_early(lab: &Lab) -> Result<(), String> {
    let (a, server) = (host(lab, "a")?, host(lab, "server")?);
    let _echo = Echo::start(&server, 7007).map_err(text)?;
    let probe = Probe::start(&a, &server, 7007, 200, 1).map_err(text)?;
    let from = clock::now_ns();
    let until =
        wait_for(10, || probe.samples(from, u64::MAX).iter().filter(|s| s.rtt_ns.is_some()).count() >= 200)?;
    let samples = probe.samples(from, until);
    let least = samples.iter().filter_map(|s| s.rtt_ns).min().ok_or("no echo")?;
    let got = probe::summarise(&samples, until);
    println!("  rtt min {:.3} ms, p50 {:?} ms, p99 {:?} ms", least as f64 / 1e6, got.p50_ms, got.p99_ms);
    check(least >= 2 * DELAY_NS, || format!("a round trip took {least} ns"))
}

/// Packets sent = packets received + packets that the hop says it dropped, exactly.
fn every_packet_is_accounted_for(lab: &Lab) -> Result<(), String> {
    let (a, server) = (host(lab, "a")?, host(lab, "server")?);
    let flow =
        FlowMatch { protocol: 17, source: a.address, destination: server.address, destination_port: 7100 };
    lab.line.watch(flow);
    let flood = udp::Udp::start(udp::Order {
        name: "flood".into(),
        from: a,
        to: server,
        port: 7100,
        rate_bps: 30_000_000,
        packet_bytes: 1500,
        dscp: 0,
        seed: 1,
    })
    .map_err(text)?;
    wait_for(10, || flood.received().packets > 3_000)?;
    let out = flood.stop();
    let Some((dropped, bytes)) = lab.line.dropped(flow) else {
        println!(
            "  sent {}, received {}; {} tells no flows apart",
            out.sent_packets,
            out.received.packets,
            lab.line.backend()
        );
        return Ok(());
    };
    wait_for(5, || {
        lab.line.snapshot().up.packets_in
            == lab.line.snapshot().up.packets_out + lab.line.snapshot().up.packets_dropped
    })?;
    println!("  sent {}, received {}, dropped {dropped}", out.sent_packets, out.received.packets);
    check(dropped > 0 && bytes == dropped * 1500, || format!("{dropped} drops of {bytes} bytes"))?;
    check(out.sent_packets == out.received.packets + dropped, || "packets are missing".into())
}

/// Eight hundred kilobytes arrive whole, about as fast as the line goes and never faster.
fn a_transfer_arrives(lab: &Lab) -> Result<(), String> {
    let order = transfer::Order {
        name: "upload".into(),
        from: host(lab, "b")?,
        to: host(lab, "server")?,
        port: 7200,
        bytes: 4_000_000,
        congestion: "cubic",
    };
    let mut upload = transfer::Transfer::prepare(order).map_err(text)?;
    let started = upload.start().map_err(text)?;
    check(upload.wait_until(started + 20 * SECOND), || "it did not arrive within 20 s".into())?;
    let out = upload.finish();
    let took = out.completed_ns.ok_or("not completed")? - out.started_ns;
    println!("  4 MB in {:.3} s, segments of {:?}", took as f64 / 1e9, out.mss);
    check(out.received.bytes == 4_000_000, || format!("{} bytes", out.received.bytes))?;
    check(out.mss == Some(1448), || format!("segments of {:?}", out.mss))?;
    check(took > 1_600 * MS, || format!("faster than the line: {took} ns"))
}

/// A port that goes down stops traffic; up again, traffic goes on.
fn a_port_comes_back(lab: &Lab) -> Result<(), String> {
    let (a, server) = (host(lab, "a")?, host(lab, "server")?);
    let _echo = Echo::start(&server, 7008).map_err(text)?;
    let probe = Probe::start(&a, &server, 7008, 100, 1).map_err(text)?;
    lab.topology.set_port("wan0", false).map_err(text)?;
    let down = clock::now_ns();
    wait_for(5, || probe.samples(down, u64::MAX).len() > 30)?;
    let answered = probe.samples(down, u64::MAX).iter().filter(|s| s.rtt_ns.is_some()).count();
    lab.topology.set_port("wan0", true).map_err(text)?;
    check(answered == 0, || format!("{answered} echoes through a port that is down"))?;
    let up = clock::now_ns();
    wait_for(10, || probe.samples(up, u64::MAX).iter().any(|s| s.rtt_ns.is_some())).map(drop)
}

fn host(lab: &Lab, name: &str) -> Result<tollway_lab::net::topology::Host, String> {
    lab.topology.host(name).cloned().map_err(text)
}

fn text(error: Error) -> String {
    error.chain()
}

fn check(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

/// Waits for a condition, at most so many seconds; gives the instant at which it held.
fn wait_for(seconds: u64, mut condition: impl FnMut() -> bool) -> Result<u64, String> {
    let until = clock::now_ns() + seconds * SECOND;
    while clock::now_ns() < until {
        if condition() {
            return Ok(clock::now_ns());
        }
        std::thread::park_timeout(std::time::Duration::from_millis(2));
    }
    Err(format!("not within {seconds} s"))
}

/// The part of `nothing_survives_sigkill` that is killed: a lab with a program in one of its namespaces.
fn hold() -> Result<(), String> {
    let lab = userns::enter_user_namespace().and_then(|()| build()).map_err(text)?;
    let mut command = Command::new("sleep");
    command.arg("600");
    let child = lab.topology.router.start(command, "sleep").map_err(text)?;
    println!("{}", child.id());
    std::thread::park_timeout(std::time::Duration::from_secs(600));
    Ok(())
}

/// SIGKILL of the lab: the programs in its namespaces go with it, and so does the last descriptor of each
/// namespace.
fn nothing_survives_sigkill() -> Result<(), String> {
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut lab = Command::new(exe).arg("hold").stdout(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
    let mut first = String::new();
    let out = lab.stdout.take().ok_or("no output")?;
    BufReader::new(out).read_line(&mut first).map_err(|e| e.to_string())?;
    let program = format!("/proc/{}/ns/net", first.trim());
    let namespace = std::fs::read_link(&program).map_err(|e| format!("{program}: {e}"));
    lab.kill().map_err(|e| e.to_string())?;
    lab.wait().map_err(|e| e.to_string())?;
    let namespace = namespace?;
    wait_for(5, || std::fs::read_link(&program).is_err())?;
    let holders = std::fs::read_dir("/proc")
        .map_err(|e| e.to_string())?
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path().join("ns/net")).ok())
        .filter(|held| *held == namespace)
        .count();
    check(holders == 0, || format!("{holders} processes are left in {}", namespace.display()))
}

/// A run of the tiny scenario in a process of its own: exit code, folder, what it complained of.
struct Ran {
    code: i32,
    out: PathBuf,
    said: String,
}

impl Drop for Ran {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.out);
        let _ = std::fs::remove_file(&self.out);
    }
}

fn out_for(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tollway-tiny-{}-{name}", std::process::id()))
}

/// Runs the tiny scenario with one more `--set`.
fn run_tiny(name: &str, set: &str, backend: &str) -> Result<Ran, String> {
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let out = out_for(name);
    let ran = Command::new(exe)
        .args(["run", set, backend])
        .arg(&out)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    Ok(Ran { code: ran.status.code().unwrap_or(-1), out, said })
}

/// A whole run: exit codes, and the files that it leaves. A busy host (4) is never a failure here.
fn a_scenario_is_judged() -> Result<(), String> {
    if Command::new("nft").arg("-v").output().is_err() {
        println!("  skipped: this host has no nft");
        return Ok(());
    }
    let good = run_tiny("good", "lab.seed=3", "user")?;
    check(matches!(good.code, 0 | 4), || format!("a good run: exit {}", good.code))?;
    for file in ["report.json", "report.html", "result.json"] {
        check(good.out.join(file).is_file(), || format!("{file} is missing"))?;
    }
    let failed = run_tiny("failed", "act.flood.expect.0.at_least=4000", "user")?;
    check(matches!(failed.code, 1 | 4), || format!("a failed expectation: exit {}", failed.code))?;
    let bad = run_tiny("bad", "line.up.rate=10", "user")?;
    check(bad.code == 2, || format!("a bad scenario: exit {}", bad.code))
}

/// A run that is refused names why and leaves what was there as it was.
fn what_cannot_run_leaves_nothing() -> Result<(), String> {
    std::fs::write(out_for("file"), "mine").map_err(|e| e.to_string())?;
    let file = run_tiny("file", "lab.seed=3", "user")?;
    check(file.code == 2 && file.said.contains("--out"), || format!("exit {}: {}", file.code, file.said))?;
    let kept = std::fs::read_to_string(&file.out).map_err(|e| e.to_string())?;
    check(kept == "mine", || format!("the file now holds {kept:?}"))?;
    let below = run_tiny("file/below/it", "lab.seed=3", "user")?;
    check(below.code == 2 && below.said.contains("is not a folder"), || below.said.clone())?;
    let netem = run_tiny("netem", "lab.seed=3", "netem")?;
    check(matches!(netem.code, 0 | 3 | 4), || {
        format!("a kernel with or without netem: exit {}", netem.code)
    })?;
    check(netem.code != 3 || !netem.out.exists(), || format!("{} is left", netem.out.display()))?;
    // Whatever the kernel has, netem cannot count an overhead.
    let overhead = run_tiny("overhead", "line.up.overhead=4", "netem")?;
    check(overhead.code == 3 && !overhead.out.exists(), || {
        format!("exit {}, {} is left: {}", overhead.code, overhead.out.display(), overhead.said)
    })
}

fn run_in_child(args: &[String]) -> ExitCode {
    let [set, backend, out] = args else { return ExitCode::FAILURE };
    tollway_lab::run(&RunArgs {
        file: std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiny.toml"),
        set: vec![set.clone()],
        out: Some(out.into()),
        backend: tollway_lab::parse_backend(backend),
        ..RunArgs::default()
    })
    .into()
}

type Case = (&'static str, fn(&Lab) -> Result<(), String>);

const CASES: [Case; 4] = [
    ("never_early", never_early),
    ("every_packet_is_accounted_for", every_packet_is_accounted_for),
    ("a_transfer_arrives", a_transfer_arrives),
    ("a_port_comes_back", a_port_comes_back),
];

type ProcessCase = (&'static str, fn() -> Result<(), String>);

const PROCESS_CASES: [ProcessCase; 3] = [
    ("nothing_survives_sigkill", nothing_survives_sigkill),
    ("a_scenario_is_judged", a_scenario_is_judged),
    ("what_cannot_run_leaves_nothing", what_cannot_run_leaves_nothing),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().map(String::as_str) == Some("run") {
        return run_in_child(&args[1..]);
    }
    if args.first().map(String::as_str) == Some("hold") {
        return hold().map_or_else(
            |why| {
                eprintln!("{why}");
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        );
    }
    let lab = match userns::enter_user_namespace().and_then(|()| build()) {
        Ok(lab) => lab,
        Err(Error::Host { capability }) => {
            println!("skipped: this host has no {capability}");
            println!("0 passed, 0 failed, {} skipped", CASES.len() + PROCESS_CASES.len());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            println!("cannot build the lab: {}", error.chain());
            return ExitCode::FAILURE;
        }
    };
    let mut failed = 0;
    for (name, case) in PROCESS_CASES {
        println!("test {name}");
        if let Err(why) = case() {
            println!("  FAILED: {why}");
            failed += 1;
        }
    }
    for (name, case) in CASES {
        println!("test {name}");
        if let Err(why) = case(&lab) {
            println!("  FAILED: {why}");
            failed += 1;
        }
    }
    println!("{} passed, {failed} failed", CASES.len() + PROCESS_CASES.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
