//! `--diameter-pcap`: every frame into a file that Wireshark opens as Diameter, whatever ports and TLS it came
//! through. The file's link type is Wireshark's own for messages above transport (`LINKTYPE_WIRESHARK_UPPER_PDU`).
//! It holds identities of subscribers: only its owner can read it.

use super::limits::CAPTURE_QUEUE_MAX;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;
use tollway_diameter::node::{Direction, Link, Trace};

/// Classic pcap, microseconds, version 2.4.
const MAGIC: u32 = 0xa1b2_c3d4;
const LINKTYPE_WIRESHARK_UPPER_PDU: u32 = 252;
const SNAP_LEN: u32 = 262_144;

/// Tags before the message (Wireshark's `exported_pdu.h`).
const TAG_END: u16 = 0;
const TAG_DISSECTOR_NAME: u16 = 12;
const TAG_IPV4_SRC: u16 = 20;
const TAG_IPV4_DST: u16 = 21;
const TAG_IPV6_SRC: u16 = 22;
const TAG_IPV6_DST: u16 = 23;
const TAG_PORT_TYPE: u16 = 24;
const TAG_SRC_PORT: u16 = 25;
const TAG_DST_PORT: u16 = 26;
const PORT_TYPE_TCP: u32 = 2;

/// The end of a capture: the file is whole once all that was traced is written.
#[derive(Debug)]
pub struct Capture {
    written: oneshot::Receiver<()>,
}

impl Capture {
    /// Waits until everything is written; whoever traces must be gone.
    pub async fn finish(self) {
        // A writer that is gone has nothing more to write.
        let _ = self.written.await;
    }
}

/// Opens the file, and gives what writes into it.
///
/// # Errors
/// When it cannot be made.
pub fn start(path: &Path) -> std::io::Result<(Trace, Capture)> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let mut out = BufWriter::new(file);
    out.write_all(&header())?;
    out.flush()?;
    let (sender, frames) = sync_channel::<Vec<u8>>(CAPTURE_QUEUE_MAX);
    let writing = std::thread::Builder::new().name("diameter-pcap".to_owned());
    let (done, written) = oneshot::channel();
    writing.spawn(move || {
        write(out, &frames);
        // Nobody may wait for it.
        let _ = done.send(());
    })?;
    let left_out = AtomicU64::new(0);
    let trace: Trace = Arc::new(move |direction, link: &Link, bytes: &[u8]| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if sender.try_send(packet(since, direction, link, bytes)).is_err() {
            let count = left_out.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_power_of_two() {
                tracing::warn!(
                    count,
                    "frames are left out of the capture file: it is not written fast enough"
                );
            }
        }
    });
    Ok((trace, Capture { written }))
}

fn write(mut out: BufWriter<File>, frames: &Receiver<Vec<u8>>) {
    let failed =
        |error: std::io::Error| tracing::warn!(%error, "the capture file cannot be written any more");
    while let Ok(first) = frames.recv() {
        let mut written = out.write_all(&first);
        while written.is_ok() {
            match frames.try_recv() {
                Ok(next) => written = out.write_all(&next),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        if let Err(error) = written.and_then(|()| out.flush()) {
            return failed(error);
        }
    }
}

fn header() -> Vec<u8> {
    let mut header = Vec::with_capacity(24);
    header.extend_from_slice(&MAGIC.to_le_bytes());
    header.extend_from_slice(&2u16.to_le_bytes());
    header.extend_from_slice(&4u16.to_le_bytes());
    header.extend_from_slice(&[0; 8]);
    header.extend_from_slice(&SNAP_LEN.to_le_bytes());
    header.extend_from_slice(&LINKTYPE_WIRESHARK_UPPER_PDU.to_le_bytes());
    header
}

fn packet(since: Duration, direction: Direction, link: &Link, message: &[u8]) -> Vec<u8> {
    let (from, to) = match direction {
        Direction::In => (link.remote, link.local),
        Direction::Out => (link.local, link.remote),
    };
    let mut data = Vec::with_capacity(96 + message.len());
    tag(&mut data, TAG_DISSECTOR_NAME, b"diameter");
    address(&mut data, from, TAG_IPV4_SRC, TAG_IPV6_SRC);
    address(&mut data, to, TAG_IPV4_DST, TAG_IPV6_DST);
    tag(&mut data, TAG_PORT_TYPE, &PORT_TYPE_TCP.to_be_bytes());
    tag(&mut data, TAG_SRC_PORT, &u32::from(from.port()).to_be_bytes());
    tag(&mut data, TAG_DST_PORT, &u32::from(to.port()).to_be_bytes());
    tag(&mut data, TAG_END, &[]);
    data.extend_from_slice(message);
    // A frame has at most 64 KiB.
    let len = u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes();
    let seconds = u32::try_from(since.as_secs()).unwrap_or(u32::MAX);
    let mut packet = Vec::with_capacity(16 + data.len());
    packet.extend_from_slice(&seconds.to_le_bytes());
    packet.extend_from_slice(&since.subsec_micros().to_le_bytes());
    packet.extend_from_slice(&len);
    packet.extend_from_slice(&len);
    packet.extend_from_slice(&data);
    packet
}

fn address(data: &mut Vec<u8>, at: SocketAddr, v4: u16, v6: u16) {
    match at.ip() {
        IpAddr::V4(ip) => tag(data, v4, &ip.octets()),
        IpAddr::V6(ip) => tag(data, v6, &ip.octets()),
    }
}

/// Values are filled up to whole words; their length says so.
fn tag(data: &mut Vec<u8>, tag: u16, value: &[u8]) {
    let padded = value.len().next_multiple_of(4);
    data.extend_from_slice(&tag.to_be_bytes());
    data.extend_from_slice(&u16::try_from(padded).unwrap_or(u16::MAX).to_be_bytes());
    data.extend_from_slice(value);
    data.resize(data.len() + padded - value.len(), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_says_what_it_is_and_between_whom() {
        let link = Link {
            local: "127.0.0.1:3868".parse().unwrap(),
            remote: "[2001:db8::1]:4000".parse().unwrap(),
            peer: None,
        };
        let message = [1u8, 0, 0, 20];
        let packet = packet(Duration::from_micros(7_000_005), Direction::In, &link, &message);
        let word = |at: usize| u32::from_le_bytes(packet[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(4), word(8) as usize), (7, 5, packet.len() - 16));
        let hex: String = packet[16..].iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = [
            "000c0008",
            "6469616d65746572", // the dissector
            "00160010",
            "20010db8000000000000000000000001", // from
            "00150004",
            "7f000001", // to
            "00180004",
            "00000002",
            "00190004",
            "00000fa0",
            "001a0004",
            "00000f1c", // TCP, its ports
            "00000000",
            "01000014",
        ];
        assert_eq!(hex, expected.concat());
        assert_eq!(header().len(), 24);
    }
}
