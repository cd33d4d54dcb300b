//! What a start with a configuration would do to a market, without doing it: the journal is replayed, the
//! difference decided in memory, and all of it thrown away. A running broker may go on.

use super::start::{Error, Market, refused, same_market};
use crate::config::promises;
use crate::public_id::PublicIds;
use crate::store;
use std::path::Path;
use tollway_core::config::Change;
use tollway_core::state::Config;
use tollway_core::{ConfigDef, Engine, Input, Output, Record, Reply, RequestId};
use tollway_model::Timestamp;

/// What a start would do, a line each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Preview {
    /// Revision of the configuration that is in force.
    pub revision: u64,
    pub changes: Vec<String>,
    /// What is sold and would no longer be there.
    pub deficits: Vec<String>,
}

/// Decides a configuration against a data directory at `now`; reads only.
///
/// # Errors
/// As [`super::start`]: the market is another one, the configuration would break promises, the journal or its key
/// cannot be read.
pub async fn preview(
    dir: &Path,
    market: &Market,
    config: ConfigDef,
    now: Timestamp,
) -> Result<Preview, Error> {
    let mut engine = Engine::new();
    let records = store::replay(dir, &mut |envelope| engine.replay(&envelope)).await?;
    if records == 0 {
        return Err(store::Error::Missing(dir.to_owned()).into());
    }
    let ids = PublicIds::open_existing(dir)?;
    same_market(engine.state(), market)?;
    let now = now.max(engine.last_at());
    decide(&mut engine, now, Input::Tick);
    let before = engine.state().config.clone();
    let request = RequestId(0);
    let input = Input::Configure { request, base: before.revision, config: config.clone() };
    let (records, reply) = decide(&mut engine, now, input);
    let lines = |record: &Record| match record {
        Record::Configured(configured) => {
            configured.changes.iter().map(|change| in_words(&before, change)).collect()
        }
        Record::MarketMade(_)
        | Record::Quoted(_)
        | Record::Held(_)
        | Record::HoldExpired { .. }
        | Record::Confirmed { .. }
        | Record::FlowsBound { .. }
        | Record::Started { .. }
        | Record::LegRetried { .. }
        | Record::LegsTold(_)
        | Record::Reported(_)
        | Record::Ended(_)
        | Record::Settled { .. }
        | Record::ToppedUp { .. }
        | Record::Answered(_) => Vec::new(),
    };
    match reply {
        Some(Reply::Configured { deficits, .. }) => Ok(Preview {
            revision: before.revision,
            changes: records.iter().flat_map(lines).collect(),
            deficits: deficits.iter().map(|d| promises::deficit(&ids, engine.state(), d)).collect(),
        }),
        Some(Reply::Refused(refusal)) => Err(refused(&ids, engine.state(), &config, &refusal)),
        Some(Reply::Quote(_) | Reply::Reservation(_) | Reply::ToppedUp { .. }) | None => {
            Err(Error::Refused("the engine did not answer".to_owned()))
        }
    }
}

fn decide(engine: &mut Engine, now: Timestamp, input: Input) -> (Vec<Record>, Option<Reply>) {
    engine.handle(now, input);
    let records = engine.take_records().into_iter().map(|envelope| envelope.record).collect();
    let mut last = None;
    while let Some(output) = engine.poll_output() {
        match output {
            Output::Reply { reply, .. } => last = Some(reply),
            Output::Repeat { .. }
            | Output::Policy { .. }
            | Output::DesiredSet { .. }
            | Output::Ack { .. } => {}
        }
    }
    (records, last)
}

fn in_words(before: &Config, change: &Change) -> String {
    let new_or = |is_known: bool| if is_known { "is changed" } else { "is new" };
    match change {
        Change::Pool(id, def) => format!("pool {} {}", def.name, new_or(before.pools.contains_key(id))),
        Change::PoolRemoved(id) => {
            format!("pool {} is removed", before.pools.get(id).map_or("?", |def| &def.name))
        }
        Change::Tier(id, revision, def) => {
            format!("tier {} {}: revision {revision}", def.name, new_or(before.tiers.contains_key(id)))
        }
        Change::TierWithdrawn(id) => {
            let name = before.tiers.get(id).map_or("?", |tier| tier.def.name.as_str());
            format!("tier {name} is withdrawn from sale; what was sold under it keeps its terms")
        }
        Change::Access(id, def) => {
            format!("access {} {}", def.name, new_or(before.accesses.contains_key(id)))
        }
        Change::AccessRemoved(id) => {
            format!("access {} is removed", before.accesses.get(id).map_or("?", |def| &def.name))
        }
        Change::Customer(id, def) => {
            format!("customer {} {}", def.name, new_or(before.customers.contains_key(id)))
        }
        Change::CustomerRemoved(id) => {
            format!("customer {} is removed", before.customers.get(id).map_or("?", |def| &def.name))
        }
    }
}
