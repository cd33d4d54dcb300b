//! What lies between actors and the broker: delays, losses, doubles for requests of their own; order or a
//! break for connections. One random stream per link.

use crate::actor::{Link, Message};
use crate::options::Faults;
use crate::rng::Rng;
use tollway_model::Timestamp;

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Parcel {
    pub at: Timestamp,
    pub generation: u64,
    pub message: Message,
}

pub struct Wire {
    name: String,
    link: Link,
    rng: Rng,
    /// Connections broken so far; what was sent on an older one is lost.
    pub generation: u64,
    last: [Timestamp; 2],
}

/// What the network makes of a message.
pub enum Sent {
    Parcels(Vec<Parcel>),
    /// The connection broke on it.
    Broken,
}

impl Wire {
    pub fn new(seed: u64, name: &str, link: Link) -> Wire {
        let rng = Rng::stream(seed, &format!("link {name}"));
        Wire { name: name.to_owned(), link, rng, generation: 0, last: [Timestamp(0); 2] }
    }

    pub fn register(&self, faults: &mut Faults) {
        let all: &[(&str, u32)] = match self.link {
            Link::Datagrams => &[("late", 200_000), ("lost", 150_000), ("doubled", 200_000)],
            Link::Stream => &[("late", 100_000), ("broken", 20_000)],
        };
        for (what, ppm_max) in all {
            faults.register(&self.fault(what), *ppm_max);
        }
    }

    fn fault(&self, what: &str) -> String {
        format!("{}'s messages {what}", self.name)
    }

    fn strikes(&mut self, faults: &Faults, what: &str) -> bool {
        let name = self.fault(what);
        faults.strikes(&mut self.rng, &name)
    }

    fn delay(&mut self, faults: &Faults) -> u64 {
        if self.strikes(faults, "late") { self.rng.between(200, 8_000) } else { self.rng.between(1, 25) }
    }

    /// `way` is 0 to the broker, 1 from it.
    pub fn send(&mut self, faults: &Faults, now: Timestamp, way: usize, message: Message) -> Sent {
        let generation = self.generation;
        let delay = self.delay(faults);
        match self.link {
            Link::Datagrams => {
                let mut parcels = Vec::with_capacity(2);
                if self.strikes(faults, "doubled") {
                    let at = now.plus_ms(self.delay(faults) * 2);
                    parcels.push(Parcel { at, generation, message: message.clone() });
                }
                if !self.strikes(faults, "lost") {
                    parcels.push(Parcel { at: now.plus_ms(delay), generation, message });
                }
                Sent::Parcels(parcels)
            }
            Link::Stream => {
                if self.strikes(faults, "broken") {
                    return Sent::Broken;
                }
                let last = self.last.get_mut(way).expect("two ways");
                *last = now.plus_ms(delay).max(*last);
                Sent::Parcels(vec![Parcel { at: *last, generation, message }])
            }
        }
    }
}
