//! For people: what is there, what is left over, and its removal.

use super::{Enforcer, PortConfig};
use crate::error::Result;
use crate::kernel::Kernel;
use crate::observe;
use std::collections::BTreeMap;
use tollway_model::Timestamp;
use tollway_netlink::actual::Root;
use tollway_netlink::diff::Op;
use tollway_netlink::layout::{MINOR_MAX, MINOR_MIN};

impl Enforcer {
    /// Takes away everything of ours: the table and the root qdiscs of the configured ports; the kernel puts
    /// its default qdisc back. Gives what was removed, for people.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn uninstall(kernel: &mut Kernel, ports: &[PortConfig]) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        if kernel.tables.exists()? {
            kernel.tables.remove()?;
            removed.push("table inet tollway".to_owned());
        }
        let view = observe::look(kernel, ports)?;
        for (name, port) in &view {
            let ours = match port.actual.root {
                Root::Ours { .. } | Root::Broken => true,
                Root::Unset | Root::Foreign { .. } => false,
            };
            let Some(ifindex) = port.ifindex().filter(|_| ours) else { continue };
            if let Some(failure) = kernel.apply(&[(ifindex, Op::DelRoot)])?.pop() {
                return Err(failure.error);
            }
            removed.push(format!("root qdisc htb 7a11: of port {name}"));
        }
        Ok(removed)
    }

    /// Everything of ours that is in the kernel beyond an empty set-up: reservation classes and elements.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn leftovers(kernel: &mut Kernel, ports: &[PortConfig]) -> Result<Vec<String>> {
        let mut all: Vec<String> = kernel
            .tables
            .elements(&BTreeMap::new(), Timestamp::ZERO)?
            .keys()
            .map(|key| format!("element of map {}", key.map.name()))
            .collect();
        for (name, port) in observe::look(kernel, ports)? {
            let classes = port.actual.classes.keys().filter(|m| (MINOR_MIN..=MINOR_MAX).contains(*m));
            all.extend(classes.map(|minor| format!("class 7a11:{minor:x} of port {name}")));
        }
        Ok(all)
    }

    /// What the configured ports have, for people; `Err` is a problem.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn survey(
        kernel: &mut Kernel,
        ports: &[PortConfig],
    ) -> Result<Vec<(String, std::result::Result<String, String>)>> {
        let view = observe::look(kernel, ports)?;
        let state = |config: &PortConfig| {
            let Some(port) = view.get(&config.name) else { return Err("not looked at".to_owned()) };
            let Some(link) = &port.link else { return Err(format!("no device {}", config.device)) };
            let up = if link.up { "up" } else { "down" };
            let text = |root: String| format!("device {} {up}, mtu {}, {root}", config.device, link.mtu);
            match &port.actual.root {
                Root::Ours { .. } => Ok(text("root qdisc is ours".into())),
                Root::Unset => Ok(text("no root qdisc set".into())),
                Root::Broken => Err(text("root qdisc 7a11: is not as we make it".into())),
                Root::Foreign { kind, handle } if config.take_root => {
                    Ok(text(format!("foreign root qdisc {kind} {handle} will be taken")))
                }
                Root::Foreign { kind, handle } => Err(text(format!(
                    "foreign_root_qdisc: {kind} {handle}; set take_root = true to replace it"
                ))),
            }
        };
        Ok(ports.iter().map(|config| (config.name.clone(), state(config))).collect())
    }
}
