//! Frames on a stream, looked at before the crate's decoder may see them: it trusts the lengths that it reads.

use crate::limits::{DEPTH_MAX, FRAME_LEN_MAX, FRAME_LEN_MIN};
use diameter::avp::AvpType;
use diameter::dictionary::Dictionary;
use tokio::io::{AsyncRead, AsyncReadExt};

const FLAG_VENDOR: u8 = 0x80;
const VERSION: u8 = 1;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the connection")]
    Io(#[from] std::io::Error),
    #[error("version {0} instead of 1")]
    Version(u8),
    #[error("a frame of {0} bytes; 20 to 65,536 are taken, in fours")]
    Length(usize),
    #[error("the AVP at byte {0} does not fit its surroundings")]
    Avp(usize),
    #[error("groups in groups beyond 8 at byte {0}")]
    Deep(usize),
}

/// The next frame; `None` at the end of the stream.
///
/// # Errors
/// The stream breaks, or cannot be cut any more.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Vec<u8>>, Error> {
    let mut head = [0; 4];
    match stream.read_exact(&mut head).await {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e.into()),
    }
    let len = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
    if head[0] != VERSION {
        return Err(Error::Version(head[0]));
    }
    if !(FRAME_LEN_MIN..=FRAME_LEN_MAX).contains(&len) || !len.is_multiple_of(4) {
        return Err(Error::Length(len));
    }
    let mut frame = vec![0; len];
    frame[..4].copy_from_slice(&head);
    stream.read_exact(&mut frame[4..]).await?;
    Ok(Some(frame))
}

/// Whether every AVP, groups' members too, ends where its surroundings allow.
///
/// # Errors
/// Names the first that does not.
pub fn check(frame: &[u8], dictionary: &Dictionary) -> Result<(), Error> {
    check_avps(frame, (FRAME_LEN_MIN, frame.len()), 0, dictionary)
}

fn check_avps(
    frame: &[u8],
    (from, until): (usize, usize),
    depth: usize,
    dictionary: &Dictionary,
) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(Error::Deep(from));
    }
    let mut at = from;
    while at < until {
        let head = frame.get(at..until).and_then(|rest| rest.get(..8)).ok_or(Error::Avp(at))?;
        let has_vendor = head[4] & FLAG_VENDOR != 0;
        let head_len = if has_vendor { 12 } else { 8 };
        let len = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        let end = at.checked_add(len.next_multiple_of(4)).filter(|end| len >= head_len && *end <= until);
        let end = end.ok_or(Error::Avp(at))?;
        let word = |at: usize| frame.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok());
        let code = u32::from_be_bytes(word(at).ok_or(Error::Avp(at))?);
        let vendor = if has_vendor { word(at + 8).map(u32::from_be_bytes) } else { None };
        if dictionary.get_avp_type(code, vendor) == Some(&AvpType::Grouped) {
            check_avps(frame, (at + head_len, at + len), depth + 1, dictionary)?;
        }
        at = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::dictionary;

    fn frame(avps: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 20];
        frame[0] = 1;
        frame.extend_from_slice(avps);
        frame
    }

    fn is_whole(avps: &[u8]) -> bool {
        check(&frame(avps), &dictionary()).is_ok()
    }

    #[test]
    fn lengths_that_lie_are_found_before_the_decoder_sees_them() {
        let state_id = [0, 0, 1, 22, 0x40, 0, 0, 12, 0, 0, 0, 1];
        assert!(is_whole(&state_id));
        // An AVP shorter than its own header.
        assert!(!is_whole(&[0, 0, 1, 7, 0x40, 0, 0, 0]));
        assert!(!is_whole(&[0, 0, 1, 7, 0xc0, 0, 0, 8]));
        // Longer than the message, and a head that is cut.
        assert!(!is_whole(&[0, 0, 1, 22, 0x40, 0, 0, 16, 0, 0, 0, 1]));
        assert!(!is_whole(&state_id[..4]));
        // A member longer than its group (Subscription-Id).
        let mut group = vec![0, 0, 1, 187, 0x40, 0, 0, 20];
        group.extend_from_slice(&state_id);
        assert!(is_whole(&group));
        group[8 + 7] = 16;
        assert!(!is_whole(&group));
    }

    #[test]
    fn groups_in_groups_are_bounded() {
        let nested = |depth: usize| {
            let head = |at: usize| [0, 0, 1, 187, 0x40, 0, 0, 8 * (depth - at) as u8];
            (0..depth).flat_map(head).collect::<Vec<u8>>()
        };
        assert!(is_whole(&nested(DEPTH_MAX)));
        assert!(matches!(check(&frame(&nested(DEPTH_MAX + 1)), &dictionary()), Err(Error::Deep(_))));
    }

    fn with_len(mut frame: Vec<u8>) -> Vec<u8> {
        let len = (frame.len() as u32).to_be_bytes();
        frame[1..4].copy_from_slice(&len[1..]);
        frame
    }

    #[tokio::test]
    async fn a_stream_is_cut_into_frames_or_refused() {
        let whole = with_len(frame(&[0, 0, 1, 22, 0x40, 0, 0, 12, 0, 0, 0, 1]));
        let mut stream = &[whole.clone(), whole.clone()].concat()[..];
        assert_eq!(read(&mut stream).await.unwrap(), Some(whole.clone()));
        assert_eq!(read(&mut stream).await.unwrap(), Some(whole));
        assert_eq!(read(&mut stream).await.unwrap(), None);
        for bad in [[2, 0, 0, 20], [1, 0, 0, 0], [1, 0, 0, 22], [1, 0xff, 0, 0]] {
            assert!(read(&mut &bad[..]).await.is_err(), "{bad:?}");
        }
    }
}
