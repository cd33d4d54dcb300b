//! Mutants: a good message, hurt in one to four places.

use super::Random;

pub fn mutate(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        match random.below(10) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let len = 4 * random.below(16);
                let more = random.bytes(len);
                bytes.splice(at..at, more);
            }
            4 => {
                let end = (at + 4 * random.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            // An interesting number over an aligned word: lengths, codes, vendors.
            5 | 6 => {
                let words =
                    [0, 1, 7, 8, 9, 11, 12, 0x00ff_ffff, 0x4000_0000, 0x4000_0007, 0xc000_000b, u32::MAX];
                let word = words[random.below(words.len())].to_be_bytes();
                let at = at & !3;
                if let Some(place) = bytes.get_mut(at..at + 4) {
                    place.copy_from_slice(&word);
                }
            }
            7 => {
                let (from, len) = (random.below(bytes.len()) & !3, 4 * random.below(32));
                let part = bytes[from..(from + len).min(bytes.len())].to_vec();
                bytes.splice(at & !3..at & !3, part);
            }
            // A good AVP where it may not belong.
            8 if bytes.len() >= 20 => {
                let codes = [263u32, 264, 278, 293, 416, 8_000];
                let code = codes[random.below(codes.len())].to_be_bytes();
                bytes.splice(20..20, code.into_iter().chain([0, 0, 0, 12, b'a', b'b', b'c', b'd']));
            }
            _ => bytes[at] = bytes[at].wrapping_add(1),
        }
    }
    // Mostly with a true length, so that what is inside is reached.
    if bytes.len() >= 4 && !random.one_in(8) {
        bytes.truncate(bytes.len() & !3);
        let len = (bytes.len() as u32).to_be_bytes();
        bytes[1..4].copy_from_slice(&len[1..4]);
    }
    bytes
}
