//! Gateways and a store that waits, loses commits or is away: nothing is said before it is durable, nothing that a
//! gateway said is lost, and nobody waits for ever.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

#[path = "../../tests/e2e/tests/support/gateway.rs"]
mod gateway;
mod support;

use gateway::{Gateway, HOST, REALM, imsi, session};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::{Broker, Dir, Fault, Faults, PATIENCE};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tollway::config::{self, Settings};
use tollway::gx::{self, Gateways};

struct Rig {
    runtime: Runtime,
    broker: Option<Broker>,
    faults: Faults,
    gateways: Gateways,
    gateway: Arc<Gateway>,
    stop: watch::Sender<bool>,
    task: Option<tokio::task::JoinHandle<()>>,
    _dir: Dir,
}

fn settings(dir: &Dir) -> Settings {
    let rows: String =
        (1..=9).map(|n| format!("imsi:{},internet,{n},9,15,10000000,50000000,\n", imsi(n))).collect();
    let profiles = format!("{}\n{rows}", tollway_gx::profile::COLUMNS);
    std::fs::write(dir.path().join("subscribers.csv"), profiles).unwrap();
    let text = support::config_text(0, 0)
        + &format!(
            r#"
[gx]
origin_host = "{}"
origin_realm = "{REALM}"
listen = "127.0.0.1:0"
profiles = "subscribers.csv"
apns = [{{ name = "internet", up = ["shared"], down = ["shared"], price_pool = "shared" }}]
peers = [{{ origin_host = "{HOST}", addresses = ["127.0.0.1"], watchdog_s = 6 }}]
"#,
            gateway::BROKER
        );
    let path = dir.path().join("broker.toml");
    std::fs::write(&path, text).unwrap();
    config::load(&path).unwrap()
}

impl Rig {
    fn start(name: &str) -> Rig {
        let (dir, runtime) = (Dir::new(name), Runtime::new().unwrap());
        let settings = settings(&dir);
        let (stop, stopped) = watch::channel(false);
        let (broker, faults) = runtime.block_on(Broker::start_faulty_with(dir.path(), &settings));
        let (hub, handle) = (Arc::clone(&broker.started.hub), broker.started.handle.clone());
        let started = runtime.block_on(gx::start(settings.gx.unwrap(), hub, handle, stopped)).unwrap();
        let port = started.0.listening()[0].port();
        let gateway = Arc::new(Gateway::start(port));
        let rig = Rig {
            runtime,
            broker: Some(broker),
            faults,
            gateways: started.0,
            gateway,
            stop,
            task: Some(started.1),
            _dir: dir,
        };
        rig.until("the first attach", |rig| rig.gateway.attach(1) == Some(2001));
        rig
    }

    /// A request whose answer somebody waits for elsewhere.
    fn attaching(&self, subscriber: u8) -> JoinHandle<Option<u32>> {
        let gateway = Arc::clone(&self.gateway);
        std::thread::spawn(move || gateway.attach(subscriber))
    }

    fn until(&self, what: &str, mut is_so: impl FnMut(&Rig) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < PATIENCE, "waited too long until {what}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    fn status(&self) -> gx::Status {
        self.runtime.block_on(self.gateways.status())
    }

    fn sessions(&self) -> usize {
        self.status().view.gateways.iter().map(|gateway| gateway.sessions).sum()
    }

    fn end(mut self) {
        self.stop.send_replace(true);
        self.runtime.block_on(self.task.take().unwrap()).unwrap();
        self.runtime.block_on(self.broker.take().unwrap().stop());
    }
}

#[test]
fn nothing_is_answered_before_it_is_durable() {
    let rig = Rig::start("gx-held");
    let begun = rig.faults.begun.load(Ordering::SeqCst);
    rig.faults.held.send_replace(true);
    let waiting = rig.attaching(2);
    rig.until("the append is under way", |rig| rig.faults.begun.load(Ordering::SeqCst) > begun);
    rig.until("the fact waits", |rig| rig.status().view.facts_waiting == 1);
    assert_eq!(rig.status().view.requests_waiting, 1);
    assert!(!waiting.is_finished(), "answered before it was durable");
    rig.faults.held.send_replace(false);
    assert_eq!(waiting.join().unwrap(), Some(2001));
    rig.until("all is said", |rig| rig.status().view.facts_waiting == 0);
    assert_eq!((rig.status().view.requests_waiting, rig.sessions()), (0, 2));
    rig.end();
}

#[test]
fn a_commit_that_is_lost_or_lands_in_silence_has_one_effect_and_one_answer() {
    for fault in [Fault::Lost, Fault::Landed] {
        let rig = Rig::start("gx-fault");
        rig.faults.next(fault);
        assert_eq!(rig.attaching(2).join().unwrap(), Some(2001), "{fault:?}: heard again, and answered");
        rig.until("gateways are served", |rig| rig.sessions() == 2);
        // Sessions of both lives are known; their ends are too.
        for subscriber in [1, 2] {
            let update = rig.gateway.ccr(2, 1, &session(subscriber), |_| ());
            assert_eq!(rig.gateway.ask(update), Some(2001), "{fault:?}");
        }
        rig.faults.next(fault);
        assert_eq!(
            rig.gateway.end(2, 2),
            Some(if fault == Fault::Lost { 2001 } else { 5002 }),
            "an end that was recorded leaves no session to end again"
        );
        rig.until("it is over", |rig| rig.sessions() == 1);
        assert_eq!(rig.gateway.ask(rig.gateway.ccr(2, 3, &session(2), |_| ())), Some(5002));
        rig.end();
    }
}

#[test]
fn while_the_store_is_away_a_gateway_is_told_so_and_what_was_taken_up_is_not_lost() {
    let rig = Rig::start("gx-away");
    rig.faults.probes.store(u64::MAX, Ordering::SeqCst);
    rig.faults.next(Fault::Lost);
    let taken_up = rig.attaching(2);
    rig.until("it is over with that life", |rig| !rig.status().view.is_ready);
    let begun = Instant::now();
    assert_eq!(rig.attaching(3).join().unwrap(), Some(3004), "TOO_BUSY, so that it goes on without us");
    assert!(begun.elapsed() < Duration::from_secs(10), "before its own timer");
    assert!(!taken_up.is_finished());
    rig.faults.probes.store(0, Ordering::SeqCst);
    assert_eq!(taken_up.join().unwrap(), Some(2001));
    assert_eq!(rig.gateway.attach(3), Some(2001));
    rig.until("gateways are served", |rig| rig.sessions() == 3);
    rig.end();
}

#[test]
fn a_gateway_that_lost_its_sessions_says_so_and_is_believed() {
    let mut rig = Rig::start("gx-restarted");
    assert_eq!(rig.gateway.attach(2), Some(2001));
    rig.until("both are known", |rig| rig.sessions() == 2);
    // While its word cannot be recorded, the sessions are not forgotten for good.
    rig.faults.next(Fault::Lost);
    let port = rig.gateways.listening()[0].port();
    rig.gateway = Arc::new(Gateway::start_as(port, 2));
    rig.until("its sessions are gone", |rig| rig.status().view.is_ready && rig.sessions() == 0);
    rig.until("it is heard", |rig| rig.gateway.ask(rig.gateway.ccr(2, 1, &session(1), |_| ())) == Some(5002));
    assert_eq!(rig.gateway.attach(1), Some(2001));
    rig.until("the new one is known", |rig| rig.sessions() == 1);
    rig.end();
}

#[test]
fn whoever_is_no_peer_is_sent_away_and_counted() {
    let rig = Rig::start("gx-stranger");
    let port = rig.gateways.listening()[0].port();
    let mut stranger = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    std::io::Write::write_all(&mut stranger, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut said = Vec::new();
    std::io::Read::read_to_end(&mut stranger, &mut said).unwrap();
    rig.until("it is counted", |rig| rig.status().view.counters["strangers"] == 1);
    assert_eq!(rig.gateway.attach(2), Some(2001));
    rig.end();
}
