//! Where in the file something is wrong.

use std::ops::Range;

/// A mistake that the plan found, at a place of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    pub span: Range<usize>,
    pub message: String,
}

impl Flaw {
    pub fn new(span: Range<usize>, message: impl Into<String>) -> Flaw {
        Flaw { span, message: message.into() }
    }
}

/// What is shown to the person: `file:line:column: message`, the line, and a caret.
#[derive(thiserror::Error, Debug, Clone, PartialEq, Eq)]
#[error("{text}")]
pub struct Problem {
    text: String,
    message: String,
}

impl Problem {
    pub fn of_set(set: &str, why: impl std::fmt::Display) -> Problem {
        Problem { text: format!("--set {set}: {why}"), message: why.to_string() }
    }

    /// The same without line and column, for a text that the person has not written.
    pub(super) fn without_place(self, sets: &str) -> Problem {
        Problem { text: format!("--set {sets}: {}", self.message), message: self.message }
    }
}

pub fn from_toml(name: &str, text: &str, error: &toml::de::Error) -> Problem {
    let message = error.message().trim_end().replace('\n', " ");
    match error.span() {
        Some(span) => show(name, text, span, &message),
        None => Problem { text: format!("{name}: {message}"), message },
    }
}

pub fn from_flaw(name: &str, text: &str, flaw: &Flaw) -> Problem {
    show(name, text, flaw.span.clone(), &flaw.message)
}

fn show(name: &str, text: &str, span: Range<usize>, message: &str) -> Problem {
    let start = floor_boundary(text, span.start);
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let line_number = text[..start].matches('\n').count() + 1;
    let column = text[line_start..start].chars().count() + 1;
    let end = floor_boundary(text, span.end).clamp(start, line_end);
    let width = text[start..end].chars().count().max(1);
    let gutter = line_number.to_string();
    let pad = " ".repeat(gutter.len());
    Problem {
        message: message.to_owned(),
        text: format!(
            "{name}:{line_number}:{column}: {message}\n{pad} |\n{gutter} | {}\n{pad} | {}{}",
            &text[line_start..line_end],
            " ".repeat(column - 1),
            "^".repeat(width)
        ),
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
