//! What parsers say, in words of the people who read it: they wrote a body or a file and know no type of ours.

/// What a name and a compound are called where the text came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Json,
    Toml,
}

impl Form {
    const fn name(self) -> &'static str {
        match self {
            Form::Json => "property",
            Form::Toml => "key",
        }
    }

    const fn compound(self) -> &'static str {
        match self {
            Form::Json => "an object",
            Form::Toml => "a table",
        }
    }
}

/// What was expected: a type's word and what it means. Longer words first, since the shorter are part of them.
const EXPECTED: [(&str, &str); 14] = [
    ("u64", "a whole number, 0 or more"),
    ("u32", "a whole number from 0 to 4294967295"),
    ("u16", "a whole number from 0 to 65535"),
    ("i64", "a whole number"),
    ("a string", "a text"),
    ("a borrowed string", "a text"),
    ("a boolean", "true or false"),
    ("a sequence", "a list"),
    ("a tuple of size 2", "a pair of whole numbers"),
    ("tuple of size 2", "a pair of whole numbers"),
    ("string or map", "a name or a compound"),
    ("map with a single key", "a compound with one name"),
    ("value", "a value"),
    ("IP address", "an IPv4 or IPv6 address"),
];

/// What was found, as a parser begins to say it.
const FOUND: [(&str, &str); 8] = [
    ("integer `", "the number `"),
    ("floating point `", "the number `"),
    ("boolean `", "`"),
    ("string \"", "the text \""),
    ("sequence,", "a list,"),
    ("map,", "a compound,"),
    ("null,", "null,"),
    ("unit value,", "nothing,"),
];

/// Rewrites one message of serde, serde_json or toml.
pub fn plain(form: Form, text: &str) -> String {
    let (head, wanted) = match text.rsplit_once(", expected ") {
        Some((head, wanted)) => (format!("{head},"), Some(wanted)),
        None => (text.to_owned(), None),
    };
    let name = form.name();
    // serde_json says no more of what is no text and no object where a choice is wanted.
    let mut out = head
        .replace(": expected value at", ": expected another kind of value, see `GET /openapi.json`, at")
        .replace("unknown field", &format!("unknown {name}"))
        .replace("missing field", &format!("missing {name}"))
        .replace("duplicate field", &format!("doubled {name}"))
        .replace("unknown variant", "unknown word")
        .replace(" as i128", "");
    for kind in ["invalid type: ", "invalid value: "] {
        let Some((before, found)) = out.split_once(kind) else { continue };
        let word = FOUND.iter().find(|(said, _)| found.starts_with(said));
        let found = word.map_or_else(|| found.to_owned(), |(said, means)| found.replacen(said, means, 1));
        out = format!("{before}this cannot be {found}");
    }
    if let Some(wanted) = wanted {
        out = format!("{out} expected {}", expected(form, wanted));
    }
    out.replace("a compound", form.compound())
}

/// One thing that was expected; what follows it (a place) stays.
fn expected(form: Form, wanted: &str) -> String {
    for kind in ["struct ", "enum ", "internally tagged enum ", "variant identifier", "field identifier"] {
        if let Some(rest) = wanted.strip_prefix(kind) {
            let after = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':');
            return format!("{}{after}", form.compound());
        }
    }
    let known = EXPECTED.iter().find(|(word, _)| {
        let rest = wanted.strip_prefix(word);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
    });
    known.map_or_else(|| wanted.to_owned(), |(word, means)| wanted.replacen(word, means, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_become_words() {
        for (form, said, wanted) in [
            (
                Form::Json,
                "need.bytes: invalid type: integer `5`, expected struct BytesNeedIn at line 1 column 9",
                "need.bytes: this cannot be the number `5`, expected an object at line 1 column 9",
            ),
            (
                Form::Json,
                "need.rate.rate_bps: invalid type: string \"8M\", expected u64 at line 1 column 9",
                "need.rate.rate_bps: this cannot be the text \"8M\", expected a whole number, 0 or more at line 1 column 9",
            ),
            (
                Form::Json,
                "flows[0].remote.port: invalid value: integer `70000`, expected u16",
                "flows[0].remote.port: this cannot be the number `70000`, expected a whole number from 0 to 65535",
            ),
            (Form::Json, "missing field `end` at line 1", "missing property `end` at line 1"),
            (
                Form::Json,
                "unknown field `ende`, expected one of `start`, `end`",
                "unknown property `ende`, expected one of `start`, `end`",
            ),
            (
                Form::Toml,
                "invalid type: integer `99999999999999999999` as i128, expected u64",
                "this cannot be the number `99999999999999999999`, expected a whole number, 0 or more",
            ),
            (
                Form::Toml,
                "invalid type: string \"x\", expected struct Market",
                "this cannot be the text \"x\", expected a table",
            ),
            (
                Form::Toml,
                "unknown variant `guaranteed`, expected one of `assured`, `target`",
                "unknown word `guaranteed`, expected one of `assured`, `target`",
            ),
            (Form::Toml, "invalid type: map, expected a sequence", "this cannot be a table, expected a list"),
            (Form::Json, "expected value at line 1 column 3", "expected value at line 1 column 3"),
            (
                Form::Json,
                "need: expected value at line 1 column 61",
                "need: expected another kind of value, see `GET /openapi.json`, at line 1 column 61",
            ),
        ] {
            assert_eq!(plain(form, said), wanted);
        }
    }
}
