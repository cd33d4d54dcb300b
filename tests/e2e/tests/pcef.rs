//! The scripted gateway, which shares no codec with us, against the node and the session machine: what a gateway
//! does right, and what it does wrong.

#[path = "../peers/mod.rs"]
mod peers;

use peers::namespace::{in_namespace, sh};
use peers::pcrf::{Pcrf, Peer, desire, desire_after};
use peers::script::{Script, settings};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, UdpSocket};
use tollway_gx::Gateway;
use tollway_pcef::shape::Shaper;

const PCEF: &str = "pcef.example.net";

/// RARs are given up early, so that a lost answer is met soon.
const RAR_MS: u64 = 400;

async fn pcrf() -> Pcrf {
    let peer =
        Peer { host: PCEF, from: [127, 0, 0, 1].into(), dial: None, watchdog_ms: 30_000, is_relay: false };
    let gateway = Gateway { rar_timeout_ms: RAR_MS, ..Gateway::default() };
    Pcrf::start(([127, 0, 0, 1], 0).into(), vec![peer], gateway).await
}

/// Connected, with one session open.
async fn pair() -> (Pcrf, Script, String) {
    let mut pcrf = pcrf().await;
    let mut script = Script::start(settings(PCEF, pcrf.address), pcrf.address);
    assert_eq!(script.says("connected").await["host"], peers::pcrf::HOST);
    pcrf.hears("usable").await;
    let session = script.opens(1).await;
    pcrf.hears("learnt 1").await;
    (pcrf, script, session)
}

/// And with a rule that is active for an hour.
async fn active() -> (Pcrf, Script, String) {
    let (mut pcrf, script, session) = pair().await;
    pcrf.desire(desire(1, 1, 3_600));
    pcrf.hears("leg 1 active").await;
    (pcrf, script, session)
}

/// Everybody leaves, and tshark has read every frame.
async fn end(name: &str, pcrf: Pcrf, script: Script) {
    script.quits().await;
    pcrf.stop().await.judge(name);
}

#[test]
fn a_rule_is_installed_metered_and_removed() {
    peers::block_on(async {
        let (mut pcrf, mut script, session) = active().await;
        let pushed = script.says("pushed").await;
        assert_eq!((&pushed["installed"], &pushed["code"]), (&json!(["tw-1-0"]), &json!(2001)));
        let rule = script.says("active").await;
        assert_eq!(rule["max"]["down_bps"], 5_000_000, "{rule}");
        assert_eq!(rule["guaranteed"]["down_bps"], 5_000_000, "{rule}");
        for (bytes, total) in [(1_200_000, 1_200_000), (1_000_000, 2_200_000)] {
            script
                .does(
                    json!({"do": "traffic", "session": session, "rule": "tw-1-0", "down": bytes, "up": 300}),
                )
                .await;
            pcrf.hears(&format!("usage 1 sold {total}")).await;
            script.says("answered").await;
        }
        script.does(json!({"do": "traffic", "session": session, "rule": "tw-1-0", "down": 70_000})).await;
        pcrf.release(1, 1);
        let last = pcrf.hears("usage 1 sold 2270000").await;
        assert!(last.contains("reverse 600"), "{last}");
        pcrf.hears("leg 1 removed").await;
        assert_eq!(script.holds(&session).await, ["standing"]);
        script.does(json!({"do": "close", "session": session})).await;
        pcrf.hears("closed").await;
        end("pcef-life", pcrf, script).await;
    });
}

#[test]
fn a_rule_starts_and_ends_by_the_gateways_clock() {
    peers::block_on(async {
        let (mut pcrf, mut script, session) = pair().await;
        pcrf.desire(desire_after(1, 1, 3, 3));
        pcrf.hears("leg 1 accepted").await;
        script.does(json!({"do": "show"})).await;
        let rule = script.says("held").await["sessions"][0]["rules"][1].take();
        assert_eq!((&rule["name"], &rule["status"]), (&json!("tw-1-0"), &json!("waiting")), "{rule}");
        assert!(rule["until"].as_u64() > rule["from"].as_u64(), "{rule}");
        pcrf.hears("leg 1 active").await;
        assert_eq!(script.holds(&session).await, ["standing", "tw-1-0"]);
        // Whoever is first: the gateway by the rule's time, or our removal after it.
        assert_eq!(script.says("gone").await["rule"], "tw-1-0");
        pcrf.hears("leg 1 removed").await;
        assert_eq!(script.holds(&session).await, ["standing"]);
        end("pcef-times", pcrf, script).await;
    });
}

#[test]
fn a_rule_that_is_refused_says_why() {
    peers::block_on(async {
        let (mut pcrf, mut script, session) = pair().await;
        let refuse = json!({"do": "behave", "rar": {"as": "refuse", "failure": 10}, "times": 1});
        script.does(refuse).await;
        pcrf.desire(desire(1, 1, 3_600));
        let said = pcrf.hears("leg 1 refused").await;
        assert_eq!(said, "leg 1 refused: inactive: resource allocation failure (10)");
        assert_eq!(script.holds(&session).await, ["standing"]);
        script.does(json!({"do": "behave", "rar": {"as": "code", "code": 5012}, "times": 1})).await;
        pcrf.desire(desire(2, 1, 3_600));
        pcrf.hears("leg 2 refused").await;
        end("pcef-refuse", pcrf, script).await;
    });
}

/// Answers that do not come, come late, or name another session: the rule is told again and held once.
#[test]
fn answers_that_are_lost_late_or_wrong_end_in_one_rule() {
    peers::block_on(async {
        for answering in [
            json!({"as": "silent", "obeys": true}),
            json!({"as": "silent", "obeys": false}),
            json!({"as": "late", "ms": 3 * RAR_MS}),
            json!({"as": "wrong_session"}),
            json!({"as": "code", "code": 3004}),
        ] {
            let (mut pcrf, mut script, session) = pair().await;
            script.does(json!({"do": "behave", "rar": answering, "times": 1})).await;
            pcrf.desire(desire(1, 1, 3_600));
            // A report may overtake the answer before it on its way to the machine.
            let mut said = [pcrf.hears("leg 1").await, pcrf.hears("leg 1").await];
            said.sort();
            assert_eq!(said, ["leg 1 accepted", "leg 1 active"], "{answering}");
            script.says("pushed").await;
            script.says("pushed").await;
            assert_eq!(script.holds(&session).await, ["standing", "tw-1-0"], "{answering}");
            end("pcef-answers", pcrf, script).await;
        }
    });
}

#[test]
fn usage_that_is_sent_again_counts_once() {
    peers::block_on(async {
        let (mut pcrf, mut script, session) = active().await;
        let usage = json!([{"key": "tw-1-0", "down": 500, "up": 20}]);
        let update = json!({"do": "update", "session": session, "usage": usage});
        script.does(update.clone()).await;
        pcrf.hears("usage 1 sold 500").await;
        script.does(json!({"do": "repeat"})).await;
        let again = loop {
            let asked = script.says("asked").await;
            if asked["is_repeat"] == Value::Bool(true) {
                break script.says("answered").await;
            }
        };
        assert_eq!(again["code"], 2001, "{again}");
        script.does(update).await;
        pcrf.hears("usage 1 sold 1000").await;
        end("pcef-repeat", pcrf, script).await;
    });
}

#[test]
fn a_bearer_that_is_lost_and_comes_back_is_told() {
    peers::block_on(async {
        let (mut pcrf, mut script, session) = active().await;
        let report = |status: &str, failure: Option<u32>| {
            let report = json!({"rule": "tw-1-0", "status": status, "failure": failure});
            json!({"do": "update", "session": session, "reports": [report]})
        };
        script.does(report("temporarily_inactive", Some(10))).await;
        pcrf.hears("leg 1 lost: temporarily inactive").await;
        script.does(report("active", None)).await;
        pcrf.hears("leg 1 active").await;
        script.does(report("inactive", Some(10))).await;
        pcrf.hears("leg 1 lost: inactive").await;
        script.does(json!({"do": "update", "session": session, "mcc_mnc": "26201"})).await;
        pcrf.hears("changed 1").await;
        end("pcef-bearer", pcrf, script).await;
    });
}

#[test]
fn a_lying_gateway_is_answered_and_changes_nothing() {
    peers::block_on(async {
        let (mut pcrf, mut script, session) = active().await;
        let report = json!([{"rule": "tw-99-0", "status": "active"}]);
        script.does(json!({"do": "update", "session": session, "reports": report})).await;
        let removed = loop {
            let answer = script.says("answered").await;
            if answer["removed"] != json!([]) {
                break answer;
            }
        };
        assert_eq!((&removed["removed"], &removed["code"]), (&json!(["tw-99-0"]), &json!(2001)));
        for command in ["update", "close"] {
            script.does(json!({"do": command, "session": "nobody;1;1"})).await;
            assert_eq!(script.says("answered").await["code"], 5002, "{command}");
        }
        pcrf.rest();
        pcrf.desire(desire(2, 1, 3_600));
        let said = pcrf.hears("leg").await;
        assert!(said.starts_with("leg 2"), "leg 1 is untouched: {said}");
        end("pcef-lies", pcrf, script).await;
    });
}

#[test]
fn a_session_survives_its_connection_and_not_its_gateway() {
    peers::block_on(async {
        let (mut pcrf, mut script, session) = active().await;
        script.does(json!({"do": "crash"})).await;
        pcrf.hears("peer pcef.example.net lost").await;
        pcrf.desire(desire(2, 1, 3_600));
        script.does(json!({"do": "connect"})).await;
        pcrf.hears("leg 2 active").await;
        assert_eq!(script.holds(&session).await, ["standing", "tw-1-0", "tw-2-0"]);
        script.does(json!({"do": "restart"})).await;
        pcrf.hears("restarted pcef.example.net 2").await;
        pcrf.hears("leg 1 lost: the gateway restarted").await;
        script.says("connected").await;
        let session = script.opens(1).await;
        pcrf.hears("learnt 1").await;
        pcrf.hears("leg 1 active").await;
        pcrf.hears("leg 2 active").await;
        assert_eq!(script.holds(&session).await, ["standing", "tw-1-0", "tw-2-0"]);
        end("pcef-restart", pcrf, script).await;
    });
}

#[test]
fn a_gateway_without_gx_is_refused() {
    peers::block_on(async {
        let pcrf = pcrf().await;
        let mut settings = settings(PCEF, pcrf.address);
        settings.applications = vec![4];
        let mut script = Script::start(settings, pcrf.address);
        assert_eq!(script.says("rejected").await["code"], 5010);
        end("pcef-5010", pcrf, script).await;
    });
}

/// Packets of the leg's flow in the kernel become readings of the leg.
#[test]
fn what_the_kernel_carried_is_what_is_metered() {
    const REMOTE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    let name = "what_the_kernel_carried_is_what_is_metered";
    in_namespace(name, &["192.0.2.1/32"], || {
        sh("ip link add lan0 type veth peer name lan1");
        sh("ip link add wan0 type veth peer name wan1");
        for device in ["lan0", "lan1", "wan0", "wan1"] {
            sh(&format!("ip link set {device} up"));
        }
        sh("ip route add 10.45.0.1/32 dev lan0");
        sh("ip neighbour replace 10.45.0.1 lladdr 02:00:00:00:00:01 dev lan0");
        peers::block_on(async {
            let mut pcrf = pcrf().await;
            let shaper = Shaper::new("wan0", "lan0").expect("HTB on both devices");
            let mut script = Script::start_with(settings(PCEF, pcrf.address), pcrf.address, Some(shaper));
            pcrf.hears("usable").await;
            let session = script.opens(1).await;
            pcrf.desire(desire(1, 1, 3_600));
            pcrf.hears("leg 1 active").await;
            let socket = UdpSocket::bind((REMOTE, 443)).expect("an address of ours");
            for _ in 0..40 {
                socket.send_to(&[0; 972], "10.45.0.1:5000").expect("it leaves");
            }
            // 40 packets of 1,000 bytes and 14 of Ethernet have passed their class.
            let passed = async {
                let mut looks = tokio::time::interval(std::time::Duration::from_millis(20));
                while !sh("tc -s class show dev lan0").contains("Sent 40560 bytes 40 pkt") {
                    looks.tick().await;
                }
            };
            peers::within("the packets leave", passed).await;
            pcrf.release(1, 1);
            pcrf.hears("usage 1 sold 40000 reverse 0").await;
            pcrf.hears("leg 1 removed").await;
            assert_eq!(script.holds(&session).await, ["standing"]);
            script.quits().await;
            pcrf.stop().await;
            assert!(!sh("tc qdisc show").contains("htb"), "the gateway takes its classes with it");
        });
    });
}
