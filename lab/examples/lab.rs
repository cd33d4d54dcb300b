//! The lab by itself, without the `tollway` binary: `cargo run -p tollway-lab --example lab -- FILE
//! [--seed N] [--set path=value] [--out DIR] [--backend auto|user|netem]`.

use std::process::ExitCode;
use tollway_lab::{Exit, RunArgs};

fn read_args() -> Option<RunArgs> {
    let mut args = RunArgs::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seed" => args.seed = Some(words.next()?.parse().ok()?),
            "--set" => args.set.push(words.next()?),
            "--out" => args.out = Some(words.next()?.into()),
            "--backend" => args.backend = Some(tollway_lab::parse_backend(&words.next()?)?),
            file => args.file = file.into(),
        }
    }
    Some(args)
}

fn main() -> ExitCode {
    match read_args() {
        Some(args) => tollway_lab::run(&args).into(),
        None => {
            eprintln!(
                "usage: lab FILE [--seed N] [--set path=value] [--out DIR] [--backend auto|user|netem]"
            );
            Exit::BadScenario.into()
        }
    }
}
