//! Tiers as they are sold, each with its promise in words.

use serde::Serialize;
use tollway_core::config::{ChargeBy, LegalBasis, TierDef, TierKind};
use tollway_core::state::TierEntry;
use utoipa::ToSchema;

/// How one kind of offer is charged.
#[derive(Serialize, ToSchema)]
pub struct ChargingView {
    /// `reserved` or `delivered`.
    pub charge_by: String,
    /// `mbps_hour` or `gb` (10^9 bytes).
    pub unit: String,
    pub unit_price_micros: i64,
}

/// What the operator sells.
#[derive(Serialize, ToSchema)]
pub struct TierView {
    pub name: String,
    pub revision: u32,
    /// `assured`, `target` or `background`.
    pub kind: String,
    /// `specialised`, `subscriber_choice`, `private_network` or `outside_eu`.
    pub legal_basis: String,
    /// Why the service is a specialised one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legal_basis_why: Option<String>,
    /// Packet size that class rates are computed for.
    pub packet_bytes: u32,
    /// What a bytes offer adds to payload for headers.
    pub overhead_ppm: u32,
    /// Longest queue at the enforcement point, at the promised rate.
    pub queue_ms_max: u32,
    /// Longest silence under demand.
    pub gap_s_max: u32,
    /// How rate offers are charged; bytes offers: see `bytes_offers`.
    pub charge_by: String,
    pub unit: String,
    pub unit_price_micros: i64,
    pub bytes_offers: ChargingView,
    pub setup_micros: i64,
    pub currency: String,
    /// Congestion: pairs of utilisation and multiplier, both in ppm.
    pub curve: Vec<[u32; 2]>,
    pub rate_bps_min: u64,
    pub rate_bps_max: u64,
    /// Excess is shaped to the rate; otherwise it travels as best effort.
    pub excess_shaped: bool,
    pub start_grace_s: u32,
    pub unseen_free_s: u32,
    /// Free cancellation until so long before the start.
    pub notice_s: u32,
    pub cancel_fee_ppm: u32,
    /// Sold on accesses of a mobile gateway.
    pub mobile: bool,
    /// Time is charged too in which a peer has accepted the leg that never says whether it is in force.
    pub charge_unconfirmed: bool,
    /// What is promised, in words.
    pub promise: String,
}

/// Tiers on sale, or the one revision that was asked for.
#[derive(Serialize, ToSchema)]
pub struct TiersView {
    pub tiers: Vec<TierView>,
}

pub fn tiers_view<'a>(tiers: impl Iterator<Item = &'a TierEntry>) -> TiersView {
    TiersView { tiers: tiers.map(|tier| tier_view(tier.revision, &tier.def)).collect() }
}

pub fn tier_view(revision: u32, def: &TierDef) -> TierView {
    let legal_basis_why = match &def.legal_basis {
        LegalBasis::Specialised { why } => Some(why.clone()),
        LegalBasis::SubscriberChoice | LegalBasis::PrivateNetwork | LegalBasis::OutsideEu => None,
    };
    let rate = charging(def, def.rate_offers);
    TierView {
        name: def.name.clone(),
        revision,
        kind: def.kind.as_str().to_owned(),
        legal_basis: def.legal_basis.as_str().to_owned(),
        legal_basis_why,
        packet_bytes: def.shape.packet_bytes,
        overhead_ppm: def.overhead_ppm,
        queue_ms_max: def.shape.queue_ms_max,
        gap_s_max: def.gap_s_max,
        charge_by: rate.charge_by,
        unit: rate.unit,
        unit_price_micros: rate.unit_price_micros,
        bytes_offers: charging(def, def.bytes_offers),
        setup_micros: def.tariff.setup.get(),
        currency: def.tariff.currency.to_string(),
        curve: def.tariff.curve.knots().iter().map(|k| [k.utilisation_ppm, k.multiplier_ppm]).collect(),
        rate_bps_min: def.rate_min.get(),
        rate_bps_max: def.rate_max.get(),
        excess_shaped: !def.shape.borrow,
        start_grace_s: def.start_grace_s,
        unseen_free_s: def.unseen_free_s,
        notice_s: def.notice_s,
        cancel_fee_ppm: def.cancel_fee_ppm,
        mobile: def.gx.is_some(),
        charge_unconfirmed: def.charge_unconfirmed,
        promise: promise(def),
    }
}

fn charging(def: &TierDef, charge_by: ChargeBy) -> ChargingView {
    let unit = charge_by.unit();
    ChargingView {
        charge_by: charge_by.as_str().to_owned(),
        unit: unit.as_str().to_owned(),
        unit_price_micros: unit.base_price(&def.tariff).get(),
    }
}

/// The customer's page in a few sentences, with this tier's numbers; never the word *guaranteed*.
fn promise(def: &TierDef) -> String {
    let segment = "From one enforcement point to the next inside the operator's network, in the reserved \
                   direction; not the far Internet, not the home Wi-Fi.";
    let kind = match def.kind {
        TierKind::Assured => format!(
            "What you offer is carried up to the promised IP rate, judged per slot, with no silence under \
             demand longer than {} s and at most {} ms of queue at the enforcement point; a slot in which it \
             was not in force is never charged.",
            def.gap_s_max, def.shape.queue_ms_max
        ),
        TierKind::Target => {
            let unconfirmed = if def.charge_unconfirmed {
                " Time that it accepted and never confirmed is charged."
            } else {
                " Time that it accepted and never confirmed is not charged."
            };
            let of_peer = if def.gx.is_some() || def.rx.is_some() { unconfirmed } else { "" };
            format!(
                "A floor is asked of the network; nothing is charged for what it refused or was reported to have \
                 lost.{of_peer}"
            )
        }
        TierKind::Background => "Left-over capacity without a floor.".to_owned(),
    };
    let excess = if def.shape.borrow {
        "Excess travels as best effort, unpaid and unpromised."
    } else {
        "Excess is shaped to the promised rate."
    };
    format!("{segment} {kind} {excess}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollway_billing::{Curve, Tariff};
    use tollway_model::{BitsPerSecond, Currency, Micros};
    use tollway_policy::ClassShape;

    #[test]
    fn no_promise_says_the_forbidden_word() {
        for kind in [TierKind::Assured, TierKind::Target, TierKind::Background] {
            for borrow in [true, false] {
                let def = TierDef {
                    name: "gold".to_owned(),
                    kind,
                    legal_basis: LegalBasis::SubscriberChoice,
                    shape: ClassShape { packet_bytes: 1500, queue_ms_max: 50, borrow },
                    overhead_ppm: 50_000,
                    gap_s_max: 3,
                    start_grace_s: 10,
                    unseen_free_s: 120,
                    rate_offers: ChargeBy::Reserved,
                    bytes_offers: ChargeBy::Delivered,
                    rate_min: BitsPerSecond(1),
                    rate_max: BitsPerSecond(2),
                    notice_s: 0,
                    cancel_fee_ppm: 0,
                    tariff: Tariff {
                        name: "t".to_owned(),
                        currency: Currency::EUR,
                        mbps_hour: Micros(1),
                        gb: Micros(2),
                        setup: Micros(0),
                        curve: Curve::flat(),
                    },
                    gx: None,
                    rx: None,
                    charge_unconfirmed: false,
                };
                let words = promise(&def);
                assert!(!words.to_lowercase().contains("guarante"), "{words}");
                assert!(words.contains("enforcement point"), "{words}");
            }
        }
    }
}
