//! What a step does, on a thread of its own inside the router's namespace (where the API listens).

use super::sentence::name_of;
use super::stage::Stage;
use crate::clock;
use crate::counters::{Counters, Counts};
use crate::error::Result;
use crate::line::Line;
use crate::market::Market;
use crate::market::purchase::{self, Need, Order, Purchase};
use crate::net::topology::{Host, Topology};
use crate::scenario::Plan;
use crate::scenario::file::{BrokerAction, Port};
use crate::scenario::plan::{Action, Step, Stream, Transfer};
use crate::traffic::transfer;
use crate::traffic::udp;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Start-up that a rate is not judged by: slow start, and the queues filling.
const SETTLING_NS: u64 = clock::SECOND;
/// A shorter stretch says nothing about a rate.
pub const MEASURED_NS_MIN: u64 = 400 * clock::MS;
/// A stream sends this share of what it bought, so that its own timing does not overflow its queue.
const FILL_PPM: u64 = 995_000;
/// A bought stream ends this long before its promise, so that nothing is in flight when it ends.
const TAIL_NS: u64 = 400 * clock::MS;
const PACKET_BYTES: u64 = 1_500;

/// Where and between which counter readings something was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    pub from_ns: u64,
    pub until_ns: u64,
    pub from: Counts,
    pub until: Counts,
}

/// A flow that a step made.
#[derive(Clone, Debug)]
pub struct Flow {
    pub name: String,
    pub host: String,
    pub protocol: u8,
    pub port: u16,
    pub kind: FlowKind,
    /// When it was asked for: the deadline counts from here.
    pub asked_ns: u64,
    pub started_ns: u64,
    pub ended_ns: u64,
    pub received: crate::traffic::series::Received,
    pub purchase: Option<Purchase>,
    pub measured: Option<Measured>,
}

#[derive(Clone, Debug)]
pub enum FlowKind {
    Transfer { bytes: u64, deadline_ns: u64, completed_ns: Option<u64>, mss: Option<u32> },
    Stream { loss: f64 },
}

/// What happened when, for the report.
#[derive(Clone, Debug)]
pub struct Mark {
    pub at_ns: u64,
    pub text: String,
}

/// What a step's thread needs, cheap to clone.
#[derive(Clone)]
pub struct Context {
    topology: Arc<Topology>,
    market: Option<Arc<Market>>,
    counters: Option<Counters>,
    line: Arc<Line>,
    seed: u64,
    congestion: &'static str,
    marks: Arc<Mutex<Vec<Mark>>>,
}

impl Context {
    pub fn new(stage: &Stage, plan: &Plan) -> Context {
        Context {
            topology: stage.topology.clone(),
            market: stage.market.clone(),
            counters: stage.counters.clone(),
            line: stage.line.clone(),
            seed: plan.seed,
            congestion: plan.tcp.name(),
            marks: Arc::default(),
        }
    }

    pub fn marks(&self) -> Vec<Mark> {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        marks.sort_by_key(|mark| mark.at_ns);
        marks
    }

    fn mark(&self, text: impl Into<String>) {
        let mark = Mark { at_ns: clock::now_ns(), text: text.into() };
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).push(mark);
    }

    fn counts(&self) -> Result<Counts> {
        self.counters.as_ref().map_or_else(|| Ok(Counts::default()), Counters::read)
    }

    /// Plays one step to its end.
    pub fn play(&self, step: &Step) -> Result<Option<Flow>> {
        match &step.action {
            Action::Transfer(transfer) => self.transfer(transfer).map(Some),
            Action::Stream(stream) => self.stream(stream).map(Some),
            Action::Broker(action) => self.broker(*action).map(|()| None),
            Action::PortDown { port, length_ns } => self.port_down(*port, *length_ns).map(|()| None),
            Action::Pause { length_ns } => {
                clock::sleep_until(clock::now_ns() + length_ns);
                Ok(None)
            }
        }
    }

    fn host(&self, name: &str) -> Result<Host> {
        self.topology.host(name).cloned()
    }

    fn buy(&self, host: &str, order: &Order) -> Result<Option<Purchase>> {
        let Some(market) = &self.market else { return Ok(None) };
        let bought = purchase::buy(&market.customer(host), order)?;
        if let Some(refused) = &bought.refused {
            let code = refused.short_code();
            self.mark(format!("{} is refused ({code}), takes a counter-offer", name_of(host)));
        } else {
            self.mark(format!("{}'s promise is active", name_of(host)));
        }
        Ok(Some(bought))
    }

    fn transfer(&self, plan: &Transfer) -> Result<Flow> {
        let (from, to) = (self.host(&plan.from)?, self.topology.server()?.clone());
        let mut asked_ns = clock::now_ns();
        let mut transfer = transfer::Transfer::prepare(transfer::Order {
            name: plan.name.clone(),
            from: from.clone(),
            to: to.clone(),
            port: plan.port,
            bytes: plan.bytes,
            congestion: self.congestion,
        })?;
        let bought = match plan.buy {
            None => None,
            Some(take) => self.buy(
                &plan.from,
                &Order {
                    host: plan.from.clone(),
                    need: Need::Bytes { bytes: plan.bytes, within_ns: plan.deadline_ns },
                    take,
                    protocol: "tcp",
                    device: from.address,
                    remote: to.address,
                    port: plan.port,
                },
            )?,
        };
        let started_ns = transfer.start()?;
        match &bought {
            Some(bought) => asked_ns = bought.asked_ns,
            None => asked_ns = asked_ns.max(started_ns),
        }
        let deadline_at = asked_ns + plan.deadline_ns;
        let cut_at = deadline_at + plan.cut_after_ns;
        let early = transfer.wait_until((started_ns + SETTLING_NS).min(cut_at));
        let (from_ns, from_counts) = (clock::now_ns(), self.counts()?);
        // What competes with it is measured while its deadline runs, not in the grace after it.
        let arrived = early || transfer.wait_until(deadline_at);
        let measured =
            Measured { from_ns, until_ns: clock::now_ns(), from: from_counts, until: self.counts()? };
        if !arrived {
            self.mark(format!("{}: the deadline passes", plan.name));
            transfer.wait_until(cut_at);
        }
        let outcome = transfer.finish();
        Ok(Flow {
            name: plan.name.clone(),
            host: plan.from.clone(),
            protocol: 6,
            port: plan.port,
            kind: FlowKind::Transfer {
                bytes: plan.bytes,
                deadline_ns: plan.deadline_ns,
                completed_ns: outcome.completed_ns,
                mss: outcome.mss,
            },
            asked_ns,
            started_ns,
            ended_ns: outcome.completed_ns.unwrap_or_else(clock::now_ns),
            received: outcome.received,
            purchase: bought,
            measured: (measured.until_ns >= measured.from_ns + MEASURED_NS_MIN).then_some(measured),
        })
    }

    fn stream(&self, plan: &Stream) -> Result<Flow> {
        let (from, to) = (self.host(&plan.from)?, self.topology.server()?.clone());
        let asked_ns = clock::now_ns();
        let bought = match plan.buy {
            None => None,
            Some(take) => self.buy(
                &plan.from,
                &Order {
                    host: plan.from.clone(),
                    need: Need::Rate { rate_bps: plan.rate_bps, length_ns: plan.length_ns },
                    take,
                    protocol: "udp",
                    device: from.address,
                    remote: to.address,
                    port: plan.port,
                },
            )?,
        };
        let (rate_bps, end) = match &bought {
            None => (plan.rate_bps, clock::now_ns() + plan.length_ns),
            Some(bought) => {
                let promised = bought.schedule.rate_max().get();
                let filled = u128::from(promised) * u128::from(FILL_PPM) / 1_000_000;
                (u64::try_from(filled).unwrap_or(promised), bought.until_ns.saturating_sub(TAIL_NS))
            }
        };
        let started_ns = clock::now_ns();
        let udp = udp::Udp::start(udp::Order {
            name: plan.name.clone(),
            from,
            to,
            port: plan.port,
            rate_bps,
            packet_bytes: PACKET_BYTES,
            dscp: 0,
            seed: self.seed ^ u64::from(plan.port),
        })?;
        clock::sleep_until(started_ns + SETTLING_NS);
        let (from_ns, from_counts) = (clock::now_ns(), self.counts()?);
        clock::sleep_until(end);
        let ended_ns = clock::now_ns();
        let measured = Measured { from_ns, until_ns: ended_ns, from: from_counts, until: self.counts()? };
        let outcome = udp.stop();
        Ok(Flow {
            name: plan.name.clone(),
            host: plan.from.clone(),
            protocol: 17,
            port: plan.port,
            kind: FlowKind::Stream { loss: outcome.loss() },
            asked_ns,
            started_ns,
            ended_ns,
            received: outcome.received,
            purchase: bought,
            measured: Some(measured),
        })
    }

    fn broker(&self, action: BrokerAction) -> Result<()> {
        let Some(market) = &self.market else { return Ok(()) };
        match action {
            BrokerAction::Kill => {
                self.mark("kill -9 of the broker");
                market.kill_broker()
            }
            BrokerAction::Start => {
                market.start_broker()?;
                self.mark("the broker serves again");
                Ok(())
            }
        }
    }

    fn port_down(&self, port: Port, length_ns: u64) -> Result<()> {
        self.mark(format!("{} goes down", port.name()));
        let until = clock::now_ns() + length_ns;
        self.topology.set_port(port.name(), false)?;
        clock::sleep_until(until);
        self.topology.set_port(port.name(), true)?;
        self.mark(format!("{} is up again", port.name()));
        Ok(())
    }

    /// Bytes that the line carried upwards so far, for the live line on the terminal.
    pub fn line_bytes_out(&self) -> u64 {
        self.line.snapshot().up.bytes_out
    }
}
