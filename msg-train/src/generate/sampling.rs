//! The choice of a token from logits: a pure function of logits, options and the token's number.
//!
//! In the order of most tools: temperature, then the `top_k` most probable, then the fewest of those that
//! together have the share `top_p` (Holtzman et al. 2020).

use crate::error::{Error, Result};
use msg_core::random::{Key, bits_at};
use std::cmp::Ordering;

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most probable token always.
    pub temperature: f64,
    /// How many of the most probable tokens may come; none for all.
    pub top_k: Option<usize>,
    /// Share of the probability that the tokens which may come have together, above 0, at most 1.
    pub top_p: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { temperature: 0.8, top_k: None, top_p: 0.95, seed: 0 }
    }
}

impl Sampling {
    /// Refuses what is out of range.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn check(&self) -> Result<()> {
        let refuse =
            |name, expected: &str, got: String| Err(Error::Argument { name, expected: expected.into(), got });
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return refuse("temperature", "a number from 0", self.temperature.to_string());
        }
        if self.top_k == Some(0) {
            return refuse("top-k", "at least 1", "0".into());
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("top-p", "a share above 0, at most 1", self.top_p.to_string());
        }
        Ok(())
    }

    /// The tokens that may come, most probable first (of equals the lowest id), with their probabilities.
    ///
    /// # Errors
    /// As [`Sampling::check`], and [`Error::Logit`] where a logit is NaN or infinite or there is none. A logit
    /// of minus infinity is a token that cannot come.
    pub fn candidates(&self, logits: &[f32]) -> Result<Vec<(u32, f64)>> {
        self.check()?;
        let ranked = ranked(logits)?;
        let keep = if self.temperature == 0.0 { 1 } else { self.top_k.unwrap_or(ranked.len()) };
        let temperature = if self.temperature == 0.0 { 1.0 } else { self.temperature };
        let mut kept = softmax(&ranked[..keep.min(ranked.len())], temperature);
        let mut share = 0.0;
        let needed = kept.iter().position(|(_, probability)| {
            share += probability;
            share >= self.top_p
        });
        kept.truncate(needed.map_or(kept.len(), |last| last + 1));
        let total: f64 = kept.iter().map(|(_, probability)| probability).sum();
        kept.iter_mut().for_each(|(_, probability)| *probability /= total);
        Ok(kept)
    }

    /// The token number `at` of a text, from the logits of its place.
    ///
    /// # Errors
    /// As [`Sampling::candidates`].
    pub fn token(&self, logits: &[f32], at: u64) -> Result<u32> {
        let candidates = self.candidates(logits)?;
        let drawn = self.draw(at);
        let mut share = 0.0;
        let token = candidates.iter().find(|(_, probability)| {
            share += probability;
            drawn < share
        });
        // The shares may sum to a little less than 1; then the first one stands for the rest.
        let token = token.or(candidates.first()).map(|(token, _)| *token);
        token.ok_or(Error::Logit { token: 0, got: f32::NEG_INFINITY })
    }

    /// A number from 0 to 1 that belongs to the token number `at`.
    fn draw(&self, at: u64) -> f64 {
        let key = Key::new(self.seed, "generate.sample", 0);
        let word = |which| f64::from(bits_at(key, [0, (at >> 32) as u32, at as u32, which]));
        (word(0) + word(1) / 2f64.powi(32)) / 2f64.powi(32)
    }
}

/// Tokens and logits, the largest first, of equals the lowest id.
///
/// # Errors
/// [`Error::Logit`] where one is NaN or infinite, or none is more than minus infinity.
pub fn ranked(logits: &[f32]) -> Result<Vec<(u32, f32)>> {
    let bad = |logit: &f32| logit.is_nan() || *logit == f32::INFINITY;
    if let Some(token) = logits.iter().position(bad) {
        return Err(Error::Logit { token, got: logits[token] });
    }
    if logits.iter().all(|logit| *logit == f32::NEG_INFINITY) {
        return Err(Error::Logit { token: 0, got: f32::NEG_INFINITY });
    }
    let mut ranked: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    // The sort is stable: equals stay in the order of their ids.
    ranked.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal));
    Ok(ranked)
}

/// Probabilities of ranked logits among each other.
pub fn softmax(ranked: &[(u32, f32)], temperature: f64) -> Vec<(u32, f64)> {
    let largest = ranked.first().map_or(0.0, |(_, logit)| f64::from(*logit));
    let weight = |logit: f32| ((f64::from(logit) - largest) / temperature).exp();
    let total: f64 = ranked.iter().map(|(_, logit)| weight(*logit)).sum();
    ranked.iter().map(|&(token, logit)| (token, weight(logit) / total)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Sampling = Sampling { temperature: 1.0, top_k: None, top_p: 1.0, seed: 7 };
    /// Probabilities 0.1, 0.4, 0.2, 0.3.
    fn logits() -> Vec<f32> {
        [0.1f32, 0.4, 0.2, 0.3].map(f32::ln).to_vec()
    }

    fn tokens(sampling: &Sampling) -> Vec<u32> {
        sampling.candidates(&logits()).unwrap().into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn temperature_0_takes_the_largest_and_of_equals_the_first() {
        let greedy = Sampling { temperature: 0.0, ..ALL };
        assert_eq!(greedy.candidates(&logits()).unwrap(), [(1, 1.0)]);
        for at in 0..50 {
            assert_eq!(greedy.token(&[0.0, 2.0, -1.0, 2.0], at).unwrap(), 1);
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail_and_the_rest_has_all_the_probability() {
        assert_eq!(tokens(&ALL), [1, 3, 2, 0]);
        assert_eq!(tokens(&Sampling { top_k: Some(2), ..ALL }), [1, 3]);
        assert_eq!(tokens(&Sampling { top_k: Some(9), ..ALL }), [1, 3, 2, 0]);
        assert_eq!(tokens(&Sampling { top_p: 0.39, ..ALL }), [1]);
        assert_eq!(tokens(&Sampling { top_p: 0.41, ..ALL }), [1, 3]);
        assert_eq!(tokens(&Sampling { top_p: 0.71, ..ALL }), [1, 3, 2]);
        // Of the two most probable tokens the first alone has 4/7.
        assert_eq!(tokens(&Sampling { top_k: Some(2), top_p: 0.5, ..ALL }), [1]);
        let kept = Sampling { top_k: Some(3), ..ALL }.candidates(&logits()).unwrap();
        for ((_, got), expected) in kept.into_iter().zip([4.0 / 9.0, 3.0 / 9.0, 2.0 / 9.0]) {
            assert!((got - expected).abs() <= 1e-6, "{got} {expected}");
        }
    }

    #[test]
    fn draws_follow_the_probabilities_and_belong_to_seed_and_number() {
        let draw = |seed, at| Sampling { seed, ..ALL }.token(&logits(), at).unwrap();
        let mut counts = [0; 4];
        (0..20_000).for_each(|at| counts[draw(7, at) as usize] += 1);
        for (count, expected) in counts.into_iter().zip([0.1, 0.4, 0.2, 0.3]) {
            // Five standard deviations of the widest of them.
            assert!((f64::from(count) / 20_000.0 - expected).abs() <= 0.018, "{counts:?}");
        }
        let text = |seed| (0..64).map(|at| draw(seed, at)).collect::<Vec<u32>>();
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }

    #[test]
    fn temperature_sharpens_or_flattens() {
        let first = |temperature| Sampling { temperature, ..ALL }.candidates(&logits()).unwrap()[0].1;
        assert!(first(0.5) > first(1.0) && first(1.0) > first(2.0) && first(2.0) > 0.25);
        assert_eq!(first(1e-300), 1.0);
    }

    #[test]
    fn logits_that_are_no_numbers_are_refused_and_minus_infinity_never_comes() {
        for bad in [f32::NAN, f32::INFINITY] {
            let error = ALL.token(&[0.0, bad], 0).unwrap_err().to_string();
            assert_eq!(error, format!("logit of token 1: expected a number, got {bad}"));
        }
        assert!(ALL.token(&[], 0).is_err() && ALL.token(&[f32::NEG_INFINITY; 2], 0).is_err());
        for at in 0..50 {
            assert_eq!(ALL.token(&[f32::NEG_INFINITY, 0.0], at).unwrap(), 1);
        }
    }

    #[test]
    fn options_out_of_range_are_refused() {
        let refused = |sampling: Sampling| sampling.check().unwrap_err().to_string();
        let temperature = refused(Sampling { temperature: f64::NAN, ..ALL });
        assert_eq!(temperature, "temperature: expected a number from 0, got NaN");
        assert!(Sampling { temperature: -1.0, ..ALL }.check().is_err());
        assert_eq!(refused(Sampling { top_k: Some(0), ..ALL }), "top-k: expected at least 1, got 0");
        for top_p in [0.0, 1.5, f64::NAN] {
            let expected = format!("top-p: expected a share above 0, at most 1, got {top_p}");
            assert_eq!(refused(Sampling { top_p, ..ALL }), expected);
        }
    }
}
