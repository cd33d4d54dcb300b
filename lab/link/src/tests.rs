use super::*;

const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

/// SplitMix64: the tests' own seeded numbers.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn config(rate_bps: u64, buffer: Buffer, delay_ns: u64) -> Config {
    Config { rate_bps: Some(rate_bps), overhead_bytes: 0, buffer, delay_ns }
}

/// Offers `packets` of 1,500 bytes faster than the rate; gives (first due, last due, arrived, dropped).
fn overload(config: Config, packets: u64, every_ns: u64) -> (u64, u64, u64, u64) {
    let mut hop = Hop::new(config);
    let (mut first, mut last, mut arrived) = (None, 0, 0);
    for n in 0..packets {
        let _ = hop.push(n * every_ns, 1500, n);
        while let Some(out) = hop.pop(n * every_ns) {
            first.get_or_insert(out.due_ns);
            last = out.due_ns;
            arrived += 1;
        }
    }
    while let Some(at) = hop.next() {
        let out = hop.pop(at).expect("next() promised a packet");
        first.get_or_insert(out.due_ns);
        last = out.due_ns;
        arrived += 1;
    }
    (first.unwrap(), last, arrived, hop.counters().packets_dropped)
}

#[test]
fn the_rate_is_exact_to_a_ten_thousandth() {
    for rate in [1_000_000u64, 9_999_991, 40_000_000, 100_000_003, 999_999_937] {
        let every = 1500 * 8 * S / rate * 3 / 4;
        let (first, last, arrived, dropped) =
            overload(config(rate, Buffer::Time { ns: 100 * MS }, 10 * MS), 200_000, every);
        assert!(dropped > 0, "overloaded at {rate}");
        let measured = (arrived - 1) as f64 * 1500.0 * 8.0 * 1e9 / (last - first) as f64;
        let error = (measured / rate as f64 - 1.0).abs();
        assert!(error < 1e-4, "{rate}: {measured} is off by {error}");
    }
}

#[test]
fn a_long_run_does_not_drift() {
    // 1,500 bytes at 7 Mbit/s are 1,714,285.714… ns: the fraction must add up, not vanish.
    let mut hop = Hop::new(config(7_000_000, Buffer::Bytes(u64::MAX), 0));
    for n in 0..7_000u64 {
        hop.push(0, 1500, n).unwrap();
    }
    let mut last = 0;
    while let Some(at) = hop.next() {
        last = hop.pop(at).unwrap().due_ns;
    }
    assert_eq!(last, 12 * S);
}

#[test]
fn delay_does_not_shrink_the_buffer() {
    let run =
        |delay_ms: u64| overload(config(10_000_000, Buffer::Bytes(75_000), delay_ms * MS), 50_000, 1_000_000);
    let (first_0, last_0, arrived_0, dropped_0) = run(0);
    let (first_200, last_200, arrived_200, dropped_200) = run(200);
    assert_eq!((arrived_0, dropped_0), (arrived_200, dropped_200));
    assert_eq!((first_0 + 200 * MS, last_0 + 200 * MS), (first_200, last_200));
}

#[test]
fn a_full_buffer_waits_exactly_its_time() {
    // 75,000 bytes at 10 Mbit/s are 60 ms: the fullest queue delays by that, not by more.
    let mut hop = Hop::new(config(10_000_000, Buffer::Time { ns: 60 * MS }, 20 * MS));
    assert_eq!(hop.config().buffer_bytes(), 75_000);
    for n in 0..50u64 {
        hop.push(0, 1500, n).unwrap();
    }
    assert_eq!(hop.push(0, 1500, 50), Err(50));
    assert_eq!(hop.backlog_bytes(), 75_000);
    let mut last = 0;
    while let Some(at) = hop.next() {
        last = hop.pop(at).unwrap().due_ns;
    }
    assert_eq!(last, 80 * MS);
    assert_eq!(hop.counters().packets_dropped, 1);
}

#[test]
fn never_early_in_order_and_nothing_lost_on_the_way() {
    for seed in 0..200u64 {
        let mut rng = Rng(seed);
        let rate = 100_000 + rng.below(200_000_000);
        let cfg = Config {
            rate_bps: (rng.below(8) > 0).then_some(rate),
            overhead_bytes: u32::try_from(rng.below(40)).unwrap(),
            buffer: Buffer::Bytes(1 + rng.below(100_000)),
            delay_ns: rng.below(50 * MS),
        };
        let mut hop = Hop::new(cfg);
        let (mut now, mut expected, mut popped) = (0u64, VecDeque::new(), 0u64);
        let mut line_free = 0u128; // in 1/rate ns: the exact model
        for n in 0..2_000u64 {
            now += rng.below(2 * 12_000 * S / rate);
            while let Some(out) = hop.pop(now) {
                let (id, earliest): (u64, u64) = expected.pop_front().expect("an expected packet");
                assert_eq!(out.packet, id, "seed {seed}: order");
                assert!(out.due_ns >= earliest && out.due_ns <= now, "seed {seed}: early");
                assert!(out.due_ns <= earliest + 1, "seed {seed}: late by {}", out.due_ns - earliest);
                popped += 1;
            }
            let len = u32::try_from(60 + rng.below(1440)).unwrap();
            if hop.push(now, len, n).is_ok() {
                let earliest = match cfg.rate_bps {
                    None => now + cfg.delay_ns,
                    Some(rate) => {
                        let start = line_free.max(u128::from(now) * u128::from(rate));
                        line_free = start + u128::from(len + cfg.overhead_bytes) * 8 * NS_PER_S;
                        u64::try_from(line_free.div_ceil(u128::from(rate))).unwrap() + cfg.delay_ns
                    }
                };
                expected.push_back((n, earliest));
            }
        }
        while let Some(at) = hop.next() {
            assert!(hop.pop(at - 1).is_none(), "seed {seed}: nothing before next()");
            hop.pop(at).expect("next() promised a packet");
            popped += 1;
        }
        let c = hop.counters();
        assert!(hop.is_empty());
        assert_eq!(c.packets_in, c.packets_out + c.packets_dropped, "seed {seed}");
        assert_eq!(c.bytes_in, c.bytes_out + c.bytes_dropped, "seed {seed}");
        assert_eq!(popped, c.packets_out, "seed {seed}");
        assert_eq!(hop.backlog_bytes(), 0);
    }
}

#[test]
fn a_change_keeps_what_is_inside_and_its_order() {
    let mut hop = Hop::new(config(1_000_000, Buffer::Bytes(1_000_000), 30 * MS));
    for n in 0..10u64 {
        hop.push(0, 1250, n).unwrap(); // 10 ms each
    }
    hop.change(15 * MS, config(10_000_000, Buffer::Bytes(1_000_000), 5 * MS));
    let mut dues = Vec::new();
    while let Some(at) = hop.next() {
        let out = hop.pop(at).unwrap();
        dues.push((out.packet, out.due_ns / MS));
    }
    assert_eq!(
        dues,
        [(0, 40), (1, 40), (2, 40), (3, 40), (4, 40), (5, 40), (6, 40), (7, 40), (8, 40), (9, 40)]
            .map(|(id, floor): (u64, u64)| (id, floor.max(if id < 2 { 40 } else { 20 + (id - 1) + 5 })))
    );
    assert_eq!(hop.counters().packets_out, 10);
}

#[test]
fn a_packet_larger_than_the_buffer_passes_alone() {
    let mut hop = Hop::new(config(1_000_000, Buffer::Bytes(100), 0));
    assert!(hop.push(0, 1500, 'a').is_ok());
    assert!(hop.push(0, 1500, 'b').is_err());
    assert_eq!(hop.pop(12 * MS).map(|a| a.packet), Some('a'));
    assert!(hop.push(12 * MS, 1500, 'c').is_ok());
}

#[test]
fn time_does_not_go_back() {
    let mut hop = Hop::new(config(1_000_000, Buffer::Bytes(10_000), 0));
    hop.push(10 * MS, 125, 1).unwrap();
    hop.push(5 * MS, 125, 2).unwrap();
    assert_eq!(hop.next(), Some(11 * MS));
    assert!(hop.pop(9 * MS).is_none());
    assert_eq!(hop.pop(12 * MS).map(|a| a.due_ns), Some(11 * MS));
}
