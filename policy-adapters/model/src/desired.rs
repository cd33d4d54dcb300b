//! The desired state of a leg. An enforcement point that holds it needs nobody: it follows the schedules by
//! its own clock, lowers before it raises, and ends the leg at `valid_until`.

use crate::road::{MobileAccess, Road};
use minicbor::{Decode, Encode};
use tollway_model::{BitsPerSecond, Direction, Flow, LegId, Schedule, Timestamp};

/// How a tier wants its classes built, the same for every leg of the tier revision.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
pub struct ClassShape {
    /// Packet size that class rates are computed for, in bytes of IP packet.
    #[n(0)]
    pub packet_bytes: u32,
    /// Longest queue that a leaf may build, in milliseconds at its class rate.
    #[n(1)]
    pub queue_ms_max: u32,
    /// Whether the class may borrow idle capacity (`ceil` = link). False: excess is shaped to the rate.
    #[n(2)]
    pub borrow: bool,
}

/// One direction of a leg at one port of an enforcement point.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Side {
    /// Port name at the enforcement point, as both sides configure it.
    #[n(0)]
    pub port: String,
    /// *Class rate* by time: what the kernel is asked for, return path included.
    #[n(1)]
    pub schedule: Schedule,
}

/// Whole desired state of one leg.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct DesiredLeg {
    #[n(0)]
    pub leg: LegId,
    /// Grows with every change of the leg; reports of an older attempt are stale.
    #[n(1)]
    pub attempt: u32,
    /// The enforcement point (agent) that is to make it so.
    #[n(2)]
    pub enforcement_point: String,
    /// The direction that is sold; the other one is its return path.
    #[n(3)]
    pub direction: Direction,
    #[n(4)]
    pub up: Side,
    #[n(5)]
    pub down: Side,
    /// At most 8. Replaced as a whole, in one transaction of the enforcement point.
    #[n(6)]
    pub flows: Vec<Flow>,
    #[n(7)]
    pub shape: ClassShape,
    /// When the leg dies by itself: the window's end.
    #[n(8)]
    pub valid_until: Timestamp,
    /// Absent: the ports of an agent.
    #[n(9)]
    pub road: Option<Road>,
}

impl DesiredLeg {
    pub fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    /// Class rate wanted at an instant; zero before the window and from `valid_until` on.
    pub fn class_rate_at(&self, direction: Direction, at: Timestamp) -> BitsPerSecond {
        if at >= self.valid_until {
            return BitsPerSecond::ZERO;
        }
        self.side(direction).schedule.rate_at(at)
    }

    /// The next instant after `at` at which something must change at the enforcement point.
    pub fn next_change(&self, at: Timestamp) -> Option<Timestamp> {
        let until = (self.valid_until > at).then_some(self.valid_until);
        [self.up.schedule.next_change(at), self.down.schedule.next_change(at), until]
            .into_iter()
            .flatten()
            .min()
    }
}

/// What the engine tells an adapter. `Desire` replaces whatever that leg was; `Release` asks for its removal
/// and a last reading. Most commands are desires, so the small one gains nothing from a box around the large.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub enum PolicyCommand {
    #[n(0)]
    Desire(#[n(0)] DesiredLeg),
    #[n(1)]
    Release {
        #[n(0)]
        leg: LegId,
        #[n(1)]
        attempt: u32,
        #[n(2)]
        enforcement_point: String,
        /// Where a learnt access is; absent for all others.
        #[n(3)]
        access: Option<MobileAccess>,
    },
}

impl PolicyCommand {
    pub fn leg(&self) -> LegId {
        match self {
            PolicyCommand::Desire(desired) => desired.leg,
            PolicyCommand::Release { leg, .. } => *leg,
        }
    }

    pub fn enforcement_point(&self) -> &str {
        match self {
            PolicyCommand::Desire(desired) => &desired.enforcement_point,
            PolicyCommand::Release { enforcement_point, .. } => enforcement_point,
        }
    }
}
