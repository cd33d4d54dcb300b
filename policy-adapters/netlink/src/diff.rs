//! The difference between what is wanted and what is there, as ordered operations: what is lowered, then what
//! is added or raised, then one nf_tables batch, then classes that nobody wants.

use crate::actual::{ActualLeaf, ActualPort, Root};
use crate::htb;
use crate::layout::{CLASS_DEFAULT, ClassWant, PortLayout, ROOT, Want};
use crate::leaf::{self, Leaf};
use crate::nft::{self, Key, Map, Target};
use crate::tc::{self, Handle};
use crate::wire::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Writer};
use std::collections::BTreeMap;
use tollway_model::Timestamp;

/// One traffic control operation on a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// `replace`: put it in the place of a foreign root.
    AddRoot {
        replace: bool,
    },
    DelRoot,
    AddClass {
        minor: u16,
        want: ClassWant,
    },
    ChangeClass {
        minor: u16,
        want: ClassWant,
    },
    AddLeaf {
        minor: u16,
        leaf: Leaf,
    },
    ChangeLeaf {
        minor: u16,
        handle: Handle,
        leaf: Leaf,
    },
    DelClass {
        minor: u16,
    },
}

impl Op {
    /// The class that it is about; `None` for the root.
    pub fn minor(&self) -> Option<u16> {
        match self {
            Op::AddRoot { .. } | Op::DelRoot => None,
            Op::AddClass { minor, .. }
            | Op::ChangeClass { minor, .. }
            | Op::AddLeaf { minor, .. }
            | Op::ChangeLeaf { minor, .. }
            | Op::DelClass { minor } => Some(*minor),
        }
    }

    /// Writes it as one message that asks for an acknowledgement.
    pub fn encode(&self, writer: &mut Writer, seq: u32, ifindex: u32) {
        let id = |minor: &u16| Handle::new(ROOT.major(), *minor);
        match self {
            Op::AddRoot { replace } => {
                let how = if *replace { NLM_F_REPLACE } else { NLM_F_EXCL };
                htb::new_root(writer, NLM_F_ACK | NLM_F_CREATE | how, seq, ifindex, ROOT, CLASS_DEFAULT);
            }
            Op::DelRoot => tc::del_qdisc(writer, NLM_F_ACK, seq, ifindex, ROOT, Handle::ROOT),
            Op::AddClass { minor, want } => {
                let parent = if want.parent == Handle::ROOT { ROOT } else { want.parent };
                let flags = NLM_F_ACK | tc::create_flags();
                htb::new_class(writer, flags, seq, ifindex, id(minor), parent, &want.params);
            }
            Op::ChangeClass { minor, want } => {
                let parent = if want.parent == Handle::ROOT { ROOT } else { want.parent };
                htb::new_class(writer, NLM_F_ACK, seq, ifindex, id(minor), parent, &want.params);
            }
            Op::AddLeaf { minor, leaf } => {
                let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
                leaf::new_leaf(writer, flags, seq, ifindex, Handle::NONE, id(minor), leaf);
            }
            Op::ChangeLeaf { minor, handle, leaf } => {
                leaf::new_leaf(writer, NLM_F_ACK, seq, ifindex, *handle, id(minor), leaf);
            }
            Op::DelClass { minor } => htb::del_class(writer, NLM_F_ACK, seq, ifindex, id(minor)),
        }
    }
}

/// Ordered operations of one port.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PortDiff {
    pub lower: Vec<Op>,
    pub raise: Vec<Op>,
    /// Minors that nobody wants; they go after their elements.
    pub orphans: Vec<u16>,
}

impl PortDiff {
    pub fn is_empty(&self) -> bool {
        self.lower.is_empty() && self.raise.is_empty() && self.orphans.is_empty()
    }
}

/// Why nothing may be done at a port.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Blocked {
    #[error("foreign_root_qdisc: {kind} {handle} is the root; set take_root = true to replace it")]
    ForeignRoot { kind: String, handle: Handle },
}

/// Difference of one port.
///
/// # Errors
/// When its root qdisc is somebody else's and may not be taken.
pub fn port(layout: &PortLayout, actual: &ActualPort, take_root: bool) -> Result<PortDiff, Blocked> {
    let mut diff = PortDiff::default();
    let none = ActualPort::default();
    let actual = match &actual.root {
        Root::Ours { .. } => actual,
        Root::Unset => {
            diff.raise.push(Op::AddRoot { replace: false });
            &none
        }
        Root::Broken => {
            diff.raise.push(Op::DelRoot);
            diff.raise.push(Op::AddRoot { replace: false });
            &none
        }
        Root::Foreign { .. } if take_root => {
            diff.raise.push(Op::AddRoot { replace: true });
            &none
        }
        Root::Foreign { kind, handle } => {
            return Err(Blocked::ForeignRoot { kind: kind.clone(), handle: *handle });
        }
    };
    // In the order of minors the link's class comes first, which the others need as parent.
    for (minor, want) in &layout.classes {
        match want {
            Want::Exactly(want) => class(&mut diff, *minor, want, actual),
            Want::Parked(want) => {
                // What is queued leaves at the old rate; the next look parks it.
                if actual.classes.get(minor).is_some_and(|class| class.stats.backlog_bytes == 0) {
                    class(&mut diff, *minor, want, actual);
                }
            }
            Want::Draining => {}
        }
    }
    diff.orphans =
        actual.classes.keys().filter(|minor| !layout.classes.contains_key(minor)).copied().collect();
    Ok(diff)
}

fn class(diff: &mut PortDiff, minor: u16, want: &ClassWant, actual: &ActualPort) {
    let add = |ops: &mut Vec<Op>| {
        ops.push(Op::AddClass { minor, want: want.clone() });
        if let Some(leaf) = &want.leaf {
            ops.push(Op::AddLeaf { minor, leaf: leaf.clone() });
        }
    };
    let Some(there) = actual.classes.get(&minor) else {
        add(&mut diff.raise);
        return;
    };
    if there.parent != want.parent {
        // HTB moves no class; nothing of ours is ever elsewhere, so no counter of ours is lost.
        diff.raise.push(Op::DelClass { minor });
        add(&mut diff.raise);
        return;
    }
    let lowers = want.params.rate < there.params.rate;
    let ops = if lowers { &mut diff.lower } else { &mut diff.raise };
    if there.params != want.params {
        ops.push(Op::ChangeClass { minor, want: want.clone() });
    }
    if let Some(op) = want.leaf.as_ref().and_then(|leaf| leaf_op(minor, leaf, actual.leaves.get(&minor))) {
        ops.push(op);
    }
}

fn leaf_op(minor: u16, want: &Leaf, actual: Option<&ActualLeaf>) -> Option<Op> {
    let add = || Op::AddLeaf { minor, leaf: want.clone() };
    match actual {
        None => Some(add()),
        Some(there) if there.leaf == *want => None,
        Some(there) if there.leaf.kind() == want.kind() => {
            Some(Op::ChangeLeaf { minor, handle: there.handle, leaf: want.clone() })
        }
        Some(_) => Some(add()),
    }
}

/// Changes of the maps, applied in one transaction: first what goes, then what comes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ElementDiff {
    pub delete: Vec<Key>,
    pub add: Vec<(Key, Target)>,
}

impl ElementDiff {
    pub fn is_empty(&self) -> bool {
        self.delete.is_empty() && self.add.is_empty()
    }

    /// Writes the messages of the transaction, without its framing; returns the next sequence number.
    pub fn encode(&self, writer: &mut Writer, mut seq: u32, now: Timestamp) -> u32 {
        for map in Map::ALL {
            seq = nft::del_elements(writer, seq, map, self.delete.iter().filter(|key| key.map == map));
        }
        for map in Map::ALL {
            let items = self.add.iter().filter(|(key, _)| key.map == map);
            seq = nft::add_elements(writer, seq, map, now, items);
        }
        seq
    }
}

/// Difference of all maps. An element that moves to another class, or whose end moves, is deleted and added.
pub fn elements(wanted: &BTreeMap<Key, Target>, actual: &BTreeMap<Key, Target>) -> ElementDiff {
    let same = |key: &Key, target: &Target, there: &BTreeMap<Key, Target>| {
        there.get(key).is_some_and(|other| other.is_like(target))
    };
    let gone = actual.iter().filter(|(key, target)| !same(key, target, wanted));
    let come = wanted.iter().filter(|(key, target)| !same(key, target, actual));
    ElementDiff {
        delete: gone.map(|(key, _)| key.clone()).collect(),
        add: come.map(|(key, target)| (key.clone(), *target)).collect(),
    }
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
