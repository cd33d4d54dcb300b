//! What Tollway wants in the kernel at one instant: classes per port and elements of the maps. Pure
//! arithmetic over desired legs.

use crate::actual::ActualClass;
use crate::htb::{self, Params};
use crate::leaf::{Leaf, LeafKind};
use crate::nft::{Key, Target};
use crate::tc::Handle;
use std::collections::BTreeMap;
use tollway_model::{BitsPerSecond, Direction, LegId, Timestamp};
use tollway_policy::{ClassShape, DesiredLeg};

/// Handle of our root qdisc on every port, so that one class id serves both directions of a leg.
pub const ROOT: Handle = Handle::new(0x7a11, 0);
/// The class under which all others borrow.
pub const CLASS_LINK: u16 = 1;
/// Where everything unpaid goes.
pub const CLASS_DEFAULT: u16 = 0xffff;
/// Minors of reservation classes.
pub const MINOR_MIN: u16 = 0x100;
pub const MINOR_MAX: u16 = 0xfeff;

/// Share of the link that classes share; the rest keeps the queue here and not in the modem.
pub const LINK_SHARE_PPM: u32 = 970_000;
/// The default class never gets less than this share of what the classes share.
pub const DEFAULT_FLOOR_PPM: u32 = 100_000;
/// Longest queue of the default class, at its current rate.
pub const DEFAULT_QUEUE_MS_MAX: u64 = 100;
/// A bfifo leaf is sized for this long, or the tier's `queue_ms_max` when that is less.
pub const LEAF_QUEUE_MS: u64 = 50;
/// A queue holds at least this many packets, or slow classes would drop every burst.
pub const QUEUE_PACKETS_MIN: u64 = 10;
/// Rate of a class between two segments of its schedule: no element leads to it.
pub const PARKED_RATE_BYTES: u64 = 1_000;
/// Burst of every class beyond 1 ms at its rate: one packet.
pub const BURST_PACKET_BYTES: u64 = 1_600;
/// The kernel takes an element away this long after its leg should have ended it: only when no agent did.
pub const ELEMENT_GRACE_MS: u64 = 5_000;
/// Ends farther away than this are not yet given to the kernel.
pub const ELEMENT_TIMEOUT_MS_MAX: u64 = 30 * 86_400_000;
/// HTB refuses more than 200,000; larger turns only make others wait.
const QUANTUM_MAX: u64 = 60_000;
const ETHERNET_HEADER: u64 = 14;

/// A port as its owner configured it and the kernel names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortSpec {
    pub ifindex: u32,
    pub link: BitsPerSecond,
    pub mtu: u32,
}

/// What the kernel offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Toolbox {
    pub leaf: LeafKind,
    pub tick_ns: u32,
}

/// Where a leg is in its life at the enforcement point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Open,
    /// No element leads to its classes any more; they empty their queues and go.
    Closing,
}

/// A leg with its class id's minor number.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub leg: &'a DesiredLeg,
    pub minor: u16,
    pub phase: Phase,
}

/// How one class is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassWant {
    pub parent: Handle,
    pub params: Params,
    /// `None`: an inner class, which queues nothing.
    pub leaf: Option<Leaf>,
}

/// What is wanted of one minor number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Want {
    Exactly(ClassWant),
    /// Between segments: if it exists it is kept, for its counters, at a token rate.
    Parked(ClassWant),
    /// Closing: if it exists it stays as it is until its queue is empty.
    Draining,
}

/// All classes of one port.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PortLayout {
    pub classes: BTreeMap<u16, Want>,
    /// Rate of the default class.
    pub default_rate: BitsPerSecond,
}

/// What classes share of a link.
pub fn link_share(link: BitsPerSecond) -> BitsPerSecond {
    link.share_ppm(LINK_SHARE_PPM)
}

fn bytes_per_second(rate: BitsPerSecond) -> u64 {
    rate.get().div_ceil(8)
}

/// Layout of a port at an instant. `actual` is what the port has now: a draining class counts with the rate
/// that it still has.
pub fn port(
    name: &str,
    spec: &PortSpec,
    legs: &[Wanted<'_>],
    actual: &BTreeMap<u16, ActualClass>,
    toolbox: Toolbox,
    now: Timestamp,
) -> PortLayout {
    let share = link_share(spec.link);
    let mut classes = BTreeMap::new();
    let mut reserved: u64 = 0;
    let mut paying: u64 = 0;
    for wanted in legs {
        for direction in Direction::BOTH {
            if wanted.leg.side(direction).port != name {
                continue;
            }
            let rate = wanted.leg.class_rate_at(direction, now);
            let want = match wanted.phase {
                Phase::Closing => {
                    let still = actual.get(&wanted.minor).map_or(0, |class| class.params.rate);
                    reserved = reserved.saturating_add(still.saturating_mul(8));
                    paying += u64::from(still > 0);
                    Want::Draining
                }
                Phase::Open if rate.get() == 0 => {
                    Want::Parked(reservation(spec, share, &wanted.leg.shape, None, toolbox))
                }
                Phase::Open => {
                    reserved = reserved.saturating_add(rate.get());
                    paying += 1;
                    Want::Exactly(reservation(spec, share, &wanted.leg.shape, Some(rate), toolbox))
                }
            };
            classes.insert(wanted.minor, want);
        }
    }
    let floor = share.share_ppm(DEFAULT_FLOOR_PPM);
    let default_rate = share.saturating_sub(BitsPerSecond(reserved)).max(floor);
    let link = params(share, share, turn(spec), toolbox);
    classes.insert(CLASS_LINK, Want::Exactly(ClassWant { parent: Handle::ROOT, params: link, leaf: None }));
    let mean = reserved.checked_div(paying).unwrap_or(0);
    let quantum = u128::from(turn(spec)) * u128::from(default_rate.get()) / u128::from(mean.max(1));
    let quantum = u64::try_from(quantum).unwrap_or(u64::MAX).clamp(turn(spec), QUANTUM_MAX.max(turn(spec)));
    classes.insert(
        CLASS_DEFAULT,
        Want::Exactly(ClassWant {
            parent: Handle::new(ROOT.major(), CLASS_LINK),
            params: params(default_rate, share, quantum, toolbox),
            leaf: Some(Leaf::Bfifo { limit_bytes: queue(spec, default_rate, DEFAULT_QUEUE_MS_MAX) }),
        }),
    );
    PortLayout { classes, default_rate }
}

/// `rate` is `None` for a parked class.
fn reservation(
    spec: &PortSpec,
    share: BitsPerSecond,
    shape: &ClassShape,
    rate: Option<BitsPerSecond>,
    toolbox: Toolbox,
) -> ClassWant {
    let actual_rate = rate.unwrap_or(BitsPerSecond(PARKED_RATE_BYTES * 8));
    let ceil = if shape.borrow || rate.is_none() { share.max(actual_rate) } else { actual_rate };
    let queue_ms = LEAF_QUEUE_MS.min(u64::from(shape.queue_ms_max));
    let leaf = match toolbox.leaf {
        LeafKind::FqCodel => Leaf::FqCodel,
        LeafKind::Cake => Leaf::Cake,
        LeafKind::Bfifo => Leaf::Bfifo { limit_bytes: queue(spec, actual_rate, queue_ms) },
    };
    ClassWant {
        parent: Handle::new(ROOT.major(), CLASS_LINK),
        params: params(actual_rate, ceil, turn(spec), toolbox),
        leaf: Some(leaf),
    }
}

/// Bytes a turn: two whole packets.
fn turn(spec: &PortSpec) -> u64 {
    2 * u64::from(spec.mtu.max(68))
}

fn queue(spec: &PortSpec, rate: BitsPerSecond, ms: u64) -> u32 {
    let least = QUEUE_PACKETS_MIN * (u64::from(spec.mtu) + ETHERNET_HEADER);
    u32::try_from(rate.bytes_in_ms(ms).max(least)).unwrap_or(u32::MAX)
}

/// All classes have the same priority: HTB serves classes under their rate first whatever it is, and a
/// better one would take all the spare.
fn params(rate: BitsPerSecond, ceil: BitsPerSecond, quantum: u64, toolbox: Toolbox) -> Params {
    let (rate, ceil) = (bytes_per_second(rate).max(1), bytes_per_second(ceil).max(1));
    let burst = |rate: u64| htb::ticks(BURST_PACKET_BYTES + rate / 1000, rate, toolbox.tick_ns);
    Params {
        rate,
        ceil,
        buffer: burst(rate),
        cbuffer: burst(ceil),
        quantum: u32::try_from(quantum).unwrap_or(u32::MAX),
        prio: 0,
    }
}

/// Two legs want the same packets at the same time; the one that came first keeps them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    pub leg: LegId,
    pub with: LegId,
}

/// Elements wanted at an instant, and the legs that lost a conflict. `in_kernel` says
/// whether the leg's class is on the port of that direction: an element never leads to a missing class.
pub fn elements(
    legs: &[Wanted<'_>],
    now: Timestamp,
    in_kernel: impl Fn(&Wanted<'_>, Direction) -> bool,
) -> (BTreeMap<Key, Target>, Vec<Conflict>) {
    let mut owners: BTreeMap<Key, (LegId, Target)> = BTreeMap::new();
    let mut conflicts = Vec::new();
    for wanted in legs.iter().filter(|w| w.phase == Phase::Open) {
        let until = wanted.leg.valid_until.plus_ms(ELEMENT_GRACE_MS);
        let until = (until.ms_since(now) <= ELEMENT_TIMEOUT_MS_MAX).then_some(until);
        let target = Target { class: Handle::new(ROOT.major(), wanted.minor).0, until };
        for direction in Direction::BOTH {
            if wanted.leg.class_rate_at(direction, now).get() == 0 || !in_kernel(wanted, direction) {
                continue;
            }
            for key in wanted.leg.flows.iter().filter_map(|flow| Key::of(flow, direction)) {
                let owner = owners.entry(key).or_insert((wanted.leg.leg, target));
                if owner.0 != wanted.leg.leg {
                    conflicts.push(Conflict { leg: wanted.leg.leg, with: owner.0 });
                }
            }
        }
    }
    conflicts.dedup();
    (owners.into_iter().map(|(key, (_, target))| (key, target)).collect(), conflicts)
}
