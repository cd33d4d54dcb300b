//! `tollway check-config`.

use super::{Failure, runtime};
use crate::clock::{Kernel, Source};
use crate::config::{self, Settings};
use crate::driver::preview;
use std::path::Path;
use tollway_model::Timestamp;

pub(super) fn run(file: &Path, data: Option<&Path>) -> Result<(), Failure> {
    let settings = config::load(file).map_err(Failure::usage)?;
    let def = &settings.def;
    println!(
        "{}: in order. Market {}, slots of {} s: {} pools, {} tiers, {} accesses, {} customers, {} keys.",
        file.display(),
        settings.market.name,
        settings.market.slot_length.secs(),
        def.pools.len(),
        def.tiers.len(),
        def.accesses.len(),
        def.customers.len(),
        settings.keys.len(),
    );
    if let Some(gx) = &settings.gx {
        println!(
            "Gateways: {} peers, {} APNs, {} profiles.",
            gx.node.peers.len(),
            gx.machine.apns.len(),
            gx.table.len()
        );
    }
    match data {
        Some(data) => against(data, settings),
        None => Ok(()),
    }
}

/// What a start with this file would do to the market in a directory.
fn against(data: &Path, settings: Settings) -> Result<(), Failure> {
    let now = Timestamp(Kernel.read().wall_us / 1_000);
    let preview = runtime()?.block_on(preview(data, &settings.market, settings.def, now))?;
    let data = data.display();
    match preview.changes.as_slice() {
        [] => println!("{data}: a start would change nothing; revision {} is in force.", preview.revision),
        changes => {
            println!("{data}: a start would make revision {} of {}:", preview.revision + 1, changes.len())
        }
    }
    for change in &preview.changes {
        println!("  {change}");
    }
    for deficit in &preview.deficits {
        println!(
            "  more is sold than would be on sale, nothing more would be sold there: a deficit {deficit}"
        );
    }
    Ok(())
}
