//! Instants on the wire: RFC 3339, in UTC with milliseconds when written; any offset when read.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tollway_model::Timestamp;
use utoipa::openapi::schema::{ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{KnownFormat, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The years 2000 to 2199 in milliseconds: outside them an instant is a typing error, not a wish.
const YEARS_MS: std::ops::Range<i64> = 946_684_800_000..7_258_118_400_000;

const FORM: &str = "write a time as RFC 3339, e.g. 2026-03-01T06:00:00.000Z, in the years 2000 to 2199";

/// A point in time; a fraction finer than a millisecond is cut off when read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instant(pub Timestamp);

/// RFC 3339 text in UTC with milliseconds; for messages and views alike.
pub fn format(at: Timestamp) -> String {
    let text = i64::try_from(at.ms()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    match text {
        Some(time) => format!("{time:.3}"),
        // Beyond the year 9999: only a saturated timestamp lies there.
        None => "9999-12-31T23:59:59.999Z".to_owned(),
    }
}

/// Reads RFC 3339 text.
///
/// # Errors
/// Says the form that is wanted.
pub fn parse(text: &str) -> Result<Timestamp, &'static str> {
    if !has_rfc3339_form(text) {
        return Err(FORM);
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| FORM)?;
    let ms = time.as_millisecond();
    if !YEARS_MS.contains(&ms) {
        return Err(FORM);
    }
    u64::try_from(ms).map(Timestamp).map_err(|_| FORM)
}

/// jiff reads more than RFC 3339 (spaces, week dates, hours alone); this lets nothing else through to it.
fn has_rfc3339_form(text: &str) -> bool {
    let bytes = text.as_bytes();
    let Some((date_time, rest)) = bytes.split_at_checked(19) else { return false };
    let plain = date_time.iter().zip(b"dddd-dd-ddTdd:dd:dd").all(|(byte, form)| match form {
        b'd' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't'),
        _ => byte == form,
    });
    let digits = match rest.strip_prefix(b".") {
        Some(fraction) => fraction.iter().take_while(|byte| byte.is_ascii_digit()).count() + 1,
        None => 0,
    };
    if digits == 1 || digits > 10 {
        return false;
    }
    let offset = match rest[digits..] {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].iter().all(u8::is_ascii_digit),
        _ => false,
    };
    plain && offset
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format(self.0))
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Instant, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Instant;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an RFC 3339 time")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Instant, E> {
                parse(text).map(Instant).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl PartialSchema for Instant {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("RFC 3339; written in UTC with milliseconds"))
            .into()
    }
}

impl ToSchema for Instant {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_in_utc_with_milliseconds() {
        assert_eq!(format(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(format(Timestamp(1_772_344_800_007)), "2026-03-01T06:00:00.007Z");
        assert_eq!(format(Timestamp(u64::MAX)), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn any_offset_is_read() {
        let want = Ok(Timestamp(1_772_344_800_000));
        for text in [
            "2026-03-01T06:00:00Z",
            "2026-03-01t06:00:00.0009z",
            "2026-03-01T07:30:00+01:30",
            "2026-02-28T23:00:00-07:00",
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
    }

    #[test]
    fn other_forms_and_far_years_are_refused() {
        for text in [
            "",
            "now",
            "2026-03-01",
            "2026-03-01T06:00Z",
            "2026-03-01 06:00:00Z",
            "2026-03-01T06:00:00",
            "2026-03-01T06:00:00.Z",
            "2026-13-01T06:00:00Z",
            "2026-02-30T06:00:00Z",
            "2026-03-01T25:00:00Z",
            "2026-03-01T06:00:00+1:00",
            "2026-03-01T06:00:00+99:00",
            "1999-12-31T23:59:59Z",
            "2200-01-01T00:00:00Z",
            "-002026-03-01T06:00:00Z",
            "2026-03-01T06:00:00Zé",
            "2026-03-01T06:00:00.0000000001Z",
            "١٢٣٤-03-01T06:00:00Z",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
