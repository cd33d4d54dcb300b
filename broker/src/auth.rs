//! API keys: random tokens of which only the SHA-256 is stored. One kind for customers, one for the NOC's
//! verbs, one per agent, until OAuth2 and mTLS come.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 256;

/// Whose key it is and so what it may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyKind {
    /// Buys for this customer, by its configured name.
    Customer { customer: String },
    /// The NOC's verbs, and reading what every customer has.
    Noc,
    /// The agent of this enforcement point.
    Agent { enforcement_point: String },
}

impl KeyKind {
    /// The kind's word in configuration and messages.
    pub const fn as_str(&self) -> &'static str {
        match self {
            KeyKind::Customer { .. } => "customer",
            KeyKind::Noc => "noc",
            KeyKind::Agent { .. } => "agent",
        }
    }
}

/// One configured key: a name for logs and records, its kind, the SHA-256 of its token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyDef {
    pub name: String,
    pub kind: KeyKind,
    pub sha256: [u8; 32],
}

/// Why a caller is not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// No `Authorization: Bearer` header.
    #[error("no API key was given")]
    Missing,
    /// A header that is not `Bearer` and a token, or a token that no key has.
    #[error("the API key is not known")]
    Unknown,
}

impl Error {
    /// The way out for the caller.
    pub const fn how_to_fix(self) -> &'static str {
        match self {
            Error::Missing => "send the header `Authorization: Bearer <api key>`",
            Error::Unknown => {
                "send a key that the operator gave you, whole, as `Authorization: Bearer <api key>`; if it was, ask \
                 the operator whether it still holds"
            }
        }
    }
}

/// Two configured keys have the same token, so it is not clear who is calling.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("keys {first:?} and {second:?} have the same token: make a new one for one of them")]
pub struct SameToken {
    pub first: String,
    pub second: String,
}

/// All keys of a market, by the hash of their token.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    by_sha256: BTreeMap<[u8; 32], KeyDef>,
}

impl Keys {
    /// # Errors
    /// When two keys have the same token.
    pub fn new(defs: impl IntoIterator<Item = KeyDef>) -> Result<Keys, SameToken> {
        let mut by_sha256: BTreeMap<[u8; 32], KeyDef> = BTreeMap::new();
        for def in defs {
            if let Some(first) = by_sha256.get(&def.sha256) {
                return Err(SameToken { first: first.name.clone(), second: def.name });
            }
            by_sha256.insert(def.sha256, def);
        }
        Ok(Keys { by_sha256 })
    }

    /// The key of a token. Lookup is by hash, so its timing says nothing about a token.
    pub fn find(&self, token: &str) -> Option<&KeyDef> {
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        self.by_sha256.get(&token_sha256(token))
    }

    /// The key of an `Authorization` header's value (RFC 6750 §2.1).
    ///
    /// # Errors
    /// [`Error`]; both cases are answered alike, with 401.
    pub fn authenticate(&self, authorization: Option<&[u8]>) -> Result<&KeyDef, Error> {
        let value = authorization.ok_or(Error::Missing)?;
        let text = std::str::from_utf8(value).map_err(|_| Error::Unknown)?;
        let (scheme, token) = text.split_once(' ').ok_or(Error::Unknown)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Error::Unknown);
        }
        self.find(token.trim()).ok_or(Error::Unknown)
    }
}

/// An address whose unknown keys were told of is not told of again so soon.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Addresses that are remembered: more are told of when the oldest are forgotten, or a flood would fill memory.
pub const STRANGERS_MAX: usize = 1_024;

/// Callers with unknown keys, so that the log names each once a minute and cannot be flooded.
#[derive(Debug, Default)]
pub struct Strangers {
    told: Mutex<BTreeMap<IpAddr, Instant>>,
}

impl Strangers {
    /// Whether this caller is worth a line.
    pub fn is_news(&self, peer: IpAddr, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&peer).is_some_and(|at| now.duration_since(*at) < TOLD_EVERY) {
            return false;
        }
        if told.len() >= STRANGERS_MAX {
            told.retain(|_, at| now.duration_since(*at) < TOLD_EVERY);
        }
        if told.len() >= STRANGERS_MAX && !told.contains_key(&peer) {
            return false;
        }
        told.insert(peer, now);
        true
    }
}

/// What is stored of a token.
pub fn token_sha256(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// 64 hexadecimal digits, as configuration writes a hash; `None` for anything else.
pub fn parse_sha256_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0u8; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// Lower-case hexadecimal digits of a hash.
pub fn sha256_hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Display for KeyDef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {}", self.kind.as_str(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn def(name: &str, token: &str) -> KeyDef {
        KeyDef { name: name.to_owned(), kind: KeyKind::Noc, sha256: token_sha256(token) }
    }

    #[test]
    fn only_the_right_bearer_token_is_let_in() {
        let keys = Keys::new([def("a", "secret-a"), def("b", "secret-b")]).unwrap();
        let name = |header: &str| keys.authenticate(Some(header.as_bytes())).map(|key| key.name.as_str());
        assert_eq!(name("Bearer secret-a"), Ok("a"));
        assert_eq!(name("bearer secret-b"), Ok("b"));
        for bad in
            ["", "Bearer", "Bearer ", "Basic secret-a", "secret-a", "Bearer secret-A", "Bearer secret-a x"]
        {
            assert_eq!(name(bad), Err(Error::Unknown), "{bad:?}");
        }
        assert_eq!(keys.authenticate(None), Err(Error::Missing));
        assert_eq!(keys.authenticate(Some(b"Bearer \xff")), Err(Error::Unknown));
        assert_eq!(keys.find(&"x".repeat(TOKEN_BYTES_MAX + 1)), None);
    }

    #[test]
    fn a_stranger_is_told_of_once_a_minute_and_a_flood_of_them_is_bounded() {
        let (strangers, begin) = (Strangers::default(), Instant::now());
        let peer = |n: usize| IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
        assert!(strangers.is_news(peer(1), begin));
        assert!(!strangers.is_news(peer(1), begin + TOLD_EVERY - Duration::from_millis(1)));
        assert!(strangers.is_news(peer(2), begin));
        assert!(strangers.is_news(peer(1), begin + TOLD_EVERY));
        let told =
            (0..2 * STRANGERS_MAX).filter(|n| strangers.is_news(peer(1_000 + n), begin + TOLD_EVERY)).count();
        assert!((STRANGERS_MAX - 2..STRANGERS_MAX).contains(&told), "{told}");
        assert!(strangers.is_news(peer(9), begin + 2 * TOLD_EVERY), "who came long ago is forgotten");
    }

    #[test]
    fn one_token_names_one_key() {
        let error = Keys::new([def("a", "same"), def("b", "same")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "keys \"a\" and \"b\" have the same token: make a new one for one of them"
        );
    }

    #[test]
    fn hashes_are_written_as_hex() {
        let hash = token_sha256("abc");
        assert_eq!(sha256_hex(&hash), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(parse_sha256_hex(&sha256_hex(&hash)), Some(hash));
        assert_eq!(parse_sha256_hex("ba"), None);
        assert_eq!(parse_sha256_hex(&"+1".repeat(32)), None);
    }
}
