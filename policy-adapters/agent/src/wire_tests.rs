use super::*;
use expect_test::{Expect, expect};

fn good() -> v1::Leg {
    let side = |port: &str| {
        Some(v1::Side {
            port: port.into(),
            segments: vec![v1::Segment { from_ms: 1000, until_ms: 2000, rate_bps: 9 }],
        })
    };
    v1::Leg {
        reservation: 7,
        index: 1,
        attempt: 3,
        direction: v1::Direction::Down.into(),
        up: side("wan0"),
        down: side("lan0"),
        flows: vec![v1::Flow {
            protocol: 6,
            device: vec![10, 0, 0, 2],
            device_port: Some(5000),
            remote: vec![192, 0, 2, 1],
            remote_port: 443,
        }],
        packet_bytes: 1500,
        queue_ms_max: 50,
        borrow: true,
        valid_until_ms: 2000,
    }
}

fn bad(change: impl FnOnce(&mut v1::Leg), want: Expect) {
    let mut wire = good();
    change(&mut wire);
    let refusal = leg(wire, "router1").expect_err("refused");
    assert_eq!((refusal.leg, refusal.attempt), (leg_id(7, 1), 3));
    want.assert_eq(&refusal.reason);
}

#[test]
fn a_leg_is_read() {
    let desired = leg(good(), "router1").expect("good");
    assert_eq!(desired.flows[0].to_string(), "tcp 10.0.0.2 port 5000 <-> 192.0.2.1 port 443");
    assert_eq!(desired.side(desired.direction).port, "lan0");
}

#[test]
fn what_cannot_be_said_is_refused_with_a_reason() {
    bad(|l| l.direction = 9, expect!["no direction"]);
    bad(|l| l.up = None, expect!["no up side"]);
    bad(|l| l.flows[0].protocol = 1, expect!["protocol 1; 6 and 17 are taken"]);
    bad(|l| l.flows[0].remote_port = 65_536, expect!["port 65536"]);
    bad(|l| l.flows[0].device_port = Some(u32::MAX), expect!["port 4294967295"]);
    bad(|l| l.flows[0].device = vec![1; 5], expect!["an address of 5 bytes; 4 and 16 are taken"]);
    bad(
        |l| l.flows[0].device = vec![1; 16],
        expect![
            "flow tcp 101:101:101:101:101:101:101:101 port 5000 <-> 192.0.2.1 port 443 has ends of two address families"
        ],
    );
    bad(|l| l.flows = vec![l.flows[0].clone(); 9], expect!["9 flows; at most 8 are taken"]);
    let overlap = |l: &mut v1::Leg| {
        let side = l.down.as_mut().expect("a side");
        side.segments = vec![side.segments[0]; 2];
    };
    bad(overlap, expect!["the segments of the down side overlap or are out of order"]);
    let many = |l: &mut v1::Leg| {
        let side = l.down.as_mut().expect("a side");
        side.segments = vec![side.segments[0]; 65];
    };
    bad(many, expect!["65 segments; at most 64 are taken"]);
}
