//! Verbs and their options.

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const EXITS: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 another process has the \
                     data directory, 4 journal or database damaged.";

/// Sells assured bandwidth: quotes, admits, has enforced, meters, bills.
#[derive(Parser, Debug)]
#[command(name = "tollway", version, after_help = EXITS)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Run the broker of one market.
    #[command(after_help = "Example:\n  tollway serve --config broker.toml --data /var/lib/tollway\n\n\
                      SIGTERM and SIGINT stop it gracefully. RUST_LOG sets what is logged (default: info).")]
    Serve(Serve),
    /// Check a configuration file and start nothing.
    #[command(after_help = "Example:\n  tollway check-config broker.toml --data /var/lib/tollway\n\n\
                      With --data it also says what a start with the file would change in that market, and what \
                      would refuse it. It only reads; the broker may run.")]
    CheckConfig {
        /// The configuration.
        file: PathBuf,
        /// The data directory of the market that it is for.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Look after the journal.
    Journal {
        #[command(subcommand)]
        verb: JournalVerb,
    },
    /// Drop everything that is made from the journal and make it again.
    #[command(after_help = "Example:\n  tollway rebuild-projections --data /var/lib/tollway\n\n\
                      The broker must be stopped. The journal is only read.")]
    RebuildProjections {
        /// The data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// The network operations centre's verbs.
    Noc {
        #[command(subcommand)]
        verb: NocVerb,
    },
    /// Run the product in an emulated network.
    Lab {
        #[command(subcommand)]
        verb: LabVerb,
    },
}

#[derive(ClapArgs, Debug)]
pub(crate) struct Serve {
    /// The configuration.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The data directory; made when it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Start although the wall clock is before the last record; time goes on from there.
    #[arg(long)]
    pub(crate) accept_clock: bool,
    /// Lead above this epoch: for data restored from an older copy, whose agents have obeyed a newer one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..1_000_000_000))]
    pub(crate) epoch_above: Option<u64>,
    /// Start on existing data without its market.key, with a new one: every id that customers saved is void.
    #[arg(long)]
    pub(crate) new_market_key: bool,
    /// Write every Diameter message into this file, for Wireshark. It names subscribers.
    #[arg(long, value_name = "FILE")]
    pub(crate) diameter_pcap: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum JournalVerb {
    /// Check every row: sequence, chain, encoding, end.
    #[command(after_help = "Example:\n  tollway journal verify --data /var/lib/tollway\n\n\
                      Reads only; a running broker may go on. Exits 1 and names the first bad sequence when \
                      something is wrong.")]
    Verify {
        /// The data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum NocVerb {
    /// Show Diameter peers and gateways: state, watchdogs, requests by result, queues, sessions.
    #[command(after_help = "Example:\n  TOLLWAY_NOC_KEY=… tollway noc peers")]
    Peers(Peers),
    /// Customers' prepaid money.
    Wallet {
        #[command(subcommand)]
        verb: WalletVerb,
    },
    /// API keys.
    Key {
        #[command(subcommand)]
        verb: KeyVerb,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum WalletVerb {
    /// Credit a customer's wallet with money received.
    #[command(
        after_help = "Example:\n  TOLLWAY_NOC_KEY=… tollway noc wallet top-up --customer shop-pos \\\n      \
                      --amount 10.00 --currency EUR --reason \"invoice 2026-117\"\n\n\
                      Who and why go into the record. Run again with the same --idempotency-key after a \
                      failure: it is credited once."
    )]
    TopUp(TopUp),
    /// Show a customer's balance, what is held of it and what is available.
    #[command(after_help = "Example:\n  TOLLWAY_NOC_KEY=… tollway noc wallet show --customer shop-pos")]
    Show(WalletRead),
    /// List a customer's top-ups, the newest first: when, how much, who, why.
    #[command(
        after_help = "Example:\n  TOLLWAY_NOC_KEY=… tollway noc wallet top-ups --customer shop-pos \\\n      \
                            --output json"
    )]
    TopUps(TopUps),
}

#[derive(ClapArgs, Debug)]
pub(crate) struct Peers {
    /// Where the broker is.
    #[arg(long, default_value = "http://127.0.0.1:7410")]
    pub(crate) url: String,
    /// File with a NOC key; else TOLLWAY_NOC_KEY holds it.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// For people, or as the broker said it.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct WalletRead {
    /// The customer's configured name.
    #[arg(long)]
    pub(crate) customer: String,
    /// Where the broker is.
    #[arg(long, default_value = "http://127.0.0.1:7410")]
    pub(crate) url: String,
    /// File with a NOC key; else TOLLWAY_NOC_KEY holds it.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// For people, or as the broker said it.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct TopUps {
    #[command(flatten)]
    pub(crate) read: WalletRead,
    /// Rows to read.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) limit: u32,
    /// `next` of the page before.
    #[arg(long, value_name = "NEXT")]
    pub(crate) after: Option<String>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Output {
    Table,
    Json,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct TopUp {
    /// The customer's configured name.
    #[arg(long)]
    pub(crate) customer: String,
    /// Units of the currency, with at most six decimals.
    #[arg(long)]
    pub(crate) amount: String,
    /// ISO 4217.
    #[arg(long)]
    pub(crate) currency: String,
    /// Why; kept in the record.
    #[arg(long)]
    pub(crate) reason: String,
    /// Where the broker is.
    #[arg(long, default_value = "http://127.0.0.1:7410")]
    pub(crate) url: String,
    /// File with a NOC key; else TOLLWAY_NOC_KEY holds it.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Names this very top-up; a new one is made when absent.
    #[arg(long, value_name = "TEXT")]
    pub(crate) idempotency_key: Option<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum KeyVerb {
    /// Make a random token and the line that the configuration stores of it.
    #[command(after_help = "Example:\n  tollway noc key new\n\n\
                      Give the token to whoever is to call, put the sha256 line into a [[key]] table. The \
                      token is shown once and stored nowhere.")]
    New,
}

#[derive(Subcommand, Debug)]
pub(crate) enum LabVerb {
    /// Play a scenario and report on it.
    #[command(
        after_help = "Example:\n  tollway lab run lab/scenarios/demo.toml --set line.up.delay=30ms --out /tmp/demo30\n\n\
                      Exit codes: 0 pass, 1 an expectation failed, 2 bad scenario, 3 this host cannot, \
                      4 the host was too busy to say."
    )]
    Run(LabRun),
}

#[derive(ClapArgs, Debug)]
pub(crate) struct LabRun {
    /// The scenario.
    pub(crate) file: PathBuf,
    /// Seed of everything random.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Changes one value of the scenario; as often as wanted.
    #[arg(long, value_name = "PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// Where reports go.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// What emulates the links.
    #[arg(long, value_parser = ["auto", "user", "netem"])]
    pub(crate) backend: Option<String>,
    /// Another `tollway` than this one.
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) broker_bin: Option<PathBuf>,
    /// Another `tollway-agent` than the one beside this program.
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) agent_bin: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Lines and columns of a small terminal.
    const SCREEN: (usize, usize) = (40, 110);

    fn check(mut command: clap::Command) {
        let help = command.render_long_help().to_string();
        assert!(
            help.lines().count() <= SCREEN.0,
            "the help of {} fills more than a screen",
            command.get_name()
        );
        if command.get_subcommands().next().is_none() {
            assert!(help.contains("Example:"), "{} has no example", command.get_name());
        }
        let verbs: Vec<clap::Command> = command.get_subcommands().cloned().collect();
        verbs.into_iter().filter(|verb| verb.get_name() != "help").for_each(check);
    }

    #[test]
    fn every_help_fits_a_screen_and_every_verb_has_an_example() {
        let command = Args::command();
        command.clone().debug_assert();
        check(command);
    }
}
