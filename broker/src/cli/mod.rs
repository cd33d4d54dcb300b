//! The command line: one binary, its verbs.

mod args;
mod check;
mod journal;
mod lab;
mod noc;
mod serve;

use args::{Args, JournalVerb, KeyVerb, LabVerb, NocVerb, Verb, WalletVerb};
use clap::Parser;
use std::process::ExitCode;

/// How a process ends; `docs/operations.md` and each verb's help list them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    Ok = 0,
    Failed = 1,
    /// Wrong usage, or a configuration that cannot be used.
    Usage = 2,
    /// Another process has the data directory, or took the lease over.
    Taken = 3,
    /// The journal or the database is damaged.
    Corrupt = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// What a verb failed with: an exit code and, in words, why.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) why: anyhow::Error,
}

impl Failure {
    pub(crate) fn usage(why: impl Into<anyhow::Error>) -> Failure {
        Failure { exit: Exit::Usage, why: why.into() }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(why: anyhow::Error) -> Failure {
        Failure { exit: Exit::Failed, why }
    }
}

impl From<crate::store::Error> for Failure {
    fn from(error: crate::store::Error) -> Failure {
        use crate::store::Error;
        let exit = match &error {
            Error::Fenced { .. } | Error::Held { .. } => Exit::Taken,
            Error::Corrupt { .. } | Error::Damaged { .. } | Error::Projection { .. } => Exit::Corrupt,
            Error::Full { .. }
            | Error::Io { .. }
            | Error::Newer { .. }
            | Error::Layout { .. }
            | Error::Missing(_)
            | Error::File { .. } => Exit::Failed,
        };
        Failure { exit, why: error.into() }
    }
}

impl From<crate::driver::Error> for Failure {
    fn from(error: crate::driver::Error) -> Failure {
        use crate::driver::Error;
        match error {
            Error::Store(error) => error.into(),
            error @ (Error::Refused(_)
            | Error::OtherMarket { .. }
            | Error::Key(crate::public_id::Error::Missing { .. })) => Failure::usage(error),
            error @ (Error::Clock(_) | Error::Key(_) | Error::Poison(_)) => {
                Failure { exit: Exit::Failed, why: error.into() }
            }
        }
    }
}

/// Entry of the binary. The lab is dispatched before any thread starts, since it enters a user namespace.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            // Nobody can be told when standard error is closed.
            let _ = error.print();
            return exit.into();
        }
    };
    let done = match args.verb {
        Verb::Lab { verb: LabVerb::Run(run) } => return lab::run(run),
        Verb::Serve(serve) => serve::run(&serve),
        Verb::CheckConfig { file, data } => check::run(&file, data.as_deref()),
        Verb::Journal { verb: JournalVerb::Verify { data } } => journal::verify(&data),
        Verb::RebuildProjections { data } => journal::rebuild(&data),
        Verb::Noc { verb: NocVerb::Wallet { verb: WalletVerb::TopUp(top_up) } } => noc::top_up(&top_up),
        Verb::Noc { verb: NocVerb::Wallet { verb: WalletVerb::Show(read) } } => noc::wallet(&read),
        Verb::Noc { verb: NocVerb::Wallet { verb: WalletVerb::TopUps(list) } } => noc::top_ups(&list),
        Verb::Noc { verb: NocVerb::Peers(peers) } => noc::peers(&peers),
        Verb::Noc { verb: NocVerb::Key { verb: KeyVerb::New } } => noc::new_key(),
    };
    match done {
        Ok(()) => Exit::Ok.into(),
        Err(Failure { exit, why }) => {
            eprintln!("tollway: {}", crate::api::error::chain(why.as_ref()));
            exit.into()
        }
    }
}

/// A runtime for verbs that need one.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    use anyhow::Context;
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}
