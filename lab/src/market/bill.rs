//! The bill, recomputed by a program that knows nothing of ours: `docs/examples/check-my-bill/check.py`.

use super::purchase::Settled;
use crate::error::{Error, Result};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const CHECKER: &str = include_str!("../../../docs/examples/check-my-bill/check.py");

/// What the checker found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// As recomputed; `None` when there is no Python here.
    pub recomputed_micros: Option<i64>,
    /// The checker's own words.
    pub text: String,
}

fn put(dir: &Path, name: &str, value: &Value) -> Result<()> {
    let path = dir.join(name);
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    fs::write(&path, text + "\n").map_err(Error::io(format!("writing {}", path.display())))
}

/// Saves what the bill rests on and the checker beside it, and gives the folder.
pub fn save(out: &Path, name: &str, settled: &Settled, tiers: &Value) -> Result<PathBuf> {
    let bills = out.join("bill");
    let dir = bills.join(name);
    fs::create_dir_all(&dir).map_err(Error::io(format!("making {}", dir.display())))?;
    put(&dir, "reservation.json", &settled.reservation)?;
    put(&dir, "usage.json", &settled.usage)?;
    put(&dir, "evidence.json", &settled.evidence)?;
    put(&dir, "charges.json", &settled.charges)?;
    put(&dir, "events.json", &settled.events)?;
    put(&dir, "tiers.json", tiers)?;
    let checker = bills.join("check.py");
    fs::write(&checker, CHECKER).map_err(Error::io(format!("writing {}", checker.display())))?;
    Ok(dir)
}

/// Runs the checker on a saved folder.
pub fn check(dir: &Path) -> Checked {
    let checker = dir.with_file_name("check.py");
    let ran = Command::new("python3").arg(&checker).arg(dir).stdin(Stdio::null()).output();
    match ran {
        Err(error) => Checked { recomputed_micros: None, text: format!("python3 did not run: {error}") },
        Ok(output) => {
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.push_str(&String::from_utf8_lossy(&output.stderr));
            let recomputed = text
                .lines()
                .find_map(|line| line.strip_prefix("recomputed_micros "))
                .and_then(|number| number.trim().parse().ok());
            Checked { recomputed_micros: recomputed, text: text.trim_end().to_owned() }
        }
    }
}
