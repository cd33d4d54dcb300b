use super::*;
use tollway_model::ReservationId;

const LEG: LegId = LegId { reservation: ReservationId(1), index: 0 };

fn slots() -> SlotLength {
    SlotLength::from_secs(5).expect("divides a day")
}

fn stats(bytes: u64, packets: u64, backlog: u32) -> Stats {
    Stats { bytes, packets, drops: 0, backlog_bytes: backlog, backlog_packets: backlog / 1000 }
}

fn at(ms: u64, sold: Option<Stats>) -> Sample {
    Sample {
        now: Timestamp(ms),
        sides: [sold, Some(Stats::default())],
        still: true,
        active_until: Timestamp(u64::MAX),
        slot_last: None,
    }
}

fn run(meter: &mut Meter, samples: &[Sample]) -> Vec<SlotReading> {
    let mut out = Vec::new();
    for sample in samples {
        meter.sample(sample, 1, slots(), &mut out);
    }
    out.into_iter().map(|draft| draft.of(LEG, 1, false)).collect()
}

#[test]
fn a_slot_is_cut_at_its_end_and_time_is_split() {
    let mut meter = Meter::start(1, Timestamp(1000), slots());
    meter.set_in_force(true);
    let out = run(&mut meter, &[at(2000, Some(stats(1500, 1, 9))), at(5010, Some(stats(3000, 2, 9)))]);
    assert_eq!(out.len(), 1);
    assert_eq!((out[0].active_ms, out[0].busy_ms, out[0].sold.bytes), (4000, 3000, 3000 - 28));
    assert_eq!((out[0].slot, out[0].seq, out[0].seen), (Slot(0), 1, true));
    let out = run(&mut meter, &[at(10_000, Some(stats(3000, 2, 0)))]);
    assert_eq!((out[0].active_ms, out[0].busy_ms, out[0].seq), (5000, 10, 2));
}

#[test]
fn silence_under_backlog_is_a_gap_also_across_slots() {
    let mut meter = Meter::start(1, Timestamp(3000), slots());
    let mut samples: Vec<Sample> = (3..=8).map(|s| at(s * 1000, Some(stats(1500, 1, 9)))).collect();
    samples.push(at(10_000, Some(stats(3000, 2, 9))));
    let out = run(&mut meter, &samples);
    let gaps: Vec<u32> = out.iter().map(|r| r.gap_ms_max).collect();
    assert_eq!(gaps, [2000, 5000]);
}

#[test]
fn a_counter_that_falls_opens_an_incarnation_and_loses_nothing() {
    let mut meter = Meter::start(1, Timestamp(0), slots());
    let first = meter.incarnation();
    let both = |ms, sold, reverse| Sample { sides: [Some(sold), Some(reverse)], ..at(ms, None) };
    let out = run(
        &mut meter,
        &[
            both(1000, stats(10_000, 10, 0), stats(1000, 1, 0)),
            both(2000, stats(500, 1, 0), stats(2000, 2, 0)),
            both(5000, stats(700, 1, 0), stats(3000, 3, 0)),
        ],
    );
    assert_eq!(out.len(), 2);
    assert_eq!((out[0].incarnation, out[0].sold.bytes, out[0].reverse.bytes), (first, 9860, 986));
    assert_ne!(out[1].incarnation, first);
    // The return path did not restart: only what came since is in the new incarnation.
    assert_eq!((out[1].seq, out[1].sold.bytes, out[1].reverse.bytes), (1, 686, 2000 - 28));
}

#[test]
fn a_changed_identity_is_a_new_incarnation_even_at_zero() {
    let mut meter = Meter::start(1, Timestamp(0), slots());
    let before = meter.incarnation();
    let mut out = Vec::new();
    meter.sample(&at(1000, Some(stats(0, 0, 0))), 2, slots(), &mut out);
    assert!(out.is_empty());
    assert_ne!(meter.incarnation(), before);
}

#[test]
fn time_away_is_filled_with_slots() {
    let mut meter = Meter::start(1, Timestamp(1000), slots());
    meter.set_in_force(true);
    let out = run(&mut meter, &[at(16_000, Some(stats(1500, 1, 0)))]);
    assert_eq!(out.iter().map(|r| r.active_ms).collect::<Vec<_>>(), [4000, 5000, 5000]);
    let mut meter = Meter::start(1, Timestamp(0), slots());
    let out = run(&mut meter, &[at(100 * 3_600_000, None)]);
    assert_eq!(out.len() as u64, MISSED_MS_MAX / 5000);
}

#[test]
fn a_closing_leg_ends_in_its_last_slot() {
    let mut meter = Meter::start(1, Timestamp(1000), slots());
    meter.set_in_force(true);
    let closing = Sample {
        active_until: Timestamp(5000),
        slot_last: Some(Slot(0)),
        ..at(5020, Some(stats(1500, 1, 800)))
    };
    assert!(run(&mut meter, &[closing]).is_empty());
    let last = meter.finish(Timestamp(5100), [Some(stats(3000, 2, 0)), None]).of(LEG, 3, true);
    assert_eq!((last.slot, last.active_ms, last.sold.bytes, last.last), (Slot(0), 4000, 2972, true));
}

#[test]
fn a_new_flow_set_has_not_been_seen() {
    let mut meter = Meter::start(1, Timestamp(0), slots());
    run(&mut meter, &[at(100, Some(stats(15_000, 10, 0)))]);
    assert!(meter.seen);
    meter.rebind();
    run(&mut meter, &[at(200, Some(stats(15_000, 10, 2000)))]);
    run(&mut meter, &[at(300, Some(stats(18_000, 12, 0)))]);
    assert!(!meter.seen, "two packets of the old set were still queued");
    run(&mut meter, &[at(400, Some(stats(19_000, 13, 0)))]);
    assert!(meter.seen);
}

#[test]
fn a_meter_survives_its_encoding() {
    let mut meter = Meter::start(1, Timestamp(0), slots());
    run(&mut meter, &[at(100, Some(stats(15_000, 10, 5)))]);
    let bytes = minicbor::to_vec(&meter).expect("encodes");
    assert_eq!(minicbor::decode::<Meter>(&bytes).expect("decodes"), meter);
}
