//! Who a subscriber is and what holds for his session before anything is bought: default bearer, APN-AMBR,
//! standing rules. It comes from a [`Profile`] source, never from a constant.

use crate::limits::{RULE_NAME_LEN_MAX, STANDING_RULES_MAX};
use crate::qos::{QosClass, QosError, Rates};
use crate::rule::RuleName;
use std::collections::BTreeMap;
use std::sync::Arc;
use tollway_policy::SubscriberRef;

/// Subscription-Id-Type that we look up (RFC 8506 §8.47).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum IdentityKind {
    E164,
    Imsi,
}

/// An identity as a gateway gave it. Not in any log: it is a person's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity<'a> {
    pub kind: IdentityKind,
    pub digits: &'a str,
}

/// A rule that holds for the whole session and is not for sale.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// A rule that the gateway knows by this name.
    Predefined(String),
    /// A group of rules that the gateway knows (TS 29.212 §5.3.5).
    Base(String),
    /// Everything, on the default bearer, charged under this rating group.
    Any { name: String, rating_group: u32 },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscriberProfile {
    pub subscriber: SubscriberRef,
    pub default_qos: QosClass,
    pub ambr: Rates,
    pub standing: Vec<Standing>,
}

/// Where profiles come from.
pub trait Profile {
    /// The profile of whoever one of the identities names, at an APN (in lower case).
    fn find(&self, identities: &[Identity<'_>], apn: &str) -> Option<Arc<SubscriberProfile>>;
}

impl<P: Profile + ?Sized> Profile for Arc<P> {
    fn find(&self, identities: &[Identity<'_>], apn: &str) -> Option<Arc<SubscriberProfile>> {
        (**self).find(identities, apn)
    }
}

/// Profiles by IMSI, from a CSV file.
#[derive(Clone, Default, Debug)]
pub struct Table {
    rows: BTreeMap<(IdentityKind, String, String), Arc<SubscriberProfile>>,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TableError {
    #[error("line 1: the columns must be {COLUMNS}")]
    Header,
    #[error("line {0}: {1} columns, not 8")]
    Columns(usize, usize),
    #[error("line {0}: {1} cannot be read")]
    Value(usize, &'static str),
    #[error("line {line}: {source}")]
    Qos { line: usize, source: QosError },
    #[error("line {0}: the identity has a row for this APN already")]
    Twice(usize),
}

pub const COLUMNS: &str = "identity,apn,subscriber,qci,priority_level,ambr_up_bps,ambr_down_bps,standing";

impl Table {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Reads `identity,apn,subscriber,…`: the identity is `imsi:` or `e164:` and digits; standing rules are
    /// `name`, `base:name` or `any:name:rating_group`, with `;` between them.
    ///
    /// # Errors
    /// The first line that cannot be, by number.
    pub fn from_csv(text: &str) -> Result<Table, TableError> {
        let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        if lines.next().is_none_or(|(_, header)| header != COLUMNS) {
            return Err(TableError::Header);
        }
        let mut table = Table::default();
        for (at, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let (key, profile) = row(at, line)?;
            if table.rows.insert(key, Arc::new(profile)).is_some() {
                return Err(TableError::Twice(at));
            }
        }
        Ok(table)
    }
}

type Key = (IdentityKind, String, String);

fn row(at: usize, line: &str) -> Result<(Key, SubscriberProfile), TableError> {
    let columns: Vec<&str> = line.split(',').map(str::trim).collect();
    let [identity, apn, subscriber, qci, level, up, down, standing] = columns[..] else {
        return Err(TableError::Columns(at, columns.len()));
    };
    let bad = |what| move || TableError::Value(at, what);
    let (kind, digits) = match identity.split_once(':') {
        Some(("imsi", digits)) => (IdentityKind::Imsi, digits),
        Some(("e164", digits)) => (IdentityKind::E164, digits),
        Some(_) | None => return Err(TableError::Value(at, "identity")),
    };
    let is_number = (5..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then_some(()).ok_or_else(bad("identity"))?;
    let apn = crate::settings::network_identifier(apn).ok_or_else(bad("apn"))?;
    let qci = qci.parse().map_err(|_| TableError::Value(at, "qci"))?;
    let level = level.parse().map_err(|_| TableError::Value(at, "priority_level"))?;
    let standing: Option<Vec<Standing>> =
        standing.split(';').filter(|rule| !rule.is_empty()).map(standing_rule).collect();
    let profile = SubscriberProfile {
        subscriber: SubscriberRef(subscriber.parse().map_err(|_| TableError::Value(at, "subscriber"))?),
        default_qos: QosClass::for_default(qci, level, None)
            .map_err(|source| TableError::Qos { line: at, source })?,
        ambr: Rates {
            up_bps: up.parse().map_err(|_| TableError::Value(at, "ambr_up_bps"))?,
            down_bps: down.parse().map_err(|_| TableError::Value(at, "ambr_down_bps"))?,
        },
        standing: standing.filter(|rules| rules.len() <= STANDING_RULES_MAX).ok_or_else(bad("standing"))?,
    };
    Ok(((kind, digits.to_owned(), apn), profile))
}

/// One standing rule. Names that look like those of paid rules would be taken for ours and removed.
fn standing_rule(text: &str) -> Option<Standing> {
    let is_name = |name: &str| {
        (1..=RULE_NAME_LEN_MAX).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_graphic())
            && RuleName::parse(name.as_bytes()).is_none()
    };
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [name] if is_name(name) => Some(Standing::Predefined(name.to_owned())),
        ["base", name] if is_name(name) => Some(Standing::Base(name.to_owned())),
        ["any", name, group] if is_name(name) => {
            Some(Standing::Any { name: name.to_owned(), rating_group: group.parse().ok()? })
        }
        _ => None,
    }
}

impl Profile for Table {
    fn find(&self, identities: &[Identity<'_>], apn: &str) -> Option<Arc<SubscriberProfile>> {
        // The IMSI is the subscription; a number may move between subscriptions.
        [IdentityKind::Imsi, IdentityKind::E164].into_iter().find_map(|kind| {
            let mut of_kind = identities.iter().filter(|identity| identity.kind == kind);
            of_kind.find_map(|i| self.rows.get(&(kind, i.digits.to_owned(), apn.to_owned())).cloned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(row: &str) -> Result<Table, TableError> {
        Table::from_csv(&format!("{COLUMNS}\n# comment\n{row}\n"))
    }

    #[test]
    fn a_table_finds_by_imsi_first() {
        let two = "imsi:999700000000001,internet,7,9,15,1000,2000,std;base:grp;any:all:10\n\
                   e164:4912345,Internet,8,9,15,1,2,";
        let table = table(two).unwrap();
        let imsi = Identity { kind: IdentityKind::Imsi, digits: "999700000000001" };
        let number = Identity { kind: IdentityKind::E164, digits: "4912345" };
        let found = table.find(&[number, imsi], "internet").unwrap();
        assert_eq!((found.subscriber, found.standing.len()), (SubscriberRef(7), 3));
        assert_eq!(table.find(&[number], "internet").unwrap().subscriber, SubscriberRef(8));
        assert_eq!(table.find(&[imsi], "corp"), None);
    }

    #[test]
    fn bad_tables_are_named_by_line() {
        assert_eq!(Table::from_csv("").unwrap_err(), TableError::Header);
        let row = "imsi:999700000000001,internet,7,9,15,1000,2000,";
        assert_eq!(table(&format!("{row}\n{row}")).unwrap_err(), TableError::Twice(4));
        for (bad, error) in [
            ("x", TableError::Columns(3, 1)),
            ("imsi:99970x,internet,7,9,15,1,2,", TableError::Value(3, "identity")),
            ("nai:999700,internet,7,9,15,1,2,", TableError::Value(3, "identity")),
            ("imsi:999700,in net,7,9,15,1,2,", TableError::Value(3, "apn")),
            ("imsi:999700,internet,7,9,15,1,2,tw-1-0", TableError::Value(3, "standing")),
            ("imsi:999700,internet,7,9,15,1,2,any:x", TableError::Value(3, "standing")),
            (
                "imsi:999700,internet,7,9,3,1,2,",
                TableError::Qos { line: 3, source: QosError::PriorityLevel(3) },
            ),
        ] {
            assert_eq!(table(bad).unwrap_err(), error, "{bad}");
        }
    }
}
