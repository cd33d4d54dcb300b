//! Rules in a real kernel: packets of a rule's flow go through its class, at its rate, and are counted; everybody
//! else's do not. `tc` and `ip` are witnesses that share no code with us.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;
use tollway_pcef::rule::{Direction, Filter, Rates, Rule, Status};
use tollway_pcef::shape::Shaper;

const INSIDE: &str = "TOLLWAY_TEST_NAMESPACE";
const DEVICE: Ipv4Addr = Ipv4Addr::new(10, 45, 0, 2);
const REMOTE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// IP and UDP headers.
const HEADERS: u64 = 28;
const PAYLOAD: usize = 972;

/// Runs `body` in namespaces of its own, in a process of its own; `name` is the test's full name.
fn in_namespace(name: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        body();
        return;
    }
    let mut child = Command::new(std::env::current_exe().expect("the test's own path"));
    child.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    // SAFETY: both calls have no preconditions.
    let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
    // SAFETY: between fork and exec only system calls and writes to /proc; no other thread runs there.
    unsafe { child.pre_exec(move || enter(uid, gid)) };
    match child.status() {
        Ok(status) => assert!(status.success(), "{name} failed inside its namespace: {status}"),
        Err(error) => println!("skipped: this host gives no namespaces: {error}"),
    }
}

fn enter(uid: libc::uid_t, gid: libc::gid_t) -> io::Result<()> {
    // SAFETY: plain system calls without pointers.
    unsafe {
        if libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::CLONE_NEWNS) == 0 {
            std::fs::write("/proc/self/setgroups", "deny")?;
            std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
            return std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"));
        }
        if libc::unshare(libc::CLONE_NEWNET) == 0 {
            return Ok(());
        }
    }
    Err(io::Error::last_os_error())
}

fn sh(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Two links whose far ends nobody reads: what leaves is counted and lost there. `lan0` leads to the device, `wan0` to
/// the network.
fn links() {
    sh("ip link set lo up");
    for (name, far, own, to) in
        [("lan0", "lan1", "10.45.0.1/24", DEVICE), ("wan0", "wan1", "192.0.2.2/24", REMOTE)]
    {
        sh(&format!("ip link add {name} type veth peer name {far}"));
        sh(&format!("ip address add {own} dev {name}"));
        sh(&format!("ip link set {name} up"));
        sh(&format!("ip link set {far} up"));
        sh(&format!("ip neighbour replace {to} lladdr 02:00:00:00:00:01 dev {name}"));
    }
    // Both ends' addresses are ours too, so that packets of either may start here.
    sh("ip address add 192.0.2.1/32 dev lo");
    sh("ip address add 10.45.0.2/32 dev lo");
    sh("ip rule add pref 1 to 10.45.0.2 lookup 100");
    sh("ip rule add pref 2 to 192.0.2.1 lookup 100");
    // The local table stands before all rules: it is moved behind.
    sh("ip rule add pref 3 lookup local");
    sh("ip rule delete pref 0");
    sh("ip route add 10.45.0.2 dev lan0 table 100");
    sh("ip route add 192.0.2.1 dev wan0 table 100");
}

fn rule(name: &str, port: u16, max: Rates) -> Rule {
    let description = format!("permit out 17 from {REMOTE} {port} to {DEVICE} 5000");
    let filter = |direction| Filter { description: description.clone(), direction };
    Rule {
        name: name.into(),
        is_predefined: false,
        filters: vec![filter(Direction::Down), filter(Direction::Up)],
        qci: Some(4),
        max,
        guaranteed: Rates::default(),
        precedence: Some(100),
        rating_group: None,
        monitoring_key: Some(name.into()),
        from: None,
        until: None,
        wants_report: true,
        status: Status::Active,
    }
}

/// Sends packets from one end to the other.
fn send(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), packets: usize) {
    let socket = UdpSocket::bind(from).expect("an address of ours");
    for _ in 0..packets {
        socket.send_to(&[0; PAYLOAD], to).expect("it leaves");
    }
}

/// Reads the meters until nothing is queued any more: `(rule, up, down)`.
fn counted(shaper: &mut Shaper) -> Vec<(String, u64, u64)> {
    let mut sums: Vec<(String, u64, u64)> = Vec::new();
    for _ in 0..2_000 {
        let is_queued = ["wan0", "lan0"].iter().any(|device| {
            let text = sh(&format!("tc -s qdisc show dev {device}"));
            text.lines().any(|line| line.contains("backlog") && !line.contains("backlog 0b 0p"))
        });
        for (key, up, down) in shaper.counted().expect("the kernel answers") {
            match sums.iter_mut().find(|sum| sum.0 == key.rule) {
                Some(sum) => (sum.1, sum.2) = (sum.1 + up, sum.2 + down),
                None => sums.push((key.rule, up, down)),
            }
        }
        if !is_queued {
            return sums;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("the queues do not empty: {}", sh("tc -s qdisc show"));
}

#[test]
fn a_rules_packets_are_shaped_and_counted() {
    in_namespace("a_rules_packets_are_shaped_and_counted", || {
        links();
        let mut shaper = Shaper::new("wan0", "lan0").expect("HTB on both devices");
        let max = Rates { up_bps: 2_000_000, down_bps: 8_000_000 };
        shaper.enforce("s", DEVICE, &rule("tw-1-0", 443, max)).expect("a rule");
        shaper.enforce("s", DEVICE, &rule("tw-2-0", 444, max)).expect("another with the same precedence");
        let (device, remote) = ((DEVICE, 5_000), (REMOTE, 443));
        send(remote, device, 40);
        send(device, remote, 10);
        // Neither protocol, nor port, nor direction of a rule.
        send((REMOTE, 445), device, 7);
        send(device, (REMOTE, 446), 7);
        let bytes = |packets: u64| packets * (PAYLOAD as u64 + HEADERS);
        assert_eq!(counted(&mut shaper), [("tw-1-0".to_owned(), bytes(10), bytes(40))]);
        send((REMOTE, 444), device, 3);
        assert_eq!(counted(&mut shaper), [("tw-2-0".to_owned(), 0, bytes(3))]);
        let classes = sh("tc class show dev lan0");
        assert!(classes.contains("ceil 8074Kbit"), "8 Mbit/s of IP in packets of 1,500 and 14: {classes}");
        // A change keeps the counters; removal takes class and filters.
        let faster = Rates { up_bps: 4_000_000, down_bps: 9_000_000 };
        shaper.enforce("s", DEVICE, &rule("tw-1-0", 443, faster)).expect("a change");
        assert!(sh("tc class show dev lan0").contains("ceil 9084Kbit"), "{}", sh("tc class show dev lan0"));
        send(remote, device, 5);
        assert_eq!(counted(&mut shaper), [("tw-1-0".to_owned(), 0, bytes(5))]);
        shaper.lift("s", "tw-1-0").expect("a removal");
        shaper.lift("s", "tw-1-0").expect("once more is no error");
        send(remote, device, 5);
        assert_eq!(counted(&mut shaper), []);
        let filters = sh("tc filter show dev lan0");
        assert_eq!(filters.matches("flowid").count(), 1, "{filters}");
        drop(shaper);
        assert!(!sh("tc qdisc show dev lan0").contains("htb"));
    });
}

#[test]
fn what_cannot_be_matched_changes_nothing() {
    in_namespace("what_cannot_be_matched_changes_nothing", || {
        links();
        let mut shaper = Shaper::new("wan0", "lan0").expect("HTB on both devices");
        let mut bad = rule("tw-1-0", 443, Rates { up_bps: 1_000_000, down_bps: 1_000_000 });
        bad.filters[0].description = "permit in 17 from any to any".into();
        let before = sh("tc class show dev lan0");
        let error = shaper.enforce("s", DEVICE, &bad).expect_err("it is in uplink form");
        assert!(error.to_string().contains("permit in"), "{error}");
        assert_eq!(sh("tc class show dev lan0"), before);
        // A rule without rates needs no class.
        shaper.enforce("s", DEVICE, &rule("standing", 443, Rates::default())).expect("nothing to do");
        assert_eq!(sh("tc class show dev lan0"), before);
        drop(shaper);
        assert!(Shaper::new("nothere", "lan0").is_err());
    });
}
