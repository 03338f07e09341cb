//! The learning rate of each step: a pure function of the step.
//!
//! Steps count from 1. Step s of a warm-up of w steps has the share s/w of the peak. After it the shape
//! runs from the peak (at step w) to the final rate (at the last step). A boundary after step b changes
//! the rate from step b + 1 on:
//!
//! - `rewind`: the shape starts again from the peak (at step b) and reaches the same final rate at the
//!   last step. There is no second warm-up. Of `wsd` the decay takes the same share of what remains.
//! - `rewind-published`: as the published code has it, step s has the rate that the shape had at step
//!   s - b + w. The slope stays, so the run ends above the final rate.
//! - `rewarm`: the schedule's rate times a factor, 0.1 at step b, then a line to 1 at `rewarm_steps` after.
//! - `rewarm-new`: the same factor for entries born at the boundary only.
//!
//! The last boundary with a rewind decides the shape's time, the last one with any policy but `none` the
//! factor: a rewind ends a rewarming that still runs.

use crate::config::{LrAtGrowth, LrConfig, shapes::Place};

/// The factor at the boundary of a rewarming.
const REWARM_FROM: f64 = 0.1;

/// What a growth does to the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateChange {
    /// Steps before the boundary.
    pub start: u64,
    /// The policy.
    pub policy: LrAtGrowth,
    /// Steps of a rewarming.
    pub rewarm_steps: u64,
}

/// The factor of entries that a boundary made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NewFactor {
    /// On the rate of entries born at the boundary; 1 where none is in force.
    pub factor: f64,
    /// Steps before that boundary; `u64::MAX` where no factor is in force.
    pub since: u64,
}

/// The rate of a whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct Rate {
    lr: LrConfig,
    total: u64,
    changes: Vec<RateChange>,
}

impl Rate {
    /// The rate of a run of `total` steps; changes in the order of their steps.
    pub fn new(lr: LrConfig, total: u64, changes: Vec<RateChange>) -> Self {
        Rate { lr, total, changes }
    }

    /// The rate in force in the step `step` (from 1). Beyond the last step it stays at the last one's.
    pub fn at(&self, step: u64) -> f64 {
        let step = step.clamp(1, self.total.max(1));
        let rewound =
            |change: &&RateChange| matches!(change.policy, LrAtGrowth::Rewind | LrAtGrowth::RewindPublished);
        let rate = match self.before(step).rev().find(rewound) {
            None => self.scheduled(step),
            Some(RateChange { policy: LrAtGrowth::RewindPublished, start, .. }) => {
                self.scheduled((step - start + self.lr.warmup).min(self.total))
            }
            Some(RateChange { start, .. }) => self.shaped(step - start, self.total - start),
        };
        match self.rewarming(step) {
            Some((LrAtGrowth::Rewarm, factor, _)) => rate * factor,
            _ => rate,
        }
    }

    /// The factor of newly born entries in the step `step` (`rewarm-new`).
    pub fn new_factor(&self, step: u64) -> NewFactor {
        match self.rewarming(step) {
            Some((LrAtGrowth::RewarmNew, factor, since)) => NewFactor { factor, since },
            _ => NewFactor { factor: 1.0, since: u64::MAX },
        }
    }

    /// The schedule as if nothing ever grew.
    fn scheduled(&self, step: u64) -> f64 {
        let LrConfig { peak, warmup, .. } = self.lr;
        if step < warmup {
            return peak * (step as f64 / warmup as f64);
        }
        self.shaped(step - warmup, self.total - warmup)
    }

    /// The shape after `elapsed` of `span` steps.
    fn shaped(&self, elapsed: u64, span: u64) -> f64 {
        let LrConfig { shape, peak, decay, warmup, .. } = self.lr;
        if span == 0 {
            return peak;
        }
        // Of a whole span; that of a rewind is shorter.
        let decay = decay.unwrap_or(0) as f64 / (self.total - warmup) as f64;
        let height = shape.height(Place { elapsed, span, decay });
        // This form gives peak and final rate exactly at the ends.
        peak * height + self.lr.r#final.unwrap_or(0.0) * (1.0 - height)
    }

    /// Policy, factor and boundary of the rewarming that is in force.
    fn rewarming(&self, step: u64) -> Option<(LrAtGrowth, f64, u64)> {
        let change = self.before(step).rev().find(|change| change.policy != LrAtGrowth::None)?;
        let since = step - change.start;
        let rewarms = matches!(change.policy, LrAtGrowth::Rewarm | LrAtGrowth::RewarmNew);
        if !rewarms || since >= change.rewarm_steps {
            return None;
        }
        let share = since as f64 / change.rewarm_steps as f64;
        Some((change.policy, REWARM_FROM + (1.0 - REWARM_FROM) * share, change.start))
    }

    /// The changes in force in a step.
    fn before(&self, step: u64) -> impl DoubleEndedIterator<Item = &RateChange> {
        self.changes.iter().filter(move |change| change.start < step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LrShape, shapes::ShapeKey};
    use proptest::prelude::*;
    use std::f64::consts::PI;

    fn rate(shape: LrShape, total: u64, changes: &[(u64, LrAtGrowth, u64)]) -> Rate {
        let decay = shape.uses(ShapeKey::Decay).then_some(40);
        let r#final = shape.uses(ShapeKey::Final).then_some(0.2);
        let lr = LrConfig { shape, peak: 1.0, r#final, warmup: 20, decay };
        let change = |&(start, policy, rewarm_steps)| RateChange { start, policy, rewarm_steps };
        Rate::new(lr, total, changes.iter().map(change).collect())
    }

    fn near(got: f64, expected: f64) {
        assert!((got - expected).abs() <= 1e-12, "expected {expected}, got {got}");
    }

    fn values(rate: &Rate, expected: &[(u64, f64)]) {
        for &(step, value) in expected {
            near(rate.at(step), value);
        }
    }

    #[test]
    fn the_warm_up_rises_by_an_equal_part_of_the_peak_each_step() {
        for &shape in LrShape::ALL {
            let rate = rate(shape, 120, &[]);
            for (step, expected) in [(1, 0.05), (2, 0.1), (10, 0.5), (19, 0.95), (20, 1.0)] {
                near(rate.at(step), expected);
            }
        }
    }

    #[test]
    fn each_shape_has_its_known_values() {
        // 100 steps after the warm-up, from 1 to 0.2.
        let linear = rate(LrShape::Linear, 120, &[]);
        values(&linear, &[(21, 0.992), (45, 0.8), (70, 0.6), (120, 0.2)]);
        let cosine = rate(LrShape::Cosine, 120, &[]);
        // 0.6 + 0.4 cos(pi/4), the middle, 0.6 - 0.4 cos(pi/4).
        let edge = 0.4 * 0.5_f64.sqrt();
        values(&cosine, &[(45, 0.6 + edge), (70, 0.6), (95, 0.6 - edge), (120, 0.2)]);
        let wsd = rate(LrShape::Wsd, 120, &[]);
        values(&wsd, &[(21, 1.0), (80, 1.0), (81, 0.98), (100, 0.6), (119, 0.22), (120, 0.2)]);
        // After 10 of 40 steps of decay half of the way is done, after 25.6 of 40 (here 26) some 80 %.
        let sqrt = rate(LrShape::WsdSqrt, 120, &[]);
        values(&sqrt, &[(21, 1.0), (80, 1.0), (90, 0.6), (106, 1.0 - 0.8 * 0.65_f64.sqrt()), (120, 0.2)]);
        let constant = rate(LrShape::Constant, 120, &[]);
        values(&constant, &[(21, 1.0), (120, 1.0)]);
    }

    #[test]
    fn a_rewind_goes_to_the_peak_and_still_ends_at_the_final_rate() {
        // 50 steps remain after step 70.
        let linear = rate(LrShape::Linear, 120, &[(70, LrAtGrowth::Rewind, 0)]);
        values(&linear, &[(70, 0.6), (71, 0.984), (95, 0.6), (120, 0.2)]);
        let cosine = rate(LrShape::Cosine, 120, &[(70, LrAtGrowth::Rewind, 0)]);
        values(&cosine, &[(70, 0.6), (95, 0.6), (120, 0.2)]);
        // The decay took 40 of 100 steps, so it takes 20 of 50.
        let wsd = rate(LrShape::Wsd, 120, &[(70, LrAtGrowth::Rewind, 0)]);
        values(&wsd, &[(71, 1.0), (100, 1.0), (101, 0.96), (110, 0.6), (120, 0.2)]);
        let sqrt = rate(LrShape::WsdSqrt, 120, &[(70, LrAtGrowth::Rewind, 0)]);
        values(&sqrt, &[(71, 1.0), (100, 1.0), (105, 0.6), (120, 0.2)]);
    }

    #[test]
    fn the_last_of_several_rewinds_counts() {
        let twice = [(40, LrAtGrowth::Rewind, 0), (100, LrAtGrowth::Rewind, 0)];
        let linear = rate(LrShape::Linear, 120, &twice);
        // 80 steps remain after step 40, 20 after step 100.
        values(&linear, &[(60, 0.8), (100, 0.4), (110, 0.6), (120, 0.2)]);
    }

    #[test]
    fn the_published_rewind_keeps_the_slope_and_ends_above_the_final_rate() {
        let linear = rate(LrShape::Linear, 120, &[(70, LrAtGrowth::RewindPublished, 0)]);
        // The published line: (total - step + boundary - warmup) / (total - warmup) of the way.
        for step in 71..=120 {
            let share = (120.0 - step as f64 + 70.0 - 20.0) / 100.0;
            near(linear.at(step), 0.2 + 0.8 * share);
        }
        near(linear.at(120), 0.6);
    }

    #[test]
    fn a_rewarming_is_a_factor_from_a_tenth_to_one() {
        let constant = rate(LrShape::Constant, 120, &[(50, LrAtGrowth::Rewarm, 10)]);
        values(&constant, &[(50, 1.0), (51, 0.19), (55, 0.55), (59, 0.91), (60, 1.0), (61, 1.0)]);
        let linear = rate(LrShape::Linear, 120, &[(45, LrAtGrowth::Rewarm, 50)]);
        // At step 70: 0.6 by the schedule, 0.55 by the factor.
        near(linear.at(70), 0.33);
    }

    #[test]
    fn a_rewarming_of_new_entries_leaves_the_rate_and_names_their_boundary() {
        let new = rate(LrShape::Linear, 120, &[(50, LrAtGrowth::RewarmNew, 10)]);
        let none = NewFactor { factor: 1.0, since: u64::MAX };
        assert_eq!([50, 60, 120].map(|step| new.new_factor(step)), [none; 3]);
        let NewFactor { factor, since } = new.new_factor(55);
        near(factor, 0.55);
        assert_eq!(since, 50);
        for step in 1..=120 {
            assert_eq!(new.at(step), rate(LrShape::Linear, 120, &[]).at(step));
        }
    }

    #[test]
    fn a_rewind_ends_a_rewarming_and_no_policy_leaves_it() {
        let changes = [(50, LrAtGrowth::Rewarm, 30), (60, LrAtGrowth::None, 0), (70, LrAtGrowth::Rewind, 0)];
        let linear = rate(LrShape::Linear, 120, &changes);
        // 0.68 by the schedule at step 60 + 0, factor 0.1 + 0.9 * 15/30 at step 65.
        near(linear.at(65), (1.0 - 0.8 * 0.45) * 0.55);
        near(linear.at(71), 0.984);
    }

    fn shapes() -> impl Strategy<Value = LrShape> {
        prop::sample::select(LrShape::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn without_growth_the_rate_moves_in_small_steps_and_ends_as_told(
            shape in shapes(), total in 2_u64..400, warm in 0.0..1.0_f64, decays in 0.0..1.0_f64,
            peak in 1e-6..1.0_f64, low in 0.0..1.0_f64,
        ) {
            let warmup = (warm * (total - 1) as f64) as u64;
            let span = total - warmup;
            let decay = 1 + (decays * (span - 1) as f64) as u64;
            let decays = shape.uses(ShapeKey::Decay);
            let r#final = shape.uses(ShapeKey::Final).then_some(low * peak);
            let lr = LrConfig { shape, peak, r#final, warmup, decay: decays.then_some(decay) };
            let rate = Rate::new(lr, total, vec![]);
            prop_assert_eq!(rate.at(total), r#final.unwrap_or(peak));
            let falls = if decays { decay } else { span } as f64;
            // The steepest slope of half a cosine is pi/2 times that of the line; a root is steepest in its first step.
            let steepest = if shape == LrShape::WsdSqrt { falls.sqrt().recip() } else { PI / 2.0 / falls };
            let most = peak * steepest.max(1.0 / warmup.max(1) as f64) * (1.0 + 1e-9);
            for step in 1..total {
                let (now, next) = (rate.at(step), rate.at(step + 1));
                prop_assert!((next - now).abs() <= most, "{now} to {next} at {step}");
                prop_assert!(now > 0.0 && now <= peak);
            }
        }

        #[test]
        fn any_rewinds_end_at_the_final_rate_and_never_leave_its_range(
            shape in shapes(), starts in prop::collection::btree_set(20_u64..120, 0..5),
        ) {
            let changes: Vec<_> = starts.iter().map(|&start| (start, LrAtGrowth::Rewind, 0)).collect();
            let rate = rate(shape, 120, &changes);
            let last = if shape.uses(ShapeKey::Final) { 0.2 } else { 1.0 };
            near(rate.at(120), last);
            for step in 20..=120 {
                prop_assert!(rate.at(step) >= last - 1e-12 && rate.at(step) <= 1.0 + 1e-12);
            }
        }

        #[test]
        fn the_rate_depends_on_the_step_alone(
            shape in shapes(), steps in prop::collection::vec(1_u64..120, 1..20),
        ) {
            let changes = [(40, LrAtGrowth::Rewind, 0), (80, LrAtGrowth::Rewarm, 30)];
            let line: Vec<f64> = (1..=120).map(|step| rate(shape, 120, &changes).at(step)).collect();
            let one = rate(shape, 120, &changes);
            for step in steps {
                prop_assert_eq!(one.at(step), line[step as usize - 1]);
            }
        }
    }
}
