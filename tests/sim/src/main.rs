//! `cargo sim [--seeds A..B | --seed N] [--steps N] [--bug NAME] [--mobile] [--trace]`

use std::collections::BTreeMap;
use std::process::ExitCode;
use tollway_sim::{Bug, Options, Outcome, run};

const USAGE: &str =
    "usage: tollway-sim [--seeds A..B | --seed N] [--steps N] [--bug NAME] [--mobile] [--trace] [--keep-going]
bugs: reply-before-commit duplicate-usage equal-start hold-never-voided replay-differs\n\
      gx-answer-before-commit gx-release-crosses gx-usage-twice (with --mobile)";

struct Wanted {
    seeds: std::ops::Range<u64>,
    options: Options,
    keep_going: bool,
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let mut wanted = Wanted { seeds: 0..256, options: Options::of_seed(0), keep_going: false };
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{name} wants a value"));
        let number = |text: &str| text.parse::<u64>().map_err(|e| format!("{text}: {e}"));
        match name.as_str() {
            "--seed" => {
                let seed = number(&value()?)?;
                wanted.seeds = seed..seed + 1;
            }
            "--seeds" => {
                let text = value()?;
                let (from, until) = text.split_once("..").ok_or("write seeds as A..B")?;
                wanted.seeds = number(from)?..number(until)?;
            }
            "--steps" => wanted.options.steps = number(&value()?)?,
            "--bug" => {
                let text = value()?;
                wanted.options.bug = Some(Bug::parse(&text).ok_or(format!("there is no bug {text}"))?);
            }
            "--mobile" => wanted.options.mobile = true,
            "--trace" => wanted.options.trace = true,
            "--keep-going" => wanted.keep_going = true,
            other => return Err(format!("{other} is not known")),
        }
    }
    Ok(wanted)
}

fn print(outcome: &Outcome, is_alone: bool) {
    println!(
        "seed {} digest {:016x} steps {} records {} {}",
        outcome.seed, outcome.digest, outcome.steps, outcome.records, outcome.figures
    );
    if is_alone {
        println!("  drawn: {}", outcome.drawn);
    }
    if let Some(failure) = &outcome.failure {
        println!("FAILED seed {}: {}", outcome.seed, failure.what);
        if !is_alone {
            println!("  drawn: {}", outcome.drawn);
        }
    }
}

fn main() -> ExitCode {
    let wanted = match parse(std::env::args().skip(1)) {
        Ok(wanted) => wanted,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let is_alone = wanted.seeds.end - wanted.seeds.start == 1;
    let mut failed = 0u64;
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    for seed in wanted.seeds.clone() {
        let outcome = run(&Options { seed, ..wanted.options });
        for (what, times) in &outcome.counted {
            *counted.entry(what.clone()).or_default() += times;
        }
        let has_failed = outcome.failure.is_some();
        if is_alone || has_failed || !wanted.keep_going {
            print(&outcome, is_alone);
        }
        if let Some(failure) = &outcome.failure {
            failed += 1;
            if !wanted.keep_going {
                failure.last.iter().for_each(|line| println!("    {line}"));
                break;
            }
        }
    }
    if wanted.keep_going {
        counted.iter().for_each(|(what, times)| println!("  {times:>9} {what}"));
    }
    println!("{failed} of seeds {}..{} failed", wanted.seeds.start, wanted.seeds.end);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
