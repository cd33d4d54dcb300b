//! Problems of a configuration file, written for the person who mends it.

use crate::parser_words::{Form, plain};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// One problem at one place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub what: String,
    pub how_to_mend: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.what)?;
        write!(f, "  mend: {}", self.how_to_mend)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "cannot read the configuration {path}: {source}\n  mend: name a file that exists and can be read"
    )]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The text, its keys, its types. Values are compared only in a file whose form is in order.
    #[error(
        "{}\n(of each table only its first problem is told; values are looked at when the form is in order)",
        joined(.0)
    )]
    Form(Vec<Problem>),
    #[error("{}", joined(.0))]
    Invalid(Vec<Problem>),
}

fn joined(problems: &[Problem]) -> String {
    let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
    texts.join("\n")
}

/// What the parser found: the syntax, an unknown key, a missing key, a value of the wrong type.
pub(super) fn of_toml(file: &str, text: &str, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(0..0);
    if let Some(value) = bare_value(text, span.start) {
        let what = format!("{value} is neither a number nor a text in quotes");
        let how = "write a plain number without a unit, which the key's name says (`slot_s = 5` are 5 s), or a text in \
                   double quotes";
        return at(file, text, span, what, how);
    }
    of_parser(file, text, span, error.message())
}

/// What a parser said, in words.
pub(super) fn of_parser(file: &str, text: &str, span: Range<usize>, message: &str) -> Problem {
    let what = message.trim().replace('\n', ", ");
    let how_to_mend = mend(&what);
    at(file, text, span, plain(Form::Toml, &what), how_to_mend)
}

/// The value at a place, when somebody wrote a word or a number with a unit where TOML wants quotes.
fn bare_value(text: &str, offset: usize) -> Option<&str> {
    let offset = (0..=offset.min(text.len())).rev().find(|at| text.is_char_boundary(*at))?;
    let begin = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let line = text[begin..].lines().next()?;
    let (_, value) = line.split_once('=')?;
    let value = value.split('#').next()?.trim();
    let is_bare = !value.is_empty()
        && !matches!(value, "true" | "false")
        && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '%' | ' '))
        && value.contains(|c: char| c.is_ascii_alphabetic() || c == '%');
    is_bare.then_some(value)
}

pub(super) fn at(
    file: &str,
    text: &str,
    span: Range<usize>,
    what: impl Into<String>,
    how_to_mend: impl Into<String>,
) -> Problem {
    let (line, column) = position(text, span.start);
    Problem { file: file.to_owned(), line, column, what: what.into(), how_to_mend: how_to_mend.into() }
}

/// Line and column, both from 1; columns count characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

const MISSING: [(&str, &str); 9] = [
    (
        "`legal_basis`",
        "say on what law the tier stands, e.g. legal_basis = { private_network = {} }, or specialised = { why = \
         \"...\" }, subscriber_choice = {}, outside_eu = {}",
    ),
    ("`kind`", "say what is promised: kind = \"assured\", \"target\" or \"background\""),
    (
        "`sell_share_ppm`",
        "say which share of the pool may ever be sold, in millionths: 500_000 keeps half for everyone else",
    ),
    ("`market`", "add [market] with name, slot_s and currency"),
    ("`serve`", "add [serve] with http and grpc, e.g. http = \"127.0.0.1:7410\", grpc = \"127.0.0.1:7420\""),
    ("`slot_s`", "say how long a slot is: slot_s = 60 in production, 5 in a lab"),
    ("`sha256`", "run `tollway noc key new` and put its sha256 line here"),
    ("`price_pool`", "name the pool whose utilisation prices this access"),
    ("`tariff`", "name one of the [[tariff]] tables"),
];

fn mend(what: &str) -> String {
    if what.contains("missing field") {
        let known = MISSING.iter().find(|(field, _)| what.contains(field));
        return known.map_or_else(|| "add it".to_owned(), |(_, how)| (*how).to_owned());
    }
    if what.contains("unknown field") || what.contains("unknown variant") {
        return "remove it, or spell it as one of the expected ones".to_owned();
    }
    if what.contains("duplicate key") {
        return "keep one of the two".to_owned();
    }
    if what.contains("invalid type") || what.contains("invalid value") {
        return "write a value as it is expected; rates, shares and times are whole numbers without a unit"
            .to_owned();
    }
    "mend the TOML at this place".to_owned()
}
