//! From text to the file's form. A table is read up to its first problem, each table for itself, so that one run
//! shows a problem of each.

use super::file::File;
use super::{Problem, problem};
use serde::de::DeserializeOwned;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// Every table that a file may have, as serde names them in its own messages.
const TABLES: &str = "`market`, `serve`, `pool`, `tariff`, `tier`, `access`, `customer`, `key`, `gx`";

pub(super) fn read(name: &str, text: &str) -> Result<File, Vec<Problem>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(errors.iter().map(|error| problem::of_toml(name, text, error)).collect());
    }
    let mut shape = Shape { name, text, table: table.into_inner(), problems: Vec::new() };
    let file = shape.file();
    shape.strangers();
    match file {
        Some(file) if shape.problems.is_empty() => Ok(file),
        Some(_) | None => Err(shape.problems),
    }
}

struct Shape<'a> {
    name: &'a str,
    text: &'a str,
    /// What was not read yet.
    table: DeTable<'a>,
    problems: Vec<Problem>,
}

impl Shape<'_> {
    fn file(&mut self) -> Option<File> {
        let market = self.one("market");
        let serve = self.one("serve");
        let (pool, tariff, tier) = (self.many("pool"), self.many("tariff"), self.many("tier"));
        let (access, customer, key) = (self.many("access"), self.many("customer"), self.many("key"));
        let gx = self.table.remove("gx").and_then(|value| self.value(value));
        Some(File { market: market?, serve: serve?, pool, tariff, tier, access, customer, key, gx })
    }

    fn one<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let Some(value) = self.table.remove(key) else {
            self.said(0..0, &format!("missing field `{key}`"));
            return None;
        };
        self.value(value)
    }

    /// A list of tables; one that is wrong is left out.
    fn many<T: DeserializeOwned>(&mut self, key: &str) -> Vec<T> {
        let Some(value) = self.table.remove(key) else { return Vec::new() };
        let span = value.span();
        let DeValue::Array(items) = value.into_inner() else {
            let how = format!("write [[{key}]] above each of them: there may be several");
            self.problems.push(problem::at(self.name, self.text, span, format!("{key} is not a list"), how));
            return Vec::new();
        };
        items.into_iter().filter_map(|item| self.value(item)).collect()
    }

    fn value<T: DeserializeOwned>(&mut self, value: Spanned<DeValue<'_>>) -> Option<T> {
        let span = value.span();
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(value) => Some(value),
            Err(error) => {
                self.said(error.span().unwrap_or(span), error.message());
                None
            }
        }
    }

    /// Tables that nobody read.
    fn strangers(&mut self) {
        for (key, _) in std::mem::take(&mut self.table) {
            let what = format!("unknown field `{}`, expected one of {TABLES}", key.get_ref());
            self.said(key.span(), &what);
        }
    }

    fn said(&mut self, span: Range<usize>, message: &str) {
        self.problems.push(problem::of_parser(self.name, self.text, span, message));
    }
}
