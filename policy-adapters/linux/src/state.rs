//! What must survive a restart. It is made durable before the kernel is touched.

use crate::meter::Meter;
use crate::port_meter::PortMeter;
use minicbor::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};
use tollway_model::{LegId, SlotLength, Timestamp};
use tollway_netlink::layout::{MINOR_MAX, MINOR_MIN};
use tollway_policy::{DesiredLeg, Report};

/// Slot length until a broker has said another.
const SLOT_S_DEFAULT: u32 = 60;

#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
pub enum Life {
    #[n(0)]
    Open,
    /// Its elements go, its queues empty, its classes go.
    #[n(1)]
    Closing {
        #[n(0)]
        since: Timestamp,
    },
}

/// What was last reported about the current attempt.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
pub enum Told {
    #[n(0)]
    Nothing,
    #[n(1)]
    Accepted,
    #[n(2)]
    Active {
        #[n(0)]
        at: Timestamp,
    },
    #[n(3)]
    Lost,
    #[n(4)]
    Refused,
}

impl Told {
    /// For log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Told::Nothing => "unsaid",
            Told::Accepted => "accepted",
            Told::Active { .. } => "active",
            Told::Lost => "lost",
            Told::Refused => "refused",
        }
    }
}

/// One leg that is here.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct LegRecord {
    #[n(0)]
    pub desired: DesiredLeg,
    /// Minor number of its class id, the same on each port.
    #[n(1)]
    pub minor: u16,
    #[n(2)]
    pub life: Life,
    #[n(3)]
    pub told: Told,
    /// Of the last command about it.
    #[n(4)]
    pub attempt: u32,
    /// From the start of its window on.
    #[n(5)]
    pub meter: Option<Meter>,
}

/// What is remembered of a port.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug, Default)]
pub struct PortRecord {
    #[n(0)]
    pub ifindex: u32,
    /// Changes whenever the root qdisc is made anew.
    #[n(1)]
    pub nonce: u64,
    #[n(2)]
    pub meter: Option<PortMeter>,
    /// Packets that bypassed all classes while the root was being made, before there were any.
    #[n(3)]
    pub direct_base: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct State {
    /// Highest leader epoch seen.
    #[n(0)]
    pub epoch: u64,
    #[n(1)]
    pub slot_s: u32,
    #[n(2)]
    pub legs: BTreeMap<LegId, LegRecord>,
    #[n(3)]
    pub ports: BTreeMap<String, PortRecord>,
    #[n(4)]
    pub minor_next: u16,
    #[n(5)]
    pub nonce_next: u64,
    /// Reports that have no number yet.
    #[n(6)]
    pub pending: Vec<Report>,
    /// Identity of the market that is enforced; `None` until a broker has said one, and in older files.
    #[n(7)]
    pub market: Option<String>,
    /// Nothing in the kernel is touched until the first desired set: this state does not know what it is for.
    #[n(8)]
    #[cbor(default)]
    pub awaits_set: bool,
}

impl Default for State {
    fn default() -> State {
        State {
            epoch: 0,
            slot_s: SLOT_S_DEFAULT,
            legs: BTreeMap::new(),
            ports: BTreeMap::new(),
            minor_next: MINOR_MIN,
            nonce_next: 1,
            pending: Vec::new(),
            market: None,
            awaits_set: false,
        }
    }
}

impl State {
    pub fn slots(&self) -> SlotLength {
        SlotLength::from_secs(self.slot_s)
            .or(SlotLength::from_secs(SLOT_S_DEFAULT))
            .expect("the default divides a day")
    }

    /// A minor that no leg has, if possible also none of `taken`: a class that is in the kernel has counted for
    /// somebody else. Numbers go round, so that a freed one rests as long as possible.
    pub fn take_minor(&mut self, taken: &BTreeSet<u16>) -> u16 {
        for _ in MINOR_MIN..=MINOR_MAX {
            let minor = self.next_minor();
            if !taken.contains(&minor) {
                return minor;
            }
        }
        self.next_minor()
    }

    fn next_minor(&mut self) -> u16 {
        loop {
            let minor = self.minor_next.clamp(MINOR_MIN, MINOR_MAX);
            self.minor_next = if minor == MINOR_MAX { MINOR_MIN } else { minor + 1 };
            // LEGS_MAX is far below the number of minors, so one is free.
            if self.legs.values().all(|leg| leg.minor != minor) {
                return minor;
            }
        }
    }

    pub fn take_nonce(&mut self) -> u64 {
        let nonce = self.nonce_next;
        self.nonce_next += 1;
        nonce
    }

    /// The meters alone: written at each poll without waiting for the disk.
    pub fn meters(&self) -> Meters {
        Meters {
            legs: self.legs.iter().filter_map(|(id, leg)| Some((*id, leg.meter.clone()?))).collect(),
            ports: self.ports.iter().filter_map(|(name, p)| Some((name.clone(), p.meter.clone()?))).collect(),
        }
    }

    /// Takes over meters that were written later than this state.
    pub fn adopt_meters(&mut self, meters: Meters) {
        for (id, meter) in meters.legs {
            if let Some(leg) = self.legs.get_mut(&id)
                && leg.meter.as_ref().is_some_and(|mine| mine.at() < meter.at())
            {
                leg.meter = Some(meter);
            }
        }
        for (name, meter) in meters.ports {
            if let Some(port) = self.ports.get_mut(&name)
                && port.meter.as_ref().is_some_and(|mine| mine.at() < meter.at())
            {
                port.meter = Some(meter);
            }
        }
    }
}

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug, Default)]
pub struct Meters {
    #[n(0)]
    pub legs: BTreeMap<LegId, Meter>,
    #[n(1)]
    pub ports: BTreeMap<String, PortMeter>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minors_go_round() {
        let mut state = State { minor_next: MINOR_MAX, ..State::default() };
        let none = BTreeSet::new();
        assert_eq!(state.take_minor(&none), MINOR_MAX);
        assert_eq!(state.take_minor(&none), MINOR_MIN);
        assert_eq!(state.take_minor(&BTreeSet::from([MINOR_MIN + 1])), MINOR_MIN + 2);
        let all = (MINOR_MIN..=MINOR_MAX).collect();
        assert!((MINOR_MIN..=MINOR_MAX).contains(&state.take_minor(&all)));
    }

    #[test]
    fn a_wrong_slot_length_is_the_default() {
        let state = State { slot_s: 7, ..State::default() };
        assert_eq!(state.slots().secs(), SLOT_S_DEFAULT);
    }

    #[test]
    fn a_state_survives_its_encoding() {
        let state = State { epoch: 9, ..State::default() };
        let bytes = minicbor::to_vec(&state).expect("encodes");
        assert_eq!(minicbor::decode::<State>(&bytes).expect("decodes"), state);
        // As written before a market was remembered: seven fields.
        let mut old = bytes;
        assert_eq!((old[0] & 0xf0, old.len() > 3), (0x80, true));
        old.truncate(old.len() - usize::from(old[0] & 0x0f) + 7);
        old[0] = 0x87;
        assert_eq!(minicbor::decode::<State>(&old).expect("decodes"), state);
    }
}
