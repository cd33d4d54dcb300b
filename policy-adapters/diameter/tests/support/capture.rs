//! Diameter messages out of a pcapng file: Ethernet, IPv4, TCP, put together per direction.

use std::collections::BTreeMap;
use tollway_diameter::framer::Framer;

/// 3868 is Diameter's; the relay's capture uses the other two.
const PORTS: [u16; 3] = [3868, 3878, 3879];

fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/../../tests/fixtures/gx/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn u32_le(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes.try_into().expect("four bytes")) as usize
}

/// Captured packets of a little-endian pcapng: the Enhanced Packet Blocks.
fn packets(file: &[u8]) -> Vec<&[u8]> {
    let mut rest = file;
    let mut packets = Vec::new();
    while rest.len() >= 12 {
        let (kind, len) = (u32_le(&rest[0..4]), u32_le(&rest[4..8]));
        if kind == 6 {
            let captured = u32_le(&rest[20..24]);
            packets.push(&rest[28..28 + captured]);
        }
        rest = &rest[len..];
    }
    packets
}

/// `(source port, destination port, sequence, payload)` of a TCP segment over IPv4.
fn segment(packet: &[u8]) -> Option<(u16, u16, u32, &[u8])> {
    let ip = packet.strip_prefix(&packet[..12])?.strip_prefix(&[8, 0])?;
    let ip = &ip[..usize::from(u16::from_be_bytes([ip[2], ip[3]]))];
    if ip[9] != 6 {
        return None;
    }
    let tcp = &ip[usize::from(ip[0] & 15) * 4..];
    let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    let payload = &tcp[usize::from(tcp[12] >> 4) * 4..];
    Some((u16::from_be_bytes([tcp[0], tcp[1]]), u16::from_be_bytes([tcp[2], tcp[3]]), sequence, payload))
}

/// Every Diameter message of a capture, in the order in which each was complete.
pub fn messages(name: &str) -> Vec<Vec<u8>> {
    let file = fixture(name);
    let mut streams: BTreeMap<(u16, u16), (Option<u32>, Framer)> = BTreeMap::new();
    let mut messages = Vec::new();
    for (source, destination, sequence, payload) in packets(&file).into_iter().filter_map(segment) {
        if payload.is_empty() || !(PORTS.contains(&source) || PORTS.contains(&destination)) {
            continue;
        }
        let (expected, framer) = streams.entry((source, destination)).or_default();
        let start = expected.unwrap_or(sequence);
        let known = start.wrapping_sub(sequence) as usize;
        if known >= payload.len() {
            assert!(known < 1 << 30, "{name}: a hole before {sequence}");
            continue;
        }
        framer.push(&payload[known..]);
        *expected = Some(sequence.wrapping_add(payload.len() as u32));
        while let Some(frame) = framer.next_frame().expect("captures are whole") {
            messages.push(frame.to_vec());
        }
    }
    assert!(streams.values().all(|(_, framer)| framer.rest().is_empty()), "{name}: half a message is left");
    messages
}

pub const CAPTURES: [&str; 2] = ["pcef-open5gs.pcapng", "relay-freediameter.pcapng"];

/// Messages of both captures.
pub fn all() -> Vec<Vec<u8>> {
    CAPTURES.iter().flat_map(|name| messages(name)).collect()
}

/// Lines of avps.tsv.
pub fn avp_list() -> String {
    String::from_utf8(fixture("avps.tsv")).expect("the list is UTF-8")
}
