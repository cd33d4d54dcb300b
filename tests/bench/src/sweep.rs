//! The peer of the admission row: what ESnet's OSCARS does for each request, written anew. All reservations
//! that overlap the window are collected, their edges sorted, and the peak found by a sweep. (OSCARS also
//! drops equal edges, which over-admits; this one does not.)

pub struct Sweep {
    reservations: Vec<(u64, u64, u64)>,
    capacity: u64,
}

impl Sweep {
    pub fn new(capacity: u64) -> Sweep {
        Sweep { reservations: Vec::new(), capacity }
    }

    pub fn add(&mut self, from: u64, until: u64, bps: u64) {
        self.reservations.push((from, until, bps));
    }

    pub fn admit(&mut self, from: u64, until: u64, bps: u64) -> bool {
        let mut edges: Vec<(u64, i64)> = Vec::new();
        for (start, end, rate) in &self.reservations {
            if *start < until && from < *end {
                edges.push(((*start).max(from), *rate as i64));
                edges.push(((*end).min(until), -(*rate as i64)));
            }
        }
        edges.sort_unstable();
        let (mut now, mut peak) = (0i64, 0i64);
        for (_, change) in edges {
            now += change;
            peak = peak.max(now);
        }
        let fits = u64::try_from(peak).unwrap_or(0) + bps <= self.capacity;
        if fits {
            self.reservations.push((from, until, bps));
        }
        fits
    }

    pub fn drop_last(&mut self) {
        self.reservations.pop();
    }
}
