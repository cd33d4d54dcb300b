//! Public ids: a reversible keyed permutation between a market's small numbers and version-8 UUIDs, in the
//! manner of SIV. The tag is a MAC over kind and number and is also the nonce of the number's encryption, so
//! a text is either what this market wrote for this kind, or refused. Nothing can be guessed or counted.

use sha2::{Digest, Sha256};
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tollway_model::{OfferId, QuoteId, ReservationId};

/// File name of the key inside the data directory.
pub const KEY_FILE: &str = "market.key";

/// Length of the key, in bytes.
pub const KEY_BYTES: usize = 32;

/// A UUID has 128 bits, 6 of them fixed by RFC 9562; 64 carry the number, the rest is the tag.
const TAG_BITS: u32 = 58;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;

/// What a public id names; the number is part of every tag, so it is never changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Reservation = 1,
    Quote = 2,
}

/// Why the key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {doing} {path}")]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "{path} does not hold {KEY_BYTES} bytes as hexadecimal digits: restore it from a backup of this data directory"
    )]
    Malformed { path: PathBuf },
    #[error("{path} can be read by others: run `chmod 600 {path}`")]
    Exposed { path: PathBuf },
    #[error(
        "{path} is missing beside a journal: restore {KEY_FILE} from the backup; --new-market-key makes a new one and \
         voids every id that customers saved"
    )]
    Missing { path: PathBuf },
}

/// Turns numbers into public ids and back, with one market's key.
#[derive(Clone)]
pub struct PublicIds {
    tag_key: [u8; KEY_BYTES],
    number_key: [u8; KEY_BYTES],
    market_key: [u8; KEY_BYTES],
}

impl fmt::Debug for PublicIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicIds(..)")
    }
}

impl PublicIds {
    /// From a key of its own; the two uses get keys derived from it.
    pub fn new(key: [u8; KEY_BYTES]) -> PublicIds {
        PublicIds {
            tag_key: hmac_sha256(&key, &[b"tollway public id: tag"]),
            number_key: hmac_sha256(&key, &[b"tollway public id: number"]),
            market_key: hmac_sha256(&key, &[b"tollway market id"]),
        }
    }

    /// Identity of the market, 32 hexadecimal digits: the same for all lives of its data, and no secret.
    pub fn market_id(&self) -> String {
        self.market_key.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// As [`PublicIds::open`], but makes no key, for a directory that must have one already.
    ///
    /// # Errors
    /// [`Error::Missing`], and as [`PublicIds::open`].
    pub fn open_existing(dir: &Path) -> Result<PublicIds, Error> {
        let path = dir.join(KEY_FILE);
        match path.try_exists() {
            Ok(false) => Err(Error::Missing { path }),
            // What cannot be looked at is named when it is opened.
            Ok(true) | Err(_) => PublicIds::open(dir),
        }
    }

    /// Reads the key of a data directory, or makes it at the first start (from the kernel's randomness, mode
    /// 0600, durable before it is used).
    ///
    /// # Errors
    /// When the file cannot be read or made, is malformed, or is readable by others.
    pub fn open(dir: &Path) -> Result<PublicIds, Error> {
        let path = dir.join(KEY_FILE);
        let io = |doing| {
            let path = path.clone();
            move |source| Error::Io { doing, path, source }
        };
        match std::fs::metadata(&path) {
            Ok(found) if found.permissions().mode() & 0o077 != 0 => return Err(Error::Exposed { path }),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                make_key(dir, &path).map_err(io("make"))?;
            }
            Err(error) => return Err(io("look at")(error)),
        }
        let text = std::fs::read_to_string(&path).map_err(io("read"))?;
        let key = from_hex(text.trim_end()).ok_or(Error::Malformed { path })?;
        Ok(PublicIds::new(key))
    }

    /// Public text of a reservation.
    pub fn reservation(&self, id: ReservationId) -> String {
        self.seal(Kind::Reservation, id.0)
    }

    /// The reservation that a text names; `None` when this market did not write it.
    pub fn parse_reservation(&self, text: &str) -> Option<ReservationId> {
        self.open_text(Kind::Reservation, text).map(ReservationId)
    }

    /// Public text of a quote.
    pub fn quote(&self, id: QuoteId) -> String {
        self.seal(Kind::Quote, id.0)
    }

    /// The quote that a text names; `None` when this market did not write it.
    pub fn parse_quote(&self, text: &str) -> Option<QuoteId> {
        self.open_text(Kind::Quote, text).map(QuoteId)
    }

    /// Public text of an offer: its quote's, a dash, its index.
    pub fn offer(&self, id: OfferId) -> String {
        format!("{}-{}", self.quote(id.quote), id.index)
    }

    /// The offer that a text names; `None` when this market did not write it.
    pub fn parse_offer(&self, text: &str) -> Option<OfferId> {
        let (quote, index) = text.rsplit_once('-')?;
        let canonical = index == "0" || !index.starts_with('0');
        if !canonical || !index.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(OfferId { quote: self.parse_quote(quote)?, index: index.parse().ok()? })
    }

    fn tag(&self, kind: Kind, number: u64) -> u64 {
        let mac = hmac_sha256(&self.tag_key, &[&[kind as u8], &number.to_be_bytes()]);
        first_u64(&mac) & TAG_MASK
    }

    fn pad(&self, tag: u64) -> u64 {
        first_u64(&hmac_sha256(&self.number_key, &[&tag.to_be_bytes()]))
    }

    fn seal(&self, kind: Kind, number: u64) -> String {
        let tag = self.tag(kind, number);
        format_uuid(pack(tag, number ^ self.pad(tag)))
    }

    fn open_text(&self, kind: Kind, text: &str) -> Option<u64> {
        let (tag, sealed) = unpack(parse_uuid(text)?)?;
        let number = sealed ^ self.pad(tag);
        (self.tag(kind, number) ^ tag == 0).then_some(number)
    }
}

/// Lays 58 and 64 bits around version 8 and the RFC's variant: 48 bits, version, 12 bits, variant, 62 bits.
fn pack(tag: u64, sealed: u64) -> u128 {
    let bits = (u128::from(tag) << 64) | u128::from(sealed);
    let high = bits >> 74;
    let mid = (bits >> 62) & 0xfff;
    let low = bits & ((1 << 62) - 1);
    (high << 80) | (8 << 76) | (mid << 64) | (2 << 62) | low
}

fn unpack(uuid: u128) -> Option<(u64, u64)> {
    if (uuid >> 76) & 0xf != 8 || (uuid >> 62) & 0b11 != 2 {
        return None;
    }
    let high = uuid >> 80;
    let mid = (uuid >> 64) & 0xfff;
    let low = uuid & ((1 << 62) - 1);
    let bits = (high << 74) | (mid << 62) | low;
    let tag = u64::try_from(bits >> 64).ok()?;
    let sealed = u64::try_from(bits & u128::from(u64::MAX)).ok()?;
    Some((tag, sealed))
}

fn format_uuid(uuid: u128) -> String {
    let hex = format!("{uuid:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Exactly the form that [`format_uuid`] writes: lower case, dashes in place; one id has one text.
fn parse_uuid(text: &str) -> Option<u128> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    let mut value: u128 = 0;
    for (index, byte) in bytes.iter().enumerate() {
        let digit = match (index, byte) {
            (8 | 13 | 18 | 23, b'-') => continue,
            (8 | 13 | 18 | 23, _) => return None,
            (_, b'0'..=b'9') => byte - b'0',
            (_, b'a'..=b'f') => byte - b'a' + 10,
            (_, _) => return None,
        };
        value = (value << 4) | u128::from(digit);
    }
    Some(value)
}

fn first_u64(bytes: &[u8; 32]) -> u64 {
    bytes.iter().take(8).fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

/// HMAC (RFC 2104) with SHA-256; keys here are never longer than a block.
fn hmac_sha256(key: &[u8; KEY_BYTES], parts: &[&[u8]]) -> [u8; 32] {
    let mut block = [0u8; 64];
    block[..KEY_BYTES].copy_from_slice(key);
    let mut inner = Sha256::new();
    inner.update(block.map(|byte| byte ^ 0x36));
    for part in parts {
        inner.update(part);
    }
    let mut outer = Sha256::new();
    outer.update(block.map(|byte| byte ^ 0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

fn from_hex(text: &str) -> Option<[u8; KEY_BYTES]> {
    crate::auth::parse_sha256_hex(text)
}

/// Written whole under another name first, so that a crash leaves no half key.
fn make_key(dir: &Path, path: &Path) -> std::io::Result<()> {
    let mut key = [0u8; KEY_BYTES];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    let draft = dir.join(format!("{KEY_FILE}.{}.new", std::process::id()));
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    file.write_all(hex.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    // A link, not a rename: of two processes that race, one makes the key and both read it.
    let linked = std::fs::hard_link(&draft, path);
    std::fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
        Ok(()) => std::fs::File::open(dir)?.sync_all()?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn ids() -> PublicIds {
        PublicIds::new([7; KEY_BYTES])
    }

    #[test]
    fn every_number_comes_back() {
        let ids = ids();
        for number in (0..2_000).chain([u64::MAX, u64::MAX - 1, 1 << 63, 1 << 62, (1 << 62) - 1]) {
            let text = ids.reservation(ReservationId(number));
            assert_eq!(ids.parse_reservation(&text), Some(ReservationId(number)), "{text}");
            assert_eq!(text.as_bytes()[14], b'8', "version 8: {text}");
            assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "variant: {text}");
        }
    }

    #[test]
    fn the_form_never_changes() {
        let ids = ids();
        let seen = format!(
            "{}\n{}\n{}",
            ids.reservation(ReservationId(1)),
            ids.quote(QuoteId(1)),
            ids.offer(OfferId { quote: QuoteId(2), index: 3 })
        );
        assert_eq!(ids.market_id().len(), 32);
        assert_ne!(ids.market_id(), PublicIds::new([8; KEY_BYTES]).market_id());
        expect![[r#"
            166e1830-0d8e-8515-9637-36e545758865
            20c783e1-3306-87b0-af5f-f904931617d0
            2416dcb8-353c-8918-bfc5-3ec9170cd640-3"#]]
        .assert_eq(&seen);
    }

    #[test]
    fn a_flipped_character_is_refused() {
        let ids = ids();
        let text = ids.reservation(ReservationId(42));
        for at in 0..text.len() {
            for digit in "0123456789abcdefABCDEF-x\u{7f}".chars() {
                let mut other: Vec<char> = text.chars().collect();
                if other[at] == digit {
                    continue;
                }
                other[at] = digit;
                let other: String = other.into_iter().collect();
                assert_eq!(ids.parse_reservation(&other), None, "{other}");
            }
        }
        for bad in ["", "-", "é", &text[1..], &text.to_uppercase(), &format!("{text}0")] {
            assert_eq!(ids.parse_reservation(bad), None, "{bad}");
        }
    }

    #[test]
    fn kinds_and_markets_do_not_mix() {
        let ids = ids();
        assert_eq!(ids.parse_quote(&ids.reservation(ReservationId(5))), None);
        assert_eq!(ids.parse_reservation(&ids.quote(QuoteId(5))), None);
        let other = PublicIds::new([8; KEY_BYTES]);
        assert_eq!(other.parse_quote(&ids.quote(QuoteId(5))), None);
    }

    #[test]
    fn an_offer_is_its_quote_and_a_plain_number() {
        let ids = ids();
        let id = OfferId { quote: QuoteId(9), index: 12 };
        assert_eq!(ids.parse_offer(&ids.offer(id)), Some(id));
        let quote = ids.quote(QuoteId(9));
        for bad in [quote.clone(), format!("{quote}-"), format!("{quote}-+1"), format!("{quote}-01")] {
            assert_eq!(ids.parse_offer(&bad), None, "{bad}");
        }
        assert_eq!(ids.parse_offer(&format!("{quote}-99999999999")), None);
    }

    #[test]
    fn hmac_agrees_with_rfc_4231() {
        // Test case 2 of RFC 4231 §4.3; a shorter key is padded with zeros, as ours would be.
        let mut key = [0u8; KEY_BYTES];
        key[..4].copy_from_slice(b"Jefe");
        let mac = hmac_sha256(&key, &[b"what do ya want ", b"for nothing?"]);
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn the_key_is_made_once_and_guarded() {
        let dir = std::env::temp_dir().join(format!("tollway-key-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        assert!(matches!(PublicIds::open_existing(&dir), Err(Error::Missing { .. })));
        let first = PublicIds::open(&dir).unwrap();
        assert_eq!(PublicIds::open_existing(&dir).unwrap().market_id(), first.market_id());
        let again = PublicIds::open(&dir).unwrap();
        assert_eq!(first.quote(QuoteId(1)), again.quote(QuoteId(1)));
        let path = dir.join(KEY_FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(PublicIds::open(&dir), Err(Error::Exposed { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "short").unwrap();
        assert!(matches!(PublicIds::open(&dir), Err(Error::Malformed { .. })));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
