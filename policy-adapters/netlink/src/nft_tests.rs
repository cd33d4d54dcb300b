use super::*;
use crate::wire::messages;
use expect_test::expect;
use tollway_model::Protocol;

fn flow(device: &str, device_port: Option<u16>, remote: &str) -> Flow {
    Flow {
        protocol: Protocol::Udp,
        device: device.parse().expect("address"),
        device_port,
        remote: remote.parse().expect("address"),
        remote_port: 443,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn keys_are_what_the_rules_load() {
    let mut shown = String::new();
    let flows = [
        flow("10.0.0.2", Some(0x1234), "192.0.2.1"),
        flow("10.0.0.2", None, "192.0.2.1"),
        flow("2001:db8::2", None, "2001:db8:1::1"),
    ];
    for flow in &flows {
        for direction in Direction::BOTH {
            let key = Key::of(flow, direction).expect("one family");
            assert_eq!(key.bytes.len(), key.map.key_len() as usize);
            shown += &format!("{} {}\n", key.map.name(), hex(&key.bytes));
        }
    }
    expect![[r#"
        f4 0a000002c0000201110000001234000001bb0000
        f4 c00002010a0000021100000001bb000012340000
        su4 0a000002c00002011100000001bb0000
        sd4 c00002010a0000021100000001bb0000
        su6 20010db800000000000000000000000220010db80001000000000000000000011100000001bb0000
        sd6 20010db800010000000000000000000120010db80000000000000000000000021100000001bb0000
    "#]]
    .assert_eq(&shown);
    assert!(Key::of(&flow("10.0.0.2", None, "2001:db8::1"), Direction::Up).is_none());
}

const NOW: Timestamp = Timestamp(1_000_000);

#[test]
fn many_elements_are_cut_into_lists_and_come_back() {
    let items: Vec<(Key, Target)> = (0..3000u32)
        .map(|n| {
            let mut bytes = vec![0u8; 20];
            bytes[..4].copy_from_slice(&n.to_be_bytes());
            let until = (n % 2 == 0).then(|| NOW.plus_ms(u64::from(n) + 1));
            (Key { map: Map::F4, bytes }, Target { class: 0x7a11_0100 + n, until })
        })
        .collect();
    let mut writer = Writer::new();
    let next = add_elements(&mut writer, 5, Map::F4, NOW, items.iter());
    let mut back = Vec::new();
    let mut count = 0;
    for message in messages(writer.bytes()) {
        assert_eq!(message.seq, 5 + count);
        count += 1;
        parse_elements(message.payload, NOW, &mut back).expect("elements");
    }
    assert_eq!(next, 5 + count);
    assert!(count > 1);
    assert_eq!(back, items);
}

#[test]
fn no_elements_make_no_message() {
    let mut writer = Writer::new();
    assert_eq!(del_elements(&mut writer, 5, Map::F4, std::iter::empty()), 5);
    assert!(writer.bytes().is_empty());
}

#[test]
fn a_deletion_carries_no_data() {
    let mut writer = Writer::new();
    let key = Key { map: Map::Su4, bytes: vec![7u8; 16] };
    del_elements(&mut writer, 1, Map::Su4, [&key].into_iter());
    expect!["480000000e0a01000100000000000000010000000c000100746f6c6c776179000800020073753400200003801c000180180001801400010007070707070707070707070707070707"].assert_eq(&hex(writer.bytes()));
}

#[test]
fn ends_that_are_near_are_the_same() {
    let at = |until| Target { class: 1, until };
    assert!(at(Some(Timestamp(5000))).is_like(&at(Some(Timestamp(8000)))));
    assert!(!at(Some(Timestamp(5000))).is_like(&at(Some(Timestamp(8001)))));
    assert!(!at(None).is_like(&at(Some(Timestamp(8001)))));
    assert!(!at(None).is_like(&Target { class: 2, until: None }));
}

#[test]
fn rubbish_is_passed_over() {
    assert_eq!(parse_table(&[]), None);
    assert_eq!(parse_chain(&[1, 0, 0]), None);
    assert_eq!(parse_rule(&[1, 0, 0, 0]), None);
    assert_eq!(parse_set(&[1, 0, 0, 0, 9, 9]), None);
    assert_eq!(parse_elements(&[0; 4], NOW, &mut Vec::new()), None);
}

#[test]
fn concatenated_types_fit_nft() {
    let types: Vec<(&str, u32, u32)> =
        Map::ALL.iter().map(|m| (m.name(), m.key_type(), m.key_len())).collect();
    expect![[r#"[("f4", 119325517, 20), ("f6", 136364877, 44), ("su4", 1864461, 16), ("sd4", 1864461, 16), ("su6", 2130701, 40), ("sd6", 2130701, 40)]"#]].assert_eq(&format!("{types:?}"));
}
