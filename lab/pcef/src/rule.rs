//! Rules as a gateway holds them, read out of Charging-Rule-Install (TS 29.212 §5.3.2).

use crate::message::View;
use serde::Serialize;
use std::net::Ipv4Addr;

/// Bits a second of IP packets.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Default, Debug)]
pub struct Rates {
    pub up_bps: u64,
    pub down_bps: u64,
}

/// Which way a filter's packets go (TS 29.212 §5.3.65).
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Down,
    Up,
    Both,
}

/// Flow-Information as it came.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Filter {
    pub description: String,
    pub direction: Direction,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its Rule-Activation-Time has not come.
    Waiting,
    Active,
}

/// One rule.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Rule {
    pub name: String,
    /// Known to the gateway by this name alone, or a group of such (TS 29.212 §5.3.5).
    pub is_predefined: bool,
    pub filters: Vec<Filter>,
    pub qci: Option<u32>,
    pub max: Rates,
    pub guaranteed: Rates,
    pub precedence: Option<u32>,
    pub rating_group: Option<u32>,
    pub monitoring_key: Option<String>,
    /// Seconds since 1970.
    pub from: Option<u64>,
    pub until: Option<u64>,
    /// Resource-Allocation-Notification: success is to be reported (TS 29.212 §5.3.50).
    pub wants_report: bool,
    pub status: Status,
}

/// A rate and its wide form in kbit/s, which counts where both are there (TS 29.212 §4.5.30).
fn rate(qos: View<'_>, narrow: &str, wide: &str) -> u64 {
    let wide = qos.number(wide).map(|kbps| u64::from(kbps) * 1_000);
    wide.or_else(|| qos.number(narrow).map(u64::from)).unwrap_or(0)
}

fn filter(group: View<'_>) -> Option<Filter> {
    let direction = match group.number("Flow-Direction") {
        Some(1) => Direction::Down,
        Some(2) => Direction::Up,
        _ => Direction::Both,
    };
    Some(Filter { description: group.text("Flow-Description")?, direction })
}

/// The rules of one Charging-Rule-Install; its times hold for all of them.
pub fn installed(install: View<'_>) -> Vec<Rule> {
    let bare = |name: String| Rule {
        name,
        is_predefined: true,
        filters: Vec::new(),
        qci: None,
        max: Rates::default(),
        guaranteed: Rates::default(),
        precedence: None,
        rating_group: None,
        monitoring_key: None,
        from: install.time("Rule-Activation-Time"),
        until: install.time("Rule-Deactivation-Time"),
        wants_report: install.number("Resource-Allocation-Notification") == Some(0),
        status: Status::Waiting,
    };
    let defined = install.groups("Charging-Rule-Definition").filter_map(|definition| {
        let mut rule = bare(definition.text("Charging-Rule-Name")?);
        rule.is_predefined = false;
        rule.filters = definition.groups("Flow-Information").filter_map(filter).collect();
        rule.precedence = definition.number("Precedence");
        rule.rating_group = definition.number("Rating-Group");
        rule.monitoring_key = definition.text("Monitoring-Key");
        if let Some(qos) = definition.groups("QoS-Information").next() {
            rule.qci = qos.number("QoS-Class-Identifier");
            rule.max = Rates {
                up_bps: rate(qos, "Max-Requested-Bandwidth-UL", "Extended-Max-Requested-BW-UL"),
                down_bps: rate(qos, "Max-Requested-Bandwidth-DL", "Extended-Max-Requested-BW-DL"),
            };
            rule.guaranteed = Rates {
                up_bps: rate(qos, "Guaranteed-Bitrate-UL", "Extended-GBR-UL"),
                down_bps: rate(qos, "Guaranteed-Bitrate-DL", "Extended-GBR-DL"),
            };
        }
        Some(rule)
    });
    let named = install.texts("Charging-Rule-Name").chain(install.texts("Charging-Rule-Base-Name"));
    defined.chain(named.map(bare)).collect()
}

/// Names in a Charging-Rule-Remove.
pub fn removed(remove: View<'_>) -> Vec<String> {
    remove.texts("Charging-Rule-Name").chain(remove.texts("Charging-Rule-Base-Name")).collect()
}

/// An IPv4 filter in downlink form: the remote end, the device's end (TS 29.214 §5.3.8). Zero is any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match {
    pub protocol: u8,
    pub remote: (Ipv4Addr, u8),
    pub remote_port: u16,
    pub device: (Ipv4Addr, u8),
    pub device_port: u16,
}

const ANY: (Ipv4Addr, u8) = (Ipv4Addr::UNSPECIFIED, 0);

impl Match {
    /// Reads `permit out PROTOCOL from REMOTE [PORT] to DEVICE [PORT]`; `any` and `assigned` are the session's.
    pub fn parse(description: &str, assigned: Option<Ipv4Addr>) -> Option<Match> {
        let words: Vec<&str> = description.split_whitespace().collect();
        let ["permit", "out", protocol, "from", rest @ ..] = &words[..] else { return None };
        let protocol = if *protocol == "ip" { 0 } else { protocol.parse().ok()? };
        let split = rest.iter().position(|word| *word == "to")?;
        let (remote, remote_port) = end(&rest[..split], None)?;
        let (device, device_port) = end(&rest[split + 1..], assigned)?;
        Some(Match { protocol, remote, remote_port, device, device_port })
    }
}

fn end(words: &[&str], assigned: Option<Ipv4Addr>) -> Option<((Ipv4Addr, u8), u16)> {
    let (address, port) = match words {
        [address] => (*address, 0),
        [address, port] => (*address, port.parse().ok()?),
        _ => return None,
    };
    let address = match address {
        "any" => ANY,
        "assigned" => assigned.map_or(ANY, |address| (address, 32)),
        text => match text.split_once('/') {
            Some((address, len)) => (address.parse().ok()?, len.parse().ok().filter(|len| *len <= 32)?),
            None => (text.parse().ok()?, 32),
        },
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_in_downlink_form_only() {
        let ue = Ipv4Addr::new(10, 45, 0, 2);
        let found = Match::parse("permit out 17 from 198.51.100.10 443 to 10.45.0.2 5000", Some(ue));
        let wanted = Match {
            protocol: 17,
            remote: (Ipv4Addr::new(198, 51, 100, 10), 32),
            remote_port: 443,
            device: (ue, 32),
            device_port: 5_000,
        };
        assert_eq!(found, Some(wanted));
        let any = Match::parse("permit out ip from any to assigned", Some(ue)).unwrap();
        assert_eq!((any.protocol, any.remote, any.device, any.remote_port), (0, ANY, (ue, 32), 0));
        let net = Match::parse("permit out 6 from 192.0.2.0/24 to any", None).unwrap();
        assert_eq!((net.remote.1, net.device), (24, ANY));
        for bad in [
            "permit in 6 from 10.45.0.2 to 192.0.2.1",
            "deny out 6 from any to any",
            "permit out 6 from 2001:db8::1 to any",
            "permit out 6 from 192.0.2.0/33 to any",
            "permit out 6 from any 1-5 to any",
            "permit out tcp from any to any",
            "permit out 6 from any",
            "",
        ] {
            assert_eq!(Match::parse(bad, None), None, "{bad}");
        }
    }
}
