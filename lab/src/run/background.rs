//! The loads of an act, running behind its steps.

use super::stage::Stage;
use crate::error::{Error, Result};
use crate::scenario::Plan;
use crate::scenario::plan::{Act, LoadPlan};
use crate::traffic::series::Received;
use crate::traffic::streams::Streams;
use crate::traffic::udp::{self, Udp};

const PACKET_BYTES: u64 = 1_500;

enum Running {
    Tcp(Streams),
    Udp(Udp),
}

/// Loads that run.
pub struct Background {
    loads: Vec<(String, Running)>,
}

/// What one load did.
#[derive(Clone, Debug)]
pub struct Done {
    pub name: String,
    pub is_tcp: bool,
    pub received: Received,
    /// Share of a UDP load's packets that never arrived.
    pub loss: Option<f64>,
}

impl Background {
    /// Starts them; the TCP ones first, so that their connections are up before a flood is.
    pub fn start(plan: &Plan, act: &Act, stage: &Stage) -> Result<Background> {
        let mut loads = Vec::new();
        let server = stage.server()?;
        let planned = || act.loads.iter().filter_map(|name| plan.loads.get(name));
        for load in planned() {
            let LoadPlan::Tcp { streams } = load.kind else { continue };
            let (from, tcp) = (stage.host(&load.from)?, plan.tcp.name());
            let running = Streams::start(&load.name, &from, &server, load.port, streams, tcp)?;
            if !running.wait_ready() {
                return Err(Error::Thread(format!("load {} could not connect within 20 s", load.name)));
            }
            loads.push((load.name.clone(), Running::Tcp(running)));
        }
        for load in planned() {
            let LoadPlan::Udp { rate_bps, dscp } = load.kind else { continue };
            let running = Udp::start(udp::Order {
                name: load.name.clone(),
                from: stage.host(&load.from)?,
                to: server.clone(),
                port: load.port,
                rate_bps,
                packet_bytes: PACKET_BYTES,
                dscp,
                seed: plan.seed ^ u64::from(load.port),
            })?;
            loads.push((load.name.clone(), Running::Udp(running)));
        }
        Ok(Background { loads })
    }

    /// Stops them all.
    pub fn stop(self) -> Vec<Done> {
        let mut done = Vec::new();
        for (name, load) in self.loads {
            done.push(match load {
                Running::Tcp(streams) => Done { name, is_tcp: true, received: streams.stop(), loss: None },
                Running::Udp(udp) => {
                    let outcome = udp.stop();
                    Done { name, is_tcp: false, loss: Some(outcome.loss()), received: outcome.received }
                }
            });
        }
        done
    }
}
