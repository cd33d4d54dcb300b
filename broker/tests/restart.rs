//! What was promised is there again after a restart, and the same key gets the same answer.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use support::{Broker, Dir, key_of, until};
use tollway::driver::{self, Lane};
use tollway_core::reservation::Promise;
use tollway_core::{Command, Reply};
use tollway_model::{Currency, OfferId};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_promises_money_and_answers() {
    let dir = Dir::new("restart");
    let broker = Broker::start(dir.path()).await;
    broker.top_up(1, 5_000_000).await.unwrap();
    let held = broker.hold(10, 2_000_000, 600, 60).await;
    let booked = broker.confirm(20, &held).await;
    assert_eq!(booked.promise, Promise::Booked);
    let second = broker.hold(30, 1_000_000, 600, 60).await;
    let wallet = broker.started.reader.wallet(broker.customer, Currency::EUR).await.unwrap();
    let pools = broker.started.handle.snapshot().gauges.open_holds;
    assert!(pools <= 1, "the first hold is no longer open: {pools}");
    broker.stop().await;

    let broker = Broker::start(dir.path()).await;
    let reader = &broker.started.reader;
    assert_eq!(reader.reservation(booked.id).await.unwrap().unwrap(), booked);
    assert_eq!(reader.reservation(second.id).await.unwrap().unwrap(), second);
    assert_eq!(reader.wallet(broker.customer, Currency::EUR).await.unwrap(), wallet);
    assert_eq!(wallet.held.micros.0, booked.total.micros.0 + second.total.micros.0);
    assert_eq!(broker.started.handle.snapshot().gauges.open_holds, 1);
    assert_eq!(broker.started.handle.snapshot().gauges.ledger_imbalance, 0);
    // The same keys: the first answers, no second effect.
    let again = broker.confirm(20, &held).await;
    assert_eq!(again, booked);
    let quote = broker.quote(10, 2_000_000, 600, 60).await;
    let offer = OfferId { quote: quote.id, index: quote.offers[0].index };
    let retaken = broker.client(Lane::Reserve, 11, Command::Take { offer }).await.unwrap();
    assert_eq!(support::reservation(retaken), held);
    assert_eq!(broker.top_up(1, 5_000_000).await.unwrap(), {
        Reply::ToppedUp {
            customer: broker.customer,
            balance: tollway_model::Amount::new(5_000_000, Currency::EUR),
        }
    });
    // Another request under a used key is refused and changes nothing.
    let mut other = key_of(20);
    other.request = 99;
    let customer = broker.customer;
    let reply = broker
        .started
        .handle
        .submit(Lane::Urgent, |request| tollway_core::Input::Client {
            request,
            customer,
            key: Some(other),
            command: Command::Cancel { reservation: booked.id },
        })
        .await
        .unwrap();
    assert!(matches!(&reply, Reply::Refused(r) if r.code == tollway_core::Code::KeyReused), "{reply:?}");
    assert_eq!(reader.wallet(broker.customer, Currency::EUR).await.unwrap(), wallet);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fell_due_while_away_happens_before_the_first_request() {
    let dir = Dir::new("overdue");
    let broker = Broker::start(dir.path()).await;
    broker.top_up(1, 5_000_000).await.unwrap();
    // Its window begins in 1 s and it is gone from the agent's view: nothing confirms it.
    let held = broker.hold(10, 1_000_000, 1, 5).await;
    broker.stop().await;
    let due = match held.promise {
        Promise::Held { expires } => expires,
        other => panic!("{other:?}"),
    };
    let kernel = tollway::clock::Kernel;
    until("the hold is overdue", || {
        use tollway::clock::Source;
        kernel.read().wall_us / 1_000 > due.0
    })
    .await;
    let broker = Broker::start(dir.path()).await;
    let row = broker.started.reader.reservation(held.id).await.unwrap().unwrap();
    assert!(matches!(row.promise, Promise::Ended { .. }), "{:?}", row.promise);
    assert_eq!(broker.started.handle.snapshot().gauges.open_holds, 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_market_and_a_broken_promise_are_refused_by_name() {
    let dir = Dir::new("market");
    let broker = Broker::start(dir.path()).await;
    broker.top_up(1, 5_000_000).await.unwrap();
    let held = broker.hold(10, 2_000_000, 600, 60).await;
    broker.confirm(20, &held).await;
    let id = broker.started.ids.reservation(held.id);
    broker.stop().await;

    let mut other = support::settings();
    other.market.name = "elsewhere".to_owned();
    let error = driver::start(dir.path(), support::options(&other)).await.err().unwrap().to_string();
    assert!(error.contains("\"lab\"") && error.contains("\"elsewhere\""), "{error}");

    let mut other = support::settings();
    other.def.accesses.clear();
    other.def.customers[0].endpoints.clear();
    let error = driver::start(dir.path(), support::options(&other)).await.err().unwrap().to_string();
    assert!(error.contains("access shop is removed and in use") && error.contains(&id), "{error}");

    // Neither left anything behind.
    let broker = Broker::start(dir.path()).await;
    assert_eq!(broker.started.handle.snapshot().config.revision, 1);
    broker.stop().await;
}

/// Who bought what for which address is nobody else's business on this machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_is_made_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Dir::new("private");
    let data = dir.path().join("data");
    Broker::start(&data).await.stop().await;
    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
}
