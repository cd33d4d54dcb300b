//! The scripted gateway in this process: its own codec and sockets, commands and events over pipes in memory.

use super::{BOUND, within};
use serde_json::Value;
use std::io::Write;
use std::net::SocketAddr;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tollway_pcef::gateway::Settings;
use tollway_pcef::shape::Shaper;

/// Commands that may wait for the gateway, in bytes.
const PIPE_BYTES: usize = 65_536;

pub struct Script {
    commands: DuplexStream,
    events: mpsc::UnboundedReceiver<Value>,
    ended: JoinHandle<()>,
}

/// Whole lines become events.
struct Lines {
    text: Vec<u8>,
    events: mpsc::UnboundedSender<Value>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let text = std::mem::take(&mut self.text);
        let event = serde_json::from_slice(&text)?;
        // The test may have heard enough.
        let _ = self.events.send(event);
        Ok(())
    }
}

pub fn settings(host: &str, address: SocketAddr) -> Settings {
    Settings {
        host: host.into(),
        realm: super::pcrf::REALM.into(),
        peer_realm: super::pcrf::REALM.into(),
        address: address.ip(),
        state_id: 1,
        applications: vec![tollway_pcef::message::GX],
        watchdog_ms: 0,
        has_reports: true,
    }
}

impl Script {
    /// Starts a gateway that dials `to`.
    pub fn start(settings: Settings, to: SocketAddr) -> Script {
        Script::start_with(settings, to, None)
    }

    /// The same, which makes its rules so in the kernel.
    pub fn start_with(settings: Settings, to: SocketAddr, shaper: Option<Shaper>) -> Script {
        let (commands, script) = tokio::io::duplex(PIPE_BYTES);
        let (sender, events) = mpsc::unbounded_channel();
        let ended = tokio::spawn(async move {
            let mut lines = Lines { text: Vec::new(), events: sender };
            let script = tokio::io::BufReader::new(script);
            let run = tollway_pcef::run::run(settings, to.to_string(), shaper, script, &mut lines);
            run.await.expect("the gateway runs");
        });
        Script { commands, events, ended }
    }

    /// One command.
    pub async fn does(&mut self, command: Value) {
        let line = format!("{command}\n");
        within("the gateway reads", self.commands.write_all(line.as_bytes()))
            .await
            .expect("the gateway runs");
    }

    /// The next event of this name; those before it are passed over, except complaints.
    pub async fn says(&mut self, name: &str) -> Value {
        let mut passed = Vec::new();
        let waiting = async {
            loop {
                let event = self.events.recv().await.expect("the gateway runs");
                if event["event"] == name {
                    return event;
                }
                assert!(event["event"] != "problem" && event["event"] != "odd", "{event}");
                passed.push(event);
            }
        };
        match tokio::time::timeout(BOUND, waiting).await {
            Ok(event) => event,
            Err(_) => panic!("{name:?} was not said; instead: {passed:#?}"),
        }
    }

    /// Opens a session for a subscriber; gives its Session-Id.
    pub async fn opens(&mut self, subscriber: u8) -> String {
        let address = std::net::Ipv4Addr::from(super::pcrf::device(subscriber));
        self.does(serde_json::json!({
            "do": "open", "imsi": super::pcrf::imsi(subscriber.into()), "msisdn": "15550000001",
            "apn": super::pcrf::APN, "address": address, "mcc_mnc": super::pcrf::NETWORK,
        }))
        .await;
        let answer = self.says("answered").await;
        assert_eq!((&answer["code"], &answer["kind"]), (&Value::from(2001), &Value::from(1)), "{answer}");
        assert_eq!(answer["installed"], serde_json::json!(["standing"]));
        answer["session"].as_str().expect("a session").to_owned()
    }

    /// Names of the rules that one session holds.
    pub async fn holds(&mut self, session: &str) -> Vec<String> {
        self.does(serde_json::json!({"do": "show"})).await;
        let held = self.says("held").await;
        let sessions = held["sessions"].as_array().cloned().unwrap_or_default();
        let found = sessions.iter().find(|held| held["session"] == session);
        let rules = found.and_then(|held| held["rules"].as_array().cloned()).unwrap_or_default();
        rules.iter().filter_map(|rule| rule["name"].as_str().map(str::to_owned)).collect()
    }

    /// Leaves in agreement.
    pub async fn quits(mut self) {
        self.does(serde_json::json!({"do": "quit"})).await;
        within("the gateway ends", self.ended).await.expect("the gateway ends");
    }
}
