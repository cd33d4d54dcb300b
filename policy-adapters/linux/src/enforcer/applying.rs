//! Making the kernel what it must be: classes, then elements, then what nobody wants.

use super::{Enforcer, Persist};
use crate::error::Result;
use crate::kernel::Failure;
use crate::limits;
use crate::observe::{self, View};
use crate::state::Life;
use std::collections::BTreeSet;
use tollway_model::Timestamp;
use tollway_netlink::actual::Root;
use tollway_netlink::diff::{self, Op, PortDiff};
use tollway_netlink::layout::{self, Phase, ROOT, Wanted};
use tollway_netlink::leaf::{Leaf, LeafKind};
use tollway_netlink::tc::Handle;

impl Enforcer {
    pub(super) fn wanted(&self) -> Vec<Wanted<'_>> {
        let wanted = self.state.legs.values().map(|leg| Wanted {
            leg: &leg.desired,
            minor: leg.minor,
            phase: if leg.life == Life::Open { Phase::Open } else { Phase::Closing },
        });
        wanted.collect()
    }

    /// Differences of all ports that may be touched.
    pub(super) fn differences(&mut self, view: &View, now: Timestamp) -> Vec<(String, u32, PortDiff)> {
        let wanted = self.wanted();
        let mut all = Vec::new();
        let mut problems = Vec::new();
        for config in &self.ports {
            let Some(port) = view.get(&config.name) else { continue };
            let Some(spec) = port.spec(config) else { continue };
            let classes = &port.actual.classes;
            let layout = layout::port(&config.name, &spec, &wanted, classes, self.toolbox, now);
            let taken = self.took_root.get(&config.name);
            let rests = taken.is_some_and(|at| now.ms_since(*at) < limits::TAKE_ROOT_MS_MIN);
            match diff::port(&layout, &port.actual, config.take_root && !rests) {
                Ok(diff) if diff.is_empty() => {}
                Ok(diff) => all.push((config.name.clone(), spec.ifindex, diff)),
                Err(blocked) => problems.push((config.name.clone(), blocked.to_string())),
            }
        }
        for (name, problem) in problems {
            if self.refusals.insert((name.clone(), 0), problem.clone()).as_ref() != Some(&problem) {
                tracing::warn!(port = %name, %problem, "port is lost");
            }
        }
        all
    }

    /// True when anything was changed; `view` is then of before the last changes.
    pub(super) fn apply(&mut self, view: &mut View, now: Timestamp, persist: Persist<'_>) -> Result<bool> {
        let diffs = self.differences(view, now);
        for (name, _, diff) in &diffs {
            if diff.raise.iter().any(|op| matches!(op, Op::AddRoot { .. })) {
                let nonce = self.state.take_nonce();
                let record = self.state.ports.entry(name.clone()).or_default();
                record.nonce = nonce;
                record.direct_base = None;
                if let Some(Root::Foreign { .. }) = view.get(name).map(|port| &port.actual.root) {
                    tracing::warn!(port = %name, "taking the root qdisc from another tool");
                    self.took_root.insert(name.clone(), now);
                }
                self.dirty = true;
            }
        }
        // Without a durable record nothing new is built; what is there goes on being lowered and ended.
        let undurable = self.save(persist).err();
        let pick = |part: fn(&PortDiff) -> &Vec<Op>| -> Vec<(u32, Op)> {
            diffs.iter().flat_map(|(_, i, diff)| part(diff).iter().map(|op| (*i, op.clone()))).collect()
        };
        let mut ops = pick(|diff| &diff.lower);
        ops.extend(pick(|diff| &diff.raise));
        if undurable.is_some() {
            keep_what_is_there(&mut ops);
        }
        let mut changed = !ops.is_empty();
        if changed {
            self.run(&ops, view)?;
            *view = observe::look(&mut self.kernel, &self.ports)?;
        }
        if self.trouble.is_none() {
            match self.apply_elements(view, now) {
                Ok(edited) => changed |= edited,
                Err(error) => {
                    self.nft_stale = true;
                    self.trouble = Some(error);
                }
            }
        }
        for (name, ifindex, diff) in &diffs {
            for minor in &diff.orphans {
                changed = true;
                tracing::info!(port = %name, class = %Handle::new(ROOT.major(), *minor), "removing a class that nobody wants");
                if let Err(error) = self.kernel.del_class(*ifindex, *minor) {
                    tracing::warn!(port = %name, %error, "not removed; the next step tries again");
                }
            }
        }
        self.trouble = self.trouble.take().or(undurable);
        Ok(changed)
    }

    pub(super) fn run(&mut self, ops: &[(u32, Op)], view: &View) -> Result<()> {
        let name_of = |ifindex: u32| {
            view.iter().find(|(_, p)| p.ifindex() == Some(ifindex)).map_or(String::new(), |(n, _)| n.clone())
        };
        self.refusals.retain(|(port, _), _| !ops.iter().any(|(ifindex, _)| name_of(*ifindex) == *port));
        for failure in self.kernel.apply(ops)? {
            let port = name_of(failure.ifindex);
            let minor = failure.op.minor().unwrap_or(0);
            tracing::warn!(%port, error = %failure.error, "traffic control");
            if self.toolbox.leaf == LeafKind::FqCodel && is_unknown_leaf(&failure) {
                tracing::info!("this kernel has no fq_codel; leaves are bfifo");
                self.toolbox.leaf = LeafKind::Bfifo;
                self.poll_next = self.now;
            }
            // The first refusal is the cause, what follows are its consequences.
            self.refusals.entry((port, minor)).or_insert_with(|| failure.error.to_string());
        }
        Ok(())
    }

    pub(super) fn apply_elements(&mut self, view: &View, now: Timestamp) -> Result<bool> {
        let wanted = self.wanted();
        let (elements, conflicts) = layout::elements(&wanted, now, |wanted, direction| {
            let port = view.get(&wanted.leg.side(direction).port);
            port.is_some_and(|port| port.actual.is_ours() && port.stats(wanted.minor).is_some())
        });
        self.conflicts = conflicts.into_iter().map(|c| (c.leg, c.with)).collect();
        let mut diff = diff::elements(&elements, &self.elements);
        if diff.is_empty() {
            return Ok(false);
        }
        if let Err(error) = self.kernel.tables.edit(&diff, now) {
            // What we believed to be there was not: read everything and try once more.
            tracing::info!(%error, "reading the maps again");
            self.kernel.tables.ensure()?;
            self.elements = self.kernel.tables.elements(&self.elements, now)?;
            diff = diff::elements(&elements, &self.elements);
            self.kernel.tables.edit(&diff, now)?;
        }
        self.elements = self.kernel.tables.elements(&elements, now)?;
        Ok(true)
    }
}

/// Takes out what would build something new, leaves of new classes included.
fn keep_what_is_there(ops: &mut Vec<(u32, Op)>) {
    let new: BTreeSet<(u32, Option<u16>)> = ops
        .iter()
        .filter(|(_, op)| matches!(op, Op::AddRoot { .. } | Op::AddClass { .. }))
        .map(|(ifindex, op)| (*ifindex, op.minor()))
        .collect();
    ops.retain(|(ifindex, op)| !new.contains(&(*ifindex, op.minor())));
}

/// The kernel does not know the kind of qdisc, which could not be tried before.
fn is_unknown_leaf(failure: &Failure) -> bool {
    matches!(&failure.op, Op::AddLeaf { leaf: Leaf::FqCodel, .. })
        && failure.error.errno() == Some(libc::ENOENT)
}
