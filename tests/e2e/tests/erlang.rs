//! Erlang/OTP's diameter as a gateway: another codec, another peer machine, another reading of the standard.

#[path = "../peers/mod.rs"]
mod peers;

use peers::pcrf::{Pcrf, Peer, desire, imsi};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tollway_gx::Gateway;

const HOST: &str = "erl.example.net";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/gateway.erl");
const DICTIONARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/gx.dia");

/// One life of the gateway.
struct Otp {
    child: Child,
    commands: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Otp {
    fn start(port: u16, state_id: u32) -> Otp {
        peers::need("escript", "erlang-base erlang-diameter erlang-dev");
        let mut child = Command::new("escript")
            .args([SCRIPT, &port.to_string(), &state_id.to_string(), DICTIONARY])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("escript starts");
        let commands = child.stdin.take().expect("it has an input");
        let lines = BufReader::new(child.stdout.take().expect("it has an output")).lines();
        Otp { child, commands, lines }
    }

    async fn does(&mut self, command: &str) {
        self.commands.write_all(format!("{command}\n").as_bytes()).await.expect("it reads");
    }

    /// Its next line.
    async fn says(&mut self) -> String {
        let line = peers::within("a line of Erlang", self.lines.next_line()).await;
        line.expect("it runs").expect("it runs").trim_end().to_owned()
    }

    /// The virtual machine's own process: `escript` became it by exec.
    async fn dies(mut self) {
        self.child.kill().await.expect("it is killed");
    }
}

#[test]
fn otp_opens_installs_reports_and_comes_back_from_the_dead() {
    peers::block_on(async {
        let peer = Peer {
            host: HOST,
            from: [127, 0, 0, 1].into(),
            dial: None,
            watchdog_ms: 30_000,
            is_relay: false,
        };
        let mut pcrf = Pcrf::start(([127, 0, 0, 1], 0).into(), vec![peer], Gateway::default()).await;
        let open = format!("open {} 10.45.0.1", imsi(1));
        let mut otp = Otp::start(pcrf.address.port(), 7);
        assert_eq!(otp.says().await, "up broker.example.net");
        otp.does(&open).await;
        assert_eq!(otp.says().await, "cca 1 2001 +standing");
        pcrf.desire(desire(1, 1, 3_600));
        assert_eq!(otp.says().await, "rar +tw-1-0 rate 5000000");
        pcrf.hears("leg 1 accepted").await;
        otp.does("report tw-1-0").await;
        assert_eq!(otp.says().await, "cca 2 2001");
        pcrf.hears("leg 1 active").await;
        otp.does("usage tw-1-0 2000 3000000000").await;
        assert_eq!(otp.says().await, "cca 2 2001");
        assert!(pcrf.hears("usage 1 sold 3000000000").await.contains("reverse 2000"));
        // An end without a word, and a new life that says so.
        otp.dies().await;
        pcrf.hears("peer erl.example.net lost").await;
        let mut otp = Otp::start(pcrf.address.port(), 8);
        assert_eq!(otp.says().await, "up broker.example.net");
        pcrf.hears("restarted erl.example.net 8").await;
        pcrf.hears("leg 1 lost: the gateway restarted").await;
        otp.does(&open).await;
        // Erlang takes an answer and a request in processes of their own, and either may be the first to speak.
        let mut said = [otp.says().await, otp.says().await];
        said.sort();
        assert_eq!(said, ["cca 1 2001 +standing", "rar +tw-1-0 rate 5000000"]);
        pcrf.release(1, 1);
        assert_eq!(otp.says().await, "rar -tw-1-0");
        pcrf.hears("leg 1 removed").await;
        otp.does("close").await;
        assert_eq!(otp.says().await, "cca 3 2001");
        pcrf.hears("closed").await;
        otp.dies().await;
        pcrf.stop().await.judge("erlang");
    });
}
