//! The agent's binary against the real kernel and a broker in the test's hand.

#[path = "support/broker.rs"]
mod broker;
#[path = "../../linux/tests/support/mod.rs"]
mod support;

use broker::{Broker, TOKEN, now_ms};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{CLIENT, Line, SERVER, in_namespace, nft, sh, wait_for};
use tollway_proto::agent_v1 as v1;

const BOUND: Duration = Duration::from_secs(15);

struct Agent {
    directory: PathBuf,
    child: Option<Child>,
}

impl Agent {
    fn new(name: &str) -> Agent {
        let directory = std::env::temp_dir().join(format!("tollway-{name}-{}", std::process::id()));
        let _old = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).expect("a directory");
        let config = format!(
            r#"
agent = "router1"
broker = "http://127.0.0.1:7420"
token = "{TOKEN}"
data = "data"
[[port]]
name = "wan0"
device = "wan0"
link = "40mbit"
[[port]]
name = "lan0"
device = "lan0"
link = 40000000
"#
        );
        std::fs::write(directory.join("agent.toml"), config).expect("written");
        Agent { directory, child: None }
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollway-agent"));
        command.arg(verb).arg("--config").arg(self.directory.join("agent.toml")).stdin(Stdio::null());
        command
    }

    /// Starts with its log in a file.
    fn start_logged(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.directory.join("log"));
        let log = log.expect("a log");
        self.child = Some(self.command("run").stderr(log).spawn().expect("starts"));
    }

    fn wait_log(&self, text: &str) {
        wait_for(text, BOUND, || self.log().contains(text).then_some(()));
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).expect("a log")
    }

    fn start(&mut self) {
        self.child = Some(self.command("run").spawn().expect("starts"));
    }

    fn signal(&mut self, signal: i32) -> Option<i32> {
        let mut child = self.child.take().expect("running");
        // SAFETY: plain system call; the child is not yet reaped, so the id is its own.
        unsafe { libc::kill(i32::try_from(child.id()).expect("a pid"), signal) };
        child.wait().expect("ends").code()
    }

    fn run(&self, verb: &str) -> Output {
        self.command(verb).output().expect("runs")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.signal(libc::SIGKILL);
        }
        let _left = std::fs::remove_dir_all(&self.directory);
    }
}

fn leg(reservation: u64, attempt: u32, remote_port: u32, rate_bps: u64, until_ms: u64) -> v1::Leg {
    let side = |port: &str, rate_bps| {
        let segment = v1::Segment { from_ms: now_ms() - 1000, until_ms, rate_bps };
        Some(v1::Side { port: port.into(), segments: vec![segment] })
    };
    v1::Leg {
        reservation,
        index: 0,
        attempt,
        direction: v1::Direction::Up.into(),
        up: side("wan0", rate_bps),
        down: side("lan0", 1_000_000),
        flows: vec![v1::Flow {
            protocol: 17,
            device: vec![10, 1, 0, 2],
            device_port: None,
            remote: vec![10, 2, 0, 2],
            remote_port,
        }],
        packet_bytes: 1500,
        queue_ms_max: 50,
        borrow: true,
        valid_until_ms: until_ms,
    }
}

fn wait_kinds(broker: &Broker, reservation: u64, want: &[&str]) {
    wait_for(&format!("reports {want:?}"), BOUND, || {
        (broker.inner().kinds(reservation) == want).then_some(())
    });
}

#[test]
fn a_whole_life() {
    in_namespace("a_whole_life", || {
        let _line = Line::new();
        let mut broker = Broker::new();
        broker.inner().desired = vec![leg(1, 1, 4000, 10_000_000, now_ms() + 600_000)];
        let mut agent = Agent::new("life");
        agent.start();
        wait_kinds(&broker, 1, &["Accepted", "Active"]);
        let hello = broker.inner().hellos[0].clone();
        assert_eq!((hello.agent.as_str(), hello.protocol, hello.ports.len()), ("router1", 1, 2));
        assert!(hello.ports.iter().all(|port| port.up && port.link_bps == 40_000_000));
        println!("capabilities: {:?}", hello.capabilities);
        assert!(hello.capabilities.iter().any(|capability| capability.starts_with("leaf=")));
        assert!(sh("tc class show dev wan0").contains("7a11:100 parent 7a11:1"));
        assert!(support::our_table().contains("10.1.0.2 . 10.2.0.2 . udp . 4000 : 7a11:100"));
        // A second leg, one that cannot be, and a release.
        broker.send(v1::to_agent::Message::Upsert(leg(2, 1, 5000, 5_000_000, now_ms() + 600_000)));
        wait_kinds(&broker, 2, &["Accepted", "Active"]);
        let mut bad = leg(3, 7, 5001, 5_000_000, now_ms() + 600_000);
        bad.flows[0].protocol = 1;
        broker.send(v1::to_agent::Message::Upsert(bad));
        wait_kinds(&broker, 3, &["Refused protocol 1; 6 and 17 are taken"]);
        broker.send(v1::to_agent::Message::Release(v1::Release { reservation: 2, index: 0, attempt: 2 }));
        wait_kinds(&broker, 2, &["Accepted", "Active", "Removed"]);
        assert!(broker.inner().usage().iter().any(|r| r.reservation == 2 && r.last));
        wait_for("heartbeats and readings of ports", BOUND, || {
            let inner = broker.inner();
            let ports = inner.reports().any(|report| matches!(report, v1::report::Report::Port(_)));
            (inner.heartbeats > 0 && ports).then_some(())
        });
        // Deleted by hand: repaired by the event.
        sh("tc qdisc del dev wan0 root");
        wait_for("the class is back", BOUND, || {
            sh("tc class show dev wan0").contains("7a11:100 parent").then_some(())
        });
        let lost = "Lost root_missing: our root qdisc is gone (port wan0)";
        wait_kinds(&broker, 1, &["Accepted", "Active", lost, "Active"]);
        // Nobody else may use the data directory or take things away meanwhile.
        let second = agent.run("uninstall");
        assert_eq!(second.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&second.stderr).contains("another agent is running"));
        // A broker with an older epoch is not obeyed.
        broker.stop();
        broker.inner().epoch = 0;
        broker.inner().desired.clear();
        let hellos = broker.inner().hellos.len();
        broker.start();
        wait_for("it has tried twice", BOUND, || (broker.inner().hellos.len() > hellos + 1).then_some(()));
        assert!(broker.inner().hellos.iter().skip(1).all(|hello| hello.epoch == 1));
        assert!(sh("tc class show dev wan0").contains("7a11:100 parent"));
        // SIGTERM leaves the rules; uninstall takes them.
        assert_eq!(agent.signal(libc::SIGTERM), Some(0));
        assert!(sh("tc class show dev wan0").contains("7a11:100 parent"));
        assert!(nft("list ruleset").contains("table inet tollway"));
        let doctor = agent.run("doctor");
        let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
        println!("{text}");
        assert_eq!(doctor.status.code(), Some(0));
        assert!(text.contains("port wan0: device wan0 up, mtu 1500, root qdisc is ours"));
        let uninstalled = agent.run("uninstall");
        assert_eq!(uninstalled.status.code(), Some(0), "{uninstalled:?}");
        assert!(!sh("tc qdisc show").contains("htb"));
        assert_eq!(nft("list ruleset"), "");
    });
}

/// Twenty, or what `make soak` asks for.
fn kills() -> u64 {
    std::env::var("SOAK_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20)
}

#[test]
fn twenty_kills_lose_nothing() {
    in_namespace("twenty_kills_lose_nothing", || {
        let line = Line::new();
        line.server.on(|| {
            nft("add table inet witness");
            nft("add counter inet witness got");
            nft("add chain inet witness in { type filter hook input priority 0 ; }");
            nft("add rule inet witness in udp dport 4000 counter name got");
        });
        let mut broker = Broker::new();
        let kills = kills();
        let until = now_ms() + 6_000 + kills * 400;
        broker.inner().desired = vec![leg(1, 1, 4000, 10_000_000, until)];
        let mut agent = Agent::new("kills");
        agent.start();
        wait_kinds(&broker, 1, &["Accepted", "Active"]);
        let (from, to) = (line.client.udp(CLIENT, 0), line.server.udp(SERVER, 4000));
        let target = to.local_addr().expect("bound");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sender = std::thread::spawn(move || {
            let mut sent = 0u64;
            while !stopped.load(Ordering::Relaxed) {
                sent += u64::from(from.send_to(&[7; 900], target).is_ok());
                std::thread::park_timeout(Duration::from_millis(2));
            }
            sent
        });
        // Half the kills with the broker there, half while it is away; at odd moments, start-up included.
        for kill in 0..kills {
            if kill == kills / 2 {
                broker.stop();
            }
            std::thread::park_timeout(Duration::from_millis(20 + kill * 97 % 380));
            agent.signal(libc::SIGKILL);
            let classes = sh("tc class show dev wan0");
            assert!(classes.contains("7a11:100 parent 7a11:1"), "enforcement goes on: {classes}");
            agent.start();
        }
        let left = Duration::from_millis(until.saturating_sub(now_ms()));
        wait_for("the end is near", left + BOUND, || (now_ms() + 1_000 > until).then_some(()));
        stop.store(true, Ordering::Relaxed);
        let sent = sender.join().expect("sent");
        // The broker is away: the agent ends the leg by itself.
        wait_for("nothing is left", BOUND, || {
            let gone = !sh("tc class show dev wan0").contains("7a11:100 ")
                && !sh("tc class show dev lan0").contains("7a11:100 ")
                && !support::our_table().contains("7a11:100");
            (now_ms() > until && gone).then_some(())
        });
        broker.start();
        wait_for("the last reading", BOUND, || broker.inner().usage().iter().any(|r| r.last).then_some(()));
        let inner = broker.inner();
        assert!(inner.changed.is_empty(), "a batch came again with other contents: {:?}", inner.changed);
        let numbers: Vec<u64> = inner.batches.keys().copied().collect();
        assert_eq!(numbers, (1..=inner.acked()).collect::<Vec<_>>(), "no batch is missing");
        let usage = inner.usage();
        let lives: BTreeMap<u64, Vec<&v1::SlotReading>> =
            usage.iter().fold(BTreeMap::new(), |mut lives, r| {
                lives.entry(r.incarnation).or_insert_with(Vec::new).push(r);
                lives
            });
        assert_eq!(lives.len(), 1, "one life of the counters, whatever the agent's lives");
        for (n, reading) in usage.iter().enumerate() {
            assert_eq!(reading.seq, n as u64 + 1, "no reading is missing or doubled");
        }
        let bytes: Vec<u64> = usage.iter().map(|r| r.sold.expect("counters").bytes).collect();
        assert!(bytes.is_sorted(), "a counter went back: {bytes:?}");
        let counter = line.server.on(|| nft("list counter inet witness got"));
        let got =
            counter.split("bytes ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("bytes");
        let last = usage.last().expect("a reading");
        assert!(last.last && last.seen);
        println!("sent {sent} packets, metered {} bytes, received {got}", last.sold.expect("counters").bytes);
        assert_eq!(last.sold.expect("counters").bytes.to_string(), got, "to the byte");
        assert_eq!(last.sold.expect("counters").packets, sent);
        let active: Vec<u32> = usage.iter().map(|r| r.active_ms).collect();
        println!("active {active:?}");
        let inside = &active[1..active.len() - 1];
        assert!(inside.iter().all(|ms| (990..=1010).contains(ms)), "time away counts: the rules were there");
        assert_eq!(inner.kinds(1).last().map(String::as_str), Some("Removed"));
        assert!(!inner.kinds(1).iter().any(|kind| kind.starts_with("Lost")), "{:?}", inner.kinds(1));
        drop(inner);
        assert_eq!(agent.signal(libc::SIGTERM), Some(0));
        let left = agent.run("uninstall");
        assert_eq!(left.status.code(), Some(0));
        assert_eq!(nft("list ruleset"), "");
    });
}

#[test]
fn reports_wait_for_a_deaf_broker() {
    in_namespace("reports_wait_for_a_deaf_broker", || {
        let _line = Line::new();
        let mut broker = Broker::new();
        broker.inner().deaf = true;
        broker.inner().desired = vec![leg(1, 1, 4000, 10_000_000, now_ms() + 600_000)];
        let mut agent = Agent::new("deaf");
        agent.start();
        wait_for("reports are taken in", BOUND, || (broker.inner().acked() >= 3).then_some(()));
        broker.stop();
        let before = std::mem::take(&mut broker.inner().batches);
        // It forgot everything it had not acknowledged; everything comes again, the same.
        broker.inner().deaf = false;
        broker.start();
        let last = *before.keys().next_back().expect("some");
        wait_for("everything comes again", BOUND, || (broker.inner().acked() > last).then_some(()));
        let inner = broker.inner();
        for (number, reports) in &before {
            assert_eq!(inner.batches.get(number), Some(reports), "batch {number}");
        }
    });
}

#[test]
fn bad_input_ends_in_a_clear_error() {
    let directory = std::env::temp_dir().join(format!("tollway-bad-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join("agent.toml");
    let run = |path: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_tollway-agent")).arg("--config").arg(path).output();
        let output = output.expect("runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = run(&directory.join("none.toml"));
    assert_eq!(code, Some(2));
    assert!(text.contains("none.toml: cannot be read"), "{text}");
    std::fs::write(&path, "agent = \"a\"\nsurprise = 1\n").expect("written");
    let (code, text) = run(&path);
    assert_eq!(code, Some(2));
    assert!(text.contains("agent.toml") && text.contains("unknown field `surprise`"), "{text}");
    std::fs::remove_dir_all(&directory).expect("removed");
}

#[test]
fn a_damaged_state_is_not_silently_forgotten() {
    in_namespace("a_damaged_state_is_not_silently_forgotten", || {
        let agent = Agent::new("damaged");
        std::fs::create_dir_all(agent.directory.join("data")).expect("a directory");
        std::fs::write(agent.directory.join("data/desired.bin"), b"TWA1rubbish").expect("written");
        let output = agent.run("run");
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("desired.bin: damaged (its checksum does not fit)"), "{text}");
        assert_eq!(nft("list ruleset"), "", "nothing was done");
    });
}

#[test]
fn kills_around_the_end_lose_no_last_reading() {
    in_namespace("kills_around_the_end_lose_no_last_reading", || {
        let line = Line::new();
        line.server.on(|| {
            nft("add table inet witness");
            nft("add chain inet witness in { type filter hook input priority 0 ; }");
        });
        let broker = Broker::new();
        let mut agent = Agent::new("ends");
        agent.start();
        for (n, offset_ms) in [-30i64, -5, 0, 5, 20, 45, 55, 60, 70, 90].into_iter().enumerate() {
            let (reservation, port) = (n as u64 + 1, 4000 + u16::try_from(n).expect("small"));
            let rule = format!("add counter inet witness c{port}");
            let count = format!("add rule inet witness in udp dport {port} counter name c{port}");
            line.server.on(move || (nft(&rule), nft(&count)));
            let until = now_ms() + 900;
            let desired = leg(reservation, 1, u32::from(port), 10_000_000, until);
            broker.inner().desired = vec![desired.clone()];
            wait_for("the agent is there", BOUND, || broker.send_if(desired.clone()).then_some(()));
            wait_for("active", BOUND, || (broker.inner().kinds(reservation).len() >= 2).then_some(()));
            let (from, to) = (line.client.udp(CLIENT, 0), line.server.udp(SERVER, port));
            let target = to.local_addr().expect("bound");
            wait_for("the sender has stopped", BOUND, || {
                from.send_to(&[7; 900], target).expect("sends");
                (now_ms() + 200 > until).then_some(())
            });
            let moment = until.checked_add_signed(offset_ms).expect("fits");
            wait_for("the moment", BOUND, || (now_ms() >= moment).then_some(()));
            agent.signal(libc::SIGKILL);
            agent.start();
            let last = wait_for("the last reading", BOUND, || {
                broker.inner().usage().into_iter().find(|r| r.reservation == reservation && r.last)
            });
            let counter = line.server.on(move || nft(&format!("list counter inet witness c{port}")));
            let got = counter.split("bytes ").nth(1).and_then(|rest| rest.split_whitespace().next());
            let metered = last.sold.expect("counters").bytes;
            assert_eq!(Some(metered.to_string().as_str()), got, "killed {offset_ms} ms after the end");
            let inner = broker.inner();
            let lasts = inner.usage().iter().filter(|r| r.reservation == reservation && r.last).count();
            assert_eq!(lasts, 1, "killed {offset_ms} ms after the end");
        }
        wait_for("nothing is left", BOUND, || {
            (!support::our_table().contains("7a11:1") && sh("tc class show dev wan0").lines().count() == 2)
                .then_some(())
        });
    });
}

#[test]
fn a_full_disk_builds_nothing_new_and_recovers() {
    in_namespace("a_full_disk_builds_nothing_new_and_recovers", || {
        let _line = Line::new();
        let broker = Broker::new();
        let mut agent = Agent::new("full");
        let data = agent.directory.join("data");
        std::fs::create_dir_all(&data).expect("a directory");
        let data = data.display().to_string();
        if !support::tries(&format!("mount -t tmpfs -o size=256k none {data}")) {
            support::skip("no tmpfs can be mounted here");
        }
        let end = now_ms() + 3_000;
        broker.inner().desired = vec![leg(1, 1, 4000, 10_000_000, end)];
        agent.start();
        wait_kinds(&broker, 1, &["Accepted", "Active"]);
        // Full: not even the state's next version fits.
        let ballast = std::path::Path::new(&data).join("ballast");
        let _full = std::fs::write(&ballast, vec![1u8; 1 << 20]);
        broker.send(v1::to_agent::Message::Upsert(leg(2, 1, 5000, 5_000_000, now_ms() + 600_000)));
        wait_for("the first leg ends", BOUND, || {
            (now_ms() > end && !support::our_table().contains("7a11:100")).then_some(())
        });
        assert!(!sh("tc class show dev wan0").contains("7a11:101"), "nothing new without a durable record");
        assert!(broker.inner().kinds(2).is_empty(), "and nothing is said");
        assert!(sh("tc class show dev wan0").contains("7a11:100 "), "its counters wait for the disk");
        std::fs::remove_file(&ballast).expect("removed");
        wait_for("the last reading", BOUND, || {
            let inner = broker.inner();
            inner.usage().iter().any(|r| r.reservation == 1 && r.last).then_some(())
        });
        wait_kinds(&broker, 2, &["Accepted", "Active"]);
        assert!(sh("tc class show dev wan0").contains("7a11:101 "));
        agent.signal(libc::SIGTERM);
        sh(&format!("umount {data}"));
    });
}

#[test]
fn another_market_is_refused_and_trouble_is_named() {
    in_namespace("another_market_is_refused_and_trouble_is_named", || {
        let _line = Line::new();
        let mut broker = Broker::new();
        broker.inner().market = "aa".repeat(16);
        broker.inner().desired = vec![leg(1, 1, 4000, 10_000_000, now_ms() + 600_000)];
        let mut agent = Agent::new("market");
        agent.start_logged();
        wait_kinds(&broker, 1, &["Accepted", "Active"]);
        assert_eq!(broker.inner().hellos[0].market, "");
        // Remembered over a restart; the stamp is of the stream's opening.
        assert_eq!(agent.signal(libc::SIGTERM), Some(0));
        agent.start_logged();
        wait_for("a second hello", BOUND, || (broker.inner().hellos.len() == 2).then_some(()));
        assert_eq!(broker.inner().hellos[1].market, "aa".repeat(16));
        let began = now_ms();
        wait_for("time passes", BOUND, || (now_ms() > began + 3_000).then_some(()));
        broker.replace();
        agent.wait_log("another agent uses this name or token");
        wait_for("a third hello", BOUND, || (broker.inner().hellos.len() == 3).then_some(()));
        let age = broker.inner().hello_ages_ms[2];
        assert!(age < 2_000, "the hello is {age} ms old");
        // Another market.
        broker.stop();
        broker.inner().market = "bb".repeat(16);
        broker.inner().desired.clear();
        broker.start();
        let text = format!(
            "this agent enforces market {}; broker at http://127.0.0.1:7420 leads market {}",
            "aa".repeat(16),
            "bb".repeat(16)
        );
        agent.wait_log(&text);
        let hellos = broker.inner().hellos.len();
        wait_for("it has tried again", BOUND, || (broker.inner().hellos.len() > hellos + 1).then_some(()));
        assert_eq!(agent.log().matches("leads market").count(), 1, "once a minute");
        assert!(sh("tc class show dev wan0").contains("7a11:100 parent"));
        // The token is refused.
        broker.inner().refuses = true;
        agent.wait_log("the broker refuses our token (token or token_file of agent.toml)");
        // The right market again, which has forgotten the leg.
        broker.inner().refuses = false;
        broker.inner().market = "aa".repeat(16);
        agent.wait_log("the broker drops legs that are live by their own schedule legs=1 which=\"r1.0\"");
    });
}

#[test]
fn a_start_removes_nothing_before_it_knows_better() {
    in_namespace("a_start_removes_nothing_before_it_knows_better", || {
        let _line = Line::new();
        let mut broker = Broker::new();
        broker.inner().desired = vec![leg(1, 1, 4000, 10_000_000, now_ms() + 600_000)];
        let mut agent = Agent::new("first");
        agent.start();
        wait_kinds(&broker, 1, &["Accepted", "Active"]);
        let shaped = || (sh("tc class show dev wan0"), support::our_table());
        let before = shaped();
        if nft("list table inet tollway").contains("owner") {
            let second = Agent::new("second").run("run");
            assert_eq!(second.status.code(), Some(1));
            let text = String::from_utf8_lossy(&second.stderr).into_owned();
            assert!(text.contains("is another agent running?"), "{text}");
            assert_eq!(shaped(), before);
        }
        broker.stop();
        agent.signal(libc::SIGKILL);
        std::fs::remove_dir_all(agent.directory.join("data")).expect("removed");
        let before = shaped();
        for _life in 0..2 {
            agent.start_logged();
            agent.wait_log("nothing is removed until a broker's first desired set");
            agent.wait_log("broker away");
            assert_eq!(shaped(), before);
            agent.signal(libc::SIGKILL);
        }
        broker.inner().desired = vec![leg(1, 2, 4000, 10_000_000, now_ms() + 600_000)];
        broker.start();
        agent.start_logged();
        // Its class is a new one: the old one has counted for somebody unknown.
        wait_for("the unknown class is gone", BOUND, || {
            let classes = sh("tc class show dev wan0");
            (classes.contains("7a11:101 ") && !classes.contains("7a11:100 ")).then_some(())
        });
        assert!(support::our_table().contains("7a11:101") && !support::our_table().contains("7a11:100"));
    });
}

#[test]
fn a_device_that_does_not_exist_is_said_at_the_start_and_at_the_first_refusal() {
    in_namespace("a_device_that_does_not_exist_is_said_at_the_start_and_at_the_first_refusal", || {
        let _line = Line::new();
        let mut broker = Broker::new();
        let mut agent = Agent::new("absent");
        let path = agent.directory.join("agent.toml");
        let config = std::fs::read_to_string(&path).expect("readable");
        std::fs::write(&path, config.replace("device = \"wan0\"", "device = \"wan9\"")).expect("written");
        broker.stop();
        agent.start_logged();
        agent.wait_log("the port's device does not exist");
        let line = agent.log();
        let line = line.lines().find(|line| line.contains("does not exist")).expect("said").to_owned();
        assert!(line.contains("WARN") && line.contains("wan0") && line.contains("wan9"), "{line}");
        broker.inner().desired = vec![leg(1, 1, 4000, 10_000_000, now_ms() + 600_000)];
        broker.start();
        let refused = "Refused device_missing: port wan0";
        wait_kinds(&broker, 1, &[refused]);
        agent.wait_log("a leg is refused");
        // Asked for again, refused again, and not said again.
        broker.stop();
        broker.inner().desired = vec![leg(1, 2, 4000, 10_000_000, now_ms() + 600_000)];
        broker.start();
        wait_kinds(&broker, 1, &[refused, refused]);
        let said = |text: &str| agent.log().lines().filter(|line| line.contains(text)).count();
        assert_eq!((said("a leg is refused"), said("does not exist")), (1, 1), "{}", agent.log());
        sh("ip link add wan9 type veth peer name wan9-far");
        sh("ip link set wan9-far up");
        sh("ip link set wan9 up");
        agent.wait_log("the port's device is there now");
        wait_kinds(&broker, 1, &[refused, refused, "Active"]);
    });
}
