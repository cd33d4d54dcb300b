//! `--set path=value`: change one number without an editor.

use super::Problem;
use super::plan::there_are;
use toml::{Table, Value};

/// Applies each `path=value` and gives the changed text. The path goes by keys, `.`-separated; an element of
/// a list is named by its `name` or its index: `act.paid.step.0.transfer.deadline=25s`.
pub fn apply(text: &str, sets: &[String]) -> Result<String, Problem> {
    let table: Table = toml::from_str(text).map_err(|e| Problem::of_set("", e.message()))?;
    let mut root = Value::Table(table);
    for set in sets {
        let (path, value) =
            set.split_once('=').ok_or_else(|| Problem::of_set(set, "write it as path=value"))?;
        let mut keys: Vec<&str> = path.trim().split('.').collect();
        let last = keys.pop().unwrap_or_default();
        let mut place = &mut root;
        for key in keys {
            let known = names_in(place);
            place = step(place, key).ok_or_else(|| no_such(set, key, &known))?;
        }
        let known = names_in(place);
        put(place, last, value.trim()).ok_or_else(|| no_such(set, last, &known))?;
    }
    toml::to_string(&root).map_err(|e| Problem::of_set("", e))
}

fn no_such(set: &str, key: &str, known: &str) -> Problem {
    Problem::of_set(set, format!("the scenario has no `{key}` there; {known}"))
}

/// What can be named at a place: keys of a table; names, or else indices, of a list's elements.
fn names_in(place: &Value) -> String {
    match place {
        Value::Table(table) => there_are(table.keys().map(String::as_str)),
        Value::Array(items) => {
            let name = |(index, item): (usize, &Value)| {
                let name = item.get("name").and_then(Value::as_str);
                name.map_or_else(|| index.to_string(), str::to_owned)
            };
            let names: Vec<String> = items.iter().enumerate().map(name).collect();
            there_are(names.iter().map(String::as_str))
        }
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {
            format!("it is a value, {place}")
        }
    }
}

fn step<'a>(place: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    match place {
        Value::Table(table) => table.get_mut(key),
        Value::Array(items) => {
            let by_name = items.iter().position(|item| item.get("name").and_then(Value::as_str) == Some(key));
            items.get_mut(by_name.or_else(|| key.parse().ok())?)
        }
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {
            None
        }
    }
}

/// Replaces a value, or adds a key to a table: whether the key means anything is for the parser to say.
fn put(place: &mut Value, key: &str, text: &str) -> Option<()> {
    if let Some(old) = step(place, key) {
        *old = read_value(text, Some(old));
        return Some(());
    }
    place.as_table_mut()?.insert(key.to_owned(), read_value(text, None));
    Some(())
}

/// A value that reads as TOML is one, unless the place holds text; anything else is text.
fn read_value(text: &str, old: Option<&Value>) -> Value {
    let parsed = toml::from_str::<Table>(&format!("v = {text}")).ok().and_then(|mut t| t.remove("v"));
    match (old, parsed) {
        (Some(Value::String(_)), Some(Value::String(inner))) => Value::String(inner),
        (Some(Value::String(_)), _) | (_, None) => Value::String(text.to_owned()),
        (_, Some(value)) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "[line.up]\nrate = \"40mbit\"\n[lab]\nseed = 7\n[[act]]\nname = \"paid\"\nn = [1, 2]\n";

    #[test]
    fn places_are_found_by_key_name_and_index() {
        let sets = ["line.up.rate=20mbit", "lab.seed=9", "act.paid.n.1=5", "lab.tcp=reno"].map(str::to_owned);
        let table: Table = toml::from_str(&apply(TEXT, &sets).unwrap()).unwrap();
        assert_eq!(table["line"]["up"]["rate"].as_str(), Some("20mbit"));
        assert_eq!(table["lab"]["seed"].as_integer(), Some(9));
        assert_eq!(table["act"][0]["n"][1].as_integer(), Some(5));
        assert_eq!(table["lab"]["tcp"].as_str(), Some("reno"), "what is not there yet is added");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = apply(TEXT, &["line.sideways.rate=1".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("no `sideways` there; there is up"), "{error}");
        for (set, known) in [
            ("act.paid.n.7=1", "no `7` there; there are 0, 1"),
            ("act.free.n.0=1", "no `free` there; there is paid"),
            ("nonsense", "write it as path=value"),
            ("lab.seed.deep=1", "no `deep` there; it is a value, 7"),
        ] {
            let error = apply(TEXT, &[set.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(known), "{set}: {error}");
        }
    }
}
