//! Capacity over time of one pool in one direction: a flat array of commitments per day, allocated at the
//! first commitment. All rates are class rates in bit/s.

use std::collections::BTreeMap;
use std::ops::Range;
use tollway_model::SlotLength;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Calendar {
    slots_per_day: u64,
    on_sale: u64,
    /// Open-ended assignments; counts in every slot.
    standing: u64,
    pages: BTreeMap<u64, Box<[u64]>>,
}

impl Calendar {
    pub fn new(slot_length: SlotLength, on_sale_bps: u64) -> Calendar {
        Calendar {
            slots_per_day: slot_length.slots_per_day(),
            on_sale: on_sale_bps,
            standing: 0,
            pages: BTreeMap::new(),
        }
    }

    pub fn on_sale(&self) -> u64 {
        self.on_sale
    }

    pub fn set_on_sale(&mut self, bps: u64) {
        self.on_sale = bps;
    }

    /// Commitment of one slot.
    pub fn committed(&self, slot: u64) -> u64 {
        let page = self.pages.get(&(slot / self.slots_per_day));
        let at = usize::try_from(slot % self.slots_per_day).unwrap_or(0);
        page.map_or(0, |page| page[at]) + self.standing
    }

    /// Largest commitment of a range.
    pub fn max(&self, slots: Range<u64>) -> u64 {
        let mut max = 0;
        self.each_part(slots, |part| max = part.iter().copied().fold(max, u64::max));
        max + self.standing
    }

    /// Sum of the commitments of a range.
    pub fn sum(&self, slots: Range<u64>) -> u128 {
        let standing = u128::from(self.standing) * u128::from(slots.end.saturating_sub(slots.start));
        let mut sum = 0u128;
        self.each_part(slots, |part| sum += part.iter().map(|v| u128::from(*v)).sum::<u128>());
        sum + standing
    }

    /// What is still for sale in every slot of a range.
    pub fn free(&self, slots: Range<u64>) -> u64 {
        self.on_sale.saturating_sub(self.max(slots))
    }

    pub fn fits(&self, slots: Range<u64>, bps: u64) -> bool {
        self.free(slots) >= bps
    }

    /// Last slot of the range in which `bps` does not fit.
    pub fn last_lack(&self, slots: Range<u64>, bps: u64) -> Option<u64> {
        slots.rev().find(|slot| self.on_sale.saturating_sub(self.committed(*slot)) < bps)
    }

    /// Commits; no step may raise a slot above what is on sale, whatever the order of arrival.
    ///
    /// # Panics
    /// When a slot would be oversold: the caller decided without [`Calendar::fits`].
    pub fn commit(&mut self, slots: Range<u64>, bps: u64) {
        let limit = self.on_sale.saturating_sub(self.standing);
        self.each_part_mut(slots, |slot| {
            *slot += bps;
            assert!(*slot <= limit, "a slot would be oversold: {slot} of {limit} bit/s");
        });
    }

    /// Gives back what [`Calendar::commit`] took.
    ///
    /// # Panics
    /// When a slot holds less than is given back.
    pub fn release(&mut self, slots: Range<u64>, bps: u64) {
        self.each_part_mut(slots, |slot| {
            *slot = slot.checked_sub(bps).expect("a slot gives back only what it took");
        });
    }

    /// Slots whose commitment passes what is on sale: `(slot, excess)`.
    pub fn excess(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let limit = self.on_sale.saturating_sub(self.standing);
        self.pages.iter().flat_map(move |(day, page)| {
            let first = day * self.slots_per_day;
            page.iter()
                .enumerate()
                .filter(move |(_, v)| **v > limit)
                .map(move |(i, v)| (first + i as u64, v - limit))
        })
    }

    /// Forgets days that lie wholly before a slot. Only past slots go, which nothing can take or give back.
    pub fn forget_before(&mut self, slot: u64) {
        let day = slot / self.slots_per_day;
        while self.pages.first_key_value().is_some_and(|(first, _)| *first < day) {
            self.pages.pop_first();
        }
    }

    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    fn each_part(&self, slots: Range<u64>, mut visit: impl FnMut(&[u64])) {
        let mut at = slots.start;
        while at < slots.end {
            let day = at / self.slots_per_day;
            let end = slots.end.min((day + 1) * self.slots_per_day);
            if let Some(page) = self.pages.get(&day) {
                let from = (at % self.slots_per_day) as usize;
                visit(&page[from..from + (end - at) as usize]);
            } else {
                visit(&[0]);
            }
            at = end;
        }
    }

    fn each_part_mut(&mut self, slots: Range<u64>, mut visit: impl FnMut(&mut u64)) {
        let mut at = slots.start;
        while at < slots.end {
            let day = at / self.slots_per_day;
            let end = slots.end.min((day + 1) * self.slots_per_day);
            let len = self.slots_per_day as usize;
            let page = self.pages.entry(day).or_insert_with(|| vec![0; len].into_boxed_slice());
            let from = (at % self.slots_per_day) as usize;
            page[from..from + (end - at) as usize].iter_mut().for_each(&mut visit);
            at = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(on_sale: u64) -> Calendar {
        Calendar::new(SlotLength::from_secs(3600).unwrap(), on_sale)
    }

    #[test]
    fn commitments_cross_days_and_come_back() {
        let mut calendar = calendar(100);
        calendar.commit(22..27, 60);
        assert_eq!(calendar.max(0..22), 0);
        assert_eq!(calendar.max(0..48), 60);
        assert_eq!(calendar.free(23..24), 40);
        assert_eq!(calendar.last_lack(20..30, 50), Some(26));
        assert_eq!(calendar.sum(0..48), 300);
        calendar.release(22..27, 60);
        assert_eq!(calendar.max(0..48), 0);
    }

    #[test]
    fn oscars_case_equal_reservations_at_one_instant() {
        // ESnet's OSCARS calls 9,000 free after five equal reservations that start at one instant; the truth
        // is 5,000.
        let mut calendar = calendar(10_000);
        for _ in 0..5 {
            assert!(calendar.fits(10..20, 1_000));
            calendar.commit(10..20, 1_000);
        }
        assert_eq!(calendar.free(10..20), 5_000);
        assert!(!calendar.fits(10..20, 5_001));
    }

    #[test]
    #[should_panic(expected = "oversold")]
    fn overselling_aborts() {
        let mut calendar = calendar(100);
        calendar.commit(1..2, 60);
        calendar.commit(1..2, 41);
    }

    #[test]
    fn shrinking_shows_the_excess() {
        let mut calendar = calendar(100);
        calendar.commit(3..5, 80);
        calendar.set_on_sale(50);
        assert_eq!(calendar.excess().collect::<Vec<_>>(), [(3, 30), (4, 30)]);
        assert!(!calendar.fits(3..4, 1));
        calendar.forget_before(24);
        assert_eq!(calendar.pages(), 0);
    }
}
