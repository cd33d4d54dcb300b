//! `agent.toml`, parsed and checked whole before anything starts.

use crate::limits::{DEVICE_BYTES_MAX, LINK_BPS_MAX, LINK_BPS_MIN, NAME_BYTES_MAX};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tollway_linux::PortConfig;
use tollway_model::{BitsPerSecond, Direction};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: cannot be read: {source}", path = path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path}: {source}", path = path.display())]
    Syntax {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("{path}: {what}", path = path.display())]
    Wrong { path: PathBuf, what: String },
}

/// The agent's configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of this enforcement point, as the broker configures it.
    pub agent: String,
    pub broker: String,
    pub token: String,
    pub data: PathBuf,
    pub ports: Vec<PortConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    agent: String,
    broker: String,
    token: Option<String>,
    token_file: Option<PathBuf>,
    data: PathBuf,
    #[serde(default, rename = "port")]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Port {
    name: String,
    device: String,
    link: Rate,
    #[serde(default)]
    take_root: bool,
    direction: Option<Side>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    Up,
    Down,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a rate is bits per second as a number, or text like \"40mbit\"")]
enum Rate {
    Number(u64),
    Text(String),
}

impl Config {
    /// Reads and checks a file; relative paths in it are relative to the file.
    ///
    /// # Errors
    /// With the path and what is wrong.
    pub fn load(path: &Path) -> Result<Config, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        Config::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Config, Error> {
        let file: File = toml::from_str(text)
            .map_err(|source| Error::Syntax { path: path.to_owned(), source: Box::new(source) })?;
        let wrong = |what: String| Error::Wrong { path: path.to_owned(), what };
        check_name("agent", &file.agent).map_err(wrong)?;
        let beside = |other: &Path| path.parent().unwrap_or(Path::new("")).join(other);
        let token = match (file.token, file.token_file) {
            (Some(token), None) => token,
            (None, Some(token_file)) => {
                let token_file = beside(&token_file);
                std::fs::read_to_string(&token_file)
                    .map_err(|source| Error::Unreadable { path: token_file, source })?
                    .trim()
                    .to_owned()
            }
            (Some(_), Some(_)) | (None, None) => {
                return Err(wrong("give either token or token_file".into()));
            }
        };
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("the token is empty or holds characters that a header cannot carry".into()));
        }
        if !file.broker.starts_with("http://") || file.broker.len() == "http://".len() {
            return Err(wrong(format!("broker = {:?}: an http:// address is needed", file.broker)));
        }
        let ports = ports(file.ports).map_err(wrong)?;
        Ok(Config { agent: file.agent, broker: file.broker, token, data: beside(&file.data), ports })
    }
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(fine) {
        return Err(format!(
            "{what} = {name:?}: 1 to {NAME_BYTES_MAX} letters, digits, '-', '_', '.' are needed"
        ));
    }
    Ok(())
}

fn ports(ports: Vec<Port>) -> Result<Vec<PortConfig>, String> {
    if ports.is_empty() {
        return Err("at least one [[port]] is needed".into());
    }
    let (mut names, mut devices) = (BTreeSet::new(), BTreeSet::new());
    let mut all = Vec::with_capacity(ports.len());
    for port in ports {
        check_name("port name", &port.name)?;
        if !names.insert(port.name.clone()) {
            return Err(format!("port {:?} is there twice", port.name));
        }
        let device = &port.device;
        let odd = |byte: u8| byte == b'/' || byte.is_ascii_whitespace();
        if device.is_empty() || device.len() > DEVICE_BYTES_MAX || device.bytes().any(odd) {
            return Err(format!("port {:?}: {device:?} cannot be a device's name", port.name));
        }
        if !devices.insert(device.clone()) {
            return Err(format!("device {device:?} is there twice"));
        }
        let link = match &port.link {
            Rate::Number(bps) => *bps,
            Rate::Text(text) => {
                rate(text).map_err(|why| format!("port {:?}: link = {text:?}: {why}", port.name))?
            }
        };
        if !(LINK_BPS_MIN..=LINK_BPS_MAX).contains(&link) {
            let (min, max) = (BitsPerSecond(LINK_BPS_MIN), BitsPerSecond(LINK_BPS_MAX));
            return Err(format!("port {:?}: link = {link} bit/s is not between {min} and {max}", port.name));
        }
        all.push(PortConfig {
            name: port.name,
            device: port.device,
            link: BitsPerSecond(link),
            take_root: port.take_root,
            direction: port.direction.map(|side| match side {
                Side::Up => Direction::Up,
                Side::Down => Direction::Down,
            }),
        });
    }
    Ok(all)
}

/// `40mbit`, `1.5gbit`, `64kbit`, `9600bit`: decimal units of bits per second, at most nine decimals.
fn rate(text: &str) -> Result<u64, String> {
    let wrong = || "a rate is a number and bit, kbit, mbit or gbit".to_owned();
    let at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(at);
    let scale: u64 = match unit {
        "bit" => 1,
        "kbit" => 1_000,
        "mbit" => 1_000_000,
        "gbit" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    let (whole, decimals) = number.trim().split_once('.').unwrap_or((number.trim(), ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(decimals) || decimals.len() > 9 {
        return Err(wrong());
    }
    let mut part = 0;
    let mut unit = scale;
    for digit in decimals.bytes() {
        unit /= 10;
        part += u64::from(digit - b'0') * unit;
    }
    let whole: u64 = whole.parse().map_err(|_| "too large".to_owned())?;
    whole.checked_mul(scale).and_then(|bps| bps.checked_add(part)).ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    const GOOD: &str = r#"
agent = "router1"
broker = "http://127.0.0.1:7420"
token = "secret"
data = "agent"
[[port]]
name = "wan0"
device = "eth0"
link = "40mbit"
[[port]]
name = "lan0"
device = "eth1"
link = 40000000
take_root = true
direction = "down"
"#;

    #[test]
    fn a_good_file_is_read() {
        let config = Config::parse(Path::new("/etc/tollway/agent.toml"), GOOD).expect("good");
        assert_eq!(config.data, Path::new("/etc/tollway/agent"));
        assert_eq!(config.ports[0].link, config.ports[1].link);
        assert_eq!(config.ports[1].direction, Some(Direction::Down));
    }

    fn bad(from: &str, to: &str, want: Expect) {
        assert!(GOOD.contains(from));
        let text = GOOD.replacen(from, to, 1);
        want.assert_eq(&Config::parse(Path::new("agent.toml"), &text).expect_err("bad").to_string());
    }

    #[test]
    fn bad_files_say_what_is_wrong() {
        bad(
            "data =",
            "dat =",
            expect![[r#"
            agent.toml: TOML parse error at line 5, column 1
              |
            5 | dat = "agent"
              | ^^^
            unknown field `dat`, expected one of `agent`, `broker`, `token`, `token_file`, `data`, `port`
        "#]],
        );
        bad("\"eth1\"", "\"eth0\"", expect![[r#"agent.toml: device "eth0" is there twice"#]]);
        bad("\"lan0\"", "\"wan0\"", expect![[r#"agent.toml: port "wan0" is there twice"#]]);
        bad(
            "\"40mbit\"",
            "\"40mbps\"",
            expect![[
                r#"agent.toml: port "wan0": link = "40mbps": a rate is a number and bit, kbit, mbit or gbit"#
            ]],
        );
        bad(
            "\"40mbit\"",
            "\"18446744073709551615gbit\"",
            expect![[r#"agent.toml: port "wan0": link = "18446744073709551615gbit": too large"#]],
        );
        bad(
            "\"40mbit\"",
            "-1",
            expect![[r#"
            agent.toml: TOML parse error at line 9, column 8
              |
            9 | link = -1
              |        ^^
            a rate is bits per second as a number, or text like "40mbit"
        "#]],
        );
        bad(
            "\"40mbit\"",
            "\"1kbit\"",
            expect![[
                r#"agent.toml: port "wan0": link = 1000 bit/s is not between 64 kbit/s and 400 Gbit/s"#
            ]],
        );
        bad(
            "\"eth0\"",
            "\"a-very-long-device\"",
            expect![[r#"agent.toml: port "wan0": "a-very-long-device" cannot be a device's name"#]],
        );
        bad(
            "\"router1\"",
            "\"\"",
            expect![[r#"agent.toml: agent = "": 1 to 64 letters, digits, '-', '_', '.' are needed"#]],
        );
        bad(
            "\"secret\"",
            "\"two words\"",
            expect!["agent.toml: the token is empty or holds characters that a header cannot carry"],
        );
        bad(
            "token = \"secret\"",
            "token_file = \"/nonexistent/t\"",
            expect!["/nonexistent/t: cannot be read: No such file or directory (os error 2)"],
        );
        bad("token = \"secret\"", "", expect!["agent.toml: give either token or token_file"]);
        bad(
            "http://127.0.0.1:7420",
            "127.0.0.1:7420",
            expect![[r#"agent.toml: broker = "127.0.0.1:7420": an http:// address is needed"#]],
        );
        bad(
            "take_root = true",
            "take_root = 1",
            expect![[r#"
            agent.toml: TOML parse error at line 14, column 13
               |
            14 | take_root = 1
               |             ^
            invalid type: integer `1`, expected a boolean
        "#]],
        );
        bad(
            "\"down\"",
            "\"sideways\"",
            expect![[r#"
            agent.toml: TOML parse error at line 15, column 13
               |
            15 | direction = "sideways"
               |             ^^^^^^^^^^
            unknown variant `sideways`, expected `up` or `down`
        "#]],
        );
    }

    #[test]
    fn rates_have_units_and_decimals() {
        assert_eq!(rate("1.5gbit"), Ok(1_500_000_000));
        assert_eq!(rate("64kbit"), Ok(64_000));
        assert_eq!(rate("0.5bit"), Ok(0));
        for text in ["", "40", "mbit", "1.mbitx", "-1mbit", "1e3mbit", "1.0000000000mbit", "1..5mbit"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
