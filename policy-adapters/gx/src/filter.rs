//! Flows as packet filters (TS 29.212 §5.3.53, TS 29.214 §5.3.8).
//!
//! Both directions are written in *downlink* form, `permit out … from <remote> to <device>`; Flow-Direction says
//! which way the packets go (TS 29.212 §5.3.65). An uplink filter in uplink form makes a real gateway match the
//! server's address as the local one: the wrong packets, and no error anywhere.

use tollway_diameter::Writer;
use tollway_diameter::avp::tgpp::{FLOW_DESCRIPTION, FLOW_DIRECTION, FLOW_INFORMATION};
use tollway_model::{Direction, Flow};

/// The filter rule of a flow, in downlink form.
pub fn description(flow: &Flow) -> String {
    let device_port = flow.device_port.map_or(String::new(), |port| format!(" {port}"));
    let (protocol, remote, remote_port) = (flow.protocol.number(), flow.remote, flow.remote_port);
    format!("permit out {protocol} from {remote} {remote_port} to {}{device_port}", flow.device)
}

const fn code(direction: Direction) -> u32 {
    match direction {
        Direction::Down => 1,
        Direction::Up => 2,
    }
}

/// Flow-Information, once for each direction of each flow.
pub(crate) fn write(writer: &mut Writer, flows: &[Flow]) {
    for flow in flows {
        let description = description(flow);
        for direction in Direction::BOTH {
            writer.group(FLOW_INFORMATION, |w| {
                w.text(FLOW_DESCRIPTION, &description);
                w.u32(FLOW_DIRECTION, code(direction));
            });
        }
    }
}

/// Flow-Information for every packet of the session.
pub(crate) fn write_any(writer: &mut Writer) {
    for direction in Direction::BOTH {
        writer.group(FLOW_INFORMATION, |w| {
            w.text(FLOW_DESCRIPTION, "permit out ip from any to assigned");
            w.u32(FLOW_DIRECTION, code(direction));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollway_model::Protocol;

    #[test]
    fn both_directions_are_in_downlink_form() {
        let mut flow = Flow {
            protocol: Protocol::Udp,
            device: "10.45.0.2".parse().unwrap(),
            device_port: Some(5_000),
            remote: "198.51.100.10".parse().unwrap(),
            remote_port: 443,
        };
        assert_eq!(description(&flow), "permit out 17 from 198.51.100.10 443 to 10.45.0.2 5000");
        flow.device_port = None;
        flow.protocol = Protocol::Tcp;
        flow.device = "2001:db8::2".parse().unwrap();
        flow.remote = "2001:db8:1::1".parse().unwrap();
        assert_eq!(description(&flow), "permit out 6 from 2001:db8:1::1 443 to 2001:db8::2");
    }
}
