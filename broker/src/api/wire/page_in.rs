//! Which part of a long list to read. Where a page ends is a text that only this API reads: one place in the
//! journal for each list of the answer.

use crate::store::Place;
use serde::Deserialize;
use tollway_model::Seq;
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams, Debug)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Rows to read: 1 to 5,000; default 1,000.
    #[param(minimum = 1, maximum = 5000)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    pub after: Option<String>,
}

/// `next` of a page; none when every list is at its end.
pub fn next<const LISTS: usize>(ends: [Place; LISTS], has_more: bool) -> Option<String> {
    has_more.then(|| ends.map(|place| format!("{}-{}", place.seq.0, place.n)).join("."))
}

/// Where the lists of a page go on; `None` for what [`next`] did not write.
pub fn places<const LISTS: usize>(text: &str) -> Option<[Place; LISTS]> {
    let place = |part: &str| {
        let (seq, n) = part.split_once('-')?;
        let seq = seq.parse().ok().filter(|seq: &u64| i64::try_from(*seq).is_ok())?;
        Some(Place { seq: Seq(seq), n: n.parse().ok()? })
    };
    let places: Option<Vec<Place>> = text.split('.').map(place).collect();
    places?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_read() {
        let ends = [Place { seq: Seq(7), n: 3 }, Place::START];
        let text = next(ends, true).unwrap();
        assert_eq!(places(&text), Some(ends));
        assert_eq!(next(ends, false), None);
        for bad in ["", "7", "7-3", "7-3.0-0.1-1", "7-3.x-0", "9223372036854775808-0.0-0", "7--3.0-0"] {
            assert_eq!(places::<2>(bad), None, "{bad}");
        }
    }
}
