//! freeDiameterd 1.2.1 between a gateway and us: it dials and is dialed, watches, relays both ways, and complains of
//! what RFC 6733 does not allow.

#[path = "../peers/mod.rs"]
mod peers;

use diameter::{ApplicationId, CommandCode, flags};
use peers::fd::{self, Dialed, Relay};
use peers::namespace::in_namespace;
use peers::pcrf::{HOST, Pcrf, Peer, desire};
use peers::script::{Script, settings};
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tollway_gx::Gateway;
use tollway_pcef::frame;
use tollway_pcef::message::{self, Head};

const PCEF: &str = "pcef.example.net";
const BROKER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
const BROKER_PORT: u16 = 3_879;
const ADDRESSES: [&str; 2] = ["10.77.0.2/32", "10.77.0.3/32"];
/// freeDiameterd's own is 6 s and cannot be less; ours asks first every other time.
const WATCHDOG_MS: u64 = 5_000;

fn broker() -> SocketAddr {
    (BROKER, BROKER_PORT).into()
}

fn relay() -> SocketAddr {
    (RELAY, fd::PORT).into()
}

/// Who dials whom between the relay and us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dials {
    Relay,
    Broker,
}

async fn start(dials: Dials) -> (Pcrf, Relay) {
    let peer = Peer {
        host: fd::HOST,
        // What a process of this host connects to is also where it comes from: both are addresses of one device.
        from: if dials == Dials::Relay { BROKER.into() } else { RELAY.into() },
        dial: (dials == Dials::Broker).then(relay),
        watchdog_ms: WATCHDOG_MS,
        is_relay: true,
    };
    let pcrf = Pcrf::start(broker(), vec![peer], Gateway::default()).await;
    let fd = match dials {
        Dials::Relay => Relay::start(RELAY, &[PCEF], &[Dialed { host: HOST, address: broker() }]),
        Dials::Broker => Relay::start(RELAY, &[PCEF, HOST], &[]),
    };
    (pcrf, fd)
}

/// CCR-I through the relay, RAR back through it, watchdogs in both directions, all in its log without a complaint.
fn a_session_over_the_relay(dials: Dials) {
    peers::block_on(async {
        let (mut pcrf, fd) = start(dials).await;
        pcrf.hears(&format!("usable {}", fd::HOST)).await;
        let mut script = Script::start(settings(PCEF, relay()), relay());
        assert_eq!(script.says("connected").await["host"], fd::HOST);
        let session = script.opens(1).await;
        pcrf.hears("learnt 1").await;
        pcrf.desire(desire(1, 1, 3_600));
        pcrf.hears("leg 1 active").await;
        script.does(json!({"do": "traffic", "session": session, "rule": "tw-1-0", "down": 1_500_000})).await;
        pcrf.hears("usage 1 sold 1500000").await;
        pcrf.release(1, 1);
        pcrf.hears("leg 1 removed").await;
        assert_eq!(script.holds(&session).await, ["standing"]);
        script.does(json!({"do": "watchdog"})).await;
        script.says("watched").await;
        watchdogs(&pcrf, 3).await;
        script.does(json!({"do": "close", "session": session})).await;
        pcrf.hears("closed").await;
        script.quits().await;
        let capture = pcrf.stop().await;
        assert_eq!(complaints(fd).await, Vec::<String>::new());
        capture.judge("fd");
    });
}

async fn complaints(fd: Relay) -> Vec<String> {
    tokio::task::spawn_blocking(move || fd.stop()).await.expect("its log is read")
}

/// Waits until so many watchdog rounds have been answered, whoever asked.
async fn watchdogs(pcrf: &Pcrf, rounds: u64) {
    let waiting = async {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(50));
        loop {
            looks.tick().await;
            let view = pcrf.handle.peers().await.remove(0);
            let seen = &view.counters.watchdogs;
            if seen.answers_in + seen.requests_in >= rounds {
                return;
            }
        }
    };
    peers::within("watchdog rounds", waiting).await;
}

#[test]
fn a_relay_that_dials_us() {
    in_namespace("a_relay_that_dials_us", &ADDRESSES, || a_session_over_the_relay(Dials::Relay));
}

#[test]
fn a_relay_that_we_dial() {
    in_namespace("a_relay_that_we_dial", &ADDRESSES, || a_session_over_the_relay(Dials::Broker));
}

/// A complaint would be seen: a watchdog request without Origin-Host (RFC 6733 §5.5.1).
#[test]
fn a_relay_that_complains() {
    in_namespace("a_relay_that_complains", &ADDRESSES, || {
        peers::block_on(async {
            let mut fd = Relay::start(RELAY, &[PCEF], &[]);
            fd.says("daemon initialized").await;
            let mut stream = peers::within("it listens", connected()).await;
            for (command, is_whole) in
                [(CommandCode::CapabilitiesExchange, true), (CommandCode::DeviceWatchdog, false)]
            {
                stream.write_all(&base_request(command, is_whole)).await.expect("it reads");
                let answer = peers::within("an answer", frame::read(&mut stream)).await;
                assert!(answer.expect("a stream").is_some() || !is_whole);
            }
            fd.says("DIAMETER_MISSING_AVP").await;
            let complaints = complaints(fd).await;
            assert!(complaints.iter().any(|line| line.contains("DIAMETER_MISSING_AVP")), "{complaints:#?}");
        });
    });
}

/// It says that it is there a moment before it listens.
async fn connected() -> TcpStream {
    let mut tries = tokio::time::interval(std::time::Duration::from_millis(20));
    loop {
        tries.tick().await;
        if let Ok(stream) = TcpStream::connect(relay()).await {
            return stream;
        }
    }
}

fn base_request(command: CommandCode, is_whole: bool) -> Vec<u8> {
    let dictionary = Arc::new(message::dictionary());
    let application = ApplicationId::Common;
    let head = Head { command, application, flags: flags::REQUEST, hop_by_hop: 1, end_to_end: 1 };
    message::encode(&dictionary, head, |w| {
        if is_whole {
            w.text("Origin-Host", PCEF);
        }
        w.text("Origin-Realm", peers::pcrf::REALM);
        if command == CommandCode::CapabilitiesExchange {
            w.address("Host-IP-Address", RELAY.into());
            w.number("Vendor-Id", 0);
            w.text("Product-Name", "a test");
            w.number("Auth-Application-Id", message::GX);
        }
    })
}
