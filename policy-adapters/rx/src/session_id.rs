//! Session-Ids without randomness (RFC 6733 §8.8): `<our host>;<high>;<low>;rx`. The caller gives a high part that
//! no earlier start had; the low part counts.

/// Makes Session-Ids, each once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SessionIds {
    host: String,
    high: u32,
    low: u64,
}

impl SessionIds {
    pub fn new(host: &str, high: u32) -> SessionIds {
        SessionIds { host: host.to_owned(), high, low: 0 }
    }

    /// The next; after 2^32 of them the high part grows, as a 64-bit counter does.
    pub fn make(&mut self) -> String {
        let high = self.high.wrapping_add((self.low >> 32) as u32);
        let low = self.low as u32;
        self.low += 1;
        format!("{};{high};{low};rx", self.host)
    }

    /// Whether an id was made by us, in this life or an earlier one.
    pub fn is_ours(&self, id: &str) -> bool {
        let mut parts = id.strip_prefix(self.host.as_str()).unwrap_or("").split(';');
        let is_number = |part: Option<&str>| part.is_some_and(|part| part.parse::<u32>().is_ok());
        parts.next() == Some("")
            && is_number(parts.next())
            && is_number(parts.next())
            && parts.next() == Some("rx")
            && parts.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_made_once_and_known_again() {
        let mut ids = SessionIds::new("af.example", 7);
        assert_eq!([ids.make(), ids.make()], ["af.example;7;0;rx", "af.example;7;1;rx"]);
        ids.low = (1 << 32) + 3;
        assert_eq!(ids.make(), "af.example;8;3;rx");
        assert!(ids.is_ours("af.example;6;4294967295;rx"));
        for other in [
            "",
            "af.example",
            "af.example;7;0",
            "af.example;7;0;gx",
            "af.example;7;0;rx;1",
            "af.example;7;x;rx",
            "af.example;7;4294967296;rx",
            "af.example2;7;0;rx",
            "pcrf.example;7;0;rx",
        ] {
            assert!(!ids.is_ours(other), "{other}");
        }
    }
}
