//! What a dump says the kernel has, cut down to what Tollway owns or must respect.

use crate::htb::{self, Params};
use crate::layout::{CLASS_DEFAULT, ROOT};
use crate::leaf::Leaf;
use crate::tc::{Handle, Object, Stats};
use std::collections::BTreeMap;

/// The root qdisc of a port.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Root {
    /// None, or the one that the kernel puts there by itself (handle 0).
    #[default]
    Unset,
    Ours {
        direct_packets: u64,
    },
    /// Has our handle but not our shape; it is rebuilt.
    Broken,
    Foreign {
        kind: String,
        handle: Handle,
    },
}

/// One class of our root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActualClass {
    pub parent: Handle,
    pub params: Params,
    pub stats: Stats,
}

/// An explicit leaf qdisc under one of our classes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActualLeaf {
    pub handle: Handle,
    pub leaf: Leaf,
}

/// What one device has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ActualPort {
    pub root: Root,
    pub classes: BTreeMap<u16, ActualClass>,
    pub leaves: BTreeMap<u16, ActualLeaf>,
}

impl ActualPort {
    /// Takes in one qdisc of this device.
    pub fn add_qdisc(&mut self, object: &Object<'_>) {
        if object.parent == Handle::ROOT {
            self.root = root(object);
        } else if object.parent.major() == ROOT.major() && object.handle.0 != 0 {
            let leaf = ActualLeaf { handle: object.handle, leaf: Leaf::parse(object) };
            self.leaves.insert(object.parent.minor(), leaf);
        }
    }

    /// Takes in one class of this device; classes of other qdiscs are passed over.
    pub fn add_class(&mut self, object: &Object<'_>) {
        if object.kind != htb::KIND || object.handle.major() != ROOT.major() {
            return;
        }
        if let Some(params) = htb::parse_class(object) {
            let class = ActualClass { parent: object.parent, params, stats: object.stats };
            self.classes.insert(object.handle.minor(), class);
        }
    }

    pub fn is_ours(&self) -> bool {
        match self.root {
            Root::Ours { .. } => true,
            Root::Unset | Root::Broken | Root::Foreign { .. } => false,
        }
    }
}

fn root(object: &Object<'_>) -> Root {
    if object.handle.major() == 0 {
        return Root::Unset;
    }
    if object.handle != ROOT || object.kind != htb::KIND {
        return Root::Foreign { kind: object.kind.to_owned(), handle: object.handle };
    }
    match htb::parse_root(object) {
        Some(options) if options.default_minor == u32::from(CLASS_DEFAULT) => {
            Root::Ours { direct_packets: u64::from(options.direct_packets) }
        }
        Some(_) | None => Root::Broken,
    }
}
