//! One look at the kernel: devices, qdiscs and classes of the configured ports.

use crate::enforcer::PortConfig;
use crate::error::Result;
use crate::kernel::Kernel;
use crate::links::Link;
use std::collections::BTreeMap;
use tollway_netlink::actual::{ActualPort, Root};
use tollway_netlink::layout::PortSpec;
use tollway_netlink::tc::Stats;

/// One port as it is now.
#[derive(Clone, Debug)]
pub struct PortView {
    /// `None`: there is no such device.
    pub link: Option<Link>,
    pub actual: ActualPort,
}

impl PortView {
    pub fn up(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.up)
    }

    pub fn ifindex(&self) -> Option<u32> {
        self.link.as_ref().map(|link| link.ifindex)
    }

    pub fn spec(&self, config: &PortConfig) -> Option<PortSpec> {
        let link = self.link.as_ref()?;
        Some(PortSpec { ifindex: link.ifindex, link: config.link, mtu: link.mtu })
    }

    pub fn stats(&self, minor: u16) -> Option<Stats> {
        self.actual.classes.get(&minor).map(|class| class.stats)
    }

    pub fn direct_packets(&self) -> u64 {
        match self.actual.root {
            Root::Ours { direct_packets } => direct_packets,
            Root::Unset | Root::Broken | Root::Foreign { .. } => 0,
        }
    }
}

/// All ports by name.
pub type View = BTreeMap<String, PortView>;

pub fn look(kernel: &mut Kernel, ports: &[PortConfig]) -> Result<View> {
    let links = kernel.links()?;
    let indexes: Vec<u32> = ports.iter().filter_map(|p| links.get(&p.device)).map(|l| l.ifindex).collect();
    let mut actual = kernel.ports(&indexes)?;
    let view = ports.iter().map(|port| {
        let link = links.get(&port.device).cloned();
        let actual = link.as_ref().and_then(|l| actual.remove(&l.ifindex)).unwrap_or_default();
        (port.name.clone(), PortView { link, actual })
    });
    Ok(view.collect())
}
