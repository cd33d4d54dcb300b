//! A wallet as it is shown.

use super::page_in::next;
use crate::api::instant::Instant;
use crate::store::{Page, TopUpRow};
use serde::Serialize;
use tollway_model::Amount;
use utoipa::ToSchema;

/// Prepaid money, in millionths of the currency's unit.
#[derive(Serialize, ToSchema)]
pub struct WalletView {
    pub balance_micros: i64,
    /// Of it, what open holds still reserve.
    pub held_micros: i64,
    /// What a new hold may take.
    pub available_micros: i64,
    pub currency: String,
}

/// What a top-up is answered with.
#[derive(Serialize, ToSchema)]
pub struct ToppedUpView {
    pub customer: String,
    pub balance_micros: i64,
    pub currency: String,
}

/// A customer's prepaid money, as the NOC sees it.
#[derive(Serialize, ToSchema)]
pub struct CustomerWalletView {
    pub customer: String,
    pub balance_micros: i64,
    /// Of it, what open holds still reserve.
    pub held_micros: i64,
    /// What a new hold may take.
    pub available_micros: i64,
    pub currency: String,
}

/// One top-up.
#[derive(Serialize, ToSchema)]
pub struct TopUpView {
    /// Its record in the journal.
    pub seq: u64,
    pub at: Instant,
    pub amount_micros: i64,
    pub currency: String,
    /// Name of the NOC's key.
    pub actor: String,
    pub reason: String,
}

/// A page of top-ups, the newest first.
#[derive(Serialize, ToSchema)]
pub struct TopUpsView {
    pub customer: String,
    pub top_ups: Vec<TopUpView>,
    /// Pass as `after` to read on; null at the end.
    pub next: Option<String>,
}

pub fn customer_wallet_view(customer: String, balance: Amount, held: Amount) -> CustomerWalletView {
    let WalletView { balance_micros, held_micros, available_micros, currency } = wallet_view(balance, held);
    CustomerWalletView { customer, balance_micros, held_micros, available_micros, currency }
}

pub fn top_ups_view(customer: String, top_ups: &Page<TopUpRow>) -> TopUpsView {
    let view = |row: &TopUpRow| TopUpView {
        seq: row.seq.0,
        at: Instant(row.at),
        amount_micros: row.amount.micros.get(),
        currency: row.amount.currency.to_string(),
        actor: row.actor.clone(),
        reason: row.reason.clone(),
    };
    TopUpsView {
        customer,
        top_ups: top_ups.rows.iter().map(view).collect(),
        next: next([top_ups.end], top_ups.has_more),
    }
}

pub fn wallet_view(balance: Amount, held: Amount) -> WalletView {
    WalletView {
        balance_micros: balance.micros.get(),
        held_micros: held.micros.get(),
        available_micros: balance.micros.get().saturating_sub(held.micros.get()),
        currency: balance.currency.to_string(),
    }
}

pub fn topped_up_view(customer: String, balance: Amount) -> ToppedUpView {
    ToppedUpView { customer, balance_micros: balance.micros.get(), currency: balance.currency.to_string() }
}
