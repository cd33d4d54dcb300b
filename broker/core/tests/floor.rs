//! Everyone else's floor is metered per slot: what counts, what does not, and what it is held against.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use support::*;
use tollway_core::floor::{PortFloor, PortKey};
use tollway_core::{Engine, Reply};
use tollway_model::{BitsPerSecond, Direction, Slot};
use tollway_policy::{PortReading, Reading, Report};

const FLOOR_BPS: u64 = 19_400_000;

fn port(slot: u64, rate_min: u64, delivered_bytes: u64) -> PortReading {
    PortReading {
        port: "wan0".into(),
        direction: Direction::Up,
        slot: Slot(T0.ms() / 5_000 + slot),
        incarnation: 1,
        default_class: Reading { bytes: delivered_bytes, packets: 1, drops: 0 },
        default_rate_min: BitsPerSecond(rate_min),
        backlog_bytes: 0,
        direct_packets: 0,
        up: true,
        delivered_bytes,
        busy_ms: 5_000,
    }
}

fn floor(world: &World) -> PortFloor {
    let key = PortKey { enforcement_point: "router1".into(), port: "wan0".into(), direction: Direction::Up };
    world.engine.state().floors()[&key].clone()
}

fn counts(world: &World) -> (u64, u64) {
    let floor = floor(world);
    (floor.slots_kept, floor.slots_broken)
}

#[test]
fn a_slot_keeps_the_floor_by_what_was_left_or_by_what_was_carried() {
    let mut world = World::new();
    world.now = T0.plus_ms(60_000);
    // 95 % of the floor in a slot of 5 s are 11,518,750 bytes.
    for (slot, rate_min, bytes, want) in [
        (0, FLOOR_BPS, 0, (1, 0)),
        (1, FLOOR_BPS - 500, 0, (2, 0)),
        (2, FLOOR_BPS - 600, 0, (2, 1)),
        (3, 0, 11_518_750, (3, 1)),
        (4, 0, 11_518_000, (3, 2)),
    ] {
        world.report(vec![Report::Port(port(slot, rate_min, bytes))]);
        assert_eq!(counts(&world), want, "slot {slot}");
    }
    let judged = floor(&world).judged.unwrap();
    assert_eq!((judged.floor.0, judged.measured.0, judged.is_kept), (FLOOR_BPS, 18_428_800, false));
    let mut twin = Engine::new();
    world.journal.iter().for_each(|envelope| twin.replay(envelope));
    assert!(twin.state().floors() == world.engine.state().floors());
}

#[test]
fn what_is_not_new_or_not_ours_is_no_fact() {
    let mut world = World::new();
    world.now = T0.plus_ms(60_000);
    world.report(vec![Report::Port(port(3, FLOOR_BPS, 0)), Report::Port(port(3, 0, 0))]);
    let strange = PortReading { port: "tun7".into(), ..port(4, 0, 0) };
    let backwards = PortReading { direction: Direction::Down, ..port(4, 0, 0) };
    let lies = [port(3, 0, 0), port(2, 0, 0), port(100, 0, 0), strange, backwards];
    world.report(lies.into_iter().map(Report::Port).collect());
    assert_eq!(counts(&world), (1, 0));
    assert_eq!(world.engine.state().floors().len(), 1);
    let down = PortReading { up: false, direct_packets: 7, ..port(4, 0, 0) };
    world.report(vec![Report::Port(down)]);
    assert_eq!(counts(&world), (1, 0), "a port that is down has nothing to share");
    assert_eq!(floor(&world).latest.direct_packets, 7);
}

/// The narrowest pool that lies wholly at the port says what the floor is; a pool that is used elsewhere too
/// cannot be measured here.
#[test]
fn the_floor_is_the_narrowest_pools_that_lies_at_the_port() {
    let mut world = World::new();
    let mut wide = config();
    let mut line = wide.pools[0].clone();
    line.name = "line".into();
    (line.up, line.sell_share_ppm) = (BitsPerSecond(100_000_000), 1_000_000);
    wide.pools.push(line);
    wide.accesses[0].up.pools.push("line".into());
    assert!(matches!(world.configure(wide.clone()), Reply::Configured { .. }));
    world.report(vec![Report::Port(port(0, FLOOR_BPS, 0))]);
    assert_eq!(floor(&world).judged.unwrap().floor.0, FLOOR_BPS);

    let mut elsewhere = wide.accesses[0].clone();
    (elsewhere.name, elsewhere.enforcement_point) = ("office".into(), "router2".into());
    elsewhere.up.pools.pop();
    wide.accesses.push(elsewhere);
    assert!(matches!(world.configure(wide.clone()), Reply::Configured { .. }));
    world.now = T0.plus_ms(5_000);
    world.report(vec![Report::Port(port(1, 0, 0))]);
    assert_eq!(floor(&world).judged.unwrap().floor.0, 0, "only the line lies here, all of it for sale");

    // A port that no access names any more is forgotten.
    wide.accesses[0].up.port = "wan1".into();
    assert!(matches!(world.configure(wide), Reply::Configured { .. }));
    assert!(world.engine.state().floors().is_empty());
}
