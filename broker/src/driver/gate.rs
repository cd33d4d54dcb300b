//! The gate: outputs wait in order until the record that each rests on is durable.

use crate::store::BATCH_RECORDS_MAX;
use std::collections::VecDeque;
use tollway_core::{Envelope, Output};
use tollway_model::Seq;

/// Outputs that may wait for their records: refusals make none, so records alone would not bound them.
pub(super) const OUTPUTS_WAITING_MAX: usize = 4_096;

/// Records and outputs of the engine on their way out.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Records not yet handed to the store, one group for each input: what one input decided is appended
    /// together, so that an effect and the answer stored for its key are durable or absent together.
    groups: VecDeque<Vec<Envelope>>,
    records: usize,
    outputs: VecDeque<Output>,
    durable: Seq,
}

impl Gate {
    pub(super) fn new(durable: Seq) -> Gate {
        Gate { durable, ..Gate::default() }
    }

    pub(super) fn push(&mut self, group: Vec<Envelope>, outputs: impl IntoIterator<Item = Output>) {
        if !group.is_empty() {
            self.records += group.len();
            self.groups.push_back(group);
        }
        self.outputs.extend(outputs);
    }

    /// Records that wait for their append.
    pub(super) const fn waiting(&self) -> usize {
        self.records
    }

    /// Whether another input may be handled before something has become durable.
    pub(super) fn has_room(&self) -> bool {
        self.records < BATCH_RECORDS_MAX && self.outputs.len() < OUTPUTS_WAITING_MAX
    }

    pub(super) const fn durable(&self) -> Seq {
        self.durable
    }

    /// Whole groups up to `max` records, at least one group; empty when nothing waits.
    pub(super) fn next_batch(&mut self, max: usize) -> Vec<Envelope> {
        let mut batch = self.groups.pop_front().unwrap_or_default();
        while let Some(next) = self.groups.front() {
            if batch.len() + next.len() > max {
                break;
            }
            batch.extend(self.groups.pop_front().unwrap_or_default());
        }
        self.records -= batch.len();
        batch
    }

    pub(super) fn committed(&mut self, last: Seq) {
        assert!(last >= self.durable, "what is durable stays so");
        self.durable = last;
    }

    /// The next output that may leave.
    pub(super) fn release(&mut self) -> Option<Output> {
        let durable = self.durable;
        self.outputs.pop_front_if(|output| output.after() <= durable)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.outputs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollway_core::Record;
    use tollway_model::{ReservationId, Timestamp};

    fn record(seq: u64) -> Envelope {
        let record = Record::Started { reservation: ReservationId(1) };
        Envelope { seq: Seq(seq), at: Timestamp(0), due: None, record }
    }

    fn ack(after: u64) -> Output {
        Output::Ack { after: Seq(after), enforcement_point: String::new(), number: after }
    }

    #[test]
    fn nothing_leaves_before_its_record_is_durable() {
        let mut gate = Gate::new(Seq(4));
        gate.push(vec![], [ack(4)]);
        gate.push(vec![record(5), record(6)], [ack(5), ack(6)]);
        assert_eq!(gate.release(), Some(ack(4)));
        assert_eq!(gate.release(), None);
        assert_eq!(gate.next_batch(256).len(), 2);
        assert_eq!(gate.release(), None, "appended is not durable");
        gate.committed(Seq(6));
        assert_eq!((gate.release(), gate.release()), (Some(ack(5)), Some(ack(6))));
        assert!(gate.is_empty());
    }

    #[test]
    fn what_one_input_decided_is_never_cut() {
        let mut gate = Gate::new(Seq(0));
        for first in [1u64, 4, 7] {
            gate.push((first..first + 3).map(record).collect(), []);
        }
        assert_eq!(gate.next_batch(7).len(), 6);
        assert_eq!(gate.waiting(), 3);
        assert_eq!(gate.next_batch(2).len(), 3, "a group is larger than the bound: alone, whole");
        assert!(gate.next_batch(7).is_empty());
    }
}
