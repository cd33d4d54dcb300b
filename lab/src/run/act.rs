//! One act: loads, warm-up, steps on their times, settlement, figures.

use super::background::{self, Background};
use super::figures;
use super::progress::Progress;
use super::stage::Stage;
use super::step::{Context, Flow, Mark};
use crate::clock;
use crate::counters::Counts;
use crate::error::{Error, Result};
use crate::lateness::Lateness;
use crate::market::bill;
use crate::market::offer::Refused;
use crate::market::purchase::{self, Settled};
use crate::report::model::Expectation;
use crate::scenario::Plan;
use crate::scenario::metric::Figures;
use crate::scenario::plan::Act;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flow with, when it was bought, its ended reservation and its bill.
#[derive(Clone, Debug)]
pub struct Finished {
    pub flow: Flow,
    pub settled: Option<(Settled, bill::Checked)>,
    /// Layer-3 packets and bytes of the flow that the server received and that the line dropped, read when
    /// all was over.
    pub receiver_bytes: u64,
    /// `None` where the line does not tell flows apart.
    pub dropped_bytes: Option<u64>,
}

/// A refusal by the product, whether the scenario wanted it or not.
#[derive(Clone, Debug)]
pub struct RefusedFlow {
    pub flow: String,
    pub host: String,
    pub refused: Refused,
}

/// An act that has been played.
pub struct Played {
    pub name: String,
    /// When its steps began and ended.
    pub from_ns: u64,
    pub until_ns: u64,
    pub flows: Vec<Finished>,
    pub loads: Vec<background::Done>,
    pub marks: Vec<Mark>,
    pub figures: Figures,
    pub lateness: Lateness,
    /// What the product refused or failed to do: each fails the act.
    pub problems: Vec<String>,
    pub refusals: Vec<RefusedFlow>,
    pub checked: Vec<Expectation>,
    pub sentence: String,
}

impl Played {
    pub fn passed(&self) -> bool {
        self.problems.is_empty() && self.checked.iter().all(|checked| checked.holds)
    }
}

pub fn play(plan: &Plan, act: &Act, stage: &Stage, progress: &Progress) -> Result<Played> {
    let background = Background::start(plan, act, stage)?;
    progress.phase(act, "warming up");
    clock::sleep_until((clock::now_ns() + act.warm_up_ns).max(stage.sold_until_ns()));
    let lateness = stage.line.lateness();
    let context = Context::new(stage, plan);
    let from_ns = clock::now_ns();
    let (flows, mut trouble) = play_steps(act, stage, &context, from_ns, progress)?;
    let until_ns = clock::now_ns();
    let lateness = stage.line.lateness().since(&lateness);
    progress.phase(act, "settling");
    let loads = background.stop();
    let flows: Vec<Finished> = flows
        .into_iter()
        .map(|flow| {
            stage.note_sold(&flow);
            settle(stage, flow.clone()).or_else(|error| {
                trouble.note(&flow.name, &flow.host, error)?;
                Ok(Finished::unsettled(flow))
            })
        })
        .collect::<Result<_>>()?;
    give_back(act, stage, &mut trouble, progress)?;
    stage.wait_quiet();
    let counts = match &stage.counters {
        Some(counters) => counters.read()?,
        None => Counts::default(),
    };
    let flows: Vec<Finished> =
        flows.into_iter().map(|finished| count(stage, &counts, finished)).collect::<Result<_>>()?;
    let Trouble { problems, mut refusals } = trouble;
    refusals.extend(flows.iter().filter_map(|finished| finished.refused()));
    let mut played = Played {
        name: act.name.clone(),
        from_ns,
        until_ns,
        flows,
        loads,
        marks: context.marks(),
        figures: Figures::new(),
        lateness,
        problems,
        refusals,
        checked: Vec::new(),
        sentence: String::new(),
    };
    played.figures = figures::of(plan, act, &played, stage);
    Ok(played)
}

/// Starts each step at its time or after the one that it waits for, and collects the flows in order.
fn play_steps(
    act: &Act,
    stage: &Stage,
    context: &Context,
    from_ns: u64,
    progress: &Progress,
) -> Result<(Vec<Flow>, Trouble)> {
    let done: Vec<Arc<AtomicBool>> = act.steps.iter().map(|_| Arc::default()).collect();
    let mut threads = Vec::new();
    for (index, step) in act.steps.iter().enumerate() {
        let (step, context) = (step.clone(), context.clone());
        let mine = done[index].clone();
        let before = step.after.map(|at| done[at].clone());
        let thread = stage.topology.router.spawn(&format!("step{index}"), move || {
            if let Some(before) = before {
                while !before.load(Ordering::Acquire) {
                    clock::sleep_until(clock::now_ns() + 5 * clock::MS);
                }
                clock::sleep_until(clock::now_ns() + step.at_ns);
            } else {
                clock::sleep_until(from_ns + step.at_ns);
            }
            let played = context.play(&step);
            mine.store(true, Ordering::Release);
            played
        })?;
        threads.push(thread);
    }
    let mut last = (clock::now_ns(), context.line_bytes_out());
    while !done.iter().all(|flag| flag.load(Ordering::Acquire)) {
        clock::sleep_until(clock::now_ns() + 20 * clock::MS);
        let now = clock::now_ns();
        if now > last.0 + clock::SECOND / 2 {
            let bytes = context.line_bytes_out();
            let mbps = (bytes - last.1) as f64 * 8e3 / (now - last.0) as f64;
            progress.tick(act, (now - from_ns) / clock::MS, mbps);
            last = (now, bytes);
        }
    }
    let (mut flows, mut trouble) = (Vec::new(), Trouble::default());
    for (thread, step) in threads.into_iter().zip(&act.steps) {
        match thread.join().map_err(|_| Error::Thread("step".into()))? {
            Ok(flow) => flows.extend(flow),
            Err(error) => trouble.note(step.name().unwrap_or("a step"), step.from().unwrap_or(""), error)?,
        }
    }
    Ok((flows, trouble))
}

/// What went wrong in an act.
#[derive(Default)]
struct Trouble {
    problems: Vec<String>,
    refusals: Vec<RefusedFlow>,
}

impl Trouble {
    /// What the product did wrong fails the act and the run goes on; what the lab could not do ends the run.
    fn note(&mut self, flow: &str, host: &str, error: Error) -> Result<()> {
        let text = format!("{flow}: {}", error.chain());
        match error {
            Error::Broker { .. } | Error::Rest { .. } | Error::OnlyLater { .. } => {}
            Error::Refused { refused, .. } => {
                self.refusals.push(RefusedFlow {
                    flow: flow.to_owned(),
                    host: host.to_owned(),
                    refused: *refused,
                });
            }
            Error::Scenario(_)
            | Error::ScenarioUnreadable { .. }
            | Error::Out { .. }
            | Error::Host { .. }
            | Error::Io { .. }
            | Error::Netlink { .. }
            | Error::ChildEnded { .. }
            | Error::NeverReady { .. }
            | Error::Thread(_) => return Err(error),
        }
        self.problems.push(text);
        Ok(())
    }
}

/// What this act bought must not stand in the way of the next one, whichever way it ended.
fn give_back(act: &Act, stage: &Stage, trouble: &mut Trouble, progress: &Progress) -> Result<()> {
    let Some(market) = &stage.market else { return Ok(()) };
    progress.phase(act, "waiting until what was bought has ended");
    match market.give_back(&stage.topology) {
        Ok(given) => {
            if given.cancelled > 0 {
                stage.note_given_back();
            }
            if given.rules_left > 0 {
                let left = format!("{} rules are left in the kernel after the act", given.rules_left);
                trouble.problems.push(left);
            }
        }
        Err(error) => trouble.note("giving back what was bought", "", error)?,
    }
    Ok(())
}

impl Finished {
    fn unsettled(flow: Flow) -> Finished {
        Finished { flow, settled: None, receiver_bytes: 0, dropped_bytes: None }
    }

    /// The refusal that came before a counter-offer.
    fn refused(&self) -> Option<RefusedFlow> {
        let refused = self.flow.purchase.as_ref()?.refused.clone()?;
        Some(RefusedFlow { flow: self.flow.name.clone(), host: self.flow.host.clone(), refused })
    }
}

/// Waits for the reservation's end, saves what its bill rests on, and has it recomputed.
fn settle(stage: &Stage, flow: Flow) -> Result<Finished> {
    let mut finished = Finished::unsettled(flow);
    let (Some(market), Some(bought)) = (&stage.market, finished.flow.purchase.clone()) else {
        return Ok(finished);
    };
    let client = market.customer(&finished.flow.host);
    let (at, inside) = (stage.topology.router.clone(), market.clone());
    let job = at.spawn("settle", move || {
        let settled = purchase::settle(&inside, &client, &bought)?;
        let tiers = client.read("/qos-transfers/v0.1/tiers")?;
        Ok::<_, Error>((settled, tiers))
    })?;
    let (settled, tiers) = job.join().map_err(|_| Error::Thread("settle".into()))??;
    let dir = bill::save(&stage.out, &finished.flow.name, &settled, &tiers)?;
    finished.settled = Some((settled, bill::check(&dir)));
    Ok(finished)
}

fn count(stage: &Stage, counts: &Counts, mut finished: Finished) -> Result<Finished> {
    let flow = &finished.flow;
    finished.receiver_bytes = counts.flow(flow.port).bytes;
    finished.dropped_bytes = stage.dropped(flow.protocol, &flow.host, flow.port)?.map(|(_, bytes)| bytes);
    Ok(finished)
}
