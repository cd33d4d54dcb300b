//! The driver of the gateways: one task that owns the machine. It connects to the engine as an agent does and
//! begins anew whenever that connection ends; the Diameter node and its peers stay.

use super::kept::Kept;
use super::life::{Ended, Life, Told as Everything};
use super::limits::{FACTS_WAITING_MAX, LOOK, RECONNECT_PAUSE, STRANGER_LOG_EVERY, TOLD_MAX};
use super::view::View;
use crate::agents::{Hub, Told};
use crate::config::Gx;
use crate::driver::{Handle, Unavailable};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};
use tollway_core::Input as ToEngine;
use tollway_diameter::node::{self, Event, Events};
use tollway_gx::Input;
use tollway_model::Timestamp;
use tonic::Status;

/// A batch, or the word that we are there, on its way into the engine's lane.
type Handing = Pin<Box<dyn Future<Output = Result<(), Unavailable>> + Send>>;

pub(super) struct Link {
    gx: Gx,
    hub: Arc<Hub>,
    driver: Handle,
    node: node::Handle,
    events: Events,
    asks: mpsc::Receiver<oneshot::Sender<View>>,
    stop: watch::Receiver<bool>,
    hangup: Option<Signal>,
    kept: Kept,
    /// Of lives that are over.
    counters: BTreeMap<&'static str, u64>,
    since: BTreeMap<String, Timestamp>,
    incarnation: u64,
    stranger_logged: Option<Instant>,
    looked: Instant,
}

/// Why a connection to the engine ended.
enum End {
    Again(String),
    Stopped,
}

enum Woken {
    Stop,
    Evicted(Option<Status>),
    Handed(Result<(), Unavailable>),
    Told(Option<Told>),
    Event(Option<Event>),
    Rar(Ended),
    Ask(oneshot::Sender<View>),
    Hangup,
    Timer,
}

impl Link {
    pub(super) fn new(
        gx: Gx,
        hub: Arc<Hub>,
        driver: Handle,
        node: node::Handle,
        events: Events,
        asks: mpsc::Receiver<oneshot::Sender<View>>,
        stop: watch::Receiver<bool>,
    ) -> Link {
        let hangup = signal(SignalKind::hangup()).inspect_err(|error| {
            tracing::warn!(%error, "no SIGHUP can be heard: profiles are read at a start only");
        });
        let started = wall_now();
        let since = gx.node.peers.iter().map(|peer| (peer.settings.host.clone(), started)).collect();
        Link {
            gx,
            hub,
            driver,
            node,
            events,
            asks,
            stop,
            hangup: hangup.ok(),
            kept: Kept::default(),
            counters: BTreeMap::new(),
            since,
            incarnation: 0,
            stranger_logged: None,
            looked: Instant::now(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let (out, told) = mpsc::channel(TOLD_MAX);
            let point = self.gx.enforcement_point.clone();
            let (connection, evicted) = self.hub.register_inside(&point, out);
            let end = self.serve(connection, told, evicted).await;
            self.hub.unregister(&point, connection);
            // What is sold from now on is told to nobody here. A broker that is stopping need not know.
            let gone = ToEngine::AdapterDisconnected { enforcement_point: point, connection };
            let _ = self.hand(connection, gone).await;
            match end {
                End::Again(why) => tracing::info!(why, "the gateways' side begins anew"),
                End::Stopped => break,
            }
            // A life is over: nobody hears gateways in between, their requests wait.
            sleep(RECONNECT_PAUSE).await;
        }
        self.node.stop().await;
    }

    async fn serve(
        &mut self,
        connection: u64,
        mut told: mpsc::Receiver<Told>,
        mut evicted: oneshot::Receiver<Status>,
    ) -> End {
        let point = self.gx.enforcement_point.clone();
        let here = ToEngine::AdapterConnected { enforcement_point: point, connection };
        let mut handing: Option<Handing> = Some(self.hand(connection, here));
        let mut life: Option<Life> = None;
        let end = loop {
            if handing.is_none()
                && let Some((number, reports)) = life.as_mut().and_then(|life| life.batches.next_batch())
            {
                let enforcement_point = self.gx.enforcement_point.clone();
                let batch = ToEngine::Reports { enforcement_point, number, reports };
                handing = Some(self.hand(connection, batch));
            }
            let woken = self.wait(&mut handing, &mut told, &mut evicted, life.as_mut()).await;
            match woken {
                Woken::Stop => break End::Stopped,
                Woken::Evicted(why) => {
                    let why = why.map_or("the connection was dropped".to_owned(), |s| s.message().to_owned());
                    break End::Again(why);
                }
                Woken::Handed(Ok(())) => handing = None,
                Woken::Handed(Err(why)) => break End::Again(why.to_string()),
                Woken::Told(Some(told)) => self.told(told, &mut life),
                Woken::Told(None) => break End::Again("the engine's side is gone".to_owned()),
                Woken::Event(Some(event)) => self.event(event, life.as_mut()),
                // The node ends when it is told to, and then this task does.
                Woken::Event(None) => break End::Stopped,
                Woken::Rar(ended) => {
                    if let Some(life) = &mut life {
                        life.ended(ended, &mut self.kept);
                    }
                }
                // Whoever asked may have given up.
                Woken::Ask(reply) => drop(reply.send(self.view(life.as_ref()))),
                Woken::Hangup => self.read_profiles(life.as_mut()),
                Woken::Timer => {
                    if let Some(life) = &mut life {
                        life.tick(&mut self.kept);
                    }
                }
            }
            self.look();
        };
        for (name, count) in life.iter().flat_map(|life| life.counters().each()) {
            *self.counters.entry(name).or_default() += count;
        }
        end
    }

    /// Also where events that never stop coming leave no time for the timer.
    fn look(&mut self) {
        let now = Instant::now();
        if now.saturating_duration_since(self.looked) >= LOOK {
            self.looked = now;
            self.kept.give_up(now, &self.gx.machine.origin);
        }
    }

    fn hand(&self, connection: u64, input: ToEngine) -> Handing {
        let driver = self.driver.clone();
        Box::pin(async move { driver.report(connection, input).await })
    }

    async fn wait(
        &mut self,
        handing: &mut Option<Handing>,
        told: &mut mpsc::Receiver<Told>,
        evicted: &mut oneshot::Receiver<Status>,
        mut life: Option<&mut Life>,
    ) -> Woken {
        let timer = life.as_mut().map_or(LOOK, |life| life.until_timer(LOOK));
        let has_room = life.as_ref().is_none_or(|life| life.batches.waiting() < FACTS_WAITING_MAX);
        let is_handing = handing.is_some();
        let rars = life.map(|life| &mut life.rars);
        tokio::select! {
            () = stop_asked(&mut self.stop) => Woken::Stop,
            why = &mut *evicted => Woken::Evicted(why.ok()),
            handed = arrives(handing), if is_handing => Woken::Handed(handed),
            told = told.recv() => Woken::Told(told),
            Some(ended) = next_rar(rars) => Woken::Rar(ended),
            event = self.events.recv(), if has_room => Woken::Event(event),
            Some(ask) = self.asks.recv() => Woken::Ask(ask),
            () = hung_up(&mut self.hangup) => Woken::Hangup,
            () = sleep(timer) => Woken::Timer,
        }
    }

    fn told(&mut self, told: Told, life: &mut Option<Life>) {
        match (told, life.as_mut()) {
            (Told::Set { now, legs, sessions, acked }, _) => {
                // One life of our meters: another number for each machine.
                self.incarnation = now.ms().max(self.incarnation + 1);
                let settings =
                    tollway_gx::Settings { incarnation: self.incarnation, ..self.gx.machine.clone() };
                tracing::info!(sessions = sessions.len(), legs = legs.len(), "gateways are served");
                let everything = Everything { now, legs, sessions, acked };
                let (profiles, node) = (Arc::clone(&self.gx.table), self.node.clone());
                *life = Some(Life::begin(settings, profiles, node, everything, &mut self.kept));
            }
            (Told::Command { now, command }, Some(life)) => life.command(now, *command, &mut self.kept),
            (Told::Ack { now, number }, Some(life)) => life.acked(now, number, &mut self.kept),
            // Before the set, changes are part of it.
            (Told::Command { .. } | Told::Ack { .. }, None) => {}
        }
    }

    fn event(&mut self, event: Event, life: Option<&mut Life>) {
        match event {
            Event::Request(node::Request { frame, responder, .. }) => {
                let token = self.kept.request(frame, responder);
                if let Some(life) = life {
                    life.hear(token, &mut self.kept);
                }
            }
            Event::Restarted { host, state_id } => {
                tracing::warn!(host, state_id, "a gateway lost its sessions");
                let token = self.kept.restarted(host);
                if let Some(life) = life {
                    life.hear(token, &mut self.kept);
                }
            }
            Event::Usable { peer } => {
                tracing::info!(%peer, "a peer can be used");
                self.changed(&peer);
                let origin_host = (!self.is_relay(&peer)).then(|| peer.to_string());
                if let Some(life) = life {
                    life.handle(Input::PeerUp { origin_host }, &mut self.kept);
                }
            }
            Event::Suspect { peer } => {
                tracing::warn!(%peer, "a peer does not answer its watchdog");
                self.changed(&peer);
            }
            Event::Lost { peer, why } => {
                tracing::warn!(%peer, why, "a peer is lost");
                self.changed(&peer);
            }
            Event::Refused { peer, why, code } => {
                tracing::info!(%peer, why, code, "a peer could not be opened")
            }
            Event::Stranger { address, host, code } => self.stranger(address, host.as_deref(), code),
        }
    }

    fn stranger(&mut self, address: std::net::IpAddr, host: Option<&str>, code: u32) {
        *self.counters.entry("strangers").or_default() += 1;
        if self.stranger_logged.is_none_or(|at| at.elapsed() >= STRANGER_LOG_EVERY) {
            self.stranger_logged = Some(Instant::now());
            tracing::warn!(%address, host, code, "somebody who is no peer was sent away");
        }
    }

    fn changed(&mut self, peer: &str) {
        self.since.insert(peer.to_owned(), wall_now());
    }

    /// Behind a relay there may be any gateway.
    fn is_relay(&self, peer: &str) -> bool {
        let named = self.gx.node.peers.iter().find(|known| known.settings.host == peer);
        named.is_some_and(|known| !known.settings.relays.is_empty())
    }

    fn read_profiles(&mut self, life: Option<&mut Life>) {
        match Gx::read_profiles(&self.gx.profiles) {
            Ok(table) => {
                tracing::info!(profiles = table.len(), "profiles were read again");
                self.gx.table = Arc::new(table);
                if let Some(life) = life {
                    life.set_profiles(Arc::clone(&self.gx.table));
                }
            }
            Err(why) => tracing::warn!(why, "profiles stay as they were"),
        }
    }

    fn view(&self, life: Option<&Life>) -> View {
        let mut counters = self.counters.clone();
        counters.entry("strangers").or_default();
        for (name, count) in life.map(|life| life.counters().each()).into_iter().flatten() {
            *counters.entry(name).or_default() += count;
        }
        View {
            is_ready: life.is_some(),
            gateways: life.map(Life::gateways).unwrap_or_default(),
            counters,
            since: self.since.clone(),
            facts_waiting: life.map_or(0, |life| life.batches.waiting()),
            requests_waiting: self.kept.requests_len(),
        }
    }
}

async fn arrives(handing: &mut Option<Handing>) -> Result<(), Unavailable> {
    match handing {
        Some(handing) => handing.await,
        None => std::future::pending().await,
    }
}

async fn next_rar(rars: Option<&mut tokio::task::JoinSet<Ended>>) -> Option<Ended> {
    match rars {
        // An answer that panicked is a bug that the hook reports; there is none to hear.
        Some(rars) if !rars.is_empty() => rars.join_next().await?.ok(),
        Some(_) | None => std::future::pending().await,
    }
}

async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => {
            hangup.recv().await;
        }
        None => std::future::pending().await,
    }
}

async fn stop_asked(stop: &mut watch::Receiver<bool>) {
    // Whoever could stop us is gone: so is the reason to go on.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn wall_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
