//! Every error there is, with who can mend it: `docs/errors.md` is this list.

use super::error::EdgeCode;
use tollway_core::refusal::Code;

/// Who can do something about an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mender {
    /// Whoever wrote the program that calls.
    Developer,
    /// The program itself, while it runs: another offer, another key, another time.
    App,
    /// The customer: money, or what it was configured for.
    Customer,
    /// The operator's NOC.
    Operator,
    /// Us.
    Tollway,
}

impl Mender {
    pub const fn as_str(self) -> &'static str {
        match self {
            Mender::Developer => "the app's developer",
            Mender::App => "the app, as it runs",
            Mender::Customer => "the customer",
            Mender::Operator => "the operator",
            Mender::Tollway => "Tollway (a bug)",
        }
    }
}

/// One line of the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    pub code: &'static str,
    pub status: u16,
    /// `edge` before anything is decided, `engine` when it was.
    pub found_by: &'static str,
    pub mender: Mender,
    /// The answer is stored: the same key gets it again.
    pub is_stored: bool,
    pub how_to_fix: &'static str,
}

/// All errors, by status and code.
pub fn all() -> Vec<Listed> {
    let edge = EdgeCode::ALL.into_iter().map(|code| Listed {
        code: code.as_str(),
        status: code.status(),
        found_by: "edge",
        mender: mender_at_edge(code),
        is_stored: false,
        how_to_fix: code.how_to_fix(),
    });
    let engine = Code::ALL.into_iter().map(|code| Listed {
        code: code.as_str(),
        status: code.status(),
        found_by: "engine",
        mender: mender(code),
        is_stored: code.is_stored(),
        how_to_fix: code.how_to_fix(),
    });
    let mut all: Vec<Listed> = edge.chain(engine).collect();
    all.sort_by_key(|listed| (listed.status, listed.code, listed.found_by));
    all
}

const fn mender_at_edge(code: EdgeCode) -> Mender {
    match code {
        EdgeCode::InvalidArgument
        | EdgeCode::NotFound
        | EdgeCode::MethodNotAllowed
        | EdgeCode::PayloadTooLarge
        | EdgeCode::UnsupportedMediaType => Mender::Developer,
        EdgeCode::Unauthenticated | EdgeCode::PermissionDenied => Mender::Customer,
        EdgeCode::Unavailable => Mender::App,
        EdgeCode::Internal => Mender::Tollway,
    }
}

const fn mender(code: Code) -> Mender {
    match code {
        Code::CapacityExhausted
        | Code::DeadlineInfeasible
        | Code::QuoteExpired
        | Code::FlowConflict
        | Code::WrongState
        | Code::TooMany
        | Code::OutOfRange
        | Code::HoldShare => Mender::App,
        Code::InsufficientFunds | Code::EndpointNotAllowed => Mender::Customer,
        Code::NotFound | Code::KeyReused => Mender::Developer,
        Code::ConfigurationRefused => Mender::Operator,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_one_status() {
        let all = all();
        for one in &all {
            for other in all.iter().filter(|other| other.code == one.code) {
                assert_eq!(one.status, other.status, "{}", one.code);
            }
            assert!(one.code.len() <= 96, "CAMARA's bound");
        }
    }
}
