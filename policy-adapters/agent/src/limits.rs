//! Every bound of the agent, with its reason.

use std::time::Duration;

/// First wait before connecting again; doubled up to the next.
pub const RECONNECT_MIN: Duration = Duration::from_millis(100);
pub const RECONNECT_MAX: Duration = Duration::from_secs(2);
/// An agent that another one of its name replaces again and again tries ever more rarely, up to this.
pub const REPLACED_MAX: Duration = Duration::from_secs(30);
/// A stream that lived longer than two agents of one name could leave each other is a new beginning.
pub const REPLACED_CALM: Duration = Duration::from_secs(60);
/// What a person must mend is said again this often.
pub const COMPLAINT: Duration = Duration::from_secs(60);
/// A broker that does not open the stream for this long is treated as away.
pub const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Signs of life in both directions.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
pub const KEEP_ALIVE: Duration = Duration::from_secs(2);
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(4);
/// Netlink events come in bursts, our own among them: one look serves all of this time.
pub const EVENT_DEBOUNCE_MS: u64 = 50;
/// After a step that failed the next one comes no sooner.
pub const RETRY_MS: u64 = 1_000;
/// Reports in one batch: the protocol's bound.
pub const BATCH_REPORTS_MAX: usize = 1_000;
/// Batches under way without an acknowledgement; the rest waits here, not in the network.
pub const IN_FLIGHT_BATCHES_MAX: usize = 32;
/// Unacknowledged reports: 1,000 legs for 6 hours at one reading a minute, and the legs' own reports.
pub const UNACKED_REPORTS_MAX: usize = 400_000;
/// Messages from the broker that wait for the loop; the stream's flow control holds the others back.
pub const EVENTS_WAITING_MAX: usize = 64;
/// A full desired set of 1,000 legs with 64 segments a side is about 4 MiB.
pub const MESSAGE_BYTES_MAX: usize = 32 << 20;
/// Segments of one side's schedule.
pub const SEGMENTS_MAX: usize = tollway_model::schedule::SEGMENTS_MAX;
/// Reasons of refusals that are remembered as said; when there are more they are said anew.
pub const REFUSALS_SAID_MAX: usize = 256;
/// Names of agents and ports travel in every message.
pub const NAME_BYTES_MAX: usize = 64;
/// `IFNAMSIZ` without its NUL.
pub const DEVICE_BYTES_MAX: usize = 15;
/// A slower port cannot carry one packet in a queue's time.
pub const LINK_BPS_MIN: u64 = 64_000;
/// HTB counts nanoseconds per byte; faster ports need another shaper.
pub const LINK_BPS_MAX: u64 = 400_000_000_000;
/// A larger difference between wall clock and boot clock is a jump; NTP slews by less.
pub const CLOCK_STEP_MS_MAX: u64 = 1_000;
