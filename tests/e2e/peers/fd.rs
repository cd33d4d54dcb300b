//! freeDiameterd: a relay, and a strict judge of base messages.

use super::need;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tokio::sync::mpsc;

pub const HOST: &str = "fd.example.net";
pub const PORT: u16 = 3_878;
const PACKAGES: &str = "freediameterd freediameter-extensions openssl";
/// The least that it takes (RFC 3539 §3.4.1).
const WATCHDOG_S: u64 = 6;

pub struct Relay {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    said: Vec<String>,
    dir: PathBuf,
}

/// A peer that it dials.
pub struct Dialed {
    pub host: &'static str,
    pub address: SocketAddr,
}

fn run(dir: &std::path::Path, words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).current_dir(dir).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{words:?}: {error}"));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Relay {
    /// Starts it on an address that is not loopback's own (those it does not listen on), for these inbound peers.
    pub fn start(address: Ipv4Addr, inbound: &[&str], dialed: &[Dialed]) -> Relay {
        need("freeDiameterd", PACKAGES);
        need("openssl", PACKAGES);
        let dir = std::env::temp_dir().join(format!("tollway-fd-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a scratch directory");
        // Compulsory also where no peer uses TLS, and its name must be the identity.
        let subject = format!("/CN={HOST}");
        let certificate = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
        run(
            &dir,
            &[&certificate[..], &["-keyout", "key.pem", "-out", "cert.pem", "-subj", &subject]].concat(),
        );
        // Without TLS: whoever is not dialed must be named here.
        let allowed: String = inbound.iter().map(|host| format!("ALLOW_IPSEC {host}\n")).collect();
        std::fs::write(dir.join("acl.conf"), allowed).expect("a file");
        std::fs::write(dir.join("fd.conf"), config(&dir, address, dialed)).expect("a file");
        let mut command = Command::new("freeDiameterd");
        command.arg("-c").arg(dir.join("fd.conf")).current_dir(&dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        // SAFETY: between fork and exec one async-signal-safe call: it dies with the test.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let mut child = command.spawn().expect("freeDiameterd starts");
        let log = BufReader::new(child.stdout.take().expect("it has an output"));
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                // The test may be over.
                let _ = sender.send(line);
            }
        });
        Relay { child, lines, said: Vec::new(), dir }
    }

    /// The next line with these words in it.
    pub async fn says(&mut self, words: &str) {
        let waiting = async {
            loop {
                let line = self.lines.recv().await;
                let Some(line) = line else { panic!("freeDiameterd ended: {:#?}", self.said) };
                let is_it = line.contains(words);
                self.said.push(line);
                if is_it {
                    return;
                }
            }
        };
        if tokio::time::timeout(super::BOUND, waiting).await.is_err() {
            panic!("freeDiameterd did not say {words:?}: {:#?}", self.said);
        }
    }

    /// Stops it; gives what it complained of: every line above a notice, except that it was told to stop.
    pub fn stop(mut self) -> Vec<String> {
        // SAFETY: a signal to our own child, which is not yet waited for.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGTERM) };
        self.child.wait().expect("it ends");
        while let Some(line) = self.lines.blocking_recv() {
            self.said.push(line);
        }
        assert!(self.said.len() > 100, "the log is all there: {:#?}", self.said);
        let level = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
        let is_bad = |line: &String| {
            level(line).is_some_and(|level| level != "NOTI") && !line.contains("shutdown sequence")
        };
        self.said.iter().filter(|line| is_bad(line)).cloned().collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn config(dir: &std::path::Path, address: Ipv4Addr, dialed: &[Dialed]) -> String {
    let dir = dir.display();
    let mut lines = vec![
        format!("Identity = \"{HOST}\";"),
        "Realm = \"example.net\";".to_owned(),
        format!("Port = {PORT};"),
        "SecPort = 0;".to_owned(),
        "No_SCTP;".to_owned(),
        "No_IPv6;".to_owned(),
        format!("ListenOn = \"{address}\";"),
        format!("TwTimer = {WATCHDOG_S};"),
        "TcTimer = 1;".to_owned(),
        format!("TLS_Cred = \"{dir}/cert.pem\", \"{dir}/key.pem\";"),
        format!("TLS_CA = \"{dir}/cert.pem\";"),
    ];
    for extension in ["dict_nasreq", "dict_dcca", "dict_dcca_3gpp"] {
        lines.push(format!("LoadExtension = \"/usr/lib/freeDiameter/{extension}.fdx\";"));
    }
    lines.push("LoadExtension = \"/usr/lib/freeDiameter/dbg_msg_dumps.fdx\" : \"0x0080\";".to_owned());
    lines.push(format!("LoadExtension = \"/usr/lib/freeDiameter/acl_wl.fdx\" : \"{dir}/acl.conf\";"));
    for peer in dialed {
        let (host, ip, port) = (peer.host, peer.address.ip(), peer.address.port());
        lines.push(format!(
            "ConnectPeer = \"{host}\" {{ No_TLS; No_IPv6; No_SCTP; ConnectTo = \"{ip}\"; Port = {port}; }};"
        ));
    }
    lines.join("\n") + "\n"
}
