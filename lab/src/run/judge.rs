//! Expectations held against figures, and the lab's own lateness against its limit.

use super::act::Played;
use super::stage::Stage;
use crate::lateness::{self, Lateness};
use crate::report::model::{Expectation, Honesty};
use crate::scenario::Plan;
use crate::scenario::metric::{Figures, Metric};
use crate::scenario::plan::{Act, Bound};

const EQUAL_WITHIN: f64 = 1e-9;

/// Judges an act's expectations by its own figures and those of the acts before it.
pub fn expectations(act: &Act, played: &Played, before: &[&Figures]) -> Vec<Expectation> {
    let own = &played.figures;
    let find = |metric: &Metric| {
        own.get(metric).copied().or_else(|| before.iter().find_map(|figures| figures.get(metric).copied()))
    };
    let check = |expect: &crate::scenario::plan::Expect| {
        let value = find(&expect.that);
        let found = match &expect.over {
            None => value,
            Some(over) => value.zip(find(over)).and_then(|(a, b)| (b != 0.0).then(|| a / b)),
        };
        let holds = found.is_some_and(|found| match expect.bound {
            Bound::Is(value) => (found - value.number()).abs() < EQUAL_WITHIN,
            Bound::AtLeast(least) => found >= least,
            Bound::AtMost(most) => found <= most,
        });
        Expectation { text: expect.text.clone(), found, holds }
    };
    act.expects.iter().map(check).collect()
}

/// Whether the host let the lab keep its times in every act.
pub fn honesty(plan: &Plan, stage: &Stage, played: &[Played]) -> Honesty {
    let whole = stage.line.lateness();
    let allowed = lateness::p99_allowed_ns(plan.up.delay_ns.min(plan.down.delay_ns));
    let late = |l: &Lateness| l.quantile_ns(0.99) > allowed;
    let late_acts: Vec<String> =
        played.iter().filter(|p| late(&p.lateness)).map(|p| p.name.clone()).collect();
    let stalls: Vec<(f64, f64)> = played
        .iter()
        .flat_map(|p| whole.stalls(p.from_ns, p.until_ns))
        .map(|(at, worst)| (at.saturating_sub(stage.started_ns) as f64 / 1e9, worst as f64 / 1e6))
        .collect();
    let of_frames = |ns: u64| (whole.count() > 0).then_some(ns as f64 / 1e6);
    let kernel_drops = stage.line.snapshot().kernel_drops;
    Honesty {
        degraded: !late_acts.is_empty() || !stalls.is_empty(),
        frames: whole.count(),
        p50_ms: of_frames(whole.quantile_ns(0.5)),
        p99_ms: of_frames(whole.quantile_ns(0.99)),
        max_ms: of_frames(whole.max_ns()),
        p99_allowed_ms: allowed as f64 / 1e6,
        late_acts,
        stalls,
        kernel_drops,
    }
}
