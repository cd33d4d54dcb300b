//! Every bound of the crate with its reason. Times are milliseconds.

/// A header without AVPs (RFC 6733 §3).
pub const FRAME_LEN_MIN: usize = 20;
/// The length field allows 16 MiB. A CCR-I is 700 bytes and a RAR with 64 rules 20 KiB, so 64 KiB is ample, and
/// what one peer can make us hold stays small.
pub const FRAME_LEN_MAX: usize = 65_536;
/// Groups within groups. The deepest real one is Charging-Rule-Install, -Definition, QoS-Information, ARP,
/// Priority-Level: 5.
pub const DEPTH_MAX: usize = 8;
/// Data of an offending AVP that is sent back in Failed-AVP: enough to recognise it, not a mirror of an attack.
pub const FAILED_AVP_LEN_MAX: usize = 512;
/// Names are FQDNs (RFC 6733 §4.3.1), which DNS bounds.
pub const IDENTITY_LEN_MAX: usize = 255;
/// Applications, vendors or addresses taken from one CER; a real one names fewer than ten of each.
pub const CAPABILITY_LIST_MAX: usize = 64;
/// Proxy-Info AVPs copied into an answer (RFC 6733 §6.2): one a relay on the way.
pub const PROXY_INFO_MAX: usize = 16;

/// Configured peers of one node.
pub const PEERS_MAX: usize = 64;
/// Connections that have not yet said who they are; more are closed at once.
pub const STRANGERS_MAX: usize = 64;
/// Until the first CER of an accepted connection.
pub const STRANGER_MS_MAX: u64 = 5_000;
/// Requests to one peer without an answer: 4 s of the aimed rate of 1,000/s a peer.
pub const PENDING_MAX: usize = 16_384;
/// Requests of one peer that we have not answered; more get TOO_BUSY (3004).
pub const INCOMING_MAX: usize = 4_096;
/// The same in bytes: 4,096 requests of the greatest length would be 256 MiB.
pub const INCOMING_BYTES_MAX: usize = 16 << 20;
/// An incoming request unanswered for so long gets UNABLE_TO_COMPLY (5012): its sender's own timer (Tx, 10 s in
/// RFC 8506 §13) has passed.
pub const INCOMING_MS_MAX: u64 = 30_000;
/// Copies of a request that wait for the answer to the first.
pub const COPIES_MAX: usize = 4;
/// Requests remembered for duplicate detection, and the answers kept with them. RFC 6733 §3 wants end-to-end
/// ids unique for 4 minutes; a retransmission comes within seconds.
pub const SEEN_MAX: usize = 32_768;
pub const SEEN_BYTES_MAX: usize = 8 << 20;
pub const SEEN_MS_MAX: u64 = 240_000;
/// Hosts whose Origin-State-Id is remembered; behind a relay there may be more than peers.
pub const ORIGINS_MAX: usize = 4_096;
/// Distinct keys in a peer's table of counters; the rest is counted under one.
pub const COUNTER_KEYS_MAX: usize = 256;

/// T_w, the watchdog's interval (RFC 3539 §3.4.1), and its jitter.
pub const WATCHDOG_MS: u64 = 30_000;
pub const WATCHDOG_JITTER_MS: u64 = 2_000;
/// Watchdog answers before a peer that was lost is used again (RFC 3539 §3.4.1).
pub const REOPEN_ANSWERS: u8 = 3;
/// T_c, the greatest pause between attempts to connect (RFC 6733 §2.1), and the first.
pub const RECONNECT_MS_MAX: u64 = 30_000;
pub const RECONNECT_MS_MIN: u64 = 500;
/// For the connection, for the CEA, for an election.
pub const OPEN_MS_MAX: u64 = 5_000;
/// For the DPA.
pub const CLOSE_MS_MAX: u64 = 2_000;
/// For an answer, if the caller does not say.
pub const REQUEST_MS: u64 = 5_000;

/// Bytes asked of a socket at once.
pub const READ_LEN: usize = 16_384;
/// Frames that wait for one socket; a peer that does not read for so long is closed.
pub const WRITE_QUEUE_MAX: usize = 4_096;
/// The same in bytes.
pub const WRITE_QUEUE_BYTES_MAX: usize = 8 << 20;
/// For one write; a peer that takes nothing for so long is closed.
pub const WRITE_MS_MAX: u64 = 10_000;
/// After the last write, what still comes is read and thrown away for so long: a close with unread bytes would
/// reset the connection and take our last answer with it.
pub const LINGER_MS_MAX: u64 = 1_000;
/// Bytes put into one write.
pub const WRITE_LEN_MAX: usize = 65_536;
/// Frames on their way from all readers to the driver, at most 16 MiB; readers wait when it is full.
pub const INPUT_QUEUE_MAX: usize = 256;
/// Events on their way to the user; requests beyond get TOO_BUSY, and so many places stay free for news of peers.
pub const EVENT_QUEUE_MAX: usize = 8_192;
pub const EVENT_QUEUE_SPARE: usize = 512;
/// Handshakes under way.
pub const HANDSHAKES_MAX: usize = 64;
