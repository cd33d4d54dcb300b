//! From a data directory to a running driver: replay, clock, market, configuration, overdue timers.

use super::gate::Gate;
use super::handle::Handle;
use super::poison::Poison;
use super::run::{Driver, Stopped, handle_into};
use super::snapshot::Snapshot;
use super::writer::{Writer, load};
use crate::agents::Hub;
use crate::clock::{Behind, Clock, Source};
use crate::config::promises;
use crate::public_id::PublicIds;
use crate::store::{BATCH_RECORDS_MAX, Loaded, Reader, SqliteStore, Store};
use crate::telemetry::legs::LegWatch;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tollway_core::configure::broken_by;
use tollway_core::{ConfigDef, Engine, Input, Output, Refusal, Reply, RequestId, State};
use tollway_model::SlotLength;

/// The request number of the configuration that a start submits; requests of clients begin at 1.
const CONFIGURE: RequestId = RequestId(0);

/// The market as the configuration file says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Market {
    pub name: String,
    pub slot_length: SlotLength,
}

/// What a start needs.
pub struct Options {
    pub market: Market,
    pub config: ConfigDef,
    pub clock: Box<dyn Source>,
    /// Go on from the last record although the wall clock is before it.
    pub accept_clock: bool,
    /// Make the market's key anew when it is missing beside a journal.
    pub new_market_key: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    #[error(transparent)]
    Clock(#[from] Behind),
    #[error(transparent)]
    Key(#[from] crate::public_id::Error),
    #[error("cannot read the poison file")]
    Poison(#[source] std::io::Error),
    #[error(
        "the data directory holds market {journal:?} with slot_s = {journal_slot_s}, the configuration says \
         {file:?} with slot_s = {file_slot_s}: both are fixed when a market is made, use its own values or \
         another --data directory"
    )]
    OtherMarket { journal: String, journal_slot_s: u32, file: String, file_slot_s: u32 },
    #[error("the configuration is refused: {0}")]
    Refused(String),
}

/// A running driver.
pub struct Started {
    pub handle: Handle,
    pub reader: Reader,
    pub hub: Arc<Hub>,
    pub ids: PublicIds,
    /// Send `true` to stop gracefully.
    pub stop: watch::Sender<bool>,
    pub driver: JoinHandle<Stopped>,
}

/// Brings a data directory to life.
///
/// # Errors
/// When another process has it, the journal is corrupt, the clock is behind, the market is another one or the
/// configuration would break promises.
pub async fn start(dir: &Path, options: Options) -> Result<Started, Error> {
    let store = SqliteStore::open(dir).await?;
    start_on(dir, store, options).await
}

/// As [`start`], on a store that was opened already; readers still open the directory.
///
/// # Errors
/// As [`start`].
pub async fn start_on<S: Store>(dir: &Path, mut store: S, options: Options) -> Result<Started, Error> {
    let poison = Poison::load(dir).map_err(Error::Poison)?;
    let (mut engine, loaded) = load(&mut store).await?;
    let ids = open_ids(dir, &loaded, options.new_market_key)?;
    let mut clock = Clock::start(options.clock, engine.last_at(), options.accept_clock).await?;
    let mut gate = Gate::new(loaded.last);
    let mut legs = LegWatch::new(ids.clone());
    tracing::info!(records = loaded.records, epoch = store.epoch(), "journal replayed");
    make_market(&mut engine, &mut gate, &mut clock, &options.market)?;
    settle(&mut store, &mut gate, &engine, &mut legs).await?;
    if loaded.records == 0 {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        tracing::info!(market = options.market.name, dir = %dir.display(), "a new market was made");
    }
    configure(&mut engine, &mut gate, &mut clock, &ids, options.config)?;
    settle(&mut store, &mut gate, &engine, &mut legs).await?;

    let reader = Reader::open(dir).await?;
    let epoch = store.epoch();
    let hub = Arc::new(Hub::new(epoch, ids.market_id(), options.market.slot_length));
    let now = clock.now().max(engine.last_at());
    let first = Snapshot::take(&engine, None, now, clock.error_ms(), epoch)
        .expect("the market was made a moment ago");
    let (snapshot, snapshot_out) = watch::channel(Arc::new(first));
    let (readiness, readiness_out) = watch::channel(Vec::new());
    let (stop, stop_out) = watch::channel(false);
    let (handle, lanes) = Handle::new(Arc::new(poison), snapshot_out, readiness_out);
    let driver = Driver {
        engine,
        gate,
        writer: Writer::spawn(store),
        reader: reader.clone(),
        clock,
        lanes,
        hub: Arc::clone(&hub),
        legs,
        waiting: std::collections::HashMap::new(),
        connected: std::collections::HashMap::new(),
        snapshot,
        draft: None,
        snapshot_at: tokio::time::Instant::now(),
        dirty: false,
        readiness,
        stop: stop_out,
        distrusted: None,
        alarmed: false,
    };
    let driver = tokio::spawn(driver.run());
    Ok(Started { handle, reader, hub, ids, stop, driver })
}

/// The market's key is made with the market; one that is missing later is the operator's to bring back.
fn open_ids(dir: &Path, loaded: &Loaded, new_key: bool) -> Result<PublicIds, crate::public_id::Error> {
    match PublicIds::open_existing(dir) {
        Err(crate::public_id::Error::Missing { path }) if loaded.records == 0 || new_key => {
            if loaded.records > 0 {
                let path = path.display();
                tracing::warn!("{path} is made anew, as asked: every id that customers saved is void");
            }
            PublicIds::open(dir)
        }
        opened => opened,
    }
}

/// Makes the market in an empty journal; in any other, checks that it is this one and runs what is overdue.
fn make_market(
    engine: &mut Engine,
    gate: &mut Gate,
    clock: &mut Clock,
    wanted: &Market,
) -> Result<(), Error> {
    let now = clock.now().max(engine.last_at());
    if engine.state().market.is_none() {
        let input = Input::MakeMarket { name: wanted.name.clone(), slot_length: wanted.slot_length };
        handle_into(engine, gate, now, input);
        return Ok(());
    }
    same_market(engine.state(), wanted)?;
    handle_into(engine, gate, now, Input::Tick);
    Ok(())
}

/// What is fixed when a market is made is still so.
pub(super) fn same_market(state: &State, wanted: &Market) -> Result<(), Error> {
    let Some(market) = &state.market else { return Ok(()) };
    if market.name != wanted.name || market.slot_length != wanted.slot_length {
        return Err(Error::OtherMarket {
            journal: market.name.clone(),
            journal_slot_s: market.slot_length.secs(),
            file: wanted.name.clone(),
            file_slot_s: wanted.slot_length.secs(),
        });
    }
    Ok(())
}

/// A refusal with the names that people know instead of the engine's own.
pub(super) fn refused(ids: &PublicIds, state: &State, wanted: &ConfigDef, refusal: &Refusal) -> Error {
    match broken_by(state, wanted).as_slice() {
        [] => Error::Refused(refusal.message.clone()),
        broken => Error::Refused(promises::refusal(ids, state, broken)),
    }
}

/// Submits the difference between the file and what is in force.
fn configure(
    engine: &mut Engine,
    gate: &mut Gate,
    clock: &mut Clock,
    ids: &PublicIds,
    config: ConfigDef,
) -> Result<(), Error> {
    let base = engine.state().config.revision;
    let now = clock.now().max(engine.last_at());
    let input = Input::Configure { request: CONFIGURE, base, config: config.clone() };
    engine.handle(now, input);
    let group = engine.take_records();
    let outputs: Vec<Output> = std::iter::from_fn(|| engine.poll_output()).collect();
    let reply = outputs.iter().find_map(|output| match output {
        Output::Reply { request: CONFIGURE, reply, .. } => Some(reply.clone()),
        Output::Reply { .. }
        | Output::Repeat { .. }
        | Output::Policy { .. }
        | Output::DesiredSet { .. }
        | Output::Ack { .. } => None,
    });
    gate.push(group, outputs);
    match reply {
        Some(Reply::Configured { revision, changes, deficits }) => {
            tracing::info!(revision, changes, "configuration in force");
            for deficit in deficits {
                let deficit = promises::deficit(ids, engine.state(), &deficit);
                tracing::warn!(
                    "more is sold than is on sale, nothing more is sold there: a deficit {deficit}"
                );
            }
            Ok(())
        }
        Some(Reply::Refused(refusal)) => Err(refused(ids, engine.state(), &config, &refusal)),
        Some(Reply::Quote(_) | Reply::Reservation(_) | Reply::ToppedUp { .. }) | None => {
            Err(Error::Refused("the engine did not answer".to_owned()))
        }
    }
}

/// Appends everything that waits. Outputs go nowhere yet: no client and no agent is connected.
async fn settle<S: Store>(
    store: &mut S,
    gate: &mut Gate,
    engine: &Engine,
    legs: &mut LegWatch,
) -> Result<(), Error> {
    while gate.waiting() > 0 {
        let batch = gate.next_batch(BATCH_RECORDS_MAX);
        let last = batch.last().map(|envelope| envelope.seq);
        legs.look(engine.state(), &batch);
        store.append(&batch).await?;
        legs.committed();
        if let Some(last) = last {
            gate.committed(last);
        }
    }
    while gate.release().is_some() {}
    Ok(())
}
