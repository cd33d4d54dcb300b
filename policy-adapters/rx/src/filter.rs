//! Flows as packet filters on Rx (TS 29.214 §5.3.8).
//!
//! Rx has the AF's view: `in` is uplink and is written from the device to the remote end, `out` is downlink and is
//! written from the remote end to the device. The PCRF makes the downlink form out of both that Gx wants. Only
//! `permit`, no ranges, no options, no `assigned`: anything else is answered with FILTER_RESTRICTIONS (5062).

use std::fmt::Write;
use std::net::IpAddr;
use tollway_model::{Direction, Flow};

/// The filter rule of one direction of a flow.
pub fn description(flow: &Flow, direction: Direction) -> String {
    let device = end(flow.device, flow.device_port);
    let remote = end(flow.remote, Some(flow.remote_port));
    let protocol = flow.protocol.number();
    match direction {
        Direction::Up => format!("permit in {protocol} from {device} to {remote}"),
        Direction::Down => format!("permit out {protocol} from {remote} to {device}"),
    }
}

fn end(address: IpAddr, port: Option<u16>) -> String {
    let mut text = address.to_string();
    if let Some(port) = port {
        write!(text, " {port}").expect("writing to a string does not fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use tollway_model::Protocol;

    #[test]
    fn each_direction_is_written_from_its_sender() {
        let v4 = Flow {
            protocol: Protocol::Udp,
            device: "10.45.0.2".parse().unwrap(),
            device_port: Some(5_000),
            remote: "198.51.100.10".parse().unwrap(),
            remote_port: 443,
        };
        let v6 = Flow {
            protocol: Protocol::Tcp,
            device: "2001:db8::2".parse().unwrap(),
            device_port: None,
            remote: "2001:db8:1::1".parse().unwrap(),
            remote_port: 22,
        };
        let written: Vec<String> = [v4, v6]
            .iter()
            .flat_map(|flow| Direction::BOTH.map(|direction| description(flow, direction)))
            .collect();
        expect![[r#"
            permit in 17 from 10.45.0.2 5000 to 198.51.100.10 443
            permit out 17 from 198.51.100.10 443 to 10.45.0.2 5000
            permit in 6 from 2001:db8::2 to 2001:db8:1::1 22
            permit out 6 from 2001:db8:1::1 22 to 2001:db8::2"#]]
        .assert_eq(&written.join("\n"));
    }
}
