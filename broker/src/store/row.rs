//! One row of the journal and the chain of checks over it.

use super::Error;
use tollway_core::{Envelope, Record};
use tollway_model::{Seq, Timestamp};

/// A row as it lies in the table. Integers are stored as SQLite's signed ones, bit for bit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct JournalRow {
    pub(crate) seq: u64,
    pub(crate) epoch: u64,
    pub(crate) at: u64,
    pub(crate) due: Option<u64>,
    pub(crate) kind: u16,
    pub(crate) version: u16,
    pub(crate) bytes: Vec<u8>,
    pub(crate) crc: u32,
}

/// Where the chain stands: the last row's sequence and checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tail {
    pub(crate) seq: u64,
    pub(crate) crc: u32,
    pub(crate) epoch: u64,
    pub(crate) at: u64,
}

impl JournalRow {
    pub(crate) fn encode(envelope: &Envelope, epoch: u64, before: Tail) -> JournalRow {
        let mut row = JournalRow {
            seq: envelope.seq.0,
            epoch,
            at: envelope.at.0,
            due: envelope.due.map(|due| due.0),
            kind: envelope.record.kind().0,
            version: Record::VERSION,
            bytes: encode(&envelope.record),
            crc: 0,
        };
        row.crc = row.chained(before.crc);
        row
    }

    /// CRC-32C over the row before's and every column of this one, each in a fixed place.
    pub(crate) fn chained(&self, before: u32) -> u32 {
        let mut head = [0u8; 41];
        head[0..4].copy_from_slice(&before.to_be_bytes());
        head[4..12].copy_from_slice(&self.seq.to_be_bytes());
        head[12..20].copy_from_slice(&self.epoch.to_be_bytes());
        head[20..28].copy_from_slice(&self.at.to_be_bytes());
        head[28] = u8::from(self.due.is_some());
        head[29..37].copy_from_slice(&self.due.unwrap_or(0).to_be_bytes());
        head[37..39].copy_from_slice(&self.kind.to_be_bytes());
        head[39..41].copy_from_slice(&self.version.to_be_bytes());
        crc32c::crc32c_append(crc32c::crc32c(&head), &self.bytes)
    }

    pub(crate) const fn tail(&self) -> Tail {
        Tail { seq: self.seq, crc: self.crc, epoch: self.epoch, at: self.at }
    }

    /// The record, when the row stands in its place in the chain.
    pub(crate) fn check(&self, before: Tail) -> Result<Envelope, Error> {
        let corrupt = |what: String| Error::Corrupt { seq: Seq(before.seq + 1), what };
        if self.seq != before.seq + 1 {
            return Err(corrupt(format!("the row is missing, the next one there is {}", self.seq)));
        }
        let crc = self.chained(before.crc);
        if crc != self.crc {
            return Err(corrupt(format!("its checksum is {:08x}, its content gives {crc:08x}", self.crc)));
        }
        if self.epoch < before.epoch {
            return Err(corrupt(format!("epoch {} was written after epoch {}", self.epoch, before.epoch)));
        }
        if self.kind > Record::KIND_MAX || self.kind == 0 || self.version > Record::VERSION {
            return Err(Error::Newer { seq: Seq(self.seq), kind: self.kind, version: self.version });
        }
        let record: Record = minicbor::decode(&self.bytes)
            .map_err(|error| corrupt(format!("its bytes are not a record: {error}")))?;
        if record.kind().0 != self.kind {
            return Err(corrupt(format!("its kind is {}, its bytes are a {}", self.kind, record.kind().1)));
        }
        Ok(Envelope { seq: Seq(self.seq), at: Timestamp(self.at), due: self.due.map(Timestamp), record })
    }

    /// As [`JournalRow::check`], and the bytes are the one encoding of their record.
    pub(crate) fn check_exactly(&self, before: Tail) -> Result<Envelope, Error> {
        let envelope = self.check(before)?;
        if encode(&envelope.record) != self.bytes {
            let what = "its bytes are another encoding of their record than this build writes".to_owned();
            return Err(Error::Corrupt { seq: envelope.seq, what });
        }
        Ok(envelope)
    }
}

/// Numbered-field encoding of a value.
///
/// # Panics
/// Never: writing into memory does not fail and our types have no encoding that does.
pub(crate) fn encode<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("encoding into memory does not fail")
}

/// SQLite has signed integers only; the bits are kept.
#[allow(clippy::cast_possible_wrap)]
pub(crate) const fn to_sql(value: u64) -> i64 {
    value as i64
}

/// Inverse of [`to_sql`].
#[allow(clippy::cast_sign_loss)]
pub(crate) const fn from_sql(value: i64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollway_core::record::Ended;
    use tollway_core::reservation::EndReason;
    use tollway_model::{Amount, Currency, CustomerId, Flow, Micros, Protocol, ReservationId};

    fn record(n: u64) -> Record {
        let reservation = ReservationId(n);
        let flow = Flow {
            protocol: Protocol::Udp,
            device: "10.0.0.2".parse().unwrap(),
            device_port: Some(7),
            remote: "2001:db8::1".parse().unwrap(),
            remote_port: 443,
        };
        match n % 5 {
            0 => Record::Started { reservation },
            1 => Record::FlowsBound { reservation, flows: vec![flow; 2] },
            2 => Record::ToppedUp {
                customer: CustomerId(1),
                amount: Amount::new(5, Currency::EUR),
                actor: "noc".to_owned(),
                reason: format!("number {n}"),
            },
            3 => Record::Settled { reservation, voided: Micros(7), timed_out: n.is_multiple_of(2) },
            _ => Record::Ended(Ended {
                reservation,
                reason: EndReason::Cancelled,
                fee: Micros(3),
                detail: Some("as asked".to_owned()),
            }),
        }
    }

    fn chain(length: u64) -> Vec<(Tail, JournalRow)> {
        let mut tail = Tail::default();
        let mut rows = Vec::new();
        for n in 1..=length {
            let due = n.is_multiple_of(3).then_some(Timestamp(1_000 + n));
            let envelope = Envelope { seq: Seq(n), at: Timestamp(2_000 + n), due, record: record(n) };
            let row = JournalRow::encode(&envelope, 1 + n / 500, tail);
            assert_eq!(row.check_exactly(tail).unwrap(), envelope);
            rows.push((tail, row.clone()));
            tail = row.tail();
        }
        rows
    }

    /// Every row that differs from this one in one bit of one column.
    fn flipped(row: &JournalRow) -> Vec<JournalRow> {
        let mut all = Vec::new();
        for bit in 0..64 {
            let flip = 1u64 << bit;
            all.push(JournalRow { seq: row.seq ^ flip, ..row.clone() });
            all.push(JournalRow { epoch: row.epoch ^ flip, ..row.clone() });
            all.push(JournalRow { at: row.at ^ flip, ..row.clone() });
            all.push(JournalRow { due: Some(row.due.unwrap_or(0) ^ flip), ..row.clone() });
        }
        all.push(JournalRow { due: row.due.is_none().then_some(0), ..row.clone() });
        for bit in 0..16 {
            all.push(JournalRow { kind: row.kind ^ 1 << bit, ..row.clone() });
            all.push(JournalRow { version: row.version ^ 1 << bit, ..row.clone() });
        }
        all.extend((0..32).map(|bit| JournalRow { crc: row.crc ^ 1 << bit, ..row.clone() }));
        for at in 0..row.bytes.len() {
            for bit in 0..8 {
                let mut other = row.clone();
                other.bytes[at] ^= 1 << bit;
                all.push(other);
            }
        }
        all
    }

    #[test]
    fn each_bit_of_a_thousand_rows_is_found_with_its_sequence() {
        for (before, row) in chain(1_000) {
            for other in flipped(&row) {
                match other.check(before) {
                    Err(Error::Corrupt { seq, .. }) => assert_eq!(seq.0, row.seq),
                    seen => panic!("row {} as {other:?}: {seen:?}", row.seq),
                }
            }
        }
    }

    #[test]
    fn newer_kinds_and_versions_are_named() {
        let (before, row) = chain(3).pop().unwrap();
        let mut newer = JournalRow { kind: Record::KIND_MAX + 1, ..row.clone() };
        newer.crc = newer.chained(before.crc);
        let error = newer.check(before).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sequence 3 is a record of kind 16, version 1, which this build does not know: start the newer \
             release that wrote it"
        );
        let mut newer = JournalRow { version: Record::VERSION + 1, ..row };
        newer.crc = newer.chained(before.crc);
        assert!(matches!(newer.check(before), Err(Error::Newer { version: 2, .. })));
    }

    #[test]
    fn another_encoding_of_the_same_record_is_found() {
        let (before, mut row) = chain(5).pop().unwrap();
        // `n` in two bytes where one is enough decodes to the same record.
        let at = row.bytes.iter().position(|byte| *byte == 5).unwrap();
        row.bytes.splice(at..=at, [0x18, 5]);
        row.crc = row.chained(before.crc);
        assert!(row.check(before).is_ok());
        let error = row.check_exactly(before).unwrap_err();
        assert!(matches!(error, Error::Corrupt { seq: Seq(5), .. }), "{error}");
    }
}
