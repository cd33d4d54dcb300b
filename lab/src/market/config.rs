//! The configuration files that the lab writes for the broker and the agent.

use crate::error::{Error, Result};
use crate::scenario::Plan;
use crate::scenario::plan::Market;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::Path;

pub const TIER: &str = "gold";
pub const PACKET_BYTES: u32 = 1_500;
pub const HTTP: &str = "127.0.0.1:7410";
pub const GRPC: &str = "127.0.0.1:7420";
const AGENT: &str = "router1";
const TARIFF: &str = "gold-2026";

/// Bearer tokens, new for every run.
pub struct Keys {
    customers: BTreeMap<String, String>,
    pub noc: String,
    pub agent: String,
}

impl Keys {
    pub fn random(plan: &Plan) -> Result<Keys> {
        let mut customers = BTreeMap::new();
        for host in plan.hosts.iter().filter(|h| h.wallet_micros.is_some()) {
            customers.insert(host.name.clone(), token()?);
        }
        Ok(Keys { customers, noc: token()?, agent: token()? })
    }

    /// Hosts whose owner is a customer.
    pub fn customers(&self) -> impl Iterator<Item = &str> {
        self.customers.keys().map(String::as_str)
    }

    pub fn customer_token(&self, host: &str) -> String {
        self.customers.get(host).cloned().unwrap_or_default()
    }
}

/// The customer who owns a host.
pub fn customer_name(host: &str) -> String {
    format!("{host}-app")
}

fn token() -> Result<String> {
    let mut bytes = [0u8; 32];
    fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(Error::io("reading random bytes"))?;
    Ok(format!("tw_{}", hex(&bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn digest(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

/// Writes `broker.toml` and `agent.toml`.
pub fn write(plan: &Plan, keys: &Keys, dir: &Path) -> Result<()> {
    let Some(market) = &plan.market else { return Ok(()) };
    for (name, text) in
        [("broker.toml", broker(plan, market, keys)), ("agent.toml", agent(plan, market, keys, dir))]
    {
        let path = dir.join(name);
        fs::write(&path, text).map_err(Error::io(format!("writing {}", path.display())))?;
    }
    Ok(())
}

fn broker(plan: &Plan, market: &Market, keys: &Keys) -> String {
    let mut text = format!(
        "# Written by tollway lab for scenario {}.\n[market]\nname = \"lab\"\nslot_s = {}\ncurrency = \
         \"EUR\"\n\n[serve]\nhttp = \"{HTTP}\"\ngrpc = \"{GRPC}\"\n",
        plan.name, market.slot_s
    );
    text.push_str(&pool("shared", market));
    text.push_str(&tier(market));
    for host in &plan.hosts {
        let (name, address) = (&host.name, host.address);
        if host.wallet_micros.is_none() {
            continue;
        }
        let line = format!("{name}-line");
        text.push_str(&pool(&line, market));
        let _ = write!(
            text,
            "\n[[access]]\nname = \"{name}\"\nenforcement_point = \"{AGENT}\"\nup = {{ port = \"wan0\", pools = \
             [\"{line}\", \"shared\"] }}\ndown = {{ port = \"lan0\", pools = [\"{line}\", \"shared\"] \
             }}\nprice_pool = \"shared\"\nsubscriber = \"{line}\"\n\n[[customer]]\nname = \
             \"{customer}\"\ncurrency = \"EUR\"\nendpoints = [{{ access = \"{name}\", addresses = \
             [\"{address}/32\"] }}]\n\n[[key]]\ncustomer = \"{customer}\"\nsha256 = \"{key}\"\n",
            customer = customer_name(name),
            key = digest(&keys.customer_token(name)),
        );
    }
    let _ = write!(
        text,
        "\n[[key]]\nnoc = true\nsha256 = \"{}\"\n\n[[key]]\nagent = \"{AGENT}\"\nsha256 = \"{}\"\n",
        digest(&keys.noc),
        digest(&keys.agent)
    );
    text
}

fn pool(name: &str, market: &Market) -> String {
    format!(
        "\n[[pool]]\nname = \"{name}\"\nup_bps = {rate}\ndown_bps = {rate}\nsell_share_ppm = {}\nhold_share_ppm \
         = {}\n",
        market.sell_share_ppm,
        market.hold_share_ppm,
        rate = market.shaped_bps,
    )
}

fn tier(market: &Market) -> String {
    format!(
        "\n[[tier]]\nname = \"{TIER}\"\nkind = \"assured\"\nlegal_basis = {{ private_network = {{}} \
         }}\npacket_bytes = {PACKET_BYTES}\noverhead_ppm = {}\nqueue_ms_max = 50\ngap_s_max = 3\nstart_grace_s = \
         10\nunseen_free_s = 120\ncharge_by_rate = \"reserved\"\ncharge_by_bytes = \
         \"delivered\"\nrate_min_bps = 64000\nrate_max_bps = {}\nexcess = \"best_effort\"\ntariff = \
         \"{TARIFF}\"\n\n[[tariff]]\nname = \"{TARIFF}\"\nmbps_hour_micros = {}\ngb_micros = {}\nsetup_micros = \
         0\ncurve = [[0, 1000000], [700000, 1000000], [1000000, 3000000]]\n",
        market.overhead_ppm, market.rate_max_bps, market.mbps_hour_micros, market.gb_micros
    )
}

fn agent(plan: &Plan, market: &Market, keys: &Keys, dir: &Path) -> String {
    let mut text = format!(
        "# Written by tollway lab for scenario {}.\nagent = \"{AGENT}\"\nbroker = \"http://{GRPC}\"\ntoken = \
         \"{}\"\ndata = \"{}\"\n",
        plan.name,
        keys.agent,
        dir.join("agent-data").display()
    );
    for (port, direction) in [("wan0", &plan.up), ("lan0", &plan.down)] {
        // The agent shapes to 97 % of its link; a smaller share of the line is a slower link to it.
        let line = direction.rate_bps.unwrap_or(0);
        let link = (u128::from(market.shaped_bps) * 100).div_ceil(97);
        let link = u64::try_from(link).unwrap_or(line).min(line);
        let _ = write!(
            text,
            "\n[[port]]\nname = \"{port}\"\ndevice = \"{port}\"\nlink = \"{}\"\ntake_root = true\n",
            with_unit(link)
        );
    }
    text
}

/// In the largest unit that is exact.
fn with_unit(bps: u64) -> String {
    if bps.is_multiple_of(1_000_000) {
        return format!("{}mbit", bps / 1_000_000);
    }
    if bps.is_multiple_of(1_000) {
        return format!("{}kbit", bps / 1_000);
    }
    format!("{bps}bit")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    #[test]
    fn both_files_are_toml_with_what_the_scenario_says() {
        let text = "[lab]\nname = \"x\"\n[line]\nup = { rate = \"40mbit\", delay = \"10ms\", buffer = \"100ms\" \
                    }\ndown = { rate = \"40mbit\", delay = \"10ms\", buffer = \"100ms\" }\n[host.shop]\nwallet \
                    = \"5 EUR\"\n[market]\nmbps_hour = \"0.02 EUR\"\ngb = \"0.05 EUR\"\n[[act]]\nname = \
                    \"a\"\ntitle = \"A\"\n";
        let plan = scenario::parse("x.toml", text, &[]).unwrap();
        let keys = Keys::random(&plan).unwrap();
        let market = plan.market.unwrap();
        let broker: toml::Table = toml::from_str(&broker(&plan, &market, &keys)).unwrap();
        assert_eq!(broker["pool"][0]["up_bps"].as_integer(), Some(38_800_000));
        assert_eq!(broker["tariff"][0]["gb_micros"].as_integer(), Some(50_000));
        assert_eq!(broker["key"].as_array().map(Vec::len), Some(3));
        let agent: toml::Table = toml::from_str(&agent(&plan, &market, &keys, Path::new("/tmp/x"))).unwrap();
        assert_eq!(agent["port"][0]["link"].as_str(), Some("40mbit"));
    }
}
