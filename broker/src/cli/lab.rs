//! `tollway lab run`.

use super::args::LabRun;
use std::process::ExitCode;
use tollway_lab::RunArgs;

pub(super) fn run(args: LabRun) -> ExitCode {
    let backend = args.backend.as_deref().and_then(tollway_lab::parse_backend);
    let run = RunArgs {
        file: args.file,
        seed: args.seed,
        set: args.set,
        out: args.out,
        backend,
        broker_bin: args.broker_bin,
        agent_bin: args.agent_bin,
    };
    tollway_lab::run(&run).into()
}
