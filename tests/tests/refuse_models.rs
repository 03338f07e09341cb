//! What models refuse: each with a typed error that names the axis and both numbers, the model as it was.

use dfdx::tensor::Cpu;
use msg_core::{
    Error,
    axis::{AttnDim, Axis},
    growth::{AxisMap, Growth, Init, Masked, Ramp},
    ops::Precision,
};
use msg_models::{
    GrowingModel, GrowthSpec, Sizes,
    bert::{Bert, BertBatch, BertConfig, BertInput},
    gpt::{Gpt, GptBatch, GptConfig},
    sizes,
};
use msg_tests::{
    entries::visit_entries,
    families::{Family, Spec},
};

const SIZES: Sizes = sizes! { layers: 2, hidden: 6, ffn: 9, heads: 2 };
const SPEC: Spec =
    Spec { vocab: 11, head_dim: 4, sizes: SIZES, batch: (2, 3), seed: 1, precision: Precision::F32 };
const RAMP: Ramp = Ramp { start: 0, length: 5 };

/// Tries a growth that must be refused; the model stays bit for bit what it was.
fn refused<M: Family<Cpu>>(grow: impl Fn(&M) -> Result<M, Error>) -> String {
    let model = M::small(&Cpu::default(), &SPEC);
    let copy = M::small(&Cpu::default(), &SPEC);
    let error = grow(&model).err().expect("refused");
    let same = visit_entries(&copy.tensors(), &mut model.clone(), &Growth::new(0, 0), |_, _| None).unwrap();
    assert_eq!((same.changed, same.new, same.inherited), (0, 0, copy.num_params()));
    assert_eq!(model.growing(), copy.growing());
    error.to_string()
}

fn to<M: Family<Cpu>>(target: Sizes) -> impl Fn(&M) -> Result<M, Error> {
    move |model| {
        let growth = model.growth_to(target, &GrowthSpec::default())?;
        model.grown(&growth, &Masked::default(), RAMP)
    }
}

fn by<M: Family<Cpu>>(map: AxisMap) -> impl Fn(&M) -> Result<M, Error> {
    move |model| model.grown(&Growth::new(0, 1).with_axis(map.clone()), &Masked::default(), RAMP)
}

fn both(grow: Sizes, expected: &str) {
    assert_eq!(refused::<Gpt<Cpu>>(to(grow)), expected);
    assert_eq!(refused::<Bert<Cpu>>(to(grow)), expected);
}

#[test]
fn no_axis_shrinks() {
    both(Sizes { hidden: 5, ..SIZES }, "growth: axis Hidden cannot shrink: it has 6 units, target 5");
    both(Sizes { ffn: 8, ..SIZES }, "growth: axis Ffn cannot shrink: it has 9 units, target 8");
    both(Sizes { heads: 1, ..SIZES }, "growth: axis Heads cannot shrink: it has 2 units, target 1");
    both(Sizes { layers: 1, ..SIZES }, "growth: axis layers cannot shrink: it has 2 units, target 1");
}

#[test]
fn no_size_is_zero() {
    both(Sizes { hidden: 0, ..SIZES }, "hidden must be at least 1, got 0");
    both(Sizes { ffn: 0, ..SIZES }, "ffn must be at least 1, got 0");
    both(Sizes { heads: 0, ..SIZES }, "heads must be at least 1, got 0");
    both(Sizes { layers: 0, ..SIZES }, "layers must be at least 1, got 0");
}

#[test]
fn inner_stays_a_whole_number_of_heads() {
    let map = AxisMap::append(AttnDim::NAME, 8, 10).unwrap();
    let text = "attention: inner size 10 is not a whole number of heads of size 4";
    assert_eq!(refused::<Gpt<Cpu>>(by(map.clone())), text);
    assert_eq!(refused::<Bert<Cpu>>(by(map)), text);
}

#[test]
fn a_map_of_another_model_does_not_fit() {
    let map = AxisMap::append("Hidden", 7, 9).unwrap();
    let text = "growth: axis Hidden: expected size 7, got 6";
    assert_eq!(refused::<Gpt<Cpu>>(by(map.clone())), text);
    assert_eq!(refused::<Bert<Cpu>>(by(map)), text);
}

#[test]
fn configurations_that_cannot_be_are_refused() {
    let gpt = GptConfig { vocab: 11, positions: 4, head_dim: 4, sizes: SIZES, ..GptConfig::default() };
    let of = |config| Gpt::new(&Cpu::default(), config, Init::default()).err().unwrap().to_string();
    assert_eq!(of(GptConfig { head_dim: 0, ..gpt }), "head size must be at least 1, got 0");
    assert_eq!(of(GptConfig { vocab: 0, ..gpt }), "vocab must be at least 1, got 0");
    assert_eq!(of(GptConfig { positions: 0, ..gpt }), "positions must be at least 1, got 0");
    assert_eq!(of(GptConfig { eps: f64::NAN, ..gpt }), "eps: expected a positive number, got NaN");
    assert_eq!(of(GptConfig { dropout: 1.0, ..gpt }), "dropout: expected 0 <= rate < 1, got 1");
    let none = Sizes { heads: 0, ..SIZES };
    assert_eq!(of(GptConfig { sizes: none, ..gpt }), "heads must be at least 1, got 0");
    let bert = BertConfig { vocab: 11, positions: 4, head_dim: 4, sizes: SIZES, ..BertConfig::default() };
    let of = |config| Bert::new(&Cpu::default(), config, Init::default()).err().unwrap().to_string();
    assert_eq!(of(BertConfig { segments: 0, ..bert }), "segments must be at least 1, got 0");
    assert_eq!(of(BertConfig { head_dim: 0, ..bert }), "head size must be at least 1, got 0");
}

#[test]
fn gpt_batches_out_of_range_are_refused() {
    let device = Cpu::default();
    let config = GptConfig { vocab: 11, positions: 3, head_dim: 4, sizes: SIZES, ..GptConfig::default() };
    let of = |ids: &[u32], labels: &[i64], shape| {
        GptBatch::new(&device, ids, labels, shape, &config).err().unwrap().to_string()
    };
    let out = "is out of range: the table has";
    assert_eq!(of(&[1, 11], &[1, 2], (1, 2)), format!("token 11 at 1 {out} 11 entries"));
    assert_eq!(of(&[1, 2], &[1, -7], (1, 2)), format!("label -7 at 1 {out} 11 entries"));
    assert_eq!(of(&[1, 2], &[99, 2], (1, 2)), format!("label 99 at 0 {out} 11 entries"));
    assert_eq!(of(&[1; 4], &[1; 4], (1, 4)), format!("position 3 at 3 {out} 3 entries"));
    assert_eq!(of(&[1; 4], &[1; 4], (1, 3)), "token: expected 3 values, got 4");
    assert_eq!(of(&[1; 3], &[1; 2], (1, 3)), "label: expected 3 values, got 2");
    assert_eq!(of(&[], &[], (0, 3)), "token must be at least 1, got 0");
    assert_eq!(of(&[], &[], (2, 0)), "token must be at least 1, got 0");
}

#[test]
fn bert_batches_out_of_range_are_refused() {
    let device = Cpu::default();
    let config = BertConfig { vocab: 11, positions: 3, head_dim: 4, sizes: SIZES, ..BertConfig::default() };
    let good = BertInput {
        ids: &[1, 2],
        segments: &[0, 1],
        seen: &[true, true],
        labels: &[-100, 3],
        next_sentence: &[1],
        shape: (1, 2),
    };
    let of = |input| BertBatch::new(&device, &input, &config).err().unwrap().to_string();
    let out = "is out of range: the table has";
    assert_eq!(BertBatch::new(&device, &good, &config).unwrap().labelled(), 1);
    assert_eq!(of(BertInput { ids: &[1, 12], ..good }), format!("token 12 at 1 {out} 11 entries"));
    assert_eq!(of(BertInput { segments: &[2, 0], ..good }), format!("token type 2 at 0 {out} 2 entries"));
    assert_eq!(of(BertInput { labels: &[-100, 11], ..good }), format!("label 11 at 1 {out} 11 entries"));
    assert_eq!(of(BertInput { next_sentence: &[2], ..good }), format!("label 2 at 0 {out} 2 entries"));
    let seen = BertInput { seen: &[true], ..good };
    assert_eq!(of(seen), "attention mask: axis Batch x Query: expected size 2, got 1");
}

#[test]
fn a_batch_for_another_vocabulary_is_refused() {
    let device = Cpu::default();
    let config = GptConfig { vocab: 11, positions: 3, head_dim: 4, sizes: SIZES, ..GptConfig::default() };
    let model = Gpt::new(&device, config, Init::default()).unwrap();
    let other = GptConfig { vocab: 12, ..config };
    let batch = GptBatch::new(&device, &[1, 2], &[2, 3], (1, 2), &other).unwrap();
    let error = model.scores(&batch, &model.masks(0).unwrap()).err().unwrap();
    assert_eq!(error.to_string(), "embed: axis Vocab: expected size 12, got 11");
}
