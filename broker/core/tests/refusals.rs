//! What refusals say: the way out that fits, and whom it is about.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use support::*;
use tollway_core::configure::broken_by;
use tollway_core::offer::{Need, QuoteRequest, When};
use tollway_core::{Code, Command, Refusal, Reply, limits};
use tollway_model::{BitsPerSecond, CustomerId, OfferId, Timestamp};

fn refused(world: &mut World, customer: CustomerId, command: Command) -> Refusal {
    match world.command(customer, command) {
        Reply::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// What is out of range says how it would be in range.
#[test]
fn out_of_range_says_the_fitting_way_out() {
    let mut world = World::new();
    let ask = |world: &mut World, need: Need, start: Option<When>, end: When| {
        let request = QuoteRequest { start, end, ..world.request_for(need, 60) };
        let Reply::Refused(refusal) = world.command(SHOP, Command::Quote(request)) else {
            panic!("it fits?")
        };
        assert_eq!(refusal.code, Code::OutOfRange, "{refusal:?}");
        refusal.way_out().to_owned()
    };
    let rate = Need::Rate(BitsPerSecond(1_000_000));
    let day = 86_400_000;
    for (need, start, end, wanted) in [
        (rate, None, When::At(Timestamp(T0.0 - 1)), "later `end`"),
        (rate, Some(When::At(Timestamp(T0.0 - 1))), When::In(60_000), "leave `start` out"),
        (rate, Some(When::In(60_000)), When::In(50_000), "earlier `start`"),
        (rate, None, When::In(1_000), "later `end`"),
        (rate, None, When::In(32 * day), "shorter window"),
        (rate, Some(When::In(91 * day)), When::In(93 * day), "earlier `end`"),
        (Need::Bytes(0), None, When::In(60_000), "`bytes`"),
        (Need::Bytes(u64::MAX), None, When::In(60_000), "`bytes`"),
        (Need::Rate(BitsPerSecond(1)), None, When::In(60_000), "`rate_bps` of "),
    ] {
        let fix = ask(&mut world, need, start, end);
        assert!(fix.contains(wanted), "{need:?} {start:?} {end:?}: {fix}");
    }
}

#[test]
fn flows_that_cannot_be_say_how_they_could() {
    let mut world = World::new();
    let reservation = world.confirmed(Need::Rate(BitsPerSecond(1_000_000)), 60);
    let mut v6 = flow(1);
    v6.remote = "2001:db8::1".parse().unwrap();
    for (flows, wanted) in [
        (vec![flow(1), flow(1)], "leave one of the two out"),
        (vec![flow(1); limits::FLOWS_MAX + 1], "at most 8 flows"),
        (vec![v6], "both by IPv4 or both by IPv6"),
        (vec![flow(0)], "1 to 65535"),
    ] {
        let refusal = refused(&mut world, SHOP, Command::BindFlows { reservation: reservation.id, flows });
        assert_eq!(refusal.code, Code::OutOfRange);
        assert!(refusal.way_out().contains(wanted), "{}", refusal.way_out());
    }
}

/// No other deadline helps: the most that is ever sold is named, and is sold.
#[test]
fn a_rate_that_is_never_sold_is_not_sent_to_another_deadline() {
    let mut world = World::new();
    let refusal = {
        let Reply::Refused(refusal) = world.quote(Need::Rate(BitsPerSecond(25_000_000)), 60) else {
            panic!("it fits?")
        };
        refusal
    };
    let text = format!("{} {}", refusal.message, refusal.way_out());
    assert!(!text.contains("deadline") && !text.contains("bytes"), "{text}");
    let most = refusal.way_out().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(matches!(world.quote(Need::Rate(BitsPerSecond(most)), 60), Reply::Quote(_)), "{text}");
    assert!(matches!(world.quote(Need::Rate(BitsPerSecond(most + 1)), 60), Reply::Refused(_)), "{text}");
}

#[test]
fn a_quote_that_was_taken_names_its_reservation_to_its_customer_alone() {
    let mut world = World::new();
    let (offer, _) = world.offer(Need::Rate(BitsPerSecond(1_000_000)), 600);
    let held = world.reservation(SHOP, Command::Take { offer });
    let again = refused(&mut world, SHOP, Command::Take { offer });
    assert_eq!((again.code, again.reservation()), (Code::QuoteExpired, Some(held.id)));
    assert!(again.message.contains("taken already"), "{}", again.message);
    let rival = refused(&mut world, RIVAL, Command::Take { offer });
    let never = OfferId { quote: tollway_model::QuoteId(99), index: 0 };
    assert_eq!(rival, refused(&mut world, SHOP, Command::Take { offer: never }), "nothing is told to others");
    world.now = T0.plus_ms(limits::TAKEN_KEPT_MS);
    world.top_up(SHOP, 1);
    assert_eq!(refused(&mut world, SHOP, Command::Take { offer }).reservation(), None, "kept for an hour");
}

#[test]
fn a_configuration_that_would_break_promises_names_what_and_whom() {
    let mut world = World::new();
    let ids: Vec<_> = (0..10)
        .map(|n| {
            let (offer, _) = world.offer(Need::Rate(BitsPerSecond(100_000)), 600);
            let held = world.reservation(SHOP, Command::Take { offer });
            let flows = Some(vec![flow(40_000 + n)]);
            world.reservation(SHOP, Command::Confirm { reservation: held.id, flows }).id
        })
        .collect();
    let mut moved = config();
    moved.accesses[0].enforcement_point = "router2".into();
    let mut gone = config();
    gone.customers.remove(0);
    for (wanted, what, users) in [
        (moved, "access shop is enforced elsewhere and in use", ids.clone()),
        (gone, "customer shop-pos is removed and has reservations", ids.clone()),
    ] {
        let broken = broken_by(world.engine.state(), &wanted);
        assert_eq!(broken.len(), 1, "{broken:?}");
        assert_eq!((broken[0].what.as_str(), &broken[0].users), (what, &users));
        let before = world.engine.last_seq();
        let Reply::Refused(refusal) = world.configure(wanted) else { panic!("taken?") };
        assert_eq!(refusal.code, Code::ConfigurationRefused);
        assert!(refusal.message.contains(&broken[0].to_string()), "{}", refusal.message);
        assert!(refusal.message.ends_with("r8 and 2 more"), "{}", refusal.message);
        assert_eq!(world.engine.last_seq(), before, "nothing changed");
    }
    assert_eq!(broken_by(world.engine.state(), &config()), []);
}
