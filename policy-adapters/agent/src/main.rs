//! `tollway-agent`: the process next to the kernel. It holds CAP_NET_ADMIN and nothing else.

mod clock;
mod config;
mod limits;
mod link;
mod outbox;
mod run;
mod store;
mod wire;

use clap::{Parser, Subcommand};
use config::Config;
use std::path::PathBuf;
use std::process::ExitCode;
use store::Store;
use tollway_linux::{Capabilities, Enforcer, Kernel};
use tracing_subscriber::EnvFilter;

/// Bad configuration.
const EXIT_CONFIG: u8 = 2;
/// The host lacks something; it was named.
const EXIT_HOST: u8 = 3;

/// Enforces what a Tollway broker desires on this router.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    /// Path of agent.toml.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Follow the broker until SIGTERM; rules stay in place (the default).
    Run,
    /// Remove everything of ours from the kernel; the default qdiscs come back.
    Uninstall,
    /// Say what this kernel and the configured ports have.
    Doctor,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("TOLLWAY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let Some(path) = cli.config else {
        eprintln!("tollway-agent: --config FILE is needed");
        return ExitCode::from(EXIT_CONFIG);
    };
    let config = match Config::load(&path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("tollway-agent: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let outcome = match cli.verb.unwrap_or(Verb::Run) {
        Verb::Run => start(config).map(|()| ExitCode::SUCCESS),
        Verb::Uninstall => uninstall(&config).map(|()| ExitCode::SUCCESS),
        Verb::Doctor => doctor(&config),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("tollway-agent: {error:#}");
        ExitCode::FAILURE
    })
}

fn start(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run::run(config))
}

fn uninstall(config: &Config) -> anyhow::Result<()> {
    // A running agent would put everything back.
    let store = Store::open(&config.data)?;
    let mut kernel = Kernel::open(true)?;
    let removed = Enforcer::uninstall(&mut kernel, &config.ports)?;
    for what in &removed {
        println!("removed {what}");
    }
    if removed.is_empty() {
        println!("nothing of ours was there");
    }
    if let Some((state, outbox)) = store.load()? {
        let waiting = outbox.waiting() + state.pending.len();
        if waiting > 0 {
            println!("{waiting} reports are unacknowledged; {} is kept", config.data.display());
        }
    }
    Ok(())
}

fn doctor(config: &Config) -> anyhow::Result<ExitCode> {
    let capabilities = Capabilities::probe();
    for capability in capabilities.strings() {
        println!("{capability}");
    }
    let leaves: Vec<&str> = capabilities.leaves.iter().map(|leaf| leaf.as_str()).collect();
    println!("leaves={}", leaves.join(","));
    let mut kernel = Kernel::open(true)?;
    let mut fine = capabilities.htb && (capabilities.table.is_some() || capabilities.untried.is_some());
    for (name, state) in Enforcer::survey(&mut kernel, &config.ports)? {
        fine &= state.is_ok();
        match state {
            Ok(text) => println!("port {name}: {text}"),
            Err(text) => println!("port {name}: PROBLEM: {text}"),
        }
    }
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::from(EXIT_HOST) })
}
