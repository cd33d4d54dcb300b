//! `report.json` for programs and `report.html` for people: one file, its graphs inside.

pub mod html;
pub mod model;
pub mod svg;

use crate::error::{Error, Result};
use model::Report;
use serde::Serialize;
use std::path::Path;

/// Writes both.
pub fn write(report: &Report, out: &Path) -> Result<()> {
    write_json(&out.join("report.json"), report)?;
    let path = out.join("report.html");
    std::fs::write(&path, html::page(report)).map_err(Error::io(format!("writing {}", path.display())))
}

pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let doing = format!("writing {}", path.display());
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::Io { doing: doing.clone(), source: std::io::Error::other(e) })?;
    std::fs::write(path, text + "\n").map_err(Error::io(doing))
}
