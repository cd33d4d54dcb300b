//! Reports on their way to the broker, in numbered batches, kept until it has acknowledged them.

use crate::limits::{BATCH_REPORTS_MAX, IN_FLIGHT_BATCHES_MAX, UNACKED_REPORTS_MAX};
use minicbor::{Decode, Encode};
use std::collections::VecDeque;
use tollway_policy::Report;

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Batch {
    #[n(0)]
    pub number: u64,
    #[n(1)]
    pub reports: Vec<Report>,
}

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Outbox {
    /// Number of the next batch; grows over the whole life of a data directory.
    #[n(0)]
    next: u64,
    #[n(1)]
    unacked: VecDeque<Batch>,
}

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox { next: 1, unacked: VecDeque::new() }
    }
}

impl Outbox {
    /// Takes reports in. Returns how many old ones had to be thrown away to keep the bound; each such loss is
    /// for the caller to say aloud.
    pub fn push(&mut self, reports: Vec<Report>) -> usize {
        let mut reports = reports.into_iter().peekable();
        while reports.peek().is_some() {
            let batch =
                Batch { number: self.next, reports: reports.by_ref().take(BATCH_REPORTS_MAX).collect() };
            self.next += 1;
            self.unacked.push_back(batch);
        }
        let mut lost = 0;
        while self.waiting() > UNACKED_REPORTS_MAX {
            lost += self.unacked.pop_front().map_or(0, |batch| batch.reports.len());
        }
        lost
    }

    /// Reports that the broker has not acknowledged.
    pub fn waiting(&self) -> usize {
        self.unacked.iter().map(|batch| batch.reports.len()).sum()
    }

    /// Forgets what is durable at the broker.
    pub fn ack(&mut self, number: u64) {
        while self.unacked.front().is_some_and(|batch| batch.number <= number) {
            self.unacked.pop_front();
        }
    }

    /// The broker's word at the start of a stream. When it knows numbers that this directory never gave out
    /// (the directory is a new one), numbering goes on after them. Returns whether it had to.
    pub fn welcome(&mut self, acked: u64) -> bool {
        if acked < self.next {
            self.ack(acked);
            return false;
        }
        self.next = acked + 1;
        for batch in &mut self.unacked {
            batch.number = self.next;
            self.next += 1;
        }
        true
    }

    /// The batches after `sent`, as many as may be under way.
    pub fn after(&self, sent: u64) -> impl Iterator<Item = &Batch> {
        self.unacked.iter().take(IN_FLIGHT_BATCHES_MAX).filter(move |batch| batch.number > sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollway_model::{LegId, ReservationId};
    use tollway_policy::PolicyReport;

    fn reports(count: usize) -> Vec<Report> {
        let leg = LegId { reservation: ReservationId(1), index: 0 };
        vec![Report::Leg { leg, attempt: 1, report: PolicyReport::Accepted }; count]
    }

    #[test]
    fn batches_are_numbered_cut_and_forgotten_when_acknowledged() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(reports(2_500)), 0);
        let numbers: Vec<(u64, usize)> = outbox.after(0).map(|b| (b.number, b.reports.len())).collect();
        assert_eq!(numbers, [(1, 1000), (2, 1000), (3, 500)]);
        outbox.ack(2);
        assert_eq!(outbox.after(0).map(|b| b.number).collect::<Vec<_>>(), [3]);
        assert_eq!(outbox.after(3).count(), 0);
        outbox.push(Vec::new());
        assert_eq!(outbox.waiting(), 500);
        let bytes = minicbor::to_vec(&outbox).expect("encodes");
        assert_eq!(minicbor::decode::<Outbox>(&bytes).expect("decodes"), outbox);
    }

    #[test]
    fn a_new_directory_goes_on_after_the_old_numbers() {
        let mut outbox = Outbox::default();
        outbox.push(reports(1));
        assert!(outbox.welcome(7));
        assert_eq!(outbox.after(7).map(|b| b.number).collect::<Vec<_>>(), [8]);
        outbox.push(reports(1));
        assert!(!outbox.welcome(8));
        assert_eq!(outbox.after(0).map(|b| b.number).collect::<Vec<_>>(), [9]);
    }

    #[test]
    fn the_bound_throws_away_the_oldest_and_says_so() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(reports(UNACKED_REPORTS_MAX)), 0);
        assert_eq!(outbox.push(reports(1)), BATCH_REPORTS_MAX);
        assert!(outbox.waiting() <= UNACKED_REPORTS_MAX);
        assert_eq!(outbox.after(0).count(), IN_FLIGHT_BATCHES_MAX);
    }
}
