//! Strict growth: at mask 0 the grown model computes what the small one did, bit for bit.

use dfdx::tensor::Cpu;
use msg_core::{
    Backend,
    growth::{Growth, Masked, Ramp},
    mask::take_masked_nodes,
    ops::Precision,
};
use msg_models::{DepthInit, GrowthSpec, MaskPlace, MaskSite, Sizes, WidthInit, bert::Bert, gpt::Gpt, sizes};
use msg_tests::{
    entries::visit_entries,
    every_family,
    families::{Family, Spec, names},
};
use proptest::prelude::*;

const RAMP: u64 = 10;

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Grows at the step `step`; new entries are then overwritten with values up to 1e3 where asked.
fn grow<D: Backend, M: Family<D>>(
    model: &M,
    target: Sizes,
    spec: &GrowthSpec,
    step: u64,
    wild: bool,
) -> (M, Growth) {
    let growth = model.growth_to(target, spec).unwrap();
    let ramp = Ramp { start: step as i64, length: RAMP };
    let mut grown = model.grown(&growth, &Masked { rule: spec.units.fill_rule() }, ramp).unwrap();
    let census = visit_entries(&model.tensors(), &mut grown, &growth, |name, entry| {
        let draw = Spec { seed: 99, ..TINY }.draw(&name.to_string(), entry, 2001);
        wild.then_some(draw as f32 - 1000.0)
    })
    .unwrap();
    assert_eq!((census.changed, census.inherited), (0, model.num_params()), "inheritance");
    assert_eq!(census.new, grown.num_params() - model.num_params());
    assert_eq!(census.tensors, names(&grown).len());
    (grown, growth)
}

fn assert_same<M: Family<Cpu>>(what: &str, small: &[f32], grown: &[f32]) {
    assert!(small.iter().all(|x| x.is_finite()), "{} {what}: the small model's outputs", M::NAME);
    let differing = bits(small).iter().zip(bits(grown)).filter(|(a, b)| **a != *b).count();
    assert_eq!((differing, small.len()), (0, grown.len()), "{} {what}: outputs that differ", M::NAME);
}

/// One growth at step 0: bit-identical, whatever new entries hold; nothing masked after the ramp, and
/// dropping the masks at 1 changes no bit.
fn one_growth<M: Family<Cpu>>(spec: &Spec, target: Sizes, growth: &GrowthSpec) {
    let small = M::small(&Cpu::default(), spec);
    let batch = M::host(spec);
    let before = small.outputs_at(&batch, 0).unwrap();
    for wild in [false, true] {
        let (mut grown, _) = grow(&small, target, growth, 0, wild);
        assert_same::<M>("at mask 0", &before, &grown.outputs_at(&batch, 0).unwrap());
        if wild {
            continue;
        }
        if target != spec.sizes {
            assert!(grown.masks(RAMP - 1).unwrap().active() > 0);
            assert_ne!(bits(&before), bits(&grown.outputs_at(&batch, RAMP / 2).unwrap()));
        }
        let kept = grown.all_outputs(&batch, &grown.masks_kept(RAMP).unwrap()).unwrap();
        assert_eq!(target != spec.sizes, grown.retire_ramps(RAMP));
        assert!(grown.growing().ramps.is_empty() && grown.masks(RAMP + 1).unwrap().active() == 0);
        take_masked_nodes();
        assert_same::<M>("masks dropped at 1", &kept, &grown.outputs_at(&batch, RAMP + 1).unwrap());
        assert_eq!(take_masked_nodes(), 0, "masked nodes after the ramp");
    }
}

const TINY: Spec = Spec {
    vocab: 17,
    head_dim: 3,
    sizes: sizes! { layers: 2, hidden: 8, ffn: 10, heads: 2 },
    batch: (2, 5),
    seed: 5,
    precision: Precision::F32,
};

const ALL: Sizes = sizes! { layers: 4, hidden: 13, ffn: 19, heads: 3 };

#[test]
fn strict_on_each_axis_alone_and_all_at_once() {
    let old = TINY.sizes;
    let targets = [
        old,
        Sizes { hidden: 13, ..old },
        Sizes { ffn: 19, ..old },
        Sizes { heads: 3, ..old },
        Sizes { layers: 4, ..old },
        ALL,
    ];
    for target in targets {
        for precision in [Precision::F32, Precision::Bf16] {
            let spec = Spec { precision, ..TINY };
            every_family!(Cpu, M => one_growth::<M>(&spec, target, &GrowthSpec::default()));
        }
    }
}

#[test]
fn strict_under_every_initialisation_of_units_and_layers() {
    for units in [WidthInit::Normal, WidthInit::Zero, WidthInit::Copy, WidthInit::MatchedStd] {
        for layers in [DepthInit::Stack, DepthInit::Interpolate, DepthInit::Fresh] {
            let growth = GrowthSpec { units, layers, ..GrowthSpec::default() };
            every_family!(Cpu, M => one_growth::<M>(&TINY, ALL, &growth));
        }
    }
}

/// Sizes that users have, and odd ones across the blocks of the matrix product.
fn users_sizes<M: Family<Cpu>>(precision: Precision) {
    let base = sizes! { layers: 1, hidden: 512, ffn: 768, heads: 8 };
    let spec = Spec { vocab: 1000, head_dim: 64, sizes: base, batch: (1, 6), seed: 3, precision };
    for target in [
        Sizes { hidden: 768, ..base },
        Sizes { ffn: 3072, ..base },
        Sizes { heads: 12, ..base },
        sizes! { layers: 2, hidden: 768, ffn: 3072, heads: 12 },
    ] {
        one_growth::<M>(&spec, target, &GrowthSpec::default());
    }
    for (old, new) in [(258, 700), (1, 3), (255, 257), (256, 512)] {
        let sizes = sizes! { layers: 1, hidden: old, ffn: old + 1, heads: 1 };
        let spec = Spec { vocab: 31, head_dim: 5, sizes, batch: (2, 3), seed: 4, precision };
        let target = sizes! { layers: 2, hidden: new, ffn: new + 1, heads: 4 };
        one_growth::<M>(&spec, target, &GrowthSpec::default());
    }
}

#[test]
fn strict_at_the_sizes_that_users_have_gpt() {
    users_sizes::<Gpt<Cpu>>(Precision::F32);
}

#[test]
fn strict_at_the_sizes_that_users_have_bert() {
    users_sizes::<Bert<Cpu>>(Precision::F32);
}

/// In bf16 operands are rounded one by one, so that the bound is the same: no bit.
#[test]
fn strict_in_bf16_at_the_sizes_that_users_have() {
    every_family!(Cpu, M => users_sizes::<M>(Precision::Bf16));
}

/// A sequence of growths, each while earlier ramps may still run.
fn sequence<M: Family<Cpu>>(spec: &Spec, steps: &[(Sizes, u64)], growth: GrowthSpec, wild: bool) {
    let mut model = M::small(&Cpu::default(), spec);
    let batch = M::host(spec);
    let (mut sizes, mut now) = (spec.sizes, 0);
    for (number, (add, wait)) in (1..).zip(steps) {
        now += wait;
        model.retire_ramps(now);
        sizes = sizes! {
            layers: sizes.layers + add.layers,
            hidden: sizes.hidden + add.hidden,
            ffn: sizes.ffn + add.ffn,
            heads: sizes.heads + add.heads,
        };
        let before = model.outputs_at(&batch, now).unwrap();
        // Wild entries of earlier growths would be raised by their ramps and overflow: only the last.
        let wild = wild && number == steps.len() as u64;
        let (grown, _) = grow(&model, sizes, &GrowthSpec { number, ..growth }, now, wild);
        assert_same::<M>("in a sequence", &before, &grown.outputs_at(&batch, now).unwrap());
        model = grown;
    }
}

fn any_sizes(layers: usize, units: usize, heads: usize, least: usize) -> impl Strategy<Value = Sizes> {
    (least..=layers, least..=units, least..=units, least..=heads)
        .prop_map(|(layers, hidden, ffn, heads)| sizes! { layers, hidden, ffn, heads })
}

fn any_growth() -> impl Strategy<Value = GrowthSpec> {
    let units = prop::sample::select(vec![
        WidthInit::Normal,
        WidthInit::Zero,
        WidthInit::Copy,
        WidthInit::MatchedStd,
    ]);
    let layers = prop::sample::select(vec![DepthInit::Stack, DepthInit::Interpolate, DepthInit::Fresh]);
    (units, layers, any::<u64>()).prop_map(|(units, layers, seed)| GrowthSpec {
        seed,
        number: 1,
        units,
        layers,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn strict_for_any_sequence_of_growths(
        sizes in any_sizes(2, 40, 3, 1),
        steps in prop::collection::vec((any_sizes(2, 20, 2, 0), 0..15u64), 2..=3),
        growth in any_growth(),
        (head_dim, vocab, batch, seed) in (1..9usize, 2..40usize, (1..4usize, 1..9usize), any::<u64>()),
        (wild, half) in any::<(bool, bool)>(),
    ) {
        let precision = if half { Precision::Bf16 } else { Precision::F32 };
        let spec = Spec { vocab, head_dim, sizes, batch, seed, precision };
        every_family!(Cpu, M => sequence::<M>(&spec, &steps, growth, wild));
    }
}

/// Without the mask of any single site, growth is no longer strict: no mask is there for nothing.
fn every_mask_is_needed<M: Family<Cpu>>() {
    let small = M::small(&Cpu::default(), &TINY);
    let batch = M::host(&TINY);
    let before = bits(&small.outputs_at(&batch, 0).unwrap());
    let (grown, _) = grow(&small, ALL, &GrowthSpec::default(), 0, true);
    let masks = grown.masks(0).unwrap();
    assert_eq!(before, bits(&grown.all_outputs(&batch, &masks).unwrap()));
    let gates = (TINY.sizes.layers..ALL.layers).map(|layer| MaskSite::in_layer(layer, MaskPlace::Layer));
    let sites: Vec<MaskSite> = M::sites(TINY.sizes.layers).into_iter().chain(gates).collect();
    assert!(sites.len() >= 11);
    for site in sites {
        let outputs = grown.all_outputs(&batch, &masks.clone().without(site)).unwrap();
        assert_ne!(before, bits(&outputs), "{} without the mask of {site:?}", M::NAME);
    }
}

#[test]
fn strict_fails_without_any_single_mask() {
    every_family!(Cpu, M => every_mask_is_needed::<M>());
}

/// NaN and infinity in new entries are left out too: masks select, they do not multiply.
fn nothing_leaks<M: Family<Cpu>>() {
    let small = M::small(&Cpu::default(), &TINY);
    let batch = M::host(&TINY);
    let before = small.outputs_at(&batch, 0).unwrap();
    let growth = small.growth_to(Sizes { layers: 3, ..TINY.sizes }, &GrowthSpec::default()).unwrap();
    let ramp = Ramp { start: 0, length: RAMP };
    let mut grown = small.grown(&growth, &Masked::default(), ramp).unwrap();
    visit_entries(&small.tensors(), &mut grown, &growth, |_, _| Some(f32::NAN)).unwrap();
    assert_same::<M>("with NaN in a new layer", &before, &grown.outputs_at(&batch, 0).unwrap());
}

#[test]
fn strict_even_where_a_new_layer_holds_nan() {
    every_family!(Cpu, M => nothing_leaks::<M>());
}

/// On Cuda sums have no fixed order, so the outputs may differ by rounding: in f32 by 1e-5 of their scale; in bf16,
/// where a sum that differs in its last bit may round the other way, by 2e-2 (five roundings of a value).
#[cfg(all(feature = "cuda", not(feature = "ci-check")))]
mod on_cuda {
    use super::*;
    use dfdx::tensor::Cuda;

    fn close<M: Family<Cuda>>(target: Sizes, spec: &GrowthSpec) {
        close_in::<M>(Precision::F32, target, spec, 1e-5);
        close_in::<M>(Precision::Bf16, target, spec, 2e-2);
    }

    fn close_in<M: Family<Cuda>>(precision: Precision, target: Sizes, spec: &GrowthSpec, bound: f32) {
        let device = msg_core::device::open_cuda(0).unwrap();
        let of = Spec { precision, ..TINY };
        let small = M::small(&device, &of);
        let batch = M::host(&of);
        let before = small.outputs_at(&batch, 0).unwrap();
        let scale = before.iter().fold(0.0f32, |scale, x| scale.max(x.abs()));
        for wild in [false, true] {
            let (mut grown, _) = grow(&small, target, spec, 0, wild);
            let after = grown.outputs_at(&batch, 0).unwrap();
            let largest = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, nan_max);
            assert!(largest <= bound * scale, "{} {precision:?} {target:?}: {largest} of {scale}", M::NAME);
            assert!(grown.retire_ramps(RAMP) && grown.masks(RAMP + 1).unwrap().active() == 0);
        }
    }

    /// The larger one, or NaN if any is.
    fn nan_max(a: f32, b: f32) -> f32 {
        if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
    }

    #[test]
    fn strict_cuda_within_rounding() {
        let old = TINY.sizes;
        for target in [Sizes { hidden: 13, ..old }, Sizes { heads: 3, ffn: 19, ..old }, ALL] {
            every_family!(Cuda, M => close::<M>(target, &GrowthSpec::default()));
        }
        let copies =
            GrowthSpec { units: WidthInit::Copy, layers: DepthInit::Interpolate, ..GrowthSpec::default() };
        every_family!(Cuda, M => close::<M>(ALL, &copies));
    }
}
