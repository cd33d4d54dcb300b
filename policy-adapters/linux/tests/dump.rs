//! A dump of a map whose hash table grows meanwhile leaves elements out: the kernel goes on at a count of
//! elements, in another order. What was just added must be read back all the same.

mod support;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};
use support::in_namespace;
use tollway_linux::Kernel;
use tollway_model::{Direction, Flow, Protocol, Timestamp};
use tollway_netlink::diff::ElementDiff;
use tollway_netlink::nft::{Key, Target};

const ROUNDS: u32 = 500;
const ELEMENTS: u32 = 1_000;

#[test]
fn elements_are_read_back_whole_while_their_map_grows() {
    in_namespace("elements_are_read_back_whole_while_their_map_grows", || {
        let mut kernel = Kernel::open(true).expect("netlink");
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let now = Timestamp(u64::try_from(since.as_millis()).expect("fits"));
        for round in 0..ROUNDS {
            kernel.tables.ensure().expect("a table");
            let wanted: BTreeMap<Key, Target> = (0..ELEMENTS).map(|n| element(round, n)).collect();
            let add = wanted.iter().map(|(key, target)| (key.clone(), *target)).collect();
            kernel.tables.edit(&ElementDiff { delete: Vec::new(), add }, now).expect("an edit");
            let read = kernel.tables.elements(&wanted, now).expect("a dump");
            assert_eq!(read.len(), wanted.len(), "round {round}");
            kernel.tables.remove().expect("removed");
        }
    });
}

fn element(round: u32, n: u32) -> (Key, Target) {
    let flow = Flow {
        protocol: Protocol::Udp,
        device: Ipv4Addr::from(0x0a00_0000 + round * ELEMENTS + n).into(),
        device_port: None,
        remote: Ipv4Addr::new(192, 0, 2, 1).into(),
        remote_port: 443,
    };
    (Key::of(&flow, Direction::Up).expect("one family"), Target { class: 0x7a11_0100 + n, until: None })
}
