//! Money: integers of a millionth of the currency's unit, never a float.

use minicbor::{Decode, Encode};
use std::fmt;

/// Millionths of a currency unit; signed, since a balance may be either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Default)]
#[cbor(transparent)]
pub struct Micros(#[n(0)] pub i64);

impl Micros {
    pub const ZERO: Micros = Micros(0);

    pub const fn get(self) -> i64 {
        self.0
    }

    pub fn checked_add(self, other: Micros) -> Option<Micros> {
        self.0.checked_add(other.0).map(Micros)
    }

    pub fn checked_sub(self, other: Micros) -> Option<Micros> {
        self.0.checked_sub(other.0).map(Micros)
    }
}

impl fmt::Debug for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}µ", self.0)
    }
}

/// ISO 4217 code, three upper-case letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Currency(#[n(0)] [u8; 3]);

impl Currency {
    pub const EUR: Currency = Currency(*b"EUR");

    /// `None` unless the code is three letters A-Z.
    pub fn parse(code: &str) -> Option<Currency> {
        let bytes: [u8; 3] = code.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_uppercase).then_some(Currency(bytes))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A sum of money in one currency.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Amount {
    #[n(0)]
    pub micros: Micros,
    #[n(1)]
    pub currency: Currency,
}

impl Amount {
    pub const fn new(micros: i64, currency: Currency) -> Amount {
        Amount { micros: Micros(micros), currency }
    }

    /// Decimal text with all six places: `0.412345 EUR`.
    pub fn decimal(self) -> String {
        let sign = if self.micros.0 < 0 { "-" } else { "" };
        let abs = self.micros.0.unsigned_abs();
        format!("{sign}{}.{:06}", abs / 1_000_000, abs % 1_000_000)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.decimal(), self.currency)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `numerator / denominator`, half to even. The one rounding of a charge line.
///
/// # Panics
/// When `denominator` is not positive.
pub fn round_half_even(numerator: i128, denominator: i128) -> i128 {
    assert!(denominator > 0, "a scale is positive");
    let quotient = numerator.div_euclid(denominator);
    let remainder = numerator.rem_euclid(denominator);
    let twice = remainder.saturating_mul(2);
    match twice.cmp(&denominator) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + quotient.rem_euclid(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_goes_to_even() {
        for (n, d, want) in [(1, 2, 0), (3, 2, 2), (5, 2, 2), (-1, 2, 0), (-3, 2, -2), (7, 3, 2), (8, 3, 3)] {
            assert_eq!(round_half_even(n, d), want, "{n}/{d}");
        }
    }

    #[test]
    fn amounts_print_all_places() {
        assert_eq!(Amount::new(412_345, Currency::EUR).to_string(), "0.412345 EUR");
        assert_eq!(Amount::new(-1, Currency::EUR).to_string(), "-0.000001 EUR");
        assert!(Currency::parse("eur").is_none());
    }
}
