//! The way into the driver: bounded lanes, replies by request id.

use crate::driver::poison::Poison;
use crate::driver::snapshot::Snapshot;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tollway_core::{Input, Reply, RequestId};

/// Requests waiting in one client lane; at thousands of commands a second it is emptied within a second, and
/// a caller that would wait longer is better told so.
pub const LANE_REQUESTS_MAX: usize = 1_024;

/// Report batches waiting; an agent that finds it full waits with its next batch.
pub const REPORT_BATCHES_MAX: usize = 256;

/// What a shed caller is told to wait.
const BUSY_RETRY_S: u64 = 1;

/// What a caller is told to wait while the store does not take records.
pub(crate) const STALLED_RETRY_S: u64 = 2;

/// In the order in which they are served under load.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// Adapters; never shed.
    Reports,
    /// Cancel, and whatever ends a promise.
    Urgent,
    Confirm,
    Noc,
    Reserve,
    /// Shed first.
    Quote,
}

impl Lane {
    pub const ALL: [Lane; 6] =
        [Lane::Reports, Lane::Urgent, Lane::Confirm, Lane::Noc, Lane::Reserve, Lane::Quote];

    pub const fn as_str(self) -> &'static str {
        match self {
            Lane::Reports => "reports",
            Lane::Urgent => "urgent",
            Lane::Confirm => "confirm",
            Lane::Noc => "noc",
            Lane::Reserve => "reserve",
            Lane::Quote => "quote",
        }
    }
}

/// The request was not decided; asking again with the same key is safe.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unavailable {
    #[error("too many requests wait already")]
    Busy { retry_after_s: u64 },
    #[error("nothing can be decided now: {reason}")]
    Stalled { reason: String, retry_after_s: u64 },
    #[error("the broker is stopping")]
    Stopping,
    /// This very request aborted the broker before; it is a bug, not the caller's.
    #[error("this request is set aside, since handling it failed before")]
    Fault,
}

/// One input on its way into the engine.
pub(crate) struct Job {
    pub(crate) input: Input,
    pub(crate) from: From,
}

/// Who waits for a job's effect.
pub(crate) enum From {
    Client(RequestId, oneshot::Sender<Result<Reply, Unavailable>>),
    /// The agent connection that brought it; what an ended one left behind is not taken, since a gap in its
    /// batches could be hidden by it.
    Agent {
        connection: u64,
    },
}

/// The driver's ends of the lanes.
pub(crate) struct Lanes {
    pub(crate) reports: mpsc::Receiver<Job>,
    pub(crate) urgent: mpsc::Receiver<Job>,
    pub(crate) confirm: mpsc::Receiver<Job>,
    pub(crate) noc: mpsc::Receiver<Job>,
    pub(crate) reserve: mpsc::Receiver<Job>,
    pub(crate) quote: mpsc::Receiver<Job>,
}

impl Lanes {
    /// The next job by priority, if any waits.
    pub(crate) fn next_now(&mut self) -> Option<Job> {
        let lanes = [
            &mut self.reports,
            &mut self.urgent,
            &mut self.confirm,
            &mut self.noc,
            &mut self.reserve,
            &mut self.quote,
        ];
        lanes.into_iter().find_map(|lane| lane.try_recv().ok())
    }

    /// The next job by priority; `None` when every handle is gone.
    pub(crate) async fn next(&mut self) -> Option<Job> {
        tokio::select! {
            biased;
            Some(job) = self.reports.recv() => Some(job),
            Some(job) = self.urgent.recv() => Some(job),
            Some(job) = self.confirm.recv() => Some(job),
            Some(job) = self.noc.recv() => Some(job),
            Some(job) = self.reserve.recv() => Some(job),
            Some(job) = self.quote.recv() => Some(job),
            else => None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.reports.is_empty()
            && self.urgent.is_empty()
            && self.confirm.is_empty()
            && self.noc.is_empty()
            && self.reserve.is_empty()
            && self.quote.is_empty()
    }

    /// Nothing new is taken; what waits is still served.
    pub(crate) fn close(&mut self) {
        self.reports.close();
        self.urgent.close();
        self.confirm.close();
        self.noc.close();
        self.reserve.close();
        self.quote.close();
    }
}

/// Cheap to clone; each API request and each agent connection has one.
#[derive(Clone)]
pub struct Handle {
    senders: Arc<[mpsc::Sender<Job>; 6]>,
    next_request: Arc<AtomicU64>,
    poison: Arc<Poison>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    readiness: watch::Receiver<Readiness>,
}

/// Why the broker is not ready, one sentence each; empty when it is.
pub(crate) type Readiness = Vec<String>;

impl Handle {
    pub(crate) fn new(
        poison: Arc<Poison>,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        readiness: watch::Receiver<Readiness>,
    ) -> (Handle, Lanes) {
        let (reports_in, reports) = mpsc::channel(REPORT_BATCHES_MAX);
        let (urgent_in, urgent) = mpsc::channel(LANE_REQUESTS_MAX);
        let (confirm_in, confirm) = mpsc::channel(LANE_REQUESTS_MAX);
        let (noc_in, noc) = mpsc::channel(LANE_REQUESTS_MAX);
        let (reserve_in, reserve) = mpsc::channel(LANE_REQUESTS_MAX);
        let (quote_in, quote) = mpsc::channel(LANE_REQUESTS_MAX);
        let senders = Arc::new([reports_in, urgent_in, confirm_in, noc_in, reserve_in, quote_in]);
        let next_request = Arc::new(AtomicU64::new(1));
        let lanes = Lanes { reports, urgent, confirm, noc, reserve, quote };
        (Handle { senders, next_request, poison, snapshot, readiness }, lanes)
    }

    /// Hands one request to the engine and waits until its reply is justified by durable records.
    ///
    /// # Errors
    /// [`Unavailable`]: nothing was decided, or nobody can say yet whether it was; the same key is safe.
    pub async fn submit(
        &self,
        lane: Lane,
        make: impl FnOnce(RequestId) -> Input,
    ) -> Result<Reply, Unavailable> {
        let request = RequestId(self.next_request.fetch_add(1, Ordering::Relaxed));
        let input = make(request);
        if self.poison.refuses(&input) {
            tracing::warn!(request = request.0, "a request that failed twice before was set aside");
            return Err(Unavailable::Fault);
        }
        let (reply, answer) = oneshot::channel();
        let job = Job { input, from: From::Client(request, reply) };
        match self.sender(lane).try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(Unavailable::Busy { retry_after_s: BUSY_RETRY_S }),
            Err(TrySendError::Closed(_)) => return Err(Unavailable::Stopping),
        }
        answer.await.unwrap_or(Err(Unavailable::Stopping))
    }

    /// Hands over what an adapter says; waits while the lane is full, which is the adapter's flow control.
    pub(crate) async fn report(&self, connection: u64, input: Input) -> Result<(), Unavailable> {
        if self.poison.refuses(&input) {
            return Err(Unavailable::Fault);
        }
        let job = Job { input, from: From::Agent { connection } };
        self.sender(Lane::Reports).send(job).await.map_err(|_| Unavailable::Stopping)
    }

    /// Committed state, at most about 100 ms old.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// # Errors
    /// The reasons, in words, when the broker cannot take requests.
    pub fn readiness(&self) -> Result<(), Vec<String>> {
        let reasons = self.readiness.borrow().clone();
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    /// Requests waiting in each lane, for the metrics.
    pub fn waiting(&self) -> [(Lane, usize); 6] {
        Lane::ALL.map(|lane| {
            let sender = self.sender(lane);
            (lane, sender.max_capacity() - sender.capacity())
        })
    }

    fn sender(&self, lane: Lane) -> &mpsc::Sender<Job> {
        let [reports, urgent, confirm, noc, reserve, quote] = &*self.senders;
        match lane {
            Lane::Reports => reports,
            Lane::Urgent => urgent,
            Lane::Confirm => confirm,
            Lane::Noc => noc,
            Lane::Reserve => reserve,
            Lane::Quote => quote,
        }
    }
}
