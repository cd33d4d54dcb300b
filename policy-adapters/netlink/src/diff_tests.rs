use super::*;
use crate::actual::ActualClass;
use crate::layout::{self, Phase, PortSpec, Toolbox, Wanted};
use crate::leaf::LeafKind;
use crate::tc::Stats;
use expect_test::{Expect, expect};
use tollway_model::{
    BitsPerSecond, Direction, Flow, LegId, Protocol, ReservationId, Schedule, Timestamp, Window,
};
use tollway_policy::{ClassShape, DesiredLeg, Side};

const TOOLBOX: Toolbox = Toolbox { leaf: LeafKind::Bfifo, tick_ns: 64 };

fn spec() -> PortSpec {
    PortSpec { ifindex: 3, link: BitsPerSecond(40_000_000), mtu: 1500 }
}

fn leg(id: u64, from: u64, until: u64, rate: u64) -> DesiredLeg {
    let window = Window::new(Timestamp::from_secs(from), Timestamp::from_secs(until));
    let side = |port: &str, rate| Side {
        port: port.into(),
        schedule: Schedule::constant(window, BitsPerSecond(rate)),
    };
    DesiredLeg {
        leg: LegId { reservation: ReservationId(id), index: 0 },
        attempt: 1,
        enforcement_point: "router1".into(),
        direction: Direction::Up,
        up: side("wan0", rate),
        down: side("lan0", 64_000),
        flows: vec![Flow {
            protocol: Protocol::Tcp,
            device: "10.0.0.2".parse().expect("address"),
            device_port: Some(5000),
            remote: "192.0.2.1".parse().expect("address"),
            remote_port: 443,
        }],
        shape: ClassShape { packet_bytes: 1500, queue_ms_max: 50, borrow: true },
        valid_until: Timestamp::from_secs(until),
        road: None,
    }
}

fn wanted(leg: &DesiredLeg, phase: Phase) -> Wanted<'_> {
    Wanted { leg, minor: u16::try_from(0x0ff + leg.leg.reservation.0).expect("small"), phase }
}

/// Applies the operations as the kernel would.
fn apply(actual: &mut ActualPort, diff: &PortDiff) {
    let orphans: Vec<Op> = diff.orphans.iter().map(|minor| Op::DelClass { minor: *minor }).collect();
    for op in diff.lower.iter().chain(&diff.raise).chain(&orphans) {
        match op.clone() {
            Op::AddRoot { .. } => {
                *actual = ActualPort { root: Root::Ours { direct_packets: 0 }, ..ActualPort::default() };
            }
            Op::DelRoot => *actual = ActualPort::default(),
            Op::AddClass { minor, want } => {
                let class = ActualClass { parent: want.parent, params: want.params, stats: Stats::default() };
                assert!(actual.classes.insert(minor, class).is_none());
            }
            Op::ChangeClass { minor, want } => {
                actual.classes.get_mut(&minor).expect("a class").params = want.params;
            }
            Op::AddLeaf { minor, leaf } | Op::ChangeLeaf { minor, leaf, .. } => {
                actual.leaves.insert(minor, ActualLeaf { handle: Handle::new(0x8001, 0), leaf });
            }
            Op::DelClass { minor } => {
                actual.classes.remove(&minor).expect("a class");
                actual.leaves.remove(&minor);
            }
        }
    }
}

fn show(diff: &PortDiff) -> String {
    let op = |op: &Op| match op {
        Op::AddClass { minor, want } | Op::ChangeClass { minor, want } => {
            let p = want.params;
            let verb = if matches!(op, Op::AddClass { .. }) { "add" } else { "change" };
            format!(
                "{verb} class {minor:x} parent {} rate {} ceil {} buffer {} quantum {}\n",
                want.parent, p.rate, p.ceil, p.buffer, p.quantum
            )
        }
        Op::AddLeaf { minor, leaf } => format!("add leaf {minor:x} {leaf:?}\n"),
        Op::ChangeLeaf { minor, handle, leaf } => format!("change leaf {minor:x} {handle} {leaf:?}\n"),
        Op::AddRoot { .. } | Op::DelRoot | Op::DelClass { .. } => format!("{op:?}\n"),
    };
    let mut text = String::new();
    for (name, ops) in [("lower", &diff.lower), ("raise", &diff.raise)] {
        if !ops.is_empty() {
            text += &format!("{name}:\n");
            text.extend(ops.iter().map(|o| format!("  {}", op(o))));
        }
    }
    if !diff.orphans.is_empty() {
        text += &format!("orphans: {:x?}\n", diff.orphans);
    }
    text
}

struct Case {
    actual: ActualPort,
}

impl Case {
    fn step(&mut self, legs: &[Wanted<'_>], at: u64, want: Expect) {
        let at = Timestamp::from_secs(at);
        let layout = layout::port("wan0", &spec(), legs, &self.actual.classes, TOOLBOX, at);
        let diff = port(&layout, &self.actual, false).expect("not blocked");
        want.assert_eq(&show(&diff));
        apply(&mut self.actual, &diff);
        let layout = layout::port("wan0", &spec(), legs, &self.actual.classes, TOOLBOX, at);
        assert!(
            port(&layout, &self.actual, false).expect("not blocked").is_empty(),
            "a second look finds nothing"
        );
    }
}

#[test]
fn a_leg_comes_and_goes() {
    let mut case = Case { actual: ActualPort::default() };
    case.step(
        &[],
        0,
        expect![[r#"
        raise:
          AddRoot { replace: false }
          add class 1 parent root rate 4850000 ceil 4850000 buffer 20779 quantum 3000
          add class ffff parent 7a11:1 rate 4850000 ceil 4850000 buffer 20779 quantum 60000
          add leaf ffff Bfifo { limit_bytes: 485000 }
    "#]],
    );
    let a = leg(1, 10, 20, 17_500_000);
    case.step(&[wanted(&a, Phase::Open)], 5, expect![[r#""#]]);
    case.step(
        &[wanted(&a, Phase::Open)],
        10,
        expect![[r#"
        lower:
          change class ffff parent 7a11:1 rate 2662500 ceil 4850000 buffer 25011 quantum 3651
          change leaf ffff 8001: Bfifo { limit_bytes: 266250 }
        raise:
          add class 100 parent 7a11:1 rate 2187500 ceil 4850000 buffer 27050 quantum 3000
          add leaf 100 Bfifo { limit_bytes: 109375 }
    "#]],
    );
    case.actual.classes.get_mut(&0x100).expect("a class").stats.backlog_bytes = 9;
    case.step(
        &[wanted(&a, Phase::Open)],
        20,
        expect![[r#"
        raise:
          change class ffff parent 7a11:1 rate 4850000 ceil 4850000 buffer 20779 quantum 60000
          change leaf ffff 8001: Bfifo { limit_bytes: 485000 }
    "#]],
    );
    case.actual.classes.get_mut(&0x100).expect("a class").stats.backlog_bytes = 0;
    case.step(
        &[wanted(&a, Phase::Closing)],
        20,
        expect![[r#"
        lower:
          change class ffff parent 7a11:1 rate 2662500 ceil 4850000 buffer 25011 quantum 3651
          change leaf ffff 8001: Bfifo { limit_bytes: 266250 }
    "#]],
    );
    case.step(
        &[],
        20,
        expect![[r#"
        raise:
          change class ffff parent 7a11:1 rate 4850000 ceil 4850000 buffer 20779 quantum 60000
          change leaf ffff 8001: Bfifo { limit_bytes: 485000 }
        orphans: [100]
    "#]],
    );
}

#[test]
fn a_closing_leg_keeps_its_rate_until_it_is_gone() {
    let mut case = Case { actual: ActualPort::default() };
    let a = leg(1, 10, 20, 10_000_000);
    let b = leg(2, 20, 30, 20_000_000);
    case.step(
        &[wanted(&a, Phase::Open), wanted(&b, Phase::Open)],
        15,
        expect![[r#"
        raise:
          AddRoot { replace: false }
          add class 1 parent root rate 4850000 ceil 4850000 buffer 20779 quantum 3000
          add class 100 parent 7a11:1 rate 1250000 ceil 4850000 buffer 35625 quantum 3000
          add leaf 100 Bfifo { limit_bytes: 62500 }
          add class ffff parent 7a11:1 rate 3600000 ceil 4850000 buffer 22569 quantum 8640
          add leaf ffff Bfifo { limit_bytes: 360000 }
    "#]],
    );
    case.step(
        &[wanted(&a, Phase::Closing), wanted(&b, Phase::Open)],
        20,
        expect![[r#"
        lower:
          change class ffff parent 7a11:1 rate 1100000 ceil 4850000 buffer 38352 quantum 3000
          change leaf ffff 8001: Bfifo { limit_bytes: 110000 }
        raise:
          add class 101 parent 7a11:1 rate 2500000 ceil 4850000 buffer 25625 quantum 3000
          add leaf 101 Bfifo { limit_bytes: 125000 }
    "#]],
    );
    case.step(
        &[wanted(&b, Phase::Open)],
        20,
        expect![[r#"
        raise:
          change class ffff parent 7a11:1 rate 2350000 ceil 4850000 buffer 26263 quantum 3000
          change leaf ffff 8001: Bfifo { limit_bytes: 235000 }
        orphans: [100]
    "#]],
    );
}

#[test]
fn what_others_did_inside_ours_is_undone() {
    let mut case = Case { actual: ActualPort::default() };
    let a = leg(1, 10, 20, 10_000_000);
    let legs = [wanted(&a, Phase::Open)];
    case.step(
        &legs,
        15,
        expect![[r#"
        raise:
          AddRoot { replace: false }
          add class 1 parent root rate 4850000 ceil 4850000 buffer 20779 quantum 3000
          add class 100 parent 7a11:1 rate 1250000 ceil 4850000 buffer 35625 quantum 3000
          add leaf 100 Bfifo { limit_bytes: 62500 }
          add class ffff parent 7a11:1 rate 3600000 ceil 4850000 buffer 22569 quantum 8640
          add leaf ffff Bfifo { limit_bytes: 360000 }
    "#]],
    );
    case.actual.classes.remove(&0x100);
    let mut stranger = case.actual.classes[&CLASS_DEFAULT].clone();
    stranger.params.rate = 1;
    case.actual.classes.insert(0x666, stranger);
    case.actual
        .leaves
        .insert(CLASS_DEFAULT, ActualLeaf { handle: Handle::new(9, 0), leaf: Leaf::Other("sfq".into()) });
    case.step(
        &legs,
        15,
        expect![[r#"
        raise:
          add class 100 parent 7a11:1 rate 1250000 ceil 4850000 buffer 35625 quantum 3000
          add leaf 100 Bfifo { limit_bytes: 62500 }
          add leaf ffff Bfifo { limit_bytes: 360000 }
        orphans: [666]
    "#]],
    );
}

#[test]
fn a_foreign_root_is_respected_or_taken() {
    let foreign = ActualPort {
        root: Root::Foreign { kind: "tbf".into(), handle: Handle::new(1, 0) },
        ..ActualPort::default()
    };
    let layout = layout::port("wan0", &spec(), &[], &foreign.classes, TOOLBOX, Timestamp::ZERO);
    expect!["foreign_root_qdisc: tbf 1: is the root; set take_root = true to replace it"]
        .assert_eq(&port(&layout, &foreign, false).expect_err("blocked").to_string());
    let taken = port(&layout, &foreign, true).expect("taken");
    assert_eq!(taken.raise[0], Op::AddRoot { replace: true });
    let broken = ActualPort { root: Root::Broken, ..ActualPort::default() };
    let rebuilt = port(&layout, &broken, false).expect("ours");
    assert_eq!(rebuilt.raise[..2], [Op::DelRoot, Op::AddRoot { replace: false }]);
}

#[test]
fn oversold_leaves_the_default_class_its_floor() {
    let a = leg(1, 0, 9, 38_000_000);
    let layout =
        layout::port("wan0", &spec(), &[wanted(&a, Phase::Open)], &BTreeMap::new(), TOOLBOX, Timestamp(1));
    assert_eq!(layout.default_rate, BitsPerSecond(3_880_000));
}

#[test]
fn elements_move_in_one_transaction() {
    let a = leg(1, 0, 10, 1_000_000);
    let b = leg(2, 10, 20, 1_000_000);
    let legs = [wanted(&a, Phase::Open), wanted(&b, Phase::Open)];
    let at = |secs| layout::elements(&legs, Timestamp::from_secs(secs), |_, _| true);
    let (first, none) = at(5);
    assert!(none.is_empty());
    assert_eq!(first.len(), 2);
    let (second, _) = at(10);
    let diff = elements(&second, &first);
    assert_eq!((diff.delete.len(), diff.add.len()), (2, 2));
    let mut writer = Writer::new();
    assert_eq!(diff.encode(&mut writer, 1, Timestamp::from_secs(10)), 3);
    assert!(elements(&second, &second).is_empty());
    let mut longer = leg(2, 10, 20, 1_000_000);
    longer.valid_until = Timestamp::from_secs(60);
    let (third, _) = layout::elements(&[wanted(&longer, Phase::Open)], Timestamp::from_secs(10), |_, _| true);
    assert_eq!(elements(&third, &second).add.len(), 2, "an end that moves is told to the kernel");
    let (parked, _) =
        layout::elements(&legs, Timestamp::from_secs(5), |_, direction| direction == Direction::Up);
    assert_eq!(parked.len(), 1);
}

#[test]
fn the_first_of_two_claimants_keeps_a_flow() {
    let (a, b) = (leg(1, 0, 10, 1_000_000), leg(2, 5, 20, 1_000_000));
    let legs = [wanted(&a, Phase::Open), wanted(&b, Phase::Open)];
    let (elements, conflicts) = layout::elements(&legs, Timestamp::from_secs(6), |_, _| true);
    assert!(elements.values().all(|target| target.class == 0x7a11_0100));
    expect![[r#"[Conflict { leg: r2.0, with: r1.0 }]"#]].assert_eq(&format!("{conflicts:?}"));
}

#[test]
fn an_operation_is_one_message() {
    let a = leg(1, 0, 10, 1_000_000);
    let none = ActualPort::default();
    let layout =
        layout::port("wan0", &spec(), &[wanted(&a, Phase::Open)], &none.classes, TOOLBOX, Timestamp(1));
    let diff = port(&layout, &none, false).expect("not blocked");
    let mut writer = Writer::new();
    for (seq, op) in (1..).zip(&diff.raise) {
        op.encode(&mut writer, seq, 3);
    }
    assert_eq!(crate::wire::messages(writer.bytes()).count(), diff.raise.len());
}
