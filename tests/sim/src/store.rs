//! The simulated store: encoded rows with a chained check value, transactions that are pending, durable or
//! torn, an epoch that fences zombies, and commits that are lost or that land and return an error.

use crate::rng::Digest;
use tollway_core::{Envelope, Record};
use tollway_model::Seq;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreError {
    Full,
    Io,
    /// Another process has opened the store since.
    Fenced,
}

/// How a transaction ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Lands,
    /// Nothing of it is there, and an error is returned.
    Refused(StoreError),
    /// All of it is there, and an error is returned.
    LandsWithError(StoreError),
    /// The machine stopped in the middle: rows without their end, the last one cut.
    Torn,
}

struct Row {
    bytes: Vec<u8>,
    check: u64,
    /// The transaction's last row.
    ends: bool,
}

#[derive(Default)]
pub struct Store {
    rows: Vec<Row>,
    epoch: u64,
    /// The same records, decoded once, for the auditor; only whole transactions.
    journal: Vec<Envelope>,
    pub torn_dropped: u64,
}

impl Store {
    /// A process takes the lease; older epochs are fenced from here on.
    pub fn open(&mut self) -> u64 {
        self.epoch += 1;
        self.drop_torn_tail();
        self.epoch
    }

    pub fn append(&mut self, epoch: u64, records: &[Envelope], fate: Fate) -> Result<(), StoreError> {
        if epoch != self.epoch {
            return Err(StoreError::Fenced);
        }
        match fate {
            Fate::Lands => {
                self.write(records);
                Ok(())
            }
            Fate::Refused(error) => Err(error),
            Fate::LandsWithError(error) => {
                self.write(records);
                Err(error)
            }
            Fate::Torn => {
                self.tear(records);
                Err(StoreError::Io)
            }
        }
    }

    pub fn durable(&self) -> Seq {
        self.journal.last().map_or(Seq(0), |envelope| envelope.seq)
    }

    /// Over all rows' bytes.
    pub fn digest(&self) -> u64 {
        self.rows.last().map_or(0, |row| row.check)
    }

    /// Durable records, in order.
    pub fn journal(&self) -> &[Envelope] {
        &self.journal
    }

    pub fn at(&self, seq: Seq) -> Option<&Envelope> {
        let index = usize::try_from(seq.0).ok()?.checked_sub(1)?;
        self.journal.get(index)
    }

    /// Reads the rows again, as a process that starts does.
    pub fn load(&self) -> Result<Vec<Envelope>, String> {
        let mut check = Digest::default();
        let mut all = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            check.feed(&row.bytes);
            if check.value() != row.check {
                return Err(format!("row {} does not follow the row before", all.len() + 1));
            }
            let envelope: Envelope = minicbor::decode(&row.bytes).map_err(|e| e.to_string())?;
            all.push(envelope);
        }
        Ok(all)
    }

    /// The answer that a key was given, as the store keeps it.
    pub fn answer(&self, at: Seq) -> Option<&tollway_core::Reply> {
        let Record::Answered(answered) = &self.at(at)?.record else { return None };
        Some(&answered.reply)
    }

    fn write(&mut self, records: &[Envelope]) {
        self.push_rows(records);
        if let Some(last) = self.rows.last_mut() {
            last.ends = true;
        }
        self.journal.extend_from_slice(records);
    }

    fn push_rows(&mut self, records: &[Envelope]) {
        let mut check = self.rows.last().map_or_else(Digest::default, |row| Digest::resume(row.check));
        for envelope in records {
            let bytes = minicbor::to_vec(envelope).expect("a record has an encoding");
            check.feed(&bytes);
            self.rows.push(Row { bytes, check: check.value(), ends: false });
        }
    }

    fn tear(&mut self, records: &[Envelope]) {
        let kept = records.len().div_ceil(2);
        self.push_rows(&records[..kept]);
        if let Some(last) = self.rows.last_mut() {
            let half = last.bytes.len() / 2;
            last.bytes.truncate(half);
        }
    }

    /// Rows after the last whole transaction were never confirmed to anyone.
    fn drop_torn_tail(&mut self) {
        while self.rows.last().is_some_and(|row| !row.ends) {
            self.rows.pop();
            self.torn_dropped += 1;
        }
    }
}
