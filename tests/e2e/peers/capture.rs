//! Frames as a capture file that tshark reads: IPv4 and TCP put around them again.

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// One frame with both ends' addresses.
struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    at_us: u64,
    bytes: Vec<u8>,
}

/// Grows while nodes trace into it.
#[derive(Clone, Default)]
pub struct Capture(Arc<Mutex<Vec<Packet>>>);

/// Raw IP (tcpdump's LINKTYPE_RAW).
const LINKTYPE_RAW: u32 = 101;
const TCP: u8 = 6;
const PSH_ACK: u8 = 0x18;
const SYN: u8 = 0x02;

impl Capture {
    pub fn take(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        let packet = Packet { from, to, at_us: at.as_micros() as u64, bytes: bytes.to_vec() };
        self.0.lock().expect("nobody panics with it").push(packet);
    }

    pub fn len(&self) -> usize {
        self.0.lock().expect("nobody panics with it").len()
    }

    /// The file's bytes, and the ports that frames came from or went to.
    fn file(&self) -> (Vec<u8>, Vec<u16>) {
        let mut file: Vec<u8> = Vec::new();
        for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 262_144, LINKTYPE_RAW] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        let mut next: BTreeMap<(SocketAddr, SocketAddr), u32> = BTreeMap::new();
        let mut ports = Vec::new();
        for packet in self.0.lock().expect("nobody panics with it").iter() {
            let (SocketAddr::V4(from), SocketAddr::V4(to)) = (packet.from, packet.to) else { continue };
            ports.extend([from.port(), to.port()]);
            // A SYN before the first frame of each direction tells where its stream starts.
            let key = (packet.from, packet.to);
            next.entry(key).or_insert_with(|| {
                record(&mut file, packet.at_us, &ip(from, to, 0, 0, SYN, &[]));
                1
            });
            let acknowledged = next.get(&(packet.to, packet.from)).copied().unwrap_or(1);
            let sequence = next.entry(key).or_insert(1);
            record(&mut file, packet.at_us, &ip(from, to, *sequence, acknowledged, PSH_ACK, &packet.bytes));
            *sequence += packet.bytes.len() as u32;
        }
        ports.sort_unstable();
        ports.dedup();
        (file, ports)
    }

    /// Lets tshark judge every frame: none but Diameter, no expert error or warning, no unknown AVP or value.
    pub fn judge(&self, name: &str) {
        let complaints = self.complaints(name);
        assert!(complaints.is_empty(), "tshark on {name}: {complaints:#?}");
    }

    /// What tshark has against the frames.
    pub fn complaints(&self, name: &str) -> Vec<String> {
        super::need("tshark", "tshark");
        let path = std::env::temp_dir().join(format!("tollway-{name}-{}.pcap", std::process::id()));
        let (file, ports) = self.file();
        std::fs::write(&path, file).expect("the capture is written");
        let frames = self.len();
        assert!(frames > 0, "nothing was captured");
        let codes = tshark(&path, &ports, &["-T", "fields", "-E", "occurrence=a", "-e", "diameter.cmd.code"]);
        let full = tshark(&path, &ports, &["-O", "diameter"]);
        std::fs::remove_file(&path).expect("the capture is removed");
        // Several frames of one instant may lie on one line.
        let of_line = |line: &str| line.split(',').filter(|code| !code.is_empty()).count();
        let seen: usize = codes.lines().map(of_line).sum();
        let missing = (seen != frames).then(|| format!("{seen} of {frames} frames are taken for Diameter"));
        let complaints = full.lines().filter(|line| is_complaint(line)).map(|line| line.trim().to_owned());
        missing.into_iter().chain(complaints).collect()
    }
}

/// What tshark writes about AVPs that it does not know, values outside their enumeration, and broken lengths. The
/// network 999-70 is nobody's, and it says so.
fn is_complaint(line: &str) -> bool {
    let is_network = line.contains("Mobile Network Code") || line.contains("Mobile Country Code");
    let has_expert =
        ["Error", "Warn", "Malformed"].iter().any(|word| line.contains(&format!("Expert Info ({word}")));
    (line.contains("Unknown") && !is_network) || has_expert || line.contains("Malformed")
}

fn tshark(path: &Path, ports: &[u16], words: &[&str]) -> String {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(path).args(["-Y", "diameter"]).args(words);
    for port in ports {
        command.args(["-d", &format!("tcp.port=={port},diameter")]);
    }
    let output = command.output().expect("tshark runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tshark: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn record(file: &mut Vec<u8>, at_us: u64, packet: &[u8]) {
    let len = packet.len() as u32;
    for word in [(at_us / 1_000_000) as u32, (at_us % 1_000_000) as u32, len, len] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(packet);
}

fn ip(
    from: SocketAddrV4,
    to: SocketAddrV4,
    sequence: u32,
    acknowledged: u32,
    flags: u8,
    data: &[u8],
) -> Vec<u8> {
    let len = u16::try_from(40 + data.len()).expect("frames of tests are below 64 KiB");
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&len.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 0, 64, TCP, 0, 0]);
    packet.extend_from_slice(&from.ip().octets());
    packet.extend_from_slice(&to.ip().octets());
    packet.extend_from_slice(&from.port().to_be_bytes());
    packet.extend_from_slice(&to.port().to_be_bytes());
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&acknowledged.to_be_bytes());
    packet.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.extend_from_slice(data);
    packet
}
