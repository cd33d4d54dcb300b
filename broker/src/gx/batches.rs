//! Facts on their way into the journal. What one step of the machine made is one batch, so that it is recorded
//! together or not at all; only what no batch holds is cut (a gateway that restarts with thousands of sessions,
//! whose ends are each true for themselves).

use std::collections::VecDeque;
use tollway_core::limits::REPORTS_PER_BATCH_MAX;
use tollway_gx::Mark;
use tollway_policy::Report;

#[derive(Debug)]
struct Group {
    /// Of its last fact.
    mark: Mark,
    reports: Vec<Report>,
}

/// Groups that wait, and batches that were handed over.
#[derive(Debug)]
pub(super) struct Batches {
    next: u64,
    groups: VecDeque<Group>,
    /// Number, mark and facts of each.
    sent: VecDeque<(u64, Mark, usize)>,
    facts: usize,
}

impl Batches {
    /// After the last batch that the engine has taken.
    pub(super) fn after(acked: u64) -> Batches {
        Batches { next: acked.saturating_add(1), groups: VecDeque::new(), sent: VecDeque::new(), facts: 0 }
    }

    /// What one step made, in order.
    pub(super) fn push(&mut self, facts: Vec<(Mark, Report)>) {
        self.facts += facts.len();
        let mut facts = facts.into_iter().peekable();
        while facts.peek().is_some() {
            let mut group = Group { mark: Mark::default(), reports: Vec::new() };
            for (mark, report) in facts.by_ref().take(REPORTS_PER_BATCH_MAX) {
                group.mark = mark;
                group.reports.push(report);
            }
            self.groups.push_back(group);
        }
    }

    /// As many whole groups as a batch holds, with its number.
    pub(super) fn next_batch(&mut self) -> Option<(u64, Vec<Report>)> {
        let Group { mut mark, mut reports } = self.groups.pop_front()?;
        while let Some(group) = self.groups.front()
            && reports.len() + group.reports.len() <= REPORTS_PER_BATCH_MAX
            && let Some(group) = self.groups.pop_front()
        {
            mark = group.mark;
            reports.extend(group.reports);
        }
        let number = self.next;
        self.next += 1;
        self.sent.push_back((number, mark, reports.len()));
        Some((number, reports))
    }

    /// All batches up to this one are durable: so are all facts up to the mark.
    pub(super) fn acked(&mut self, number: u64) -> Option<Mark> {
        let mut durable = None;
        while let Some((_, mark, facts)) = self.sent.pop_front_if(|(sent, _, _)| *sent <= number) {
            durable = Some(mark);
            self.facts -= facts;
        }
        durable
    }

    /// Facts that are not durable.
    pub(super) const fn waiting(&self) -> usize {
        self.facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollway_model::{LegId, ReservationId};
    use tollway_policy::PolicyReport;

    fn facts(marks: std::ops::Range<u64>) -> Vec<(Mark, Report)> {
        let leg = LegId { reservation: ReservationId(1), index: 0 };
        let report = Report::Leg { leg, attempt: 1, report: PolicyReport::Accepted };
        marks.map(|mark| (Mark(mark), report.clone())).collect()
    }

    fn next(batches: &mut Batches) -> Option<(u64, usize)> {
        batches.next_batch().map(|(number, reports)| (number, reports.len()))
    }

    #[test]
    fn what_one_step_made_is_never_cut_unless_no_batch_holds_it() {
        let mut batches = Batches::after(7);
        batches.push(facts(1..600));
        batches.push(facts(600..1_100));
        batches.push(facts(1_100..1_110));
        batches.push(Vec::new());
        assert_eq!(next(&mut batches), Some((8, 599)), "the next would not fit whole");
        assert_eq!(next(&mut batches), Some((9, 510)));
        assert_eq!(next(&mut batches), None);
        batches.push(facts(1_110..3_610));
        let sizes: Vec<_> = std::iter::from_fn(|| next(&mut batches)).collect();
        assert_eq!(sizes, [(10, 1_000), (11, 1_000), (12, 500)]);
        assert_eq!(batches.waiting(), 3_609);
        assert_eq!(batches.acked(7), None);
        assert_eq!(batches.acked(9), Some(Mark(1_109)));
        assert_eq!(batches.acked(10), Some(Mark(2_109)));
        assert_eq!((batches.acked(99), batches.waiting()), (Some(Mark(3_609)), 0));
    }
}
