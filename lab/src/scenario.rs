//! Scenario files: TOML, units on every quantity, unknown keys refused, errors at line and column.

pub mod file;
pub mod metric;
pub mod overrides;
pub mod plan;
mod position;
pub mod units;

pub use plan::Plan;
pub use position::Problem;

use crate::error::{Error, Result};
use std::path::Path;

/// Reads a scenario, applies `--set` values and plans it; touches nothing else.
pub fn load(path: &Path, sets: &[String]) -> Result<Plan> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::ScenarioUnreadable { path: path.to_owned(), source })?;
    Ok(parse(&path.display().to_string(), &text, sets)?)
}

/// The same for a text that has been read; `name` stands before line and column in messages.
pub fn parse(name: &str, text: &str, sets: &[String]) -> std::result::Result<Plan, Problem> {
    // The file itself must be right first, so that its errors point into the file.
    let plan = one_pass(name, text)?;
    if sets.is_empty() {
        return Ok(plan);
    }
    let changed = overrides::apply(text, sets)?;
    // Places in the rewritten text would point nowhere that the person knows.
    one_pass(name, &changed).map_err(|problem| problem.without_place(&sets.join(" --set ")))
}

fn one_pass(name: &str, text: &str) -> std::result::Result<Plan, Problem> {
    let scenario: file::Scenario = toml::from_str(text).map_err(|e| position::from_toml(name, text, &e))?;
    plan::make(scenario).map_err(|flaw| position::from_flaw(name, text, &flaw))
}
