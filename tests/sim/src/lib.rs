//! The whole broker in one seeded simulation: real engine and billing over a simulated store, driver,
//! network, clocks, agents, clients and NOC, in one synchronous loop. No threads, no async, no wall clock.
//! Every step is audited; faults are aimed and uniform, then they stop and liveness is demanded.
#![forbid(unsafe_code)]

pub mod actor;
mod agent;
mod audit;
mod client;
mod driver;
mod gx;
mod lies;
pub mod market;
mod network;
mod noc;
pub mod options;
mod plant;
pub mod rng;
mod rule;
mod store;
mod trace;
mod world;

pub use client::{flows, hostile};
pub use options::{Bug, Options};

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// What a run came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub seed: u64,
    /// Over every step's line and the journal's bytes: the same for the same seed.
    pub digest: u64,
    pub steps: u64,
    pub records: usize,
    /// The faults that the seed drew.
    pub drawn: String,
    pub figures: String,
    /// What the run came across, counted.
    pub counted: BTreeMap<String, u64>,
    pub failure: Option<Failure>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub what: String,
    /// The last steps, oldest first.
    pub last: Vec<String>,
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static INSIDE: RefCell<bool> = const { RefCell::new(false) };
}

/// Panics inside a run are findings, not noise.
fn catch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if INSIDE.with(|inside| *inside.borrow()) {
                PANIC.with(|panic| *panic.borrow_mut() = Some(info.to_string()));
            } else {
                before(info);
            }
        }));
    });
}

/// Runs one seed to its end or to the first broken check.
pub fn run(options: &Options) -> Outcome {
    catch_panics();
    INSIDE.with(|inside| *inside.borrow_mut() = true);
    let mut world = world::World::new(options);
    let result = catch_unwind(AssertUnwindSafe(|| world.drive(options.steps)));
    INSIDE.with(|inside| *inside.borrow_mut() = false);
    let what = match result {
        Ok(Ok(())) => None,
        Ok(Err(what)) => Some(what),
        Err(_) => Some(PANIC.with(|panic| panic.borrow_mut().take()).unwrap_or_else(|| "a panic".to_owned())),
    };
    Outcome {
        seed: options.seed,
        digest: world.trace.digest(),
        steps: world.steps,
        records: world.records(),
        drawn: world.drawn(),
        figures: world.figures(),
        counted: world.counted(),
        failure: what.map(|what| Failure { what, last: world.trace.last() }),
    }
}
