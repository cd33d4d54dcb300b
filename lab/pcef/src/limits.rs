//! Every bound of the crate with its reason. Times are milliseconds.

/// A RAR with eight rules is 5 KiB, one with sixty-four 40 KiB.
pub const FRAME_LEN_MAX: usize = 65_536;
/// Groups within groups. The crate's decoder recurses without a bound of its own: 16 KiB of nothing but groups end
/// a process. The deepest real one is Charging-Rule-Install, -Definition, QoS-Information, ARP, Priority-Level: 5.
pub const DEPTH_MAX: usize = 8;
/// A header without AVPs (RFC 6733 §3).
pub const FRAME_LEN_MIN: usize = 20;
/// One command; a script's line is a few hundred bytes.
pub const LINE_LEN_MAX: usize = 65_536;
/// Sessions that one command opens: the addresses and numbers after the first are counted up.
pub const OPEN_COUNT_MAX: u32 = 100_000;
/// Until a connection that is asked for stands, and until its CEA.
pub const CONNECT_MS: u64 = 5_000;
/// Pause between attempts to connect.
pub const RECONNECT_MS: u64 = 200;
/// For the DPA, and for what is still in the socket when we leave.
pub const CLOSE_MS: u64 = 2_000;
/// Frames between socket and gateway, either way.
pub const QUEUE_MAX: usize = 4_096;
/// Rules held in one session; a real gateway has eleven bearers, a lab wants more.
pub const RULES_MAX: usize = 256;
/// How often the counters of enforced rules are read.
pub const METER_MS: u64 = 250;
/// Enforced rules of one device: class ids are 16 bits, and a lab's link carries a few.
pub const CLASSES_MAX: usize = 4_096;
