//! The dictionary against avps.tsv, which was made from Wireshark's and from what peers put on the wire.
#![allow(clippy::unwrap_used)]

mod support;

use tollway_diameter::avp::{self, Kind, MBit};
use tollway_diameter::{Definition, Key};

fn kind(text: &str) -> Kind {
    match text {
        "OctetString" | "OctetStringOrUTF8" => Kind::OctetString,
        "Unsigned32" | "AppId" => Kind::Unsigned32,
        "Unsigned64" => Kind::Unsigned64,
        "Enumerated" => Kind::Enumerated,
        "Grouped" => Kind::Grouped,
        "IPAddress" => Kind::Address,
        "Time" => Kind::Time,
        "UTF8String" => Kind::Utf8String,
        "DiameterIdentity" => Kind::Identity,
        "IPFilterRule" => Kind::FilterRule,
        other => panic!("type {other}"),
    }
}

/// Where the list is known to differ from the standard, with the reason.
const DIFFERENCES: &[(&str, &str)] = &[
    ("Framed-IP-Address", "four plain bytes, not an Address (RFC 7155 §4.4.10.5.1)"),
    ("Result-Code", "Unsigned32 (RFC 6733 §7.1)"),
    ("Experimental-Result-Code", "Unsigned32 (RFC 6733 §7.7)"),
    ("Allocation-Retention-Priority", "M clear, as a real PCEF sends it"),
    ("Priority-Level", "M clear, as a real PCEF sends it"),
    ("Pre-emption-Capability", "M clear, as a real PCEF sends it"),
    ("Pre-emption-Vulnerability", "M clear, as a real PCEF sends it"),
    ("Supported-Features", "M clear outside Cx, as a real PCEF sends it"),
    ("Feature-List-ID", "M clear outside Cx, as a real PCEF sends it"),
    ("Feature-List", "M clear outside Cx, as a real PCEF sends it"),
];

fn agrees(row: &Definition, name: &str, kind_text: &str, mandatory: &str) -> bool {
    let m_bit = match mandatory {
        "must" => row.m_bit == MBit::Must,
        "mustnot" => row.m_bit == MBit::MustNot,
        _ => true,
    };
    row.name == name && row.kind == kind(kind_text) && m_bit
}

#[test]
fn the_table_agrees_with_the_list() {
    let list = support::capture::avp_list();
    let mut rows = 0;
    for line in list.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let key = Key { code: fields[0].parse().unwrap(), vendor: fields[1].parse().unwrap() };
        let row = avp::definition(key).unwrap_or_else(|| panic!("{} is missing", fields[2]));
        let is_difference = DIFFERENCES.iter().any(|(name, _)| *name == fields[2]);
        assert_ne!(agrees(row, fields[2], fields[3], fields[4]), is_difference, "{line}\n{row:?}");
        rows += 1;
    }
    assert!(rows > 130, "{rows}");
}

#[test]
fn each_row_names_its_clause_and_has_one_name() {
    let mut names: Vec<&str> = avp::definitions().map(|row| row.name).collect();
    assert!(avp::definitions().all(|row| row.clause.contains(" §")));
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}
