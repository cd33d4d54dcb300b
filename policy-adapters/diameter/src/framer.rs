//! Cuts a byte stream into messages. What was read stays here between reads, so a reader may be cancelled at any
//! moment without losing its place.

use crate::error::Error;
use crate::message::frame_len;

/// The bytes of one connection that do not yet make a message.
#[derive(Default, Debug)]
pub struct Framer {
    buffer: Vec<u8>,
    start: usize,
}

impl Framer {
    /// Adds what was read. Call [`Framer::next_frame`] until it says `None` before adding more: then at most one
    /// message (64 KiB) and one read are held.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message.
    ///
    /// # Errors
    /// When version or length are not taken; the stream is lost then, and [`Framer::rest`] holds what there is.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, Error> {
        let rest = &self.buffer[self.start..];
        let Some(len) = frame_len(rest)? else { return Ok(None) };
        if rest.len() < len {
            return Ok(None);
        }
        let start = self.start;
        self.start += len;
        Ok(Some(&self.buffer[start..self.start]))
    }

    /// Bytes not yet given out.
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_split_gives_the_same_frames() {
        let one = [1, 0, 0, 20, 0x80, 0, 1, 24, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
        let stream = [one, one, one].concat();
        for step in 1..=stream.len() {
            let mut framer = Framer::default();
            let mut frames = 0;
            for part in stream.chunks(step) {
                framer.push(part);
                while let Some(frame) = framer.next_frame().unwrap() {
                    assert_eq!(frame, one);
                    frames += 1;
                }
            }
            assert_eq!((frames, framer.rest().len()), (3, 0));
        }
    }

    #[test]
    fn four_bytes_are_enough_to_refuse() {
        let mut framer = Framer::default();
        framer.push(&[1, 0, 0, 0]);
        assert_eq!(framer.next_frame(), Err(Error::MessageLength(0)));
    }
}
