//! `tollway check-config`.

use super::Failure;
use crate::config;
use std::path::Path;

pub(super) fn run(file: &Path) -> Result<(), Failure> {
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
    Ok(())
}
