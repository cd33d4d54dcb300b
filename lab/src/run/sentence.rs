//! What an act showed, in one sentence of plain words.

use super::act::{Finished, Played};
use super::figures;
use super::step::FlowKind;
use crate::scenario::Plan;
use crate::scenario::file::Role;
use crate::scenario::metric::{Figures, Metric, OTHERS};
use crate::scenario::plan::{Act, Bound, Expect, LoadPlan};

/// One figure of an act.
pub fn figure(figures: &Figures, act: &str, subject: &str, name: &str) -> Option<f64> {
    let metric = Metric { act: act.into(), subject: subject.into(), figure: name.into() };
    figures.get(&metric).copied()
}

fn mbit(bps: f64) -> String {
    format!("{:.2}\u{a0}Mbit/s", bps / 1e6)
}

fn euros(micros: f64) -> String {
    format!("{:.6}\u{a0}EUR", micros / 1e6)
}

const NOT_MEASURED: &str = "not measured";
/// What an act is held to that does not say so itself.
const FLOOR_SHARE_MIN: f64 = 0.95;

fn words(value: Option<f64>, say: impl FnOnce(f64) -> String) -> String {
    value.map_or_else(|| NOT_MEASURED.to_owned(), say)
}

fn percent(share: f64) -> String {
    format!("{:.1}\u{a0}%", share * 100.0)
}

/// The least share of their floor that an act expects the others to keep.
pub fn floor_share_min(act: &Act) -> f64 {
    let own = |expect: &&Expect| {
        let that = &expect.that;
        expect.over.is_none()
            && that.act == act.name
            && that.subject == OTHERS
            && that.figure == "l3_over_floor"
    };
    let least = act.expects.iter().filter(own).find_map(|expect| match expect.bound {
        Bound::AtLeast(least) => Some(least),
        Bound::Is(_) | Bound::AtMost(_) => None,
    });
    least.unwrap_or(FLOOR_SHARE_MIN)
}

/// The act's sentence, by the part that it plays.
pub fn of(plan: &Plan, act: &Act, played: &Played, before: &[Played]) -> String {
    if let Some(problem) = played.problems.first() {
        let flows: String = played.flows.iter().map(|flow| format!(" {}", flow_sentence(flow))).collect();
        return format!("It could not be shown: {problem}.{flows}");
    }
    match (act.role, played.flows.first()) {
        (Some(Role::Idle), Some(_)) => idle_sentence(played),
        (Some(Role::CounterOffer), Some(_)) => counter_offer_sentence(played),
        (Some(Role::Kill), Some(flow)) => kill_sentence(played, flow),
        (Some(Role::Outage), Some(flow)) => outage_sentence(played, flow),
        (Some(Role::Paid), Some(flow)) => paid_sentence(plan, act, played, flow, before),
        (Some(Role::Baseline) | None, Some(flow)) => {
            format!(
                "{} {}{}",
                flow_sentence(flow),
                others_sentence(played),
                marked_sentence(plan, act, played)
            )
        }
        (_, None) => others_sentence(played),
    }
}

fn outage_sentence(played: &Played, flow: &Finished) -> String {
    let own = |name: &str| figure(&played.figures, &played.name, &flow.flow.name, name);
    match own("evidence_gap_ms") {
        None => format!("{} The gap in its evidence was not measured.", flow_sentence(flow)),
        Some(gap_ms) => {
            let again = own("active_again") == Some(1.0);
            let then =
                if again { "and the promise is active again" } else { "and the promise does not come back" };
            format!("The evidence shows a gap of {:.1}\u{a0}s, {then}.", gap_ms / 1e3)
        }
    }
}

/// A host as a person: `shop` is Shop.
pub fn name_of(host: &str) -> String {
    let mut letters = host.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + letters.as_str())
}

fn flow_sentence(finished: &Finished) -> String {
    let flow = &finished.flow;
    let who = name_of(&flow.host);
    match flow.kind {
        FlowKind::Transfer { bytes, deadline_ns, completed_ns, .. } => {
            let mb = bytes as f64 / 1e6;
            let deadline = deadline_ns as f64 / 1e9;
            match completed_ns {
                Some(at) => {
                    let took = (at - flow.asked_ns) as f64 / 1e9;
                    let verdict = if took <= deadline { "in time" } else { "too late" };
                    format!(
                        "{who}'s {mb:.0}\u{a0}MB arrive {verdict}, after {took:.1} of {deadline:.0}\u{a0}s, at {}.",
                        mbit(figures::mean_bps(flow))
                    )
                }
                None => format!(
                    "{who}'s {mb:.0}\u{a0}MB miss their {deadline:.0}\u{a0}s: {:.1} MB had arrived, at {}.",
                    flow.received.bytes as f64 / 1e6,
                    mbit(figures::mean_bps(flow))
                ),
            }
        }
        FlowKind::Stream { loss } => format!(
            "{who}'s stream arrives at {}, {:.2}\u{a0}% lost.",
            mbit(figures::mean_bps(flow)),
            loss * 100.0
        ),
    }
}

fn others_sentence(played: &Played) -> String {
    let own = |name: &str| figure(&played.figures, &played.name, OTHERS, name);
    match (own("l3_bps"), own("rtt_p50_ms")) {
        (Some(rate), Some(rtt)) => {
            format!("The others get {} with a round trip of {rtt:.0}\u{a0}ms.", mbit(rate))
        }
        (Some(rate), None) => format!("The others get {}.", mbit(rate)),
        (None, _) => "What the others get was not measured.".into(),
    }
}

/// What marking alone brought: a marked UDP load beside an unmarked one of the same rate.
fn marked_sentence(plan: &Plan, act: &Act, played: &Played) -> String {
    let udp = |name: &String| match plan.loads.get(name)?.kind {
        LoadPlan::Udp { rate_bps, dscp } => Some((name.clone(), rate_bps, dscp)),
        LoadPlan::Tcp { .. } => None,
    };
    let loads: Vec<_> = act.loads.iter().filter_map(udp).collect();
    let pair = loads.iter().find_map(|marked| {
        let equal = |other: &&(String, u64, u8)| other.1 == marked.1 && other.2 == 0;
        (marked.2 != 0).then(|| loads.iter().find(equal)).flatten().map(|plain| (&marked.0, &plain.0))
    });
    let rate = |name: &str| figure(&played.figures, &played.name, name, "l3_bps");
    let share = pair.and_then(|(marked, plain)| Some(rate(marked)? / rate(plain)?.max(1.0) * 100.0));
    share.map_or_else(String::new, |share| {
        format!(" Claiming priority by DSCP brings {share:.0}\u{a0}% of what an equal unmarked flow gets.")
    })
}

fn paid_sentence(plan: &Plan, act: &Act, played: &Played, flow: &Finished, before: &[Played]) -> String {
    let own = |subject: &str, name: &str| figure(&played.figures, &played.name, subject, name);
    let charged =
        own(&flow.flow.name, "charged_micros").map_or_else(String::new, |c| format!(" for {}", euros(c)));
    let rtt = words(own(OTHERS, "rtt_p50_ms"), |ms| format!("{ms:.0}\u{a0}ms"));
    let baseline = plan.acts.iter().find(|a| a.role == Some(Role::Baseline)).map(|a| a.name.as_str());
    let was = baseline
        .and_then(|name| before.iter().find(|p| p.name == name))
        .and_then(|p| figure(&p.figures, &p.name, OTHERS, "rtt_p50_ms"));
    let rtt_text = was.map_or_else(|| rtt.clone(), |was| format!("{was:.0} → {rtt}"));
    let arrive = flow_sentence(flow);
    let kept = match (own(OTHERS, "l3_bps"), own(OTHERS, "floor_bps"), own(OTHERS, "l3_over_floor")) {
        (Some(rate), Some(floor), Some(share)) => format!(
            "the others get {}, {} of their floor of {} (bound {:.0}\u{a0}%)",
            mbit(rate),
            percent(share),
            mbit(floor),
            floor_share_min(act) * 100.0
        ),
        (Some(rate), _, _) => format!("the others get {}", mbit(rate)),
        (None, _, _) => "what the others get was not measured".into(),
    };
    format!("{}{charged}; {kept}; their round trip: {rtt_text}.", arrive.trim_end_matches('.'))
}

fn idle_sentence(played: &Played) -> String {
    let rate = |paid: bool| {
        let found = played.flows.iter().find(|f| f.flow.purchase.is_some() == paid);
        found.map(|f| figures::mean_bps(&f.flow))
    };
    let (unpaid, paid) = (rate(false), rate(true));
    let share = unpaid.filter(|bps| *bps > 0.0).zip(paid).map(|(unpaid, paid)| paid / unpaid);
    format!(
        "Nobody else is there: unpaid {}, paid {}; paid is {} of unpaid.",
        words(unpaid, mbit),
        words(paid, mbit),
        words(share, percent)
    )
}

fn counter_offer_sentence(played: &Played) -> String {
    let own = |subject: &str, name: &str| figure(&played.figures, &played.name, subject, name);
    let refused = |f: &&Finished| f.flow.purchase.as_ref().is_some_and(|p| p.refused.is_some());
    let late = played.flows.iter().find(refused);
    let Some((late, refusal)) = late.zip(played.refusals.first()) else {
        return format!("The product refused nobody. {}", others_sentence(played));
    };
    let name = late.flow.name.as_str();
    let offers = refusal.refused.offers.len();
    format!(
        "{} is refused ({}), is shown {offers} counter-offer{}, takes {} and gets {} of it; {}",
        name_of(&late.flow.host),
        refusal.refused.short_code(),
        if offers == 1 { "" } else { "s" },
        words(own(name, "promised_bps"), mbit),
        words(own(name, "delivered_over_promise"), percent),
        played.flows.iter().find(|f| f.flow.name != name).map_or_else(String::new, flow_sentence)
    )
}

fn kill_sentence(played: &Played, flow: &Finished) -> String {
    let own = |name: &str| figure(&played.figures, &played.name, &flow.flow.name, name);
    let bill = match own("bill_difference_micros") {
        Some(0.0) => "the bill is right",
        Some(_) => "the bill is WRONG",
        None => "the bill was not recomputed",
    };
    let slowest = match own("slowest_second_over_promise") {
        Some(share) => format!("Its slowest second had {:.0}\u{a0}% of the promise", share * 100.0),
        None => "Its slowest second was not measured".into(),
    };
    format!("{} {slowest}, {bill}.", flow_sentence(flow))
}
