//! `tollway journal verify` and `tollway rebuild-projections`.

use super::{Exit, Failure, runtime};
use crate::store;
use crate::telemetry::logging;
use std::path::Path;

pub(super) fn verify(data: &Path) -> Result<(), Failure> {
    logging::start().map_err(Failure::usage)?;
    let verified = runtime()?.block_on(store::verify(data)).map_err(|error| {
        // The check itself worked; what it found is its result.
        let found = matches!(error, store::Error::Corrupt { .. });
        let mut failure = Failure::from(error);
        if found {
            failure.exit = Exit::Failed;
        }
        failure
    })?;
    println!(
        "{}: in order. {} records, last sequence {}, written by epochs up to {}, chain head {:08x}.",
        data.display(),
        verified.records,
        verified.last.0,
        verified.epoch,
        verified.head,
    );
    Ok(())
}

pub(super) fn rebuild(data: &Path) -> Result<(), Failure> {
    logging::start().map_err(Failure::usage)?;
    let rebuilt = runtime()?.block_on(store::rebuild_projections(data))?;
    println!("{}: projections made again from {} records.", data.display(), rebuilt.records);
    Ok(())
}
