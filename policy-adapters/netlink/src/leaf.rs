//! Leaf qdiscs: what queues the packets of one class.

use crate::tc::{self, Handle, Object, RTM_NEWQDISC, TCA_KIND, TCA_OPTIONS, u32_at};
use crate::wire::{Writer, attribute};

const TCA_FQ_CODEL_TARGET: u16 = 1;
const TCA_FQ_CODEL_LIMIT: u16 = 2;

/// The kinds that Tollway may put under a class, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LeafKind {
    FqCodel,
    Bfifo,
    Cake,
}

impl LeafKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            LeafKind::FqCodel => "fq_codel",
            LeafKind::Bfifo => "bfifo",
            LeafKind::Cake => "cake",
        }
    }
}

/// A leaf with the settings that matter. `fq_codel` and `cake` run on the kernel's defaults.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Leaf {
    Bfifo {
        limit_bytes: u32,
    },
    Pfifo {
        limit_packets: u32,
    },
    FqCodel,
    Cake,
    /// Not one of ours; it is replaced.
    Other(String),
}

impl Leaf {
    pub fn kind(&self) -> &str {
        match self {
            Leaf::Bfifo { .. } => "bfifo",
            Leaf::Pfifo { .. } => "pfifo",
            Leaf::FqCodel => "fq_codel",
            Leaf::Cake => "cake",
            Leaf::Other(kind) => kind,
        }
    }

    /// Reads a dumped leaf.
    pub fn parse(object: &Object<'_>) -> Leaf {
        let limit = u32_at(object.options, 0);
        match (object.kind, limit) {
            ("bfifo", Some(limit_bytes)) => Leaf::Bfifo { limit_bytes },
            ("pfifo", Some(limit_packets)) => Leaf::Pfifo { limit_packets },
            ("fq_codel", _) => Leaf::FqCodel,
            ("cake", _) => Leaf::Cake,
            (other, _) => Leaf::Other(other.to_owned()),
        }
    }
}

/// Creates a leaf under `parent`, or changes the one with this `handle`, by `flags`.
pub fn new_leaf(
    writer: &mut Writer,
    flags: u16,
    seq: u32,
    ifindex: u32,
    handle: Handle,
    parent: Handle,
    leaf: &Leaf,
) {
    tc::begin(writer, RTM_NEWQDISC, flags, seq, ifindex, handle, parent);
    writer.attr_str(TCA_KIND, leaf.kind());
    match leaf {
        Leaf::Bfifo { limit_bytes: limit } | Leaf::Pfifo { limit_packets: limit } => {
            writer.attr_u32(TCA_OPTIONS, *limit);
        }
        Leaf::FqCodel | Leaf::Cake | Leaf::Other(_) => {}
    }
    writer.end();
}

/// Target (microseconds) and limit (packets) of a dumped fq_codel.
pub fn fq_codel_settings(object: &Object<'_>) -> Option<(u32, u32)> {
    let word = |kind| attribute(object.options, kind).and_then(|v| u32_at(v, 0));
    Some((word(TCA_FQ_CODEL_TARGET)?, word(TCA_FQ_CODEL_LIMIT)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages;

    #[test]
    fn a_leaf_survives_its_encoding() {
        let all = [
            Leaf::Bfifo { limit_bytes: 110_000 },
            Leaf::Pfifo { limit_packets: 20 },
            Leaf::FqCodel,
            Leaf::Cake,
            Leaf::Other("sfq".into()),
        ];
        for leaf in all {
            let mut writer = Writer::new();
            let parent = Handle::new(0x7a11, 0x100);
            new_leaf(&mut writer, tc::create_flags(), 1, 2, Handle::NONE, parent, &leaf);
            let message = messages(writer.bytes()).next().expect("a message");
            assert_eq!(Leaf::parse(&Object::parse(message.payload).expect("an object")), leaf);
        }
    }

    #[test]
    fn a_bfifo_without_options_is_not_ours() {
        let mut writer = Writer::new();
        tc::begin(&mut writer, RTM_NEWQDISC, 0, 1, 2, Handle::NONE, Handle::ROOT);
        writer.attr_str(TCA_KIND, "bfifo");
        writer.end();
        let object = Object::parse(&writer.bytes()[16..]).expect("an object");
        assert_eq!(Leaf::parse(&object), Leaf::Other("bfifo".into()));
        assert_eq!(fq_codel_settings(&object), None);
    }
}
