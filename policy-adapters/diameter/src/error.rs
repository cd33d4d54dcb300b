//! What is wrong with a received message, the Result-Code to say so (RFC 6733 §7.1), and the AVP to blame.

use crate::avp::{Key, definition};

/// Result codes that this crate sends or looks at (RFC 6733 §7.1).
pub mod result {
    pub const SUCCESS: u32 = 2001;
    pub const COMMAND_UNSUPPORTED: u32 = 3001;
    pub const UNABLE_TO_DELIVER: u32 = 3002;
    pub const REALM_NOT_SERVED: u32 = 3003;
    pub const TOO_BUSY: u32 = 3004;
    pub const LOOP_DETECTED: u32 = 3005;
    pub const APPLICATION_UNSUPPORTED: u32 = 3007;
    pub const INVALID_HDR_BITS: u32 = 3008;
    pub const INVALID_AVP_BITS: u32 = 3009;
    pub const UNKNOWN_PEER: u32 = 3010;
    pub const AVP_UNSUPPORTED: u32 = 5001;
    pub const UNKNOWN_SESSION_ID: u32 = 5002;
    pub const INVALID_AVP_VALUE: u32 = 5004;
    pub const MISSING_AVP: u32 = 5005;
    pub const AVP_NOT_ALLOWED: u32 = 5008;
    pub const AVP_OCCURS_TOO_MANY_TIMES: u32 = 5009;
    pub const NO_COMMON_APPLICATION: u32 = 5010;
    pub const UNSUPPORTED_VERSION: u32 = 5011;
    pub const UNABLE_TO_COMPLY: u32 = 5012;
    pub const INVALID_AVP_LENGTH: u32 = 5014;
    pub const INVALID_MESSAGE_LENGTH: u32 = 5015;
    pub const NO_COMMON_SECURITY: u32 = 5017;

    /// Protocol errors are answered with the E bit (RFC 6733 §7.1.3).
    pub const fn is_protocol_error(code: u32) -> bool {
        code / 1000 == 3
    }
}

/// Where an AVP lies in its message, for Failed-AVP (RFC 6733 §7.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offender {
    pub key: Key,
    pub flags: u8,
    pub(crate) at: u32,
    pub(crate) len: u32,
}

impl Offender {
    /// One that is absent: an example with a zero-filled value of the least length (RFC 6733 §7.5).
    pub(crate) fn absent(key: Key) -> Offender {
        let flags = definition(key).map_or(0, |known| known.flags());
        Offender { key, flags, at: 0, len: 0 }
    }
}

/// A message that is not taken. Each variant knows its Result-Code; [`Error::offender`] the AVP to send back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    #[error("a message of {0} bytes; 20 to 65,536 in steps of 4 are taken (RFC 6733 §3)")]
    MessageLength(u32),
    #[error("version {0}, not 1 (RFC 6733 §3)")]
    Version(u8),
    #[error("header flags {0:#04x} do not fit the command (RFC 6733 §3)")]
    HeaderFlags(u8),
    #[error("command {0} is not supported")]
    Command(u32),
    #[error("application {0} is not supported")]
    Application(u32),
    #[error("{}: its length does not fit (RFC 6733 §4.1)", .0.key)]
    AvpLength(Offender),
    #[error("{}: reserved flags are set (RFC 6733 §4.1)", .0.key)]
    AvpFlags(Offender),
    #[error("{}: groups deeper than 8", .0.key)]
    Depth(Offender),
    #[error("{}: unknown, with the M bit set (RFC 6733 §4.1)", .0.key)]
    Unknown(Offender),
    #[error("{}: its value cannot be", .0.key)]
    Value(Offender),
    #[error("{}: missing", .0.key)]
    Missing(Offender),
    #[error("{}: not allowed here", .0.key)]
    NotAllowed(Offender),
    #[error("{}: more often than allowed", .0.key)]
    TooMany(Offender),
}

impl Error {
    /// What to answer (RFC 6733 §7.1.3, §7.1.5).
    pub const fn result_code(&self) -> u32 {
        match self {
            Error::MessageLength(_) => result::INVALID_MESSAGE_LENGTH,
            Error::Version(_) => result::UNSUPPORTED_VERSION,
            Error::HeaderFlags(_) => result::INVALID_HDR_BITS,
            Error::Command(_) => result::COMMAND_UNSUPPORTED,
            Error::Application(_) => result::APPLICATION_UNSUPPORTED,
            Error::AvpLength(_) => result::INVALID_AVP_LENGTH,
            Error::AvpFlags(_) => result::INVALID_AVP_BITS,
            Error::Unknown(_) => result::AVP_UNSUPPORTED,
            Error::Depth(_) | Error::Value(_) => result::INVALID_AVP_VALUE,
            Error::Missing(_) => result::MISSING_AVP,
            Error::NotAllowed(_) => result::AVP_NOT_ALLOWED,
            Error::TooMany(_) => result::AVP_OCCURS_TOO_MANY_TIMES,
        }
    }

    /// The AVP for Failed-AVP.
    pub const fn offender(&self) -> Option<Offender> {
        match self {
            Error::MessageLength(_)
            | Error::Version(_)
            | Error::HeaderFlags(_)
            | Error::Command(_)
            | Error::Application(_) => None,
            Error::AvpLength(o)
            | Error::AvpFlags(o)
            | Error::Depth(o)
            | Error::Unknown(o)
            | Error::Value(o)
            | Error::Missing(o)
            | Error::NotAllowed(o)
            | Error::TooMany(o) => Some(*o),
        }
    }

    /// Whether the end of the message is lost, and with it the stream: the connection must be closed.
    pub const fn loses_the_stream(&self) -> bool {
        matches!(self, Error::MessageLength(_) | Error::Version(_))
    }
}
