//! Double entry. Every movement debits one account and credits another in one currency, along a routing
//! table of what is allowed; the sum of all balances is zero at every instant. A hold is a pending entry:
//! it reserves a wallet's money until a record of its own ends it.

use minicbor::{Decode, Encode};
use std::collections::BTreeMap;
use tollway_model::{Amount, Currency, CustomerId, Micros, ReservationId, Seq, Timestamp};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Debug)]
#[cbor(index_only)]
pub enum AccountKind {
    /// Money received from outside, by the operator's own channels.
    #[n(0)]
    Cash,
    /// A customer's prepaid money: what we owe them.
    #[n(1)]
    Wallet,
    /// What was earned.
    #[n(2)]
    Revenue,
}

impl AccountKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            AccountKind::Cash => "cash",
            AccountKind::Wallet => "wallet",
            AccountKind::Revenue => "revenue",
        }
    }
}

/// One of the ledger's accounts. Cash and revenue have no owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Debug)]
pub struct AccountId {
    #[n(0)]
    pub kind: AccountKind,
    #[n(1)]
    pub owner: Option<CustomerId>,
    #[n(2)]
    pub currency: Currency,
}

impl AccountId {
    pub const fn wallet(owner: CustomerId, currency: Currency) -> AccountId {
        AccountId { kind: AccountKind::Wallet, owner: Some(owner), currency }
    }

    pub const fn cash(currency: Currency) -> AccountId {
        AccountId { kind: AccountKind::Cash, owner: None, currency }
    }

    pub const fn revenue(currency: Currency) -> AccountId {
        AccountId { kind: AccountKind::Revenue, owner: None, currency }
    }
}

/// Why money moved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Debug)]
#[cbor(index_only)]
pub enum EntryKind {
    #[n(0)]
    TopUp,
    #[n(1)]
    Charge,
    /// A fee for cancelling after the tier's notice.
    #[n(2)]
    CancelFee,
}

/// The routing table: which kind may debit what and credit what.
const ROUTES: [(EntryKind, AccountKind, AccountKind); 3] = [
    (EntryKind::TopUp, AccountKind::Cash, AccountKind::Wallet),
    (EntryKind::Charge, AccountKind::Wallet, AccountKind::Revenue),
    (EntryKind::CancelFee, AccountKind::Wallet, AccountKind::Revenue),
];

impl EntryKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            EntryKind::TopUp => "top_up",
            EntryKind::Charge => "charge",
            EntryKind::CancelFee => "cancel_fee",
        }
    }
}

/// One posted movement. Its id is the record that justifies it and its place in it.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Entry {
    #[n(0)]
    pub seq: Seq,
    #[n(1)]
    pub n: u32,
    #[n(2)]
    pub kind: EntryKind,
    #[n(3)]
    pub debit: AccountId,
    #[n(4)]
    pub credit: AccountId,
    #[n(5)]
    pub amount: Amount,
    /// The hold it is posted from, if any.
    #[n(6)]
    pub hold: Option<HoldId>,
}

/// A hold belongs to one reservation; an extension will open a second one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Debug)]
pub struct HoldId {
    #[n(0)]
    pub reservation: ReservationId,
    #[n(1)]
    pub n: u32,
}

/// A pending entry.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Hold {
    #[n(0)]
    pub account: AccountId,
    #[n(1)]
    pub amount: Micros,
    #[n(2)]
    pub posted: Micros,
    /// When it expires by itself; `None` once its reservation is confirmed.
    #[n(3)]
    pub expires: Option<Timestamp>,
}

impl Hold {
    /// What is still reserved of it.
    pub fn open(&self) -> Micros {
        self.amount.checked_sub(self.posted).unwrap_or(Micros::ZERO)
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("{kind:?} may not debit {debit:?} and credit {credit:?}")]
    Route { kind: EntryKind, debit: AccountKind, credit: AccountKind },
    #[error("an entry stays in one currency")]
    Currency,
    #[error("an entry moves a positive amount")]
    Amount,
    #[error("the account has {available:?} available, {wanted:?} is needed")]
    Insufficient { available: Micros, wanted: Micros },
    #[error("hold {0:?} does not exist")]
    NoHold(HoldId),
    #[error("hold {0:?} exists already")]
    HoldExists(HoldId),
    #[error("an entry may not pass what its hold still reserves")]
    OverHold,
    #[error("an account would pass the largest sum that can be counted")]
    Overflow,
}

/// Balances and open holds. Entries themselves live in the journal and its projections.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    balances: BTreeMap<AccountId, Micros>,
    held: BTreeMap<AccountId, Micros>,
    holds: BTreeMap<HoldId, Hold>,
}

impl Ledger {
    pub fn balance(&self, account: AccountId) -> Micros {
        self.balances.get(&account).copied().unwrap_or_default()
    }

    /// Sum of what open holds still reserve of an account.
    pub fn held(&self, account: AccountId) -> Micros {
        self.held.get(&account).copied().unwrap_or_default()
    }

    /// The gate: what a new hold may take. A credit limit will add to it.
    pub fn available(&self, account: AccountId) -> Micros {
        self.balance(account).checked_sub(self.held(account)).unwrap_or(Micros::ZERO)
    }

    pub fn hold(&self, id: HoldId) -> Option<&Hold> {
        self.holds.get(&id)
    }

    pub fn holds(&self) -> impl Iterator<Item = (&HoldId, &Hold)> {
        self.holds.iter()
    }

    pub fn balances(&self) -> impl Iterator<Item = (&AccountId, &Micros)> {
        self.balances.iter()
    }

    /// Whether a hold of `amount` could be placed now.
    pub fn check_hold(&self, account: AccountId, amount: Micros) -> Result<(), Error> {
        if amount.0 < 0 {
            return Err(Error::Amount);
        }
        let available = self.available(account);
        if available < amount {
            return Err(Error::Insufficient { available, wanted: amount });
        }
        Ok(())
    }

    /// Whether an entry may be posted now.
    pub fn check(&self, entry: &Entry) -> Result<(), Error> {
        let route = (entry.kind, entry.debit.kind, entry.credit.kind);
        if !ROUTES.contains(&route) {
            return Err(Error::Route { kind: route.0, debit: route.1, credit: route.2 });
        }
        if entry.debit.currency != entry.credit.currency || entry.amount.currency != entry.debit.currency {
            return Err(Error::Currency);
        }
        if entry.amount.micros.0 <= 0 {
            return Err(Error::Amount);
        }
        if let Some(id) = entry.hold {
            let hold = self.holds.get(&id).ok_or(Error::NoHold(id))?;
            if hold.account != entry.debit || entry.amount.micros > hold.open() {
                return Err(Error::OverHold);
            }
        } else if entry.debit.kind == AccountKind::Wallet && self.available(entry.debit) < entry.amount.micros
        {
            let available = self.available(entry.debit);
            return Err(Error::Insufficient { available, wanted: entry.amount.micros });
        }
        let debit = self.balance(entry.debit).checked_sub(entry.amount.micros);
        let credit = self.balance(entry.credit).checked_add(entry.amount.micros);
        if debit.is_none() || credit.is_none() {
            return Err(Error::Overflow);
        }
        Ok(())
    }

    /// Moves the money of an entry that [`Ledger::check`] accepts.
    pub fn post(&mut self, entry: &Entry) -> Result<(), Error> {
        self.check(entry)?;
        let amount = entry.amount.micros;
        let debit = self.balance(entry.debit).checked_sub(amount).ok_or(Error::Overflow)?;
        let credit = self.balance(entry.credit).checked_add(amount).ok_or(Error::Overflow)?;
        self.balances.insert(entry.debit, debit);
        self.balances.insert(entry.credit, credit);
        if let Some(id) = entry.hold
            && let Some(hold) = self.holds.get_mut(&id)
        {
            hold.posted = hold.posted.checked_add(amount).ok_or(Error::Overflow)?;
            let held = self.held(entry.debit).checked_sub(amount).ok_or(Error::Overflow)?;
            self.held.insert(entry.debit, held);
        }
        Ok(())
    }

    pub fn place(
        &mut self,
        id: HoldId,
        account: AccountId,
        amount: Micros,
        expires: Option<Timestamp>,
    ) -> Result<(), Error> {
        self.check_hold(account, amount)?;
        if self.holds.contains_key(&id) {
            return Err(Error::HoldExists(id));
        }
        let held = self.held(account).checked_add(amount).ok_or(Error::Overflow)?;
        self.held.insert(account, held);
        self.holds.insert(id, Hold { account, amount, posted: Micros::ZERO, expires });
        Ok(())
    }

    /// The reservation was confirmed: the hold no longer expires by itself.
    pub fn keep(&mut self, id: HoldId) -> Result<(), Error> {
        self.holds.get_mut(&id).ok_or(Error::NoHold(id))?.expires = None;
        Ok(())
    }

    /// Ends a hold and gives back what it still reserves; returns that sum.
    pub fn release(&mut self, id: HoldId) -> Result<Micros, Error> {
        let hold = self.holds.remove(&id).ok_or(Error::NoHold(id))?;
        let rest = hold.open();
        let held = self.held(hold.account).checked_sub(rest).ok_or(Error::Overflow)?;
        self.held.insert(hold.account, held);
        Ok(rest)
    }

    /// Sum of all balances of a currency: always zero.
    pub fn imbalance(&self, currency: Currency) -> i128 {
        self.balances
            .iter()
            .filter(|(account, _)| account.currency == currency)
            .fold(0i128, |sum, (_, balance)| sum.saturating_add(i128::from(balance.0)))
    }

    /// The ledger's own invariants, on in every build: balances sum to zero per currency, what is held is
    /// the sum of the open holds, no wallet is below what it holds.
    ///
    /// # Errors
    /// Names the first invariant that does not hold.
    pub fn check_invariants(&self) -> Result<(), String> {
        let mut sums: BTreeMap<Currency, i128> = BTreeMap::new();
        for (account, balance) in &self.balances {
            let sum = sums.entry(account.currency).or_default();
            *sum = sum.saturating_add(i128::from(balance.0));
        }
        if let Some((currency, sum)) = sums.iter().find(|(_, sum)| **sum != 0) {
            return Err(format!("the balances in {currency} sum to {sum}, not to zero"));
        }
        let mut held: BTreeMap<AccountId, i128> = BTreeMap::new();
        for hold in self.holds.values() {
            let sum = held.entry(hold.account).or_default();
            *sum = sum.saturating_add(i128::from(hold.open().0));
        }
        for (account, sum) in &self.held {
            if held.get(account).copied().unwrap_or(0) != i128::from(sum.0) {
                return Err(format!("{account:?} counts {sum:?} held, its holds sum to another figure"));
            }
            if account.kind == AccountKind::Wallet && self.balance(*account) < *sum {
                return Err(format!("{account:?} holds more than it has"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    const WALLET: AccountId = AccountId::wallet(CustomerId(1), Currency::EUR);
    const HOLD: HoldId = HoldId { reservation: ReservationId(1), n: 0 };

    fn entry(
        kind: EntryKind,
        debit: AccountId,
        credit: AccountId,
        micros: i64,
        hold: Option<HoldId>,
    ) -> Entry {
        Entry { seq: Seq(1), n: 0, kind, debit, credit, amount: Amount::new(micros, Currency::EUR), hold }
    }

    fn charged(micros: i64) -> Entry {
        entry(EntryKind::Charge, WALLET, AccountId::revenue(Currency::EUR), micros, Some(HOLD))
    }

    fn topped_up(micros: i64) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.post(&entry(EntryKind::TopUp, AccountId::cash(Currency::EUR), WALLET, micros, None)).unwrap();
        ledger
    }

    #[test]
    fn a_hold_reserves_and_what_is_left_comes_back() {
        let mut ledger = topped_up(1_000);
        ledger.place(HOLD, WALLET, Micros(700), Some(Timestamp(5))).unwrap();
        assert_eq!(ledger.available(WALLET), Micros(300));
        ledger.post(&charged(200)).unwrap();
        assert_eq!(ledger.available(WALLET), Micros(300));
        assert_eq!(ledger.release(HOLD), Ok(Micros(500)));
        assert_eq!(ledger.available(WALLET), Micros(800));
        assert_eq!(ledger.imbalance(Currency::EUR), 0);
        ledger.check_invariants().unwrap();
    }

    #[test]
    fn what_is_not_allowed_changes_nothing() {
        let mut ledger = topped_up(1_000);
        ledger.place(HOLD, WALLET, Micros(700), None).unwrap();
        let before = ledger.clone();
        let other = HoldId { reservation: ReservationId(2), n: 0 };
        assert!(ledger.place(other, WALLET, Micros(301), None).is_err());
        assert!(ledger.place(HOLD, WALLET, Micros(1), None).is_err());
        assert_eq!(ledger.post(&charged(701)), Err(Error::OverHold));
        assert_eq!(ledger.post(&charged(0)), Err(Error::Amount));
        assert_eq!(ledger.post(&charged(-5)), Err(Error::Amount));
        let wrong = entry(EntryKind::TopUp, WALLET, AccountId::revenue(Currency::EUR), 1, None);
        assert!(matches!(ledger.post(&wrong), Err(Error::Route { .. })));
        let usd = Currency::parse("USD").unwrap();
        let mixed = entry(EntryKind::TopUp, AccountId::cash(usd), WALLET, 1, None);
        assert_eq!(ledger.post(&mixed), Err(Error::Currency));
        let huge = entry(EntryKind::TopUp, AccountId::cash(Currency::EUR), WALLET, i64::MAX, None);
        assert_eq!(ledger.post(&huge), Err(Error::Overflow));
        assert!(ledger.release(other).is_err());
        assert_eq!(ledger, before);
    }
}
