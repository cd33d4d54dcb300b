//! One direction of an emulated link, without a clock, a socket or a thread.
//!
//! A [`Hop`] is a droptail queue that drains at a rate, followed by a line with a fixed delay. The buffer
//! counts only what waits or is being sent, never what is on the line: a longer delay does not shrink the
//! buffer. A packet is never due early: every rounding goes to the later nanosecond.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

const NS_PER_S: u128 = 1_000_000_000;

/// How much may wait in front of the rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Buffer {
    Bytes(u64),
    /// Sized in time at the hop's rate; unlimited where the hop has no rate.
    Time {
        ns: u64,
    },
}

/// What one direction does to a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Bits per second on the counted bytes; `None` sends at once.
    pub rate_bps: Option<u64>,
    /// Added to every packet's length when it is counted against rate and buffer.
    pub overhead_bytes: u32,
    pub buffer: Buffer,
    /// From the last bit sent to the packet's arrival.
    pub delay_ns: u64,
}

impl Config {
    /// The buffer in counted bytes.
    pub fn buffer_bytes(&self) -> u64 {
        match (self.buffer, self.rate_bps) {
            (Buffer::Bytes(bytes), _) => bytes,
            (Buffer::Time { .. }, None) => u64::MAX,
            (Buffer::Time { ns }, Some(rate)) => {
                u64::try_from(u128::from(rate) * u128::from(ns) / (8 * NS_PER_S)).unwrap_or(u64::MAX)
            }
        }
    }
}

/// Everything that ever happened at a hop; bytes are the lengths given to `push`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    pub packets_dropped: u64,
    pub bytes_dropped: u64,
}

/// A packet that has arrived at the far end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrived<T> {
    pub packet: T,
    pub len: u32,
    /// When it was due; what the caller's clock is past that is the caller's lateness.
    pub due_ns: u64,
}

struct Waiting<T> {
    packet: T,
    len: u32,
    counted: u64,
}

/// An instant with the fraction of a nanosecond that a rate leaves over, in units of `1/rate` ns.
#[derive(Clone, Copy)]
struct Finish {
    ns: u64,
    remainder: u64,
}

impl Finish {
    fn ceil(self) -> u64 {
        self.ns.saturating_add(u64::from(self.remainder > 0))
    }
}

/// Queue, rate and line of one direction. Time only goes forward: an earlier `now_ns` counts as the last one.
pub struct Hop<T> {
    config: Config,
    buffer_bytes: u64,
    waiting: VecDeque<Waiting<T>>,
    waiting_bytes: u64,
    /// When the packet at the head of `waiting` has left the queue.
    head_finish: Option<Finish>,
    line: VecDeque<Arrived<T>>,
    now_ns: u64,
    counters: Counters,
}

impl<T> Hop<T> {
    pub fn new(config: Config) -> Hop<T> {
        Hop {
            buffer_bytes: config.buffer_bytes(),
            config,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            head_finish: None,
            line: VecDeque::new(),
            now_ns: 0,
            counters: Counters::default(),
        }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Counted bytes that wait or are being sent.
    pub fn backlog_bytes(&self) -> u64 {
        self.waiting_bytes
    }

    /// Packets anywhere inside the hop.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.line.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a packet in, or gives it back when the buffer is full. A packet finds room when nothing else
    /// waits, however small the buffer is.
    pub fn push(&mut self, now_ns: u64, len: u32, packet: T) -> Result<(), T> {
        self.advance(now_ns);
        self.counters.packets_in += 1;
        self.counters.bytes_in += u64::from(len);
        let counted = u64::from(len) + u64::from(self.config.overhead_bytes);
        let full = self.waiting_bytes.saturating_add(counted) > self.buffer_bytes;
        if full && !self.waiting.is_empty() {
            self.counters.packets_dropped += 1;
            self.counters.bytes_dropped += u64::from(len);
            return Err(packet);
        }
        match self.config.rate_bps {
            None => {
                let finish = Finish { ns: self.now_ns, remainder: 0 };
                self.send(finish, len, packet);
            }
            Some(rate) => {
                if self.waiting.is_empty() {
                    let start = Finish { ns: self.now_ns, remainder: 0 };
                    self.head_finish = Some(after(start, counted, rate));
                }
                self.waiting_bytes += counted;
                self.waiting.push_back(Waiting { packet, len, counted });
            }
        }
        Ok(())
    }

    /// The next packet that has arrived by `now_ns`; call until `None`.
    pub fn pop(&mut self, now_ns: u64) -> Option<Arrived<T>> {
        self.advance(now_ns);
        if self.line.front()?.due_ns > self.now_ns {
            return None;
        }
        let arrived = self.line.pop_front()?;
        self.counters.packets_out += 1;
        self.counters.bytes_out += u64::from(arrived.len);
        Some(arrived)
    }

    /// When the next packet arrives; `None` while the hop is empty.
    pub fn next(&self) -> Option<u64> {
        match self.line.front() {
            Some(arrived) => Some(arrived.due_ns),
            None => Some(self.head_finish?.ceil().saturating_add(self.config.delay_ns)),
        }
    }

    /// Another configuration from now on. What is inside stays inside: the packet being sent keeps its
    /// finish, those behind it leave at the new rate, none overtakes.
    pub fn change(&mut self, now_ns: u64, config: Config) {
        self.advance(now_ns);
        self.buffer_bytes = config.buffer_bytes();
        self.config = config;
        if config.rate_bps.is_none() {
            let finish = Finish { ns: self.now_ns, remainder: 0 };
            while let Some(head) = self.waiting.pop_front() {
                self.send(finish, head.len, head.packet);
            }
            self.waiting_bytes = 0;
            self.head_finish = None;
        }
    }

    /// Lets the queue drain up to `now_ns`.
    fn advance(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        while let (Some(finish), Some(rate)) = (self.head_finish, self.config.rate_bps) {
            if finish.ceil() > self.now_ns {
                return;
            }
            let Some(head) = self.waiting.pop_front() else {
                self.head_finish = None;
                return;
            };
            self.waiting_bytes -= head.counted;
            self.send(finish, head.len, head.packet);
            self.head_finish = self.waiting.front().map(|next| after(finish, next.counted, rate));
        }
    }

    fn send(&mut self, finish: Finish, len: u32, packet: T) {
        let due = finish.ceil().saturating_add(self.config.delay_ns);
        let due_ns = self.line.back().map_or(due, |last| due.max(last.due_ns));
        self.line.push_back(Arrived { packet, len, due_ns });
    }
}

/// The instant at which `bytes` more have been sent, with the fraction carried so that a long run does not
/// drift.
fn after(start: Finish, bytes: u64, rate_bps: u64) -> Finish {
    let rate = u128::from(rate_bps.max(1));
    let total = u128::from(bytes) * 8 * NS_PER_S + u128::from(start.remainder).min(rate - 1);
    let ns = start.ns.saturating_add(u64::try_from(total / rate).unwrap_or(u64::MAX));
    Finish { ns, remainder: u64::try_from(total % rate).unwrap_or(0) }
}

#[cfg(test)]
mod tests;
