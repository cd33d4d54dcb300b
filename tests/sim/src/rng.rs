//! Randomness of the simulation: SplitMix64, one stream per actor, so that a change to one actor does not
//! shift what the others draw; and the FNV-1a digest of a trace.

/// A stream of random numbers (SplitMix64, Steele et al. 2014).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of one name under one seed.
    pub fn stream(seed: u64, name: &str) -> Rng {
        let mut digest = Digest::default();
        digest.feed(name.as_bytes());
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ digest.value());
        rng.next();
        rng
    }

    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound`; zero for a bound of zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// Uniform in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// True with a probability in ppm.
    pub fn chance(&mut self, ppm: u32) -> bool {
        self.below(1_000_000) < u64::from(ppm)
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let index = self.below(list.len() as u64);
        list.get(usize::try_from(index).unwrap_or(0))
    }

    /// Small numbers often, large ones seldom: uniform in the exponent, below `2^bits`.
    pub fn skewed(&mut self, bits: u64) -> u64 {
        let width = self.below(bits) + 1;
        self.next() >> (64 - width.min(64))
    }
}

/// FNV-1a, 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Digest {
        Digest(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    pub fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Goes on from an earlier value.
    pub const fn resume(value: u64) -> Digest {
        Digest(value)
    }

    pub const fn value(self) -> u64 {
        self.0
    }

    pub fn of(bytes: &[u8]) -> u64 {
        let mut digest = Digest::default();
        digest.feed(bytes);
        digest.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_repeat() {
        let (mut a, mut b, mut c) = (Rng::stream(1, "a"), Rng::stream(1, "b"), Rng::stream(1, "a"));
        let first = a.next();
        assert_ne!(first, b.next());
        assert_eq!(first, c.next());
        assert!((0..1000).all(|_| a.between(3, 5) >= 3 && a.below(7) < 7));
    }
}
