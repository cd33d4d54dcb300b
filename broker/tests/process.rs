//! The real binary: one process a directory, exit codes, a full disk, signals, kills.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::{Dir, NOC_TOKEN, PATIENCE, SHOP_TOKEN};

const TOLLWAY: &str = env!("CARGO_BIN_EXE_tollway");

fn config_in(dir: &Path) -> PathBuf {
    let path = dir.join("broker.toml");
    std::fs::write(&path, support::config_text(0, 0)).unwrap();
    path
}

struct Serving {
    child: Child,
    http: SocketAddr,
    grpc: SocketAddr,
}

impl Serving {
    /// Waits for the line that says where it listens.
    fn wait(mut child: Child) -> Serving {
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let http = line.split("http ").nth(1).and_then(|rest| rest.split(',').next()).map(str::to_owned);
        let http = http.unwrap_or_else(|| panic!("it does not serve: {line:?}"));
        let grpc = line.split("grpc ").nth(1).unwrap_or_default().trim();
        Serving { child, http: http.parse().unwrap(), grpc: grpc.parse().unwrap() }
    }

    fn start(dir: &Path) -> Serving {
        Serving::wait(serve(dir).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Exit code and what it said on standard error.
    fn end(self) -> (Option<i32>, String) {
        let out = self.child.wait_with_output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    }

    fn call(&self, method: &str, path: &str, token: &str, key: &str, body: &str) -> (u16, String) {
        call(self.http, method, path, token, key, body)
    }

    fn top_up(&self, key: &str, micros: u64) -> u16 {
        let body = format!(r#"{{"amount_micros":{micros},"currency":"EUR","reason":"test"}}"#);
        self.call("POST", "/noc/v0.1/wallets/shop-pos/top-ups", NOC_TOKEN, key, &body).0
    }

    fn balance(&self) -> u64 {
        let (status, body) = self.call("GET", "/qos-transfers/v0.1/wallet", SHOP_TOKEN, "", "");
        assert_eq!(status, 200, "{body}");
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        value["balance_micros"].as_u64().unwrap()
    }
}

fn serve(dir: &Path) -> Command {
    let mut command = Command::new(TOLLWAY);
    command
        .args(["serve", "--config"])
        .arg(config_in(dir))
        .arg("--data")
        .arg(dir.join("data"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// One request on a connection of its own; (0, reason) when there is no answer.
fn call(http: SocketAddr, method: &str, path: &str, token: &str, key: &str, body: &str) -> (u16, String) {
    let answer = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(http)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nIdempotency-Key: {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            if key.is_empty() { "none" } else { key },
            body.len()
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    match answer() {
        Ok(text) => {
            let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
            let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
            (status, body)
        }
        Err(error) => (0, error.to_string()),
    }
}

fn tollway(args: &[&str]) -> Output {
    Command::new(TOLLWAY).args(args).env_remove("TOLLWAY_NOC_KEY").output().unwrap()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn too_few_descriptors_are_said_at_the_start_and_survived() {
    let dir = Dir::new("descriptors");
    let plain = serve(dir.path());
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
    let serving = Serving::wait(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let crowd: Vec<TcpStream> = (0..100).filter_map(|_| TcpStream::connect(serving.grpc).ok()).collect();
    drop(crowd);
    until("it serves again", || serving.top_up("k", 1_000_000) == 201);
    serving.signal("TERM");
    let (code, said) = serving.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("ulimit -n 5184"), "{said}");
    let refused = said.matches("could not be accepted").count();
    assert!(refused < 1_000, "it does not spin: {refused}");
}

#[test]
fn of_two_processes_on_one_directory_one_serves_and_the_other_says_why_not() {
    let dir = Dir::new("two");
    let first = Serving::start(dir.path());
    let second = serve(dir.path()).output().unwrap();
    assert_eq!(second.status.code(), Some(3));
    let pid = first.child.id().to_string();
    assert!(
        said(&second).contains("in use by another process") && said(&second).contains(&pid),
        "{}",
        said(&second)
    );
    let rebuild = tollway(&["rebuild-projections", "--data", dir.path().join("data").to_str().unwrap()]);
    assert_eq!(rebuild.status.code(), Some(3));
    // A check only reads, so it may run beside it.
    let verify = tollway(&["journal", "verify", "--data", dir.path().join("data").to_str().unwrap()]);
    assert_eq!(verify.status.code(), Some(0), "{}", said(&verify));
    assert_eq!(first.top_up("a", 5), 201);
    first.signal("TERM");
    let (code, log) = first.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
}

#[test]
fn whoever_lost_the_lease_exits_and_decides_nothing() {
    let dir = Dir::new("fenced");
    let serving = Serving::start(dir.path());
    assert_eq!(serving.top_up("a", 5), 201);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use sqlx::Connection;
        let file = dir.path().join("data").join(tollway::store::DATABASE_FILE);
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let mut conn = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql("UPDATE lease SET epoch = epoch + 1").execute(&mut conn).await.unwrap();
    });
    assert_ne!(serving.top_up("b", 5), 201);
    let (code, log) = serving.end();
    assert_eq!(code, Some(3), "{log}");
    assert!(log.contains("another process leads this market"), "{log}");
    let again = Serving::start(dir.path());
    assert_eq!(again.balance(), 5);
    again.signal("INT");
    assert_eq!(again.end().0, Some(0));
}

#[test]
fn a_kill_loses_nothing_that_was_answered() {
    let dir = Dir::new("kill");
    let mut sum = 0;
    for round in 0..4u64 {
        let mut serving = Serving::start(dir.path());
        assert_eq!(serving.balance(), sum, "before round {round}");
        for n in 0..20 {
            assert_eq!(serving.top_up(&format!("{round}-{n}"), 7), 201);
            sum += 7;
        }
        // The last key again, after the kill: the first answer, no second effect.
        serving.child.kill().unwrap();
        serving.child.wait().unwrap();
        let serving = Serving::start(dir.path());
        assert_eq!(serving.top_up(&format!("{round}-19"), 7), 201);
        assert_eq!(serving.balance(), sum);
        serving.signal("TERM");
        assert_eq!(serving.end().0, Some(0));
    }
    let verify = tollway(&["journal", "verify", "--data", dir.path().join("data").to_str().unwrap()]);
    assert_eq!(verify.status.code(), Some(0), "{}", said(&verify));
}

#[test]
fn bad_usage_bad_files_and_corrupt_journals_have_their_exit_codes() {
    let dir = Dir::new("codes");
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    for (args, code) in [
        (&["--help"][..], 0),
        (&["serve", "--help"], 0),
        (&[], 2),
        (&["dance"], 2),
        (&["serve"], 2),
        (&["check-config", "/nowhere/broker.toml"], 2),
        (&["serve", "--config", "/nowhere/broker.toml", "--data", data], 2),
        (&["journal", "verify", "--data", data], 1),
        (&["rebuild-projections", "--data", data], 1),
        (
            &[
                "noc",
                "wallet",
                "top-up",
                "--customer",
                "c",
                "--amount",
                "x",
                "--currency",
                "EUR",
                "--reason",
                "r",
            ],
            2,
        ),
        (
            &[
                "noc",
                "wallet",
                "top-up",
                "--customer",
                "c",
                "--amount",
                "1",
                "--currency",
                "EUR",
                "--reason",
                "r",
            ],
            2,
        ),
        (&["noc", "key", "new"], 0),
    ] {
        let out = tollway(args);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {}", said(&out));
    }
    let serving = Serving::start(dir.path());
    let url = format!("http://{}", serving.http);
    let key_file = dir.path().join("noc.key");
    // As `noc key new` prints it, saved whole.
    std::fs::write(&key_file, format!("token:  {NOC_TOKEN}\nconfig: sha256 = \"00\"\n")).unwrap();
    let mut top_up = vec!["noc", "wallet", "top-up", "--customer", "shop-pos", "--amount", "10.00"];
    top_up.extend(["--currency", "EUR", "--reason", "cash", "--url", &url]);
    top_up.extend(["--key-file", key_file.to_str().unwrap(), "--idempotency-key", "one"]);
    for _ in 0..2 {
        let out = tollway(&top_up);
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        assert_eq!(String::from_utf8_lossy(&out.stdout), "shop-pos: balance 10.000000 EUR\n");
    }
    assert_eq!(serving.balance(), 10_000_000);
    serving.signal("TERM");
    assert_eq!(serving.end().0, Some(0));
    let out = tollway(&top_up);
    assert_eq!(out.status.code(), Some(1), "nobody is there");
    assert!(
        said(&out).contains("idempotency key: one") && said(&out).contains("not credited"),
        "{}",
        said(&out)
    );
    std::fs::write(
        Path::new(data).join(tollway::store::DATABASE_FILE),
        "this is no database at all".repeat(99),
    )
    .unwrap();
    let out = serve(dir.path()).output().unwrap();
    assert_eq!(out.status.code(), Some(4), "{}", said(&out));
}

#[test]
fn a_missing_market_key_is_not_made_anew_in_silence() {
    let dir = Dir::new("key");
    let serving = Serving::start(dir.path());
    assert_eq!(serving.top_up("a", 5), 201);
    serving.signal("TERM");
    let (code, log) = serving.end();
    assert_eq!(code, Some(0), "{log}");
    let data = dir.path().join("data");
    assert!(log.contains("a new market was made") && log.contains(data.to_str().unwrap()), "{log}");
    let key = data.join(tollway::public_id::KEY_FILE);
    std::fs::remove_file(&key).unwrap();
    let out = serve(dir.path()).output().unwrap();
    assert_eq!(out.status.code(), Some(2), "{}", said(&out));
    assert!(said(&out).contains("restore market.key from the backup"), "{}", said(&out));
    assert!(!key.exists());
    let serving = Serving::wait(serve(dir.path()).arg("--new-market-key").spawn().unwrap());
    assert_eq!(serving.balance(), 5);
    serving.signal("TERM");
    assert_eq!(serving.end().0, Some(0));
    assert!(key.exists());
}

/// A disk of its own for one process: a small tmpfs in a mount namespace. `None` where the host forbids it.
fn on_small_disk(dir: &Path) -> Option<Serving> {
    let disk = dir.join("disk");
    std::fs::create_dir_all(&disk).unwrap();
    let config = config_in(dir);
    let script = r#"mount -t tmpfs -o size=4m none "$0" && exec "$1" serve --config "$2" --data "$0/data""#;
    let probe = Command::new("unshare").args(["-rm", "true"]).output();
    if !probe.is_ok_and(|out| out.status.success()) {
        return None;
    }
    let child = Command::new("unshare")
        .args(["-rm", "sh", "-c", script])
        .args([disk.as_os_str(), TOLLWAY.as_ref(), config.as_os_str()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Some(Serving::wait(child))
}

#[test]
fn a_full_disk_answers_503_and_recovers_by_itself() {
    let dir = Dir::new("disk");
    let Some(serving) = on_small_disk(dir.path()) else {
        eprintln!("not shown here: this host allows no mount namespaces");
        return;
    };
    let inside = format!("/proc/{}/root{}", serving.child.id(), dir.path().join("disk").display());
    let inside = PathBuf::from(inside);
    assert_eq!(serving.top_up("before", 100), 201);
    // Fills what is left of the disk.
    let filler = inside.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[7u8; 4_096]).is_ok() {}
    drop(file);
    let mut sum = 100u64;
    let mut refused = None;
    for n in 0..5_000 {
        let key = format!("k{n}");
        match serving.top_up(&key, 1) {
            201 => sum += 1,
            503 => {
                refused = Some(key);
                break;
            }
            other => panic!("answered {other}"),
        }
    }
    let refused = refused.expect("the disk gets full");
    let ready = || serving.call("GET", "/readyz", "", "", "");
    until("it says that it is not ready", || ready().0 == 503);
    assert!(ready().1.contains("storage is full"), "{}", ready().1);
    let path = "/noc/v0.1/wallets/shop-pos/top-ups";
    let body = r#"{"amount_micros":1,"currency":"EUR","reason":"test"}"#;
    let (status, body) = serving.call("POST", path, NOC_TOKEN, "more", body);
    assert_eq!(status, 503);
    assert!(body.contains("storage is full"), "{body}");
    assert!(!body.contains("database") && !body.contains("(code"), "nothing of the database's own: {body}");
    // It lives, and what is committed can be read.
    assert_eq!(serving.call("GET", "/healthz", "", "", "").0, 200);
    assert_eq!(serving.balance(), sum);
    std::fs::remove_file(&filler).unwrap();
    until("it is ready again by itself", || ready().0 == 200);
    // The refused key was either decided or not; asked again it is decided once.
    assert_eq!(serving.top_up(&refused, 1), 201);
    assert_eq!(serving.top_up(&refused, 1), 201);
    assert_eq!(serving.top_up("more", 1), 201);
    assert_eq!(serving.balance(), sum + 2);
    serving.signal("TERM");
    let (code, log) = serving.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
    assert!(
        log.contains("no space left in ") && log.contains("/data: make room, it goes on by itself"),
        "{log}"
    );
    assert!(!log.contains("error returned from database"), "{log}");
}

#[test]
fn a_start_on_a_full_disk_says_what_to_do() {
    let dir = Dir::new("full-start");
    let disk = dir.path().join("disk");
    std::fs::create_dir_all(&disk).unwrap();
    let config = config_in(dir.path());
    let script = r#"mount -t tmpfs -o size=1m none "$0" && mkdir "$0/data" && { dd if=/dev/zero of="$0/full" 2>/dev/null; true; } \
        && exec "$1" serve --config "$2" --data "$0/data""#;
    let probe = Command::new("unshare").args(["-rm", "true"]).output();
    if !probe.is_ok_and(|out| out.status.success()) {
        eprintln!("not shown here: this host allows no mount namespaces");
        return;
    }
    let out = Command::new("unshare")
        .args(["-rm", "sh", "-c", script])
        .args([disk.as_os_str(), TOLLWAY.as_ref(), config.as_os_str()])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    let wanted = format!("no space left in {}/data: make room, then start again", disk.display());
    assert!(said(&out).contains(&wanted), "{}", said(&out));
}

#[test]
fn a_top_up_that_nobody_heard_is_surely_not_credited() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let output = Command::new(TOLLWAY)
        .args(["noc", "wallet", "top-up", "--customer", "shop-pos", "--amount", "1.00", "--currency", "EUR"])
        .args(["--reason", "test", "--url", &url])
        .env("TOLLWAY_NOC_KEY", NOC_TOKEN)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("idempotency key: ") && said.contains("not credited"), "{said}");
    assert!(said.contains(&url) && said.contains("--url"), "{said}");
}
