//! Whether a leg is in force: every class and element that it needs, read back, on ports that are up.

use crate::observe::{PortView, View};
use crate::state::LegRecord;
use std::collections::BTreeMap;
use std::fmt;
use tollway_model::{Direction, Timestamp};
use tollway_netlink::actual::Root;
use tollway_netlink::layout::ROOT;
use tollway_netlink::nft::{Key, Target};
use tollway_netlink::tc::Handle;

/// What a leg needs in the kernel at one instant: class rates in bytes per second, and elements.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Need {
    pub rates: Vec<(Direction, u64)>,
    pub keys: Vec<Key>,
}

impl Need {
    pub fn at(leg: &LegRecord, at: Timestamp) -> Need {
        let mut need = Need::default();
        for direction in Direction::BOTH {
            let rate = leg.desired.class_rate_at(direction, at).get();
            if rate > 0 {
                need.rates.push((direction, rate.div_ceil(8)));
                need.keys.extend(leg.desired.flows.iter().filter_map(|flow| Key::of(flow, direction)));
            }
        }
        need
    }

    pub fn is_empty(&self) -> bool {
        self.rates.is_empty()
    }
}

/// Why a leg is not in force. The first word is stable; what follows is for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Missing {
    PortDown { port: String },
    Device { port: String },
    Root { port: String, why: String },
    Class { id: Handle, port: String, why: String },
    Element { map: &'static str },
    Conflict { with: String },
}

impl Missing {
    /// The kernel has done what was asked; the port only carries nothing.
    pub fn is_only_down(&self) -> bool {
        match self {
            Missing::PortDown { .. } => true,
            Missing::Device { .. }
            | Missing::Root { .. }
            | Missing::Class { .. }
            | Missing::Element { .. }
            | Missing::Conflict { .. } => false,
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::PortDown { port } => write!(f, "port_down: {port}"),
            Missing::Device { port } => write!(f, "device_missing: port {port}"),
            Missing::Root { port, why } => write!(f, "{why} (port {port})"),
            Missing::Class { id, port, why } => write!(f, "class_missing: {id} at port {port}: {why}"),
            Missing::Element { map } => write!(f, "element_missing: in map {map}"),
            Missing::Conflict { with } => write!(f, "flow_conflict: leg {with} has the same flow now"),
        }
    }
}

/// Checks one leg's need. `refusals` are what the kernel said to the last attempt to make it so.
pub fn check(
    leg: &LegRecord,
    need: &Need,
    view: &View,
    elements: &BTreeMap<Key, Target>,
    refusals: &BTreeMap<(String, u16), String>,
) -> Result<(), Missing> {
    let id = Handle::new(ROOT.major(), leg.minor);
    let mut down = None;
    for (direction, rate) in &need.rates {
        let name = &leg.desired.side(*direction).port;
        let Some(port) = view.get(name) else {
            return Err(Missing::Device { port: name.clone() });
        };
        root(name, port, refusals)?;
        let missing = |why: &str| {
            let refusal = refusals.get(&(name.clone(), leg.minor));
            let why = refusal.map_or_else(|| why.to_owned(), Clone::clone);
            Missing::Class { id, port: name.clone(), why }
        };
        match port.actual.classes.get(&leg.minor) {
            None => return Err(missing("not in the kernel")),
            Some(class) if class.params.rate != *rate => return Err(missing("its rate was changed")),
            Some(_) if !port.up() => down = Some(Missing::PortDown { port: name.clone() }),
            Some(_) => {}
        }
    }
    for key in &need.keys {
        if elements.get(key).is_none_or(|target| target.class != id.0) {
            return Err(Missing::Element { map: key.map.name() });
        }
    }
    match down {
        Some(down) => Err(down),
        None => Ok(()),
    }
}

fn root(name: &str, port: &PortView, refusals: &BTreeMap<(String, u16), String>) -> Result<(), Missing> {
    if port.link.is_none() {
        return Err(Missing::Device { port: name.to_owned() });
    }
    let why = match &port.actual.root {
        Root::Ours { .. } => return Ok(()),
        Root::Unset | Root::Broken => refusals
            .get(&(name.to_owned(), 0))
            .map_or_else(|| "root_missing: our root qdisc is gone".to_owned(), Clone::clone),
        Root::Foreign { kind, handle } => {
            format!("foreign_root_qdisc: {kind} {handle} is the root; set take_root = true to replace it")
        }
    };
    Err(Missing::Root { port: name.to_owned(), why })
}
