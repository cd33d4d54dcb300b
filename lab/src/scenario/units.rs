//! Quantities with their unit: a bare number is refused, because nobody knows what it meant.

use serde::de::{self, Deserialize, Deserializer, Visitor};
use std::fmt;

/// Splits `12.5mbit` into digits and unit; exact decimal, no float.
fn split(text: &str) -> Option<(u64, u32, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let number: String = text[..end].chars().filter(|c| *c != '_').collect();
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    if whole.is_empty() || fraction.contains('.') || fraction.len() > 9 {
        return None;
    }
    let digits: u64 = format!("{whole}{fraction}").parse().ok()?;
    Some((digits, u32::try_from(fraction.len()).ok()?, text[end..].trim()))
}

/// `digits / 10^places × unit`, when that is a whole number.
fn scaled(digits: u64, places: u32, unit: u64) -> Option<u64> {
    let total = u128::from(digits) * u128::from(unit);
    let divisor = 10u128.pow(places);
    (total % divisor == 0).then(|| u64::try_from(total / divisor).ok()).flatten()
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (digits, places, unit) = split(text)?;
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    scaled(digits, places, *scale)
}

macro_rules! unit_type {
    ($(#[$doc:meta])* $name:ident, $expecting:literal, $parse:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
        pub struct $name(pub u64);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        let parse: fn(&str) -> Option<u64> = $parse;
                        parse(text).map($name).ok_or_else(|| {
                            E::custom(format!("{text:?} is not {}", $expecting))
                        })
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}

unit_type!(
    /// Bits per second.
    Rate,
    "a rate such as \"40mbit\" (bit, kbit, mbit, gbit)",
    |text| quantity(text, &[("bit", 1), ("kbit", 1_000), ("mbit", 1_000_000), ("gbit", 1_000_000_000)])
);

unit_type!(
    /// Nanoseconds.
    Span,
    "a time such as \"10ms\" (us, ms, s, min)",
    |text| quantity(
        text,
        &[("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("min", 60_000_000_000)]
    )
);

unit_type!(
    /// Bytes.
    Bytes,
    "a size such as \"40MB\" (B, kB, MB, GB, KiB, MiB)",
    |text| quantity(
        text,
        &[
            ("B", 1),
            ("kB", 1_000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("KiB", 1 << 10),
            ("MiB", 1 << 20)
        ]
    )
);

unit_type!(
    /// Parts per million.
    Share,
    "a share such as \"50%\", at most \"100%\"",
    |text| quantity(text, &[("%", 10_000)]).filter(|ppm| *ppm <= 1_000_000)
);

unit_type!(
    /// Millionths of a euro: the lab's market has one currency.
    Euros,
    "an amount such as \"5.00 EUR\"",
    |text| quantity(text, &[("EUR", 1_000_000)])
);

/// How much a hop may queue: `"100ms"` or `"250kB"`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BufferSize {
    Time(Span),
    Bytes(Bytes),
}

impl<'de> Deserialize<'de> for BufferSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<BufferSize, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = BufferSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a buffer such as \"100ms\" or \"250kB\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<BufferSize, E> {
                let value = de::value::StrDeserializer::<E>::new(text);
                if let Ok(span) = Span::deserialize(value) {
                    return Ok(BufferSize::Time(span));
                }
                Bytes::deserialize(value).map(BufferSize::Bytes).map_err(|_| {
                    E::custom(format!("{text:?} is not a buffer such as \"100ms\" or \"250kB\""))
                })
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A DSCP by name or as `"0"` to `"63"`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dscp(pub u8);

impl<'de> Deserialize<'de> for Dscp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Dscp, D::Error> {
        let text = String::deserialize(deserializer)?;
        let value = match text.as_str() {
            "ef" => Some(46),
            "af41" => Some(34),
            "cs1" => Some(8),
            other => other.parse().ok().filter(|n| *n < 64),
        };
        value.map(Dscp).ok_or_else(|| {
            de::Error::custom(format!(
                "{text:?} is not a DSCP (\"ef\", \"af41\", \"cs1\" or \"0\" to \"63\")"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct One<T> {
        v: T,
    }

    fn read<T: de::DeserializeOwned>(value: &str) -> Result<T, String> {
        toml::from_str::<One<T>>(&format!("v = {value}")).map(|one| one.v).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn units_are_exact() {
        assert_eq!(read::<Rate>("\"38.8mbit\""), Ok(Rate(38_800_000)));
        assert_eq!(read::<Span>("\"1.5ms\""), Ok(Span(1_500_000)));
        assert_eq!(read::<Bytes>("\"40MB\""), Ok(Bytes(40_000_000)));
        assert_eq!(read::<Share>("\"62.5%\""), Ok(Share(625_000)));
        assert_eq!(read::<Euros>("\"5.25 EUR\""), Ok(Euros(5_250_000)));
        assert_eq!(read::<BufferSize>("\"100ms\""), Ok(BufferSize::Time(Span(100_000_000))));
        assert_eq!(read::<BufferSize>("\"250kB\""), Ok(BufferSize::Bytes(Bytes(250_000))));
        assert_eq!(read::<Dscp>("\"ef\""), Ok(Dscp(46)));
    }

    #[test]
    fn a_number_without_its_unit_is_refused() {
        for bad in ["40", "\"40\"", "\"40 Mbit/s\"", "\"mbit\"", "\"1.2.3mbit\"", "\"-1mbit\"", "\"0.5bit\""]
        {
            let error = read::<Rate>(bad).expect_err(bad);
            assert!(error.contains("a rate such as"), "{bad}: {error}");
        }
        assert!(read::<Share>("\"101%\"").is_err());
        assert!(read::<Rate>("\"99999999999999999999gbit\"").is_err());
        assert!(read::<Dscp>("\"64\"").is_err());
    }
}
