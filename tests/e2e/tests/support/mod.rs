//! A real broker process on a temporary directory, and a client of its REST face.
#![allow(dead_code)]

pub mod gateway;

use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Tokens of the test's keys and the SHA-256 that the configuration carries.
pub const CUSTOMERS: usize = 4;

/// Path of a binary of this workspace, built beside the tests.
pub fn binary(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("a test knows where it is");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    let path = path.join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace` first", path.display());
    path
}

/// Waits for a condition; the bound is far above what it takes.
pub fn wait_for<T>(what: &str, bound: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < bound, "waited {bound:?} for {what}");
        pause(2);
    }
}

/// Paces a workload or a poll; never stands for an event.
pub fn pause(ms: u64) {
    std::thread::park_timeout(Duration::from_millis(ms));
}

/// A directory that is removed with the value.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("tollway-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// A token and its SHA-256, made by the product's own verb.
fn new_key() -> (String, String) {
    let output = Command::new(binary("tollway")).args(["noc", "key", "new"]).output().expect("key new runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let after = |label: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(label));
        line.unwrap_or_else(|| panic!("no {label:?} in {text:?}")).trim().trim_matches('"').to_owned()
    };
    (after("token:"), after("config: sha256 ="))
}

pub struct Broker {
    child: Option<Child>,
    config: PathBuf,
    pub data: PathBuf,
    pub url: String,
    pub keys: Vec<String>,
    pub noc: String,
    args: Vec<String>,
}

impl Broker {
    /// Writes a configuration with room for everyone and starts a broker on it.
    pub fn start(dir: &Path) -> Broker {
        Broker::start_with(dir, "", &[])
    }

    /// The same with more in the configuration and on the command line. `ENDPOINTS` in the former is where
    /// customers' further endpoints are named.
    pub fn start_with(dir: &Path, more: &str, args: &[&str]) -> Broker {
        let (http, grpc) = (free_port(), free_port());
        let mut text = format!(
            r#"
[market]
name = "e2e"
slot_s = 5
currency = "EUR"
[serve]
http = "127.0.0.1:{http}"
grpc = "127.0.0.1:{grpc}"
[[pool]]
name = "shared"
up_bps = 100_000_000_000
down_bps = 100_000_000_000
sell_share_ppm = 500_000
[[tariff]]
name = "plain"
mbps_hour_micros = 20_000
gb_micros = 50_000
curve = [[0, 1_000_000], [1_000_000, 3_000_000]]
[[tier]]
name = "gold"
kind = "assured"
legal_basis = {{ private_network = {{}} }}
start_grace_s = 3600
rate_min_bps = 64_000
rate_max_bps = 1_000_000_000
tariff = "plain"
[[access]]
name = "line"
enforcement_point = "router1"
up = {{ port = "wan0", pools = ["shared"] }}
down = {{ port = "lan0", pools = ["shared"] }}
price_pool = "shared"
subscriber = "line-1"
"#
        );
        let (more, also) = more.split_once("ENDPOINTS").unwrap_or((more, ""));
        text.push_str(more);
        let mut keys = Vec::new();
        for n in 0..CUSTOMERS {
            let (token, sha) = new_key();
            text.push_str(&format!(
                "[[customer]]\nname = \"c{n}\"\ncurrency = \"EUR\"\nendpoints = [{{ access = \"line\", addresses = [\"10.0.{n}.0/24\"] }}{also}]\n\
                 [[key]]\ncustomer = \"c{n}\"\nsha256 = \"{sha}\"\n"
            ));
            keys.push(token);
        }
        let (noc, sha) = new_key();
        text.push_str(&format!("[[key]]\nnoc = true\nsha256 = \"{sha}\"\n"));
        let config = dir.join("broker.toml");
        std::fs::write(&config, text).expect("a configuration");
        let data = dir.join("data");
        let url = format!("http://127.0.0.1:{http}");
        let mut broker = Broker { child: None, config, data, url, keys, noc, args: Vec::new() };
        broker.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        broker.spawn();
        broker
    }

    /// Starts the process and waits until it is ready.
    pub fn spawn(&mut self) {
        let child = Command::new(binary("tollway"))
            .args(["serve", "--config"])
            .arg(&self.config)
            .arg("--data")
            .arg(&self.data)
            .args(&self.args)
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the broker starts");
        self.child = Some(child);
        wait_for("the broker to be ready", Duration::from_secs(60), || {
            let child = self.child.as_mut()?;
            if let Ok(Some(status)) = child.try_wait() {
                panic!("the broker exited: {status}");
            }
            match call(&self.url, "GET", "/readyz", "", None, None) {
                Ok((200, _)) => Some(()),
                Ok(_) | Err(_) => None,
            }
        });
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        let child = self.child.as_ref().expect("a running broker");
        let pid = libc::pid_t::try_from(child.id()).expect("a pid");
        // SAFETY: `kill` only sends a signal to the process that this value started and has not reaped.
        unsafe { libc::kill(pid, libc::SIGHUP) };
    }

    /// SIGTERM, and the exit code of a graceful stop.
    pub fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take()?;
        let pid = libc::pid_t::try_from(child.id()).expect("a pid");
        // SAFETY: `kill` only sends a signal to the process that this value started and has not reaped.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        wait_for("a graceful stop", Duration::from_secs(60), || child.try_wait().ok().flatten()).code()
    }

    pub fn top_up(&self, customer: usize, micros: i64) {
        let body = json!({"amount_micros": micros, "currency": "EUR", "reason": "end to end"});
        let path = format!("/noc/v0.1/wallets/c{customer}/top-ups");
        let key = format!("top-up-{customer}");
        let reply = call(&self.url, "POST", &path, &self.noc, Some(&key), Some(&body)).expect("a reply");
        assert!(reply.0 < 300, "{reply:?}");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One request; `Err` when no whole reply came.
pub fn call(
    url: &str,
    method: &str,
    path: &str,
    token: &str,
    key: Option<&str>,
    body: Option<&Value>,
) -> Result<(u16, String), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(20)))
        .build()
        .into();
    let mut request = ureq::http::Request::builder().method(method).uri(format!("{url}{path}"));
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let text = body.map(Value::to_string).unwrap_or_default();
    let request = request.header("content-type", "application/json").body(text).map_err(|e| e.to_string())?;
    let mut response = agent.run(request).map_err(|e| e.to_string())?;
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().map_err(|e| e.to_string())?;
    Ok((status, text))
}

pub fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("not JSON: {text:?}"))
}
