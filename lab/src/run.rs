//! A run: build the network, start the product, play the acts, judge, report.

mod act;
mod assemble;
mod background;
mod figures;
mod judge;
mod progress;
mod result;
mod sentence;
mod stage;
mod step;

use crate::error::{Error, Result};
use crate::net::userns;
use crate::report;
use crate::scenario::file::Backend;
use crate::scenario::{self, Plan};
use progress::Progress;
use std::path::{Path, PathBuf};

/// What `tollway lab run` was asked.
#[derive(Clone, Debug, Default)]
pub struct RunArgs {
    pub file: PathBuf,
    pub seed: Option<u64>,
    /// `path=value`, as often as wanted.
    pub set: Vec<String>,
    /// Where reports go; `target/<scenario's name>` by default.
    pub out: Option<PathBuf>,
    pub backend: Option<Backend>,
    /// Where `tollway` and `tollway-agent` are; by default beside this program.
    pub broker_bin: Option<PathBuf>,
    pub agent_bin: Option<PathBuf>,
}

/// How a run ended; the number is the exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    Pass = 0,
    ExpectationFailed = 1,
    BadScenario = 2,
    HostCannot = 3,
    /// The host was too busy to say anything: never a red test.
    Degraded = 4,
}

impl Exit {
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> std::process::ExitCode {
        exit.code().into()
    }
}

/// Parses a back-end's name as the command line gives it.
pub fn parse_backend(text: &str) -> Option<Backend> {
    match text {
        "auto" => Some(Backend::Auto),
        "user" => Some(Backend::User),
        "netem" => Some(Backend::Netem),
        _ => None,
    }
}

/// Runs a scenario. Call it before any thread exists: without root it enters a user namespace first.
pub fn run(args: &RunArgs) -> Exit {
    match try_run(args) {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("tollway lab: {}", error.chain());
            exit_of(&error)
        }
    }
}

fn exit_of(error: &Error) -> Exit {
    match error {
        Error::Scenario(_) | Error::ScenarioUnreadable { .. } | Error::Out { .. } => Exit::BadScenario,
        Error::Host { .. } => Exit::HostCannot,
        Error::ChildEnded { .. }
        | Error::NeverReady { .. }
        | Error::Broker { .. }
        | Error::Refused { .. }
        | Error::OnlyLater { .. }
        | Error::Rest { .. } => Exit::ExpectationFailed,
        Error::Io { .. } | Error::Netlink { .. } | Error::Thread(_) => Exit::Degraded,
    }
}

fn try_run(args: &RunArgs) -> Result<Exit> {
    let mut plan = scenario::load(&args.file, &args.set)?;
    plan.seed = args.seed.unwrap_or(plan.seed);
    plan.backend = args.backend.unwrap_or(plan.backend);
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("target").join(&plan.name));
    check_out(&out)?;
    let binaries = match plan.market {
        None => None,
        Some(_) => {
            Some(crate::market::child::Binaries::find(args.broker_bin.clone(), args.agent_bin.clone())?)
        }
    };
    userns::enter_user_namespace()?;
    let progress = Progress::new();
    let stage = stage::Stage::build(&plan, &out, binaries, &progress)?;
    let (played, aborted) = play(&plan, &stage, &progress);
    // A run that broke off still says what it has seen.
    let report = assemble::report(&plan, &stage, &played, aborted.as_ref())?;
    report::write(&report, &stage.out)?;
    report::write_json(&stage.out.join("result.json"), &result::of(&plan, &report))?;
    progress.closing(&report, &stage.out);
    aborted.map_or(Ok(report.exit()), Err)
}

/// Plays the acts in order, up to the first that cannot be played.
fn play(plan: &Plan, stage: &stage::Stage, progress: &Progress) -> (Vec<act::Played>, Option<Error>) {
    let mut played: Vec<act::Played> = Vec::new();
    for (index, act) in plan.acts.iter().enumerate() {
        progress.act_begins(index + 1, plan.acts.len(), act);
        let mut done = match act::play(plan, act, stage, progress) {
            Ok(done) => done,
            Err(error) => return (played, Some(error)),
        };
        let so_far: Vec<_> = played.iter().map(|p| &p.figures).collect();
        done.checked = judge::expectations(act, &done, &so_far);
        done.sentence = sentence::of(plan, act, &done, &played);
        progress.act_ends(index + 1, &done);
        played.push(done);
    }
    (played, None)
}

/// Whether results can go there, before anything is made: a file in the way is the caller's mistake.
fn check_out(out: &Path) -> Result<()> {
    let there = out.ancestors().find(|part| part.symlink_metadata().is_ok());
    match there {
        Some(part) if !part.is_dir() => {
            let why = format!("{} is not a folder", part.display());
            Err(Error::Out { path: out.to_owned(), why })
        }
        Some(_) | None => Ok(()),
    }
}

/// The folder for a run: what a former run left there is removed (a stale report would be believed), nothing
/// else is.
fn prepare_out(out: &Path) -> Result<PathBuf> {
    let refused =
        |error: std::io::Error| Error::Out { path: out.to_owned(), why: format!("cannot be made ({error})") };
    std::fs::create_dir_all(out.join("run")).map_err(refused)?;
    for name in ["run", "bill"] {
        let dir = out.join(name);
        if dir.is_dir() {
            std::fs::remove_dir_all(&dir).map_err(Error::io(format!("clearing {}", dir.display())))?;
        }
    }
    for name in ["report.json", "report.html", "result.json"] {
        match std::fs::remove_file(out.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Io { doing: format!("clearing {name}"), source: error });
            }
            Ok(()) | Err(_) => {}
        }
    }
    std::fs::create_dir_all(out.join("run")).map_err(Error::io("making the run's folder"))?;
    out.canonicalize().map_err(Error::io(format!("finding {}", out.display())))
}
