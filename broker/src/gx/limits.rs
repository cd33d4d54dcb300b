//! Every bound of the gateways' side with its reason.

use std::time::Duration;

/// Messages of the engine that wait for us: every leg of a busy market changed at once fits. Beyond, everything is
/// told anew.
pub const TOLD_MAX: usize = 65_536;

/// Facts that are not durable yet; while there are more, no request of a gateway is taken up.
pub const FACTS_WAITING_MAX: usize = 16_384;

/// Between the end of a connection to the engine and the next.
pub const RECONNECT_PAUSE: Duration = Duration::from_millis(200);

/// A request that nobody can decide on is answered TOO_BUSY after so long: a gateway's own timer (Tx, 10 s in
/// RFC 8506 §13) has not passed, and its session goes on without us.
pub const UNDECIDED_MAX: Duration = Duration::from_secs(3);

/// A request that was handed over and whose effect never became durable is forgotten after so long: the node has
/// answered it meanwhile (`INCOMING_MS_MAX`).
pub const KEPT_MAX: Duration = Duration::from_secs(30);

/// Longest sleep of the driver.
pub const LOOK: Duration = Duration::from_secs(1);

/// Questions of the NOC that wait.
pub const ASKS_MAX: usize = 16;

/// For an answer to one.
pub const ASK_WAIT: Duration = Duration::from_secs(2);

/// Strangers are logged that often at most; all are counted.
pub const STRANGER_LOG_EVERY: Duration = Duration::from_secs(10);

/// Frames on their way into the capture file; more are left out, and counted.
pub const CAPTURE_QUEUE_MAX: usize = 4_096;
