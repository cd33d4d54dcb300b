//! The congestion curve: a convex, piecewise-linear multiplier over utilisation. What a commitment pays is
//! the curve's mean between the utilisation before it and after it, so that k equal pieces cost the whole.

use minicbor::{Decode, Encode};
use tollway_model::money::round_half_even;

/// Utilisation is computed in billionths, so that a small commitment on a large pool still moves it.
const UTILISATION_SCALE: i128 = 1_000_000_000;

/// Most knots a curve may have.
pub const KNOTS_MAX: usize = 16;

/// Largest multiplier, in ppm: a hundred times the base price.
pub const MULTIPLIER_PPM_MAX: u32 = 100_000_000;

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
#[cbor(transparent)]
pub struct Curve(#[n(0)] Vec<Knot>);

/// One knot: utilisation of what is on sale (ppm) → multiplier of the base price (ppm).
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Knot {
    #[n(0)]
    pub utilisation_ppm: u32,
    #[n(1)]
    pub multiplier_ppm: u32,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("a curve has 2 to {KNOTS_MAX} knots")]
    Knots,
    #[error("a curve starts at utilisation 0 and ends at 1000000 ppm, each knot above the one before")]
    Ends,
    #[error("a multiplier is 0 to {MULTIPLIER_PPM_MAX} ppm and never falls along the curve")]
    Multiplier,
    #[error("a curve is convex: each piece at least as steep as the one before (knot {0})")]
    Convex(usize),
}

impl Curve {
    /// Price does not depend on utilisation.
    pub fn flat() -> Curve {
        Curve(vec![
            Knot { utilisation_ppm: 0, multiplier_ppm: 1_000_000 },
            Knot { utilisation_ppm: 1_000_000, multiplier_ppm: 1_000_000 },
        ])
    }

    pub fn new(knots: Vec<Knot>) -> Result<Curve, Error> {
        if !(2..=KNOTS_MAX).contains(&knots.len()) {
            return Err(Error::Knots);
        }
        let first = knots.first().map(|k| k.utilisation_ppm);
        let last = knots.last().map(|k| k.utilisation_ppm);
        if first != Some(0) || last != Some(1_000_000) {
            return Err(Error::Ends);
        }
        let mut slope_before: Option<(i128, i128)> = None;
        for (index, pair) in knots.windows(2).enumerate() {
            let [a, b] = pair else { continue };
            if b.utilisation_ppm <= a.utilisation_ppm {
                return Err(Error::Ends);
            }
            if b.multiplier_ppm < a.multiplier_ppm || b.multiplier_ppm > MULTIPLIER_PPM_MAX {
                return Err(Error::Multiplier);
            }
            let rise = i128::from(b.multiplier_ppm.abs_diff(a.multiplier_ppm));
            let run = i128::from(b.utilisation_ppm.abs_diff(a.utilisation_ppm));
            if let Some((rise_before, run_before)) = slope_before
                && rise.saturating_mul(run_before) < rise_before.saturating_mul(run)
            {
                return Err(Error::Convex(index));
            }
            slope_before = Some((rise, run));
        }
        Ok(Curve(knots))
    }

    pub fn knots(&self) -> &[Knot] {
        &self.0
    }

    /// Mean multiplier in ppm between two commitments on a pool with `on_sale` bit/s, rounded half to even.
    /// With nothing between them it is the multiplier at that point.
    pub fn mean_ppm(&self, before_bps: u64, after_bps: u64, on_sale_bps: u64) -> u32 {
        let from = utilisation(before_bps, on_sale_bps);
        let until = utilisation(after_bps, on_sale_bps);
        let width = until.saturating_sub(from);
        if width <= 0 {
            return self.at(from);
        }
        let area = self.area(until).saturating_sub(self.area(from));
        u32::try_from(round_half_even(area, width)).unwrap_or(MULTIPLIER_PPM_MAX)
    }

    /// Multiplier at a utilisation in billionths, rounded half to even.
    fn at(&self, utilisation: i128) -> u32 {
        for pair in self.0.windows(2) {
            let [a, b] = pair else { continue };
            let (from, until) = (scaled(a.utilisation_ppm), scaled(b.utilisation_ppm));
            if utilisation <= until {
                let x = utilisation.saturating_sub(from).max(0);
                let rise = i128::from(b.multiplier_ppm.abs_diff(a.multiplier_ppm));
                let up = round_half_even(rise.saturating_mul(x), until.saturating_sub(from).max(1));
                return u32::try_from(i128::from(a.multiplier_ppm).saturating_add(up)).unwrap_or(u32::MAX);
            }
        }
        self.0.last().map_or(1_000_000, |k| k.multiplier_ppm)
    }

    /// Integral of the multiplier from 0 to a utilisation, in billionths × ppm. A function of its end alone,
    /// so differences telescope exactly.
    fn area(&self, utilisation: i128) -> i128 {
        let mut sum: i128 = 0;
        for pair in self.0.windows(2) {
            let [a, b] = pair else { continue };
            let (from, until) = (scaled(a.utilisation_ppm), scaled(b.utilisation_ppm));
            if utilisation <= from {
                break;
            }
            let x = utilisation.min(until).saturating_sub(from);
            let rise = i128::from(b.multiplier_ppm.abs_diff(a.multiplier_ppm));
            let run = until.saturating_sub(from).max(1);
            let flat = i128::from(a.multiplier_ppm).saturating_mul(x);
            let slope = rise.saturating_mul(x).saturating_mul(x);
            sum = sum.saturating_add(flat).saturating_add(round_half_even(slope, run.saturating_mul(2)));
        }
        sum
    }
}

fn scaled(ppm: u32) -> i128 {
    i128::from(ppm).saturating_mul(1_000)
}

fn utilisation(bps: u64, on_sale_bps: u64) -> i128 {
    if on_sale_bps == 0 {
        return UTILISATION_SCALE;
    }
    let scaled = i128::from(bps).saturating_mul(UTILISATION_SCALE);
    scaled.checked_div(i128::from(on_sale_bps)).unwrap_or(UTILISATION_SCALE).min(UTILISATION_SCALE)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    fn knots(list: &[(u32, u32)]) -> Vec<Knot> {
        list.iter()
            .map(|&(utilisation_ppm, multiplier_ppm)| Knot { utilisation_ppm, multiplier_ppm })
            .collect()
    }

    fn steep() -> Curve {
        Curve::new(knots(&[
            (0, 1_000_000),
            (700_000, 1_000_000),
            (850_000, 1_500_000),
            (1_000_000, 6_000_000),
        ]))
        .unwrap()
    }

    #[test]
    fn equal_pieces_cost_the_whole() {
        let curve = steep();
        let on_sale = 19_400_000u64;
        for pieces in [2u64, 3, 7, 100] {
            let step = on_sale / pieces;
            let whole = u128::from(curve.mean_ppm(0, step * pieces, on_sale)) * u128::from(step * pieces);
            let cut: u128 = (0..pieces)
                .map(|k| u128::from(curve.mean_ppm(k * step, (k + 1) * step, on_sale)) * u128::from(step))
                .sum();
            let error = whole.abs_diff(cut);
            // One ppm of rounding for each piece is all that may differ.
            assert!(error <= u128::from(step * pieces) * 2, "{pieces}: {error}");
        }
    }

    #[test]
    fn the_mean_lies_between_its_ends_and_grows() {
        let curve = steep();
        let mut before = 0;
        for k in 0..100u64 {
            let mean = curve.mean_ppm(k * 1_000, (k + 1) * 1_000, 100_000);
            assert!(mean >= before);
            before = mean;
        }
        assert_eq!(curve.mean_ppm(0, 0, 100), 1_000_000);
        assert_eq!(curve.mean_ppm(0, 5, 0), 6_000_000);
    }

    #[test]
    fn bad_curves_are_named() {
        for (list, error) in [
            (&[(0, 1)][..], Error::Knots),
            (&[(1, 1), (1_000_000, 1)], Error::Ends),
            (&[(0, 5), (1_000_000, 4)], Error::Multiplier),
            (&[(0, 0), (500_000, 900_000), (1_000_000, 1_000_000)], Error::Convex(1)),
            (&[(0, 0), (500_000, 1), (500_000, 2), (1_000_000, 3)], Error::Ends),
        ] {
            assert_eq!(Curve::new(knots(list)).unwrap_err(), error);
        }
    }
}
