//! Exact growth: the same function without masks, and what grew can learn.

use super::*;
use dfdx::tensor_ops::Backward;
use msg_core::{
    axis::NamedShape,
    growth::{FillRule, Ramp},
    ops::NormOrder,
    optim::{tape, zero_grads},
    params::{Param, ParamName, Role, Visitor},
};
use msg_models::GrowingModel;
use msg_models::{
    DepthInit, GrowthSpec, WidthInit,
    function_preserving::{self, Exact, Plan, ResidualForm},
};

/// Differences of exact growth, as a share of the largest logit.
const TOLERANCE: f32 = 1e-5;

fn outputs<M: Listed<Cpu>>(model: &M) -> Vec<f32> {
    msg_tests::families::outputs(model, &drawn(model, (3, 7), 1), &model.masks(0).unwrap()).unwrap()
}

/// The largest difference as a share of the largest value; infinite where a number is none.
fn distance(before: &[f32], after: &[f32]) -> f32 {
    assert_eq!(before.len(), after.len());
    let largest = before.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let far = |(a, b): (&f32, &f32)| if (a - b).is_finite() { (a - b).abs() } else { f32::INFINITY };
    before.iter().zip(after).map(far).fold(0.0, f32::max) / largest
}

fn to(text: &str) -> Sizes {
    text.parse::<msg_train::Target>().unwrap().of(SIZES).unwrap()
}

fn grown<M: Listed<Cpu>>(model: &M, sizes: Sizes, units: WidthInit, layers: DepthInit) -> M {
    let spec = GrowthSpec { units, layers, ..GrowthSpec::default() };
    let plan = Plan::new(model.growing(), M::FORM.order, sizes, units).unwrap();
    let grown = function_preserving::grow(model.clone(), &plan, &spec).unwrap().0;
    if grown.growing().head_dim == model.growing().head_dim {
        assert_eq!(model.params_at(sizes), grown.num_params() as u128);
    }
    grown
}

fn keeps_its_function<M: Publishable>(targets: &[&str]) {
    let model = M::tiny();
    let before = outputs(&model);
    for target in targets {
        for units in [WidthInit::Normal, WidthInit::Copy, WidthInit::MatchedStd] {
            for layers in [DepthInit::Stack, DepthInit::Interpolate, DepthInit::Fresh] {
                let after = grown(&model, to(target), units, layers);
                let (what, sizes) = (format!("{} to {target}, {units:?}, {layers:?}", M::NAME), to(target));
                assert!(after.growing().ramps.is_empty() && after.growing().sizes == sizes, "{what}");
                assert_eq!(after.growing().head_dim * sizes.heads, sizes.hidden, "{what}");
                let distance = distance(&before, &outputs(&after));
                assert!(distance <= TOLERANCE, "{what}: {distance:e}");
                // A second growth on top of the first.
                let again = Sizes { layers: sizes.layers + 1, ffn: sizes.ffn + 3, ..sizes };
                let distance =
                    super::exact::distance(&before, &outputs(&grown(&after, again, units, layers)));
                assert!(distance <= TOLERANCE, "{what}, again: {distance:e}");
            }
        }
    }
}

#[test]
fn a_gpt_grown_exactly_computes_the_same_along_every_axis() {
    keeps_its_function::<Gpt<Cpu>>(&[
        "ffn=11",
        "layers=3",
        "layers=5",
        "hidden=10,heads=5",
        "hidden=9",
        "hidden=21,heads=3",
        "layers=4,hidden=16,heads=4,ffn=13",
    ]);
}

#[test]
fn a_bert_grown_exactly_computes_the_same_along_every_axis() {
    keeps_its_function::<Bert<Cpu>>(&[
        "ffn=11",
        "layers=3",
        "layers=5",
        "hidden=12,heads=6",
        "hidden=12",
        "hidden=18",
        "layers=4,hidden=18,heads=9,ffn=13",
    ]);
}

/// Where one axis alone adds zeros to the end of sums, no bit changes.
#[test]
fn what_only_adds_zeros_changes_no_bit() {
    let gpt = <Gpt<Cpu> as Publishable>::tiny();
    for target in ["ffn=11", "layers=5"] {
        assert_eq!(outputs(&gpt), outputs(&grown(&gpt, to(target), WidthInit::Normal, DepthInit::Stack)));
    }
    let bert = <Bert<Cpu> as Publishable>::tiny();
    assert_eq!(outputs(&bert), outputs(&grown(&bert, to("ffn=11"), WidthInit::Normal, DepthInit::Stack)));
}

/// The comparison sees a rule that is missing or of the other form.
#[test]
fn a_wrong_rule_changes_the_function() {
    let model = <Gpt<Cpu> as Publishable>::tiny();
    let (before, spec) = (outputs(&model), GrowthSpec::default());
    let growth = model.growth_to(to("hidden=10,heads=5"), &spec).unwrap();
    let form = <Gpt<Cpu> as function_preserving::Architecture<Cpu>>::FORM;
    let rule = FillRule::default();
    for order in [NormOrder::Pre, NormOrder::Post] {
        // Without the epsilon of the new size even the right form is a bit off.
        let operator = Exact { rule, form: ResidualForm { order, ..form } };
        let wrong = model.grown(&growth, &operator, Ramp { start: 0, length: 0 }).unwrap();
        let distance = distance(&before, &outputs(&wrong));
        assert!(distance > if order == NormOrder::Pre { 1e-7 } else { 1e-2 }, "{order:?}: {distance:e}");
    }
    let model = <Bert<Cpu> as Publishable>::tiny();
    let before = outputs(&model);
    let form = <Bert<Cpu> as function_preserving::Architecture<Cpu>>::FORM;
    let plain = ResidualForm { closing_norm: |_| false, ..form };
    let untied = ResidualForm { tied_norm: |_| false, ..form };
    for (target, form) in [("layers=3", plain), ("hidden=12,heads=6", untied)] {
        let sizes = to(target);
        let spec = GrowthSpec { units: WidthInit::Copy, ..spec };
        let growth = model.growth_to(sizes, &spec).unwrap();
        let wrong = model.grown(&growth, &Exact { rule, form }, Ramp { start: 0, length: 0 }).unwrap();
        let distance = distance(&before, &outputs(&wrong));
        assert!(distance > 1e-3, "{target}: {distance:e}");
    }
}

/// Gradients of every tensor that grew are there, in the new part too.
fn learns<M: Publishable>(target: &str) {
    let model = M::tiny();
    let after = grown(&model, to(target), WidthInit::Normal, DepthInit::Stack);
    let host = drawn(&after, (3, 7), 1);
    let grads = tape(after.device(), zero_grads(&after).unwrap()).unwrap();
    let masks = after.masks(0).unwrap();
    let loss = loss(&after, &host, &masks, grads).unwrap();
    struct Still(dfdx::tensor::Gradients<f32, Cpu>, Vec<String>);
    impl Visitor<Cpu> for Still {
        fn visit<S: NamedShape>(
            &mut self,
            name: &ParamName,
            _: Role,
            tensor: &mut Param<S, Cpu>,
        ) -> msg_core::Result<()> {
            if self.0.get(tensor).as_vec().iter().all(|&gradient| gradient == 0.0) {
                self.1.push(name.to_string());
            }
            Ok(())
        }
    }
    let mut still = Still(loss.backward(), Vec::new());
    after.inspect(&mut still).unwrap();
    // The projections back of a new layer move first; what is before them follows.
    let of_new = |name: &String| name.contains(".2.");
    assert!(still.1.iter().all(of_new), "{}: {:?}", M::NAME, still.1);
}

#[test]
fn every_tensor_of_a_grown_model_has_a_gradient() {
    learns::<Gpt<Cpu>>("hidden=9,ffn=11,layers=3");
    learns::<Bert<Cpu>>("hidden=12,ffn=11,layers=3");
}
