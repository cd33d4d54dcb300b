//! `tollway-pcef`: a scripted gateway.

use anyhow::Context;
use clap::Parser;
use std::net::IpAddr;
use tollway_pcef::gateway::Settings;
use tollway_pcef::message::GX;
use tollway_pcef::shape::Shaper;

/// A scripted gateway (PCEF): commands on standard input, events on standard output, one JSON object a line.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where to connect to.
    #[arg(long, value_name = "HOST:PORT")]
    connect: String,
    /// Origin-Host.
    #[arg(long, default_value = "pcef.example.net")]
    host: String,
    /// Origin-Realm.
    #[arg(long, default_value = "example.net")]
    realm: String,
    /// Destination-Realm.
    #[arg(long, default_value = "example.net")]
    peer_realm: String,
    /// Host-IP-Address and AN-GW-Address.
    #[arg(long, default_value = "127.0.0.1")]
    address: IpAddr,
    /// Origin-State-Id of the first life.
    #[arg(long, default_value_t = 1)]
    state_id: u32,
    /// Applications in the CER.
    #[arg(long, value_delimiter = ',', default_values_t = [GX])]
    applications: Vec<u32>,
    /// Milliseconds between watchdog requests; 0 is never.
    #[arg(long, default_value_t = 0)]
    watchdog_ms: u64,
    /// Never report success or last usage by itself, as many real gateways.
    #[arg(long)]
    no_reports: bool,
    /// The device towards subscribers: rules shape their downlink there.
    #[arg(long, requires = "up_device")]
    down_device: Option<String>,
    /// The device towards the network: rules shape their uplink there.
    #[arg(long, requires = "down_device")]
    up_device: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let shaper = match (&args.up_device, &args.down_device) {
        (Some(up), Some(down)) => Some(Shaper::new(up, down).context("preparing the devices")?),
        _ => None,
    };
    let settings = Settings {
        host: args.host,
        realm: args.realm,
        peer_realm: args.peer_realm,
        address: args.address,
        state_id: args.state_id,
        applications: args.applications,
        watchdog_ms: args.watchdog_ms,
        has_reports: !args.no_reports,
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    let script = tokio::io::BufReader::new(tokio::io::stdin());
    runtime.block_on(tollway_pcef::run::run(
        settings,
        args.connect,
        shaper,
        script,
        &mut std::io::stdout(),
    ))?;
    // Standard input is read by a thread that cannot be told to stop.
    std::process::exit(0)
}
