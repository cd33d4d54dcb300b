//! Real kernels in namespaces that the test makes itself. The test process starts itself again for one test,
//! inside a user and network namespace (as root also without the user namespace), so that no thread exists
//! before. All traffic stays there.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const INSIDE: &str = "TOLLWAY_TEST_NAMESPACE";
const SKIPPED: i32 = 77;

/// Runs `body` in namespaces of its own, in a process of its own; `name` is the test's full name.
pub fn in_namespace(name: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        run(&["ip", "link", "set", "lo", "up"]);
        body();
        return;
    }
    let exe = std::env::current_exe().expect("the test's own path");
    let mut child = Command::new(exe);
    child.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
    // SAFETY: between fork and exec only system calls and writes to /proc; no other thread runs there.
    unsafe { child.pre_exec(move || enter(uid, gid)) };
    let status = match child.status() {
        Ok(status) => status,
        Err(error) => {
            println!("skipped: this host gives no namespaces: {error}");
            return;
        }
    };
    if status.code() == Some(SKIPPED) {
        return;
    }
    assert!(status.success(), "{name} failed inside its namespace: {status}");
}

/// Ends the inner process as skipped.
pub fn skip(reason: &str) -> ! {
    println!("skipped: {reason}");
    std::process::exit(SKIPPED);
}

fn enter(uid: libc::uid_t, gid: libc::gid_t) -> io::Result<()> {
    // SAFETY: plain system calls without pointers.
    unsafe {
        if libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::CLONE_NEWNS) == 0 {
            std::fs::write("/proc/self/setgroups", "deny")?;
            std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
            return std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"));
        }
        if libc::unshare(libc::CLONE_NEWNET) == 0 {
            return Ok(());
        }
    }
    Err(io::Error::last_os_error())
}

/// Runs a tool and gives its standard output; a failure fails the test.
pub fn run(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{words:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn sh(line: &str) -> String {
    run(&line.split_whitespace().collect::<Vec<_>>())
}

/// `nft` with one argument: it takes a word like `-200` for an option otherwise.
pub fn nft(line: &str) -> String {
    run(&["nft", line])
}

/// Our table without the times that run: one line of single spaces per line.
pub fn our_table() -> String {
    let text = nft("list table inet tollway");
    let mut lines = String::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            if word == "timeout" || word == "expires" {
                words.next();
            } else {
                lines += word;
                lines.push(' ');
            }
        }
        lines.push('\n');
    }
    lines
}

/// Whether a tool succeeds.
pub fn tries(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    output.is_ok_and(|output| output.status.success())
}

/// Polls until `condition` holds; the bound fails the test.
pub fn wait_for<T>(what: &str, bound: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + bound;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "not within {bound:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A host: a thread in a network namespace of its own.
pub struct Host {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    pub tid: i32,
}

impl Host {
    pub fn new() -> Host {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (tell, tid) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            // SAFETY: plain system calls without pointers; only this thread moves.
            let tid = unsafe {
                assert_eq!(libc::unshare(libc::CLONE_NEWNET), 0, "{}", io::Error::last_os_error());
                libc::gettid()
            };
            run(&["ip", "link", "set", "lo", "up"]);
            tell.send(tid).expect("the test waits");
            queue.into_iter().for_each(|job| job());
        });
        let tid = tid.recv().expect("the host starts");
        Host { jobs: Some(jobs), thread: Some(thread), tid }
    }

    /// Runs there and waits.
    pub fn on<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, result) = mpsc::channel();
        let job = Box::new(move || {
            let _test_gone = tell.send(job());
        });
        self.jobs.as_ref().expect("running").send(job).expect("the host runs");
        result.recv().expect("the job ends well")
    }

    pub fn sh(&self, line: &str) -> String {
        let line = line.to_owned();
        self.on(move || sh(&line))
    }

    /// A socket of this host, usable from any thread; receives wait 200 ms.
    pub fn udp(&self, address: &str, port: u16) -> UdpSocket {
        let address: IpAddr = address.parse().expect("an address");
        let socket = self.on(move || UdpSocket::bind((address, port)).expect("binds"));
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        socket
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Client – router – server, IPv4 and IPv6, offloads off; the router is the calling thread's namespace.
pub struct Line {
    pub client: Host,
    pub server: Host,
}

pub const CLIENT: &str = "10.1.0.2";
pub const SERVER: &str = "10.2.0.2";
pub const CLIENT6: &str = "fd01::2";
pub const SERVER6: &str = "fd02::2";

impl Line {
    pub fn new() -> Line {
        let (client, server) = (Host::new(), Host::new());
        for (host, port, address, address6) in
            [(&client, "lan0", "10.1.0", "fd01:"), (&server, "wan0", "10.2.0", "fd02:")]
        {
            sh(&format!("ip link add {port} type veth peer name eth0 netns {}", host.tid));
            sh(&format!("ip addr add {address}.1/24 dev {port}"));
            sh(&format!("ip addr add {address6}:1/64 dev {port} nodad"));
            sh(&format!("ip link set {port} up"));
            host.sh(&format!("ip addr add {address}.2/24 dev eth0"));
            host.sh(&format!("ip addr add {address6}:2/64 dev eth0 nodad"));
            host.sh("ip link set eth0 up");
            host.sh(&format!("ip route add default via {address}.1"));
            host.sh(&format!("ip -6 route add default via {address6}:1"));
            offloads_off(port);
            host.on(|| offloads_off("eth0"));
        }
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwards");
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").expect("forwards");
        let line = Line { client, server };
        // The first packets wait for neighbours; a test of counters starts with all of them known.
        for (client, server) in [(CLIENT, SERVER), (CLIENT6, SERVER6)] {
            let (from, to) = (line.client.udp(client, 0), line.server.udp(server, 0));
            let target = to.local_addr().expect("bound");
            wait_for("the line carries packets", Duration::from_secs(10), || {
                from.send_to(b"there", target).ok()?;
                let (_, back) = to.recv_from(&mut [0; 16]).ok()?;
                to.send_to(b"back", back).ok()?;
                from.recv_from(&mut [0; 16]).ok()
            });
        }
        line
    }
}

/// `ethtool -K dev gso off tso off gro off tx off`, by ioctl: the tool may not be installed.
pub fn offloads_off(device: &str) {
    const SIOCETHTOOL: libc::c_ulong = 0x8946;
    const SET_TXCSUM: u32 = 0x17;
    const SET_TSO: u32 = 0x1f;
    const SET_GSO: u32 = 0x24;
    const SET_GRO: u32 = 0x2c;
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    // SAFETY: the request holds a name of at most 15 bytes and a pointer to a value that outlives the call.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0);
        for command in [SET_TXCSUM, SET_TSO, SET_GSO, SET_GRO] {
            let mut value = Value { command, data: 0 };
            let mut request: libc::ifreq = std::mem::zeroed();
            for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
                *to = from as libc::c_char;
            }
            request.ifr_ifru.ifru_data = (&raw mut value).cast();
            libc::ioctl(fd, SIOCETHTOOL, &raw mut request);
        }
        libc::close(fd);
    }
}

/// Bytes and packets that a device has received, in the calling thread's namespace.
pub fn received(device: &str) -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").expect("readable");
    let line =
        text.lines().find_map(|line| line.trim().strip_prefix(&format!("{device}:"))).expect("a device");
    let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().expect("a number"));
    let mut next = || numbers.next().expect("a column");
    (next(), next())
}
