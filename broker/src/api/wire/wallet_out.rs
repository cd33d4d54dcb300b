//! A wallet as it is shown.

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
