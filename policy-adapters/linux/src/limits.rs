//! Every bound of this crate, with its reason.

/// A dump that another change interrupts is asked for again this often before the step is given up; the next
/// step tries anew.
pub const DUMP_TRIES_MAX: usize = 8;
/// The maps are read again this often when elements seem to be missing: once is enough after a hash table has
/// grown, which it does seldom and in a millisecond; what is gone in truth costs these reads once.
pub const MAP_DUMPS_MAX: usize = 5;
/// A kernel that does not answer for this long is broken; requests are answered synchronously.
pub const ANSWER_MS_MAX: i64 = 5_000;
/// Receive buffer of request sockets: thousands of acknowledgements wait in it until they are read.
pub const RECEIVE_BUFFER_BYTES: i32 = 8 << 20;
/// Send buffer: one transaction of 50,000 elements is 2 MB and must fit one `sendmsg`.
pub const SEND_BUFFER_BYTES: i32 = 64 << 20;
/// One datagram of a dump is at most 32 KiB; an error may quote the request.
pub const DATAGRAM_BYTES_MAX: usize = 1 << 18;
/// Operations of traffic control in one `sendmsg`: each answer takes about 1 KiB of the receive buffer.
pub const OPS_PER_SEND_MAX: usize = 500;
/// A closing class may take this long to empty its queue.
pub const DRAIN_MS_MAX: u64 = 2_000;
/// Packets that passed the forward hook before the element went need this long to reach the class.
pub const DRAIN_MS_MIN: u64 = 50;
/// Look again at a closing class after this long.
pub const DRAIN_POLL_MS: u64 = 50;
/// Full read-back without any event.
pub const RECONCILE_MS: u64 = 30_000;
/// Longest time between two polls of the meters.
pub const POLL_MS_MAX: u64 = 1_000;
/// Shortest time between two polls.
pub const POLL_MS_MIN: u64 = 100;
/// Polls in a slot, at least.
pub const POLLS_PER_SLOT_MIN: u64 = 5;
/// Slots that nobody measured (the agent was away) are filled up to this age; older ones are lost anyway,
/// because unacknowledged readings are kept for as long.
pub const MISSED_MS_MAX: u64 = 6 * 3_600_000;
/// Legs of one enforcement point; a flat HTB stays quick up to here.
pub const LEGS_MAX: usize = 1_000;
/// Flows of one leg.
pub const FLOWS_MAX: usize = 8;
/// A foreign qdisc that took a port's root is replaced (with `take_root`) at most this often.
pub const TAKE_ROOT_MS_MIN: u64 = 5_000;
