//! The product inside the lab: its configuration, its two processes in the router's namespace, and a client
//! of its public API.

pub mod bill;
pub mod child;
pub mod config;
pub mod offer;
pub mod purchase;
pub mod rest;

use crate::clock;
use crate::error::{Error, Result};
use crate::market::child::{Binaries, Running};
use crate::market::config::Keys;
use crate::market::rest::Client;
use crate::net::topology::Topology;
use crate::scenario::Plan;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const READY_WITHIN_S: u64 = 30;
/// The agent takes rules away within a tick after a reservation has settled.
const CLEAN_WITHIN_S: u64 = 10;
/// The default class of every port that the agent shapes: it is there when the agent is.
const DEFAULT_CLASS: u32 = 0x7a11_ffff;
const PORTS: [&str; 2] = ["wan0", "lan0"];

/// What giving back came to.
#[derive(Clone, Copy, Debug)]
pub struct GivenBack {
    /// Reservations that had not ended by themselves.
    pub cancelled: usize,
    /// Rules of reservations that did not go.
    pub rules_left: usize,
}

/// A running broker and agent.
pub struct Market {
    broker: Mutex<Option<Running>>,
    agent: Mutex<Option<Running>>,
    binaries: Binaries,
    router: crate::net::namespace::Namespace,
    dir: PathBuf,
    pub keys: Keys,
    /// Objects that the agent made before anything was sold.
    base_classes: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Market {
    /// Writes the configuration, starts both processes, waits until both serve, fills the wallets.
    pub fn start(plan: &Plan, topology: &Topology, dir: &Path, binaries: Binaries) -> Result<Market> {
        let keys = Keys::random(plan)?;
        config::write(plan, &keys, dir)?;
        let mut market = Market {
            broker: Mutex::new(None),
            agent: Mutex::new(None),
            binaries,
            router: topology.router.clone(),
            dir: dir.to_owned(),
            keys,
            base_classes: 0,
        };
        market.start_broker()?;
        let agent = child::agent(&market.router, &market.binaries, dir)?;
        *lock(&market.agent) = Some(agent);
        market.wait_shaped(topology)?;
        market.base_classes = market.classes(topology)?;
        market.fill_wallets(plan)?;
        Ok(market)
    }

    /// Starts the broker (again) and waits until it serves.
    pub fn start_broker(&self) -> Result<()> {
        let running = child::broker(&self.router, &self.binaries, &self.dir)?;
        *lock(&self.broker) = Some(running);
        let client = self.noc();
        self.within("the broker was not ready", || {
            self.check_children()?;
            self.in_router(client.clone(), Client::ready)?
        })
    }

    /// SIGKILL, without a word.
    pub fn kill_broker(&self) -> Result<()> {
        match lock(&self.broker).take() {
            Some(mut running) => running.kill(),
            None => Ok(()),
        }
    }

    /// A client with a customer's key; call it from a thread inside the router.
    pub fn customer(&self, host: &str) -> Client {
        Client::new(&self.keys.customer_token(host))
    }

    pub fn noc(&self) -> Client {
        Client::new(&self.keys.noc)
    }

    /// Runs client work on a thread of the router's namespace, where the API listens.
    pub fn in_router<T: Send + 'static>(
        &self,
        client: Client,
        work: impl FnOnce(&Client) -> T + Send + 'static,
    ) -> Result<T> {
        self.router.call(move || work(&client))
    }

    /// Fails when one of the two has ended by itself.
    pub fn check_children(&self) -> Result<()> {
        for child in [&self.broker, &self.agent] {
            if let Some(running) = lock(child).as_mut() {
                running.check()?;
            }
        }
        Ok(())
    }

    /// Classes and map elements that are there beyond those of an agent that has sold nothing.
    pub fn rules_left(&self, topology: &Topology) -> Result<usize> {
        let classes = self.classes(topology)?.saturating_sub(self.base_classes);
        Ok(classes + crate::counters::product_elements(&self.router)?)
    }

    /// Gives back whatever any customer still has, and waits until the kernel has no rule of it.
    pub fn give_back(self: &Arc<Market>, topology: &Topology) -> Result<GivenBack> {
        let mut cancelled = 0;
        for host in self.keys.customers() {
            let (client, inside) = (self.customer(host), self.clone());
            cancelled += self.router.call(move || purchase::give_back(&inside, &client))??;
        }
        let until = clock::now_ns() + CLEAN_WITHIN_S * clock::SECOND;
        loop {
            let rules_left = self.rules_left(topology)?;
            if rules_left == 0 || clock::now_ns() > until {
                return Ok(GivenBack { cancelled, rules_left });
            }
            clock::sleep_until(clock::now_ns() + 50 * clock::MS);
        }
    }

    /// Ends both, the agent first.
    pub fn stop(&self) {
        for child in [&self.agent, &self.broker] {
            if let Some(mut running) = lock(child).take() {
                running.stop();
            }
        }
    }

    fn classes(&self, topology: &Topology) -> Result<usize> {
        PORTS.iter().map(|port| topology.class_ids(port).map(|ids| ids.len())).sum()
    }

    fn wait_shaped(&self, topology: &Topology) -> Result<()> {
        self.within("the agent did not shape both ports", || {
            self.check_children()?;
            for port in PORTS {
                if !topology.class_ids(port)?.contains(&DEFAULT_CLASS) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    fn fill_wallets(&self, plan: &Plan) -> Result<()> {
        for host in &plan.hosts {
            let Some(amount_micros) = host.wallet_micros else { continue };
            let path = format!("/noc/v0.1/wallets/{}/top-ups", config::customer_name(&host.name));
            let body = json!({
                "amount_micros": amount_micros, "currency": "EUR", "reason": "lab: the scenario's wallet"
            });
            self.in_router(self.noc(), move |client| client.write("POST", &path, &body))??;
        }
        Ok(())
    }

    fn within(&self, what: &str, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
        let until = clock::now_ns() + READY_WITHIN_S * clock::SECOND;
        while clock::now_ns() < until {
            if ready()? {
                return Ok(());
            }
            clock::sleep_until(clock::now_ns() + 20 * clock::MS);
        }
        Err(Error::NeverReady { what: what.into(), seconds: READY_WITHIN_S, logs: self.dir.clone() })
    }
}

impl Drop for Market {
    fn drop(&mut self) {
        self.stop();
    }
}
