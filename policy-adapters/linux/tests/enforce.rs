//! The enforcer against the real kernel, with `tc` and `nft` as independent witnesses.

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::{CLIENT, CLIENT6, Line, SERVER, SERVER6, in_namespace, nft, our_table, sh, tries, wait_for};
use tollway_linux::{Capabilities, Enforcer, Kernel, PortConfig, State};
use tollway_model::{
    BitsPerSecond, Direction, Flow, LegId, Protocol, ReservationId, Schedule, Timestamp, Window,
};
use tollway_policy::{ClassShape, DesiredLeg, PolicyReport, PortReading, Report, Side, SlotReading};

const BOUND: Duration = Duration::from_secs(15);

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Timestamp(u64::try_from(since.as_millis()).expect("fits"))
}

fn ports(take_root: bool) -> Vec<PortConfig> {
    let port = |name: &str, direction| PortConfig {
        name: name.into(),
        device: name.into(),
        link: BitsPerSecond(40_000_000),
        take_root,
        direction: Some(direction),
    };
    vec![port("wan0", Direction::Up), port("lan0", Direction::Down)]
}

fn leg(id: u64, device_port: Option<u16>, remote_port: u16, rate: u64, window: Window) -> DesiredLeg {
    let side = |port: &str, rate| Side {
        port: port.into(),
        schedule: Schedule::constant(window, BitsPerSecond(rate)),
    };
    let flow = |device: &str, remote: &str| Flow {
        protocol: Protocol::Udp,
        device: device.parse().expect("address"),
        device_port,
        remote: remote.parse().expect("address"),
        remote_port,
    };
    DesiredLeg {
        leg: LegId { reservation: ReservationId(id), index: 0 },
        attempt: 1,
        enforcement_point: "router".into(),
        direction: Direction::Up,
        up: side("wan0", rate),
        down: side("lan0", 1_000_000),
        flows: vec![flow(CLIENT, SERVER), flow(CLIENT6, SERVER6)],
        shape: ClassShape { packet_bytes: 1500, queue_ms_max: 50, borrow: true },
        valid_until: window.until,
        road: None,
    }
}

fn from_now(ms: u64) -> Window {
    Window::new(now(), now().plus_ms(ms))
}

/// The enforcer with what it reported.
struct Bench {
    enforcer: Enforcer,
    usage: Vec<SlotReading>,
    port: Vec<PortReading>,
    legs: Vec<(LegId, u32, PolicyReport)>,
}

impl Bench {
    fn open(own: bool, take_root: bool, state: State) -> Bench {
        let kernel = Kernel::open(own).expect("netlink");
        let enforcer = Enforcer::new(kernel, ports(take_root), &Capabilities::probe(), state, now());
        let mut bench = Bench { enforcer, usage: Vec::new(), port: Vec::new(), legs: Vec::new() };
        bench.enforcer.welcome(1, 1);
        bench
    }

    fn step(&mut self) {
        self.enforcer.step(now(), &mut |_| Ok(())).expect("a step");
        for report in self.enforcer.take_reports() {
            match report {
                Report::Leg { leg, attempt, report } => self.legs.push((leg, attempt, report)),
                Report::Usage(reading) => self.usage.push(reading),
                Report::Port(reading) => self.port.push(reading),
                Report::Session(session) => panic!("an agent has no sessions: {session:?}"),
            }
        }
    }

    /// Steps when they are due until something holds.
    fn until<T>(&mut self, what: &str, mut condition: impl FnMut(&mut Bench) -> Option<T>) -> T {
        wait_for(what, BOUND, || {
            if self.enforcer.next_wakeup() <= now() {
                self.step();
            }
            condition(self)
        })
    }

    fn words(&self) -> Vec<String> {
        let word = |report: &PolicyReport| match report {
            PolicyReport::Accepted => "accepted".to_owned(),
            PolicyReport::Active { .. } => "active".to_owned(),
            PolicyReport::Refused { reason } => format!("refused {reason}"),
            PolicyReport::Removed { .. } => "removed".to_owned(),
            PolicyReport::Lost { reason, .. } => format!("lost {reason}"),
            PolicyReport::Unconfirmed { .. } | PolicyReport::Withdrawn { .. } => {
                panic!("an agent reads back: {report:?}")
            }
        };
        self.legs.iter().map(|(leg, _, report)| format!("{leg} {}", word(report))).collect()
    }
}

#[test]
fn a_leg_is_installed_enforced_and_removed() {
    in_namespace("a_leg_is_installed_enforced_and_removed", || {
        let _line = Line::new();
        let mut bench = Bench::open(true, false, State::default());
        bench.enforcer.upsert(leg(1, Some(5000), 443, 17_500_000, from_now(60_000)), now());
        bench.enforcer.upsert(leg(2, None, 80, 2_000_000, from_now(60_000)), now());
        bench.step();
        assert_eq!(bench.words(), ["r1.0 accepted", "r1.0 active", "r2.0 accepted", "r2.0 active"]);
        let classes = sh("tc class show dev wan0");
        assert!(
            classes.contains("class htb 7a11:100 parent 7a11:1")
                && classes.contains("rate 17500Kbit ceil 38800Kbit"),
            "{classes}"
        );
        assert!(
            classes.contains("class htb 7a11:ffff parent 7a11:1")
                && classes.contains("rate 19300Kbit ceil 38800Kbit"),
            "{classes}"
        );
        assert!(sh("tc class show dev lan0").contains("rate 1Mbit ceil 38800Kbit"));
        let table = our_table();
        for line in [
            "10.1.0.2 . 10.2.0.2 . udp . 5000 . 443 : 7a11:100",
            "10.2.0.2 . 10.1.0.2 . udp . 443 . 5000 : 7a11:100",
            "fd01::2 . fd02::2 . udp . 5000 . 443 : 7a11:100",
            "10.1.0.2 . 10.2.0.2 . udp . 80 : 7a11:101",
            "10.2.0.2 . 10.1.0.2 . udp . 80 : 7a11:101",
            "type filter hook forward priority mangle; policy accept;",
        ] {
            assert!(table.contains(line), "{line} is not in\n{table}");
        }
        // A change keeps the counters and needs no new class.
        let mut faster = leg(1, Some(5000), 443, 20_000_000, from_now(60_000));
        faster.attempt = 2;
        bench.enforcer.upsert(faster, now());
        bench.step();
        assert!(sh("tc class show dev wan0").contains("rate 20Mbit ceil 38800Kbit"));
        for id in [1, 2] {
            bench.enforcer.release(LegId { reservation: ReservationId(id), index: 0 }, 3, now());
        }
        bench.until("both are gone", |bench| bench.enforcer.state().legs.is_empty().then_some(()));
        bench.step();
        assert_eq!(bench.usage.iter().filter(|reading| reading.last).count(), 2);
        let kernel = bench.enforcer.kernel();
        assert_eq!(Enforcer::leftovers(kernel, &ports(false)).expect("read"), Vec::<String>::new());
        let classes = sh("tc class show dev wan0");
        assert_eq!(classes.lines().count(), 2, "{classes}");
        assert!(classes.contains("rate 38800Kbit"), "the default class has everything again: {classes}");
        Enforcer::uninstall(bench.enforcer.kernel(), &ports(false)).expect("uninstalls");
        assert!(!sh("tc qdisc show").contains("htb"));
        assert_eq!(sh("nft list ruleset"), "");
    });
}

#[test]
fn packets_find_their_class_and_claims_gain_nothing() {
    in_namespace("packets_find_their_class_and_claims_gain_nothing", || {
        let line = Line::new();
        let mut bench = Bench::open(true, false, State::default());
        bench.enforcer.upsert(leg(1, None, 4000, 10_000_000, from_now(60_000)), now());
        bench.step();
        // Another tool marks everything with the payer's class; ours must not believe it.
        nft("add table inet liar");
        nft("add chain inet liar lies { type filter hook forward priority -200 ; }");
        nft("add rule inet liar lies meta priority set 7a11:100");
        for (client, server) in [(CLIENT, SERVER), (CLIENT6, SERVER6)] {
            for (port, paid) in [(4000, true), (4001, false)] {
                let (from, to) = (line.client.udp(client, 0), line.server.udp(server, port));
                let (before, before_down) = (class_packets("wan0"), class_packets("lan0"));
                for _ in 0..10 {
                    from.send_to(&[0; 100], to.local_addr().expect("bound")).expect("sends");
                    let (_, back) = to.recv_from(&mut [0; 200]).expect("arrives");
                    to.send_to(&[0; 100], back).expect("answers");
                    from.recv_from(&mut [0; 200]).expect("arrives");
                }
                let class = if paid { "7a11:100" } else { "7a11:ffff" };
                let other = if paid { "7a11:ffff" } else { "7a11:100" };
                let after = class_packets("wan0");
                assert_eq!(after[class], before[class] + 10, "{server} {port}");
                assert_eq!(class_packets("lan0")[class], before_down[class] + 10, "{server} {port} down");
                assert!(after[other] <= before[other] + 2, "{server} {port}: {before:?} {after:?}");
                if !paid {
                    assert_eq!(after[other], before[other], "a claim gained something");
                }
            }
        }
    });
}

fn class_packets(device: &str) -> BTreeMap<String, u64> {
    let text = sh(&format!("tc -s class show dev {device}"));
    let mut all = BTreeMap::new();
    let mut class = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["class", "htb", id, ..] => class = (*id).to_owned(),
            ["Sent", _, "bytes", packets, "pkt", ..] => {
                all.insert(class.clone(), packets.parse().expect("a number"));
            }
            _ => {}
        }
    }
    all
}

#[test]
fn metered_bytes_are_the_receivers_bytes() {
    in_namespace("metered_bytes_are_the_receivers_bytes", || {
        let line = Line::new();
        let mut bench = Bench::open(true, false, State::default());
        bench.enforcer.upsert(leg(1, None, 4000, 10_000_000, from_now(3_000)), now());
        bench.step();
        let (from, to) = (line.client.udp(CLIENT, 0), line.server.udp(SERVER, 4000));
        let target = to.local_addr().expect("bound");
        witness(&line);
        let end = now().plus_ms(2_000);
        let (mut sent, mut n) = (0u64, 0usize);
        bench.until("the sender has stopped", |_| {
            for _ in 0..100 {
                n += 1;
                sent += u64::from(from.send_to(&vec![7; 64 + n * 37 % 1300], target).is_ok());
            }
            (now() > end).then_some(())
        });
        bench.until("the leg has ended by itself", |bench| {
            bench.usage.iter().any(|reading| reading.last).then_some(())
        });
        let cumulative = bench.usage.windows(2).all(|pair| pair[0].sold.bytes <= pair[1].sold.bytes);
        assert!(cumulative, "{:?}", bench.usage);
        let last = bench.usage.iter().find(|reading| reading.last).expect("a last reading");
        let (bytes, packets) = witnessed(&line);
        let sold = last.sold;
        println!("sent {sent}, metered {sold:?}, received {packets} packets");
        assert_eq!((sold.packets, sold.bytes), (packets, bytes), "to the byte");
        assert_eq!(sold.packets + sold.drops, sent, "no packet is unaccounted for");
        assert!(sold.drops > 0, "the flood was above the line's rate");
        assert!(bench.usage.iter().any(|reading| reading.busy_ms > 500), "{:?}", bench.usage);
        assert!(bench.usage.iter().all(|reading| reading.gap_ms_max < 1000), "{:?}", bench.usage);
    });
}

/// Counts in the receiver's namespace, before any socket's buffer.
fn witness(line: &Line) {
    line.server.on(|| {
        nft("add table inet witness");
        nft("add counter inet witness got");
        nft("add chain inet witness in { type filter hook input priority 0 ; }");
        nft("add rule inet witness in udp dport 4000 counter name got");
    });
}

/// Bytes and packets that the witness has counted.
fn witnessed(line: &Line) -> (u64, u64) {
    let counter = line.server.on(|| nft("list counter inet witness got"));
    let words: Vec<&str> = counter.split_whitespace().collect();
    let number = |name: &str| -> u64 {
        let at = words.iter().position(|word| *word == name).expect("there");
        words[at + 1].parse().expect("a number")
    };
    (number("bytes"), number("packets"))
}

#[test]
fn foreign_things_are_untouched() {
    in_namespace("foreign_things_are_untouched", || {
        let _line = Line::new();
        nft("add table inet theirs");
        nft("add chain inet theirs them { type filter hook forward priority 0 ; }");
        nft("add rule inet theirs them counter accept");
        nft("add map inet theirs f4 { type ipv4_addr : classid ; }");
        nft("add element inet theirs f4 { 10.0.0.1 : 7a11:100 }");
        sh("ip link add other type veth peer name other1");
        sh("tc qdisc add dev other root handle 1: tbf rate 1mbit burst 10kb latency 50ms");
        let witness =
            || (sh("nft list table inet theirs"), sh("tc -d qdisc show dev other"), sh("nft list tables"));
        let before = witness();
        let mut bench = Bench::open(true, false, State::default());
        bench.enforcer.upsert(leg(1, Some(5000), 443, 5_000_000, from_now(60_000)), now());
        bench.step();
        assert_eq!((witness().0, witness().1), (before.0.clone(), before.1.clone()));
        assert!(
            !tries("nft delete table inet tollway")
                || bench.enforcer.kernel().tables.protection().as_str() == "plain"
        );
        Enforcer::uninstall(bench.enforcer.kernel(), &ports(false)).expect("uninstalls");
        assert_eq!(witness(), before);
    });
}

#[test]
fn a_foreign_root_is_respected_and_taken_when_told() {
    in_namespace("a_foreign_root_is_respected_and_taken_when_told", || {
        let _line = Line::new();
        sh("tc qdisc add dev wan0 root handle 1: tbf rate 10mbit burst 10kb latency 50ms");
        let before = sh("tc -d qdisc show dev wan0");
        let mut bench = Bench::open(true, false, State::default());
        bench.enforcer.upsert(leg(1, Some(5000), 443, 5_000_000, from_now(60_000)), now());
        bench.step();
        assert_eq!(
            bench.words(),
            [
                "r1.0 refused foreign_root_qdisc: tbf 1: is the root; set take_root = true to replace it (port wan0)"
            ]
        );
        assert_eq!(sh("tc -d qdisc show dev wan0"), before);
        assert!(!our_table().contains("5000 . 443"), "no element leads nowhere");
        let state = bench.enforcer.state().clone();
        drop(bench);
        let mut bench = Bench::open(true, true, state);
        bench.step();
        assert_eq!(bench.words(), ["r1.0 active"]);
        assert!(sh("tc qdisc show dev wan0").contains("htb 7a11: root"));
    });
}

#[test]
fn what_is_deleted_by_hand_is_repaired_and_reported() {
    in_namespace("what_is_deleted_by_hand_is_repaired_and_reported", || {
        let line = Line::new();
        // A plain table, so that others can take things out of it.
        let mut bench = Bench::open(false, false, State::default());
        let mut monitor = tollway_linux::Monitor::open(tollway_linux::Topic::Nftables).expect("a monitor");
        let mut route = tollway_linux::Monitor::open(tollway_linux::Topic::Route).expect("a monitor");
        bench.enforcer.upsert(leg(1, Some(5000), 443, 5_000_000, from_now(60_000)), now());
        bench.step();
        let (from, to) = (line.client.udp(CLIENT, 5000), line.server.udp(SERVER, 443));
        from.send_to(&[0; 100], to.local_addr().expect("bound")).expect("sends");
        to.recv_from(&mut [0; 200]).expect("arrives");
        bench.step();
        for (by_hand, reason) in [
            ("nft flush map inet tollway f4", "element_missing"),
            ("nft delete table inet tollway", "element_missing"),
            ("nft flush chain inet tollway forward", ""),
            ("nft add chain inet tollway stranger", ""),
            ("tc qdisc del dev wan0 root", "root_missing"),
            ("tc class change dev wan0 parent 7a11:1 classid 7a11:100 htb rate 1kbit", "class_missing"),
            ("tc qdisc del dev wan0 parent 7a11:100", ""),
        ] {
            bench.step();
            let (table, classes) = (our_table(), sh("tc class show dev wan0"));
            let _earlier = (monitor.drain(), route.drain());
            bench.legs.clear();
            match by_hand.strip_prefix("nft ") {
                Some(line) => nft(line),
                None => sh(by_hand),
            };
            wait_for("the kernel tells", BOUND, || {
                let nft = monitor.drain().expect("events");
                if nft {
                    bench.enforcer.nft_changed();
                }
                (nft | route.drain().expect("events")).then_some(())
            });
            bench.step();
            bench.step();
            assert_eq!(our_table(), table, "{by_hand}");
            let without_leaf = |text: &str| {
                text.lines()
                    .map(|l| {
                        l.split(" leaf ").next().expect("a part").to_owned()
                            + l.split(" prio ").nth(1).unwrap_or("")
                    })
                    .collect::<Vec<_>>()
            };
            assert_eq!(without_leaf(&sh("tc class show dev wan0")), without_leaf(&classes), "{by_hand}");
            let words = bench.words();
            if reason.is_empty() {
                assert!(words.is_empty(), "{by_hand}: {words:?}");
            } else {
                assert!(words[0].contains(reason), "{by_hand}: {words:?}");
                assert_eq!(words[1..], ["r1.0 active"], "{by_hand}");
            }
        }
        // The root was made anew once: the counters before and after are two incarnations.
        bench.enforcer.release(LegId { reservation: ReservationId(1), index: 0 }, 2, now());
        bench.until("it is gone", |bench| bench.enforcer.state().legs.is_empty().then_some(()));
        bench.step();
        let lives: std::collections::BTreeSet<u64> = bench.usage.iter().map(|r| r.incarnation).collect();
        assert_eq!(lives.len(), 2, "{:?}", bench.usage);
        let first = bench.usage[0].incarnation;
        let sold: u64 =
            bench.usage.iter().filter(|r| r.incarnation == first).map(|r| r.sold.bytes).max().unwrap_or(0);
        assert_eq!(sold, 128, "what was counted before the loss was reported");
    });
}

#[test]
fn a_port_that_goes_down_is_lost_and_comes_back() {
    in_namespace("a_port_that_goes_down_is_lost_and_comes_back", || {
        let line = Line::new();
        let mut bench = Bench::open(true, false, State::default());
        bench.enforcer.upsert(leg(1, Some(5000), 443, 5_000_000, from_now(60_000)), now());
        bench.step();
        bench.legs.clear();
        line.server.sh("ip link set eth0 down");
        bench.until("it is lost", |bench| bench.words().first().cloned());
        line.server.sh("ip link set eth0 up");
        bench.until("it is back", |bench| bench.words().get(1).cloned());
        assert_eq!(bench.words(), ["r1.0 lost port_down: wan0", "r1.0 active"]);
        bench.until("a slot's reading", |bench| bench.usage.iter().any(|r| r.active_ms < 1000).then_some(()));
        bench.until("a port's reading", |bench| {
            bench.port.iter().any(|r| r.port == "wan0" && !r.up).then_some(())
        });
    });
}

#[test]
fn a_schedule_is_followed_and_ends_by_itself() {
    in_namespace("a_schedule_is_followed_and_ends_by_itself", || {
        let _line = Line::new();
        let mut bench = Bench::open(true, false, State::default());
        let start = now().plus_ms(300);
        let mut desired = leg(1, Some(5000), 443, 1, from_now(2_000));
        let segment = |from: u64, until: u64, rate: u64| tollway_model::Segment {
            window: Window::new(start.plus_ms(from), start.plus_ms(until)),
            rate: BitsPerSecond(rate),
        };
        let rates =
            [segment(0, 400, 8_000_000), segment(400, 800, 4_000_000), segment(1200, 1600, 6_000_000)];
        desired.up.schedule = Schedule::from_segments(rates).expect("in order");
        desired.down.schedule = desired.up.schedule.map_rates(|_| BitsPerSecond(64_000));
        desired.valid_until = start.plus_ms(1600);
        bench.enforcer.upsert(desired, now());
        bench.step();
        assert_eq!(bench.words(), ["r1.0 accepted"]);
        assert!(!sh("tc class show dev wan0").contains("7a11:100"), "not before its window");
        for rate in ["rate 8Mbit", "rate 4Mbit", "rate 8Kbit", "rate 6Mbit"] {
            bench.until(rate, |_| {
                let classes = sh("tc class show dev wan0 classid 7a11:100");
                classes.contains(rate).then_some(())
            });
            let table = our_table();
            assert_eq!(table.contains("7a11:100"), rate != "rate 8Kbit", "{rate}");
        }
        bench.until("it has ended", |bench| bench.usage.iter().any(|r| r.last).then_some(()));
        assert_eq!(bench.words().last().map(String::as_str), Some("r1.0 removed"));
        let last = bench.usage.iter().find(|r| r.last).expect("a last reading");
        assert!(bench.usage.iter().all(|r| r.slot <= last.slot));
        bench.step();
        assert_eq!(
            Enforcer::leftovers(bench.enforcer.kernel(), &ports(false)).expect("read"),
            Vec::<String>::new()
        );
    });
}

#[test]
fn bad_legs_are_refused_with_reasons() {
    in_namespace("bad_legs_are_refused_with_reasons", || {
        let _line = Line::new();
        let mut bench = Bench::open(true, false, State::default());
        let good = || leg(1, Some(5000), 443, 5_000_000, from_now(60_000));
        let mut unknown = good();
        unknown.up.port = "nowhere".into();
        let mut hairpin = good();
        hairpin.down.port = "wan0".into();
        let mut late = good();
        late.valid_until = Timestamp(1);
        let fast = leg(1, Some(5000), 443, 39_000_000, from_now(60_000));
        let mut many = good();
        many.flows = vec![many.flows[0]; 9];
        for bad in [unknown, hairpin, late, fast, many] {
            bench.enforcer.upsert(bad, now());
        }
        bench.step();
        assert_eq!(
            bench.words(),
            [
                "r1.0 refused leg r1.0: unknown port \"nowhere\"",
                "r1.0 refused leg r1.0: both directions leave at port wan0; it needs two ports",
                "r1.0 removed",
                "r1.0 refused leg r1.0: 39 Mbit/s is more than port wan0 shares (38.8 Mbit/s)",
                "r1.0 refused leg r1.0: 9 flows; at most 8 are taken",
            ]
        );
        // Two legs with one flow at one time: the first keeps it.
        bench.legs.clear();
        let mut second = good();
        second.leg.reservation = ReservationId(2);
        bench.enforcer.upsert(good(), now());
        bench.enforcer.upsert(second, now());
        bench.step();
        assert_eq!(bench.words()[2..], ["r2.0 refused flow_conflict: leg r1.0 has the same flow now"]);
    });
}

#[test]
fn five_hundred_legs_are_installed_read_back_and_removed() {
    in_namespace("five_hundred_legs_are_installed_read_back_and_removed", || {
        let _line = Line::new();
        let mut bench = Bench::open(true, false, State::default());
        bench.step();
        let all = |from: u16, count: u16| {
            (from..from + count).map(|n| {
                let mut leg = leg(u64::from(n), Some(n), 443, 64_000, from_now(600_000));
                leg.down.schedule = leg.up.schedule.clone();
                leg
            })
        };
        let timed = |what: &str, bench: &mut Bench| {
            let before = std::time::Instant::now();
            bench.step();
            println!("{what}: {:.1} ms", before.elapsed().as_secs_f64() * 1000.0);
        };
        all(1, 500).for_each(|leg| bench.enforcer.upsert(leg, now()));
        timed("500 legs (1,000 classes, 2,000 elements) installed", &mut bench);
        let active = bench.words().iter().filter(|word| word.ends_with(" active")).count();
        assert_eq!(active, 500);
        timed("a poll", &mut bench);
        all(501, 1).for_each(|leg| bench.enforcer.upsert(leg, now()));
        timed("one more", &mut bench);
        assert_eq!(sh("tc class show dev wan0").lines().count(), 503);
        assert_eq!(our_table().matches(" : 7a11:").count(), 2004);
        bench.enforcer.replace_all(&std::collections::BTreeSet::new(), Vec::new(), now());
        bench.until("all are gone", |bench| bench.enforcer.state().legs.is_empty().then_some(()));
        bench.step();
        assert_eq!(bench.usage.iter().filter(|reading| reading.last).count(), 501);
        let left = Enforcer::leftovers(bench.enforcer.kernel(), &ports(false)).expect("read");
        assert_eq!(left, Vec::<String>::new());
    });
}

#[test]
fn a_paid_flow_passes_a_flood_and_the_others_keep_their_floor() {
    in_namespace("a_paid_flow_passes_a_flood_and_the_others_keep_their_floor", || {
        let line = Line::new();
        let mut bench = Bench::open(true, false, State::default());
        bench.enforcer.upsert(leg(1, None, 4000, 17_500_000, from_now(60_000)), now());
        bench.step();
        let (paid, unpaid) = (line.client.udp(CLIENT, 0), line.client.udp(CLIENT, 0));
        let (good, other) = (line.server.udp(SERVER, 4000), line.server.udp(SERVER, 4001));
        let (good, other) = (good.local_addr().expect("bound"), other.local_addr().expect("bound"));
        // 12 Mbit/s of packets of 1,000 bytes, in bursts of at most ten; the flood takes all the rest.
        let (start, mut sent, mut credit, mut last) = (now(), 0u64, 0u64, now());
        bench.until("three seconds have passed", |_| {
            for _ in 0..20 {
                let at = now();
                credit = (credit + 1_500 * at.ms_since(last)).min(10_000);
                last = at;
                while credit >= 1_000 {
                    paid.send_to(&[7; 958], good).expect("sends");
                    credit -= 1_000;
                    sent += 1;
                }
                for _ in 0..10 {
                    unpaid.send_to(&[7; 1400], other).expect("sends");
                }
            }
            (now().ms_since(start) > 3_000).then_some(())
        });
        bench.enforcer.release(LegId { reservation: ReservationId(1), index: 0 }, 2, now());
        bench.until("its last reading", |bench| bench.usage.iter().any(|r| r.last).then_some(()));
        bench.until("the port's reading", |bench| bench.port.iter().any(|r| r.busy_ms > 900).then_some(()));
        let last = bench.usage.iter().find(|r| r.last).expect("a last reading");
        let floor = bench.port.iter().filter(|r| r.port == "wan0").max_by_key(|r| r.busy_ms).expect("one");
        println!("paid: sent {sent}, {:?}; the others in a busy second: {floor:?}", last.sold);
        assert_eq!((last.sold.packets, last.sold.drops), (sent, 0), "the paid flow lost nothing");
        assert!(floor.default_class.drops > 0, "the line was full");
        assert_eq!(floor.direct_packets, 0);
        assert_eq!(floor.default_rate_min, BitsPerSecond(21_300_000));
    });
}

#[test]
fn a_port_taken_down_under_load_meters_exactly() {
    in_namespace("a_port_taken_down_under_load_meters_exactly", || {
        let line = Line::new();
        let mut bench = Bench::open(true, false, State::default());
        bench.enforcer.upsert(leg(1, None, 4000, 10_000_000, from_now(60_000)), now());
        bench.step();
        witness(&line);
        let (from, to) = (line.client.udp(CLIENT, 0), line.server.udp(SERVER, 4000));
        let target = to.local_addr().expect("bound");
        let flood = |bench: &mut Bench, what: &str, until: &dyn Fn(&Bench) -> bool| {
            bench.until(what, |bench| {
                for _ in 0..100 {
                    // While the port is down the router answers that the network is unreachable.
                    let _refused = from.send_to(&[7; 1200], target);
                }
                until(bench).then_some(())
            });
        };
        let readings = |count: usize| move |bench: &Bench| bench.usage.len() >= count;
        flood(&mut bench, "two slots", &readings(2));
        sh("ip link set wan0 down");
        flood(&mut bench, "it is lost", &|bench| bench.words().len() == 3);
        let at = bench.usage.len();
        flood(&mut bench, "two slots of silence", &readings(at + 2));
        sh("ip link set wan0 up");
        flood(&mut bench, "it is back", &|bench| bench.words().len() == 4);
        let at = bench.usage.len();
        flood(&mut bench, "two slots more", &readings(at + 2));
        bench.enforcer.release(LegId { reservation: ReservationId(1), index: 0 }, 2, now());
        bench.until("its last reading", |bench| bench.usage.iter().any(|r| r.last).then_some(()));
        let last = bench.usage.iter().find(|r| r.last).expect("a last reading");
        // What came after the release went through the default class.
        let unpaid = bench.enforcer.kernel().ports(&[index("wan0")]).expect("read");
        println!("{:?} {:?}", bench.words(), unpaid[&index("wan0")].classes[&0xffff].stats);
        assert_eq!((last.sold.bytes, last.sold.packets), witnessed(&line), "to the byte");
        assert!(bench.usage.iter().any(|r| r.active_ms == 0), "the silence is in the evidence");
        assert!(bench.usage.iter().all(|r| r.incarnation == last.incarnation));
    });
}

fn index(device: &str) -> u32 {
    let name = std::ffi::CString::new(device).expect("a name");
    // SAFETY: the string is NUL-terminated and lives through the call.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}

#[test]
fn elements_die_by_themselves_when_nobody_is_there() {
    in_namespace("elements_die_by_themselves_when_nobody_is_there", || {
        let _line = Line::new();
        let mut bench = Bench::open(true, false, State::default());
        bench.enforcer.upsert(leg(1, Some(5000), 443, 5_000_000, from_now(500)), now());
        let mut longer = leg(2, Some(5001), 443, 5_000_000, from_now(500));
        bench.enforcer.upsert(longer.clone(), now());
        bench.step();
        // Its end moves: the kernel is told.
        longer.attempt = 2;
        longer.valid_until = now().plus_ms(600_000);
        longer.up.schedule = Schedule::constant(from_now(600_000), BitsPerSecond(5_000_000));
        longer.down.schedule = longer.up.schedule.clone();
        bench.enforcer.upsert(longer, now());
        bench.step();
        let state = bench.enforcer.state().clone();
        drop(bench);
        assert!(our_table().contains("5000 . 443 : 7a11:100"));
        wait_for("the kernel has taken them away", BOUND, || {
            (!our_table().contains("5000 . 443 : 7a11:100")).then_some(())
        });
        assert!(our_table().contains("5001 . 443 : 7a11:101"));
        // The agent comes back, ends the leg and gives its last reading.
        let mut bench = Bench::open(true, false, state);
        bench.step();
        bench.until("it has ended", |bench| bench.usage.iter().any(|r| r.last).then_some(()));
        bench.step();
        assert!(!sh("tc class show dev wan0").contains("7a11:100 "));
    });
}
