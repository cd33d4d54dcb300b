//! Lists that are read a page at a time, in the journal's order.

use tollway_model::Seq;

/// A row's place: its record in the journal, and which row of that record it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub seq: Seq,
    pub n: u32,
}

impl Place {
    /// Before the first row of any list.
    pub const START: Place = Place { seq: Seq(0), n: 0 };
}

/// Some rows of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// Where the next page begins.
    pub end: Place,
    pub has_more: bool,
}

impl<T> Page<T> {
    /// The first `limit` of rows that were read after a place; one row beyond them says that there are more.
    pub(super) fn of(mut rows: Vec<(Place, T)>, after: Place, limit: u32) -> Page<T> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let end = rows.last().map_or(after, |(place, _)| *place);
        Page { rows: rows.into_iter().map(|(_, row)| row).collect(), end, has_more }
    }
}

/// A reservation's list: its statement takes the reservation, the place and the number of rows.
pub(super) struct List {
    pub(super) table: &'static str,
    pub(super) doing: &'static str,
    pub(super) sql: &'static str,
}

pub(super) const USAGE: List = List {
    table: "usage",
    doing: "read usage",
    sql: "SELECT seq, n, doc FROM usage WHERE reservation = ? AND (seq, n) > (?, ?) ORDER BY seq, n LIMIT ?",
};

pub(super) const EVENTS: List = List {
    table: "event",
    doing: "read events",
    sql: "SELECT seq, n, at, kind, detail FROM event WHERE reservation = ? AND (seq, n) > (?, ?) \
          ORDER BY seq, n LIMIT ?",
};

/// From the row at the place itself: the interval after it begins where that one ends.
pub(super) const INTERVALS: List = List {
    table: "interval",
    doing: "read intervals",
    sql: "SELECT seq, n, since, state, reason FROM interval WHERE reservation = ? AND (seq, n) >= (?, ?) \
          ORDER BY seq, n LIMIT ?",
};
