//! Every kind of refusal of the core, with its whole text, before dfdx could panic.

use dfdx::{
    shapes::{Const, Dim},
    tensor::{Cpu, Tensor, Trace, ZerosTensor},
    tensor_ops::{Backward, SumTo},
};
use msg_core::{
    Result,
    axis::{
        AttnDim, Batch, Class, Ffn, HeadDim, Hidden, Key, Labelled, Query, Rows, Vocab, merge_rows,
        split_heads, split_rows,
    },
    error::{Context, same_shape},
    growth::{
        AxisGrowsTo, AxisMap, DepthMap, Fill, GrowsTo, Growth, LayerSource, Masked, NewEntries, Ramp, Ramps,
        grow, grow_tensor,
    },
    mask::{Gate, Mask},
    ops::{
        AttentionMask, Dropout, DropoutSite, Ids, Labels, attention, cross_entropy, embed, linear,
        masked_layer_norm,
    },
    optim::{AdamW, AdamWConfig, Update},
    params::{Module, Param, ParamName, Role, TensorMap, Visitor},
    random::Key as Seed,
};

const SITE: DropoutSite = DropoutSite { layer: None, place: "test" };
const OFF: (Dropout, DropoutSite) = (Dropout::OFF, SITE);

fn dev() -> Cpu {
    Cpu::default()
}

fn zeros<S: dfdx::shapes::Shape>(shape: S) -> Tensor<S, f32, Cpu> {
    dev().zeros_like(&shape)
}

/// The refusal's text.
fn refusal<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn linear_refuses_other_sizes() {
    let run = |inputs, bias| {
        refusal(linear(
            zeros((Rows(2), Hidden(3))),
            zeros((Ffn(5), Hidden(inputs))),
            Some(zeros((Ffn(bias),))),
        ))
    };
    assert_eq!(run(4, 5), "linear: axis Hidden: expected size 4, got 3");
    assert_eq!(run(3, 6), "linear: axis Ffn: expected size 5, got 6");
}

#[test]
fn a_norm_refuses_other_sizes_and_a_mask_without_units() -> Result<()> {
    let run = |gain, shift, mask: Vec<f32>| {
        let mask = Mask::new(&dev(), Hidden(mask.len()), mask)?;
        let (gain, shift) = (zeros((Hidden(gain),)), zeros((Hidden(shift),)));
        masked_layer_norm(zeros((Rows(2), Hidden(3))), &gain, &shift, &mask, 1e-5)
    };
    assert_eq!(refusal(run(2, 3, vec![1.0; 3])), "masked_layer_norm: axis Hidden: expected size 3, got 2");
    assert_eq!(refusal(run(3, 4, vec![1.0; 3])), "masked_layer_norm: axis Hidden: expected size 3, got 4");
    assert_eq!(refusal(run(3, 3, vec![1.0; 2])), "mask: axis Hidden: expected size 3, got 2");
    let text = "masked_layer_norm: sum of the mask: expected more than 0, got 0";
    assert_eq!(refusal(run(3, 3, vec![0.0; 3])), text);
    Ok(())
}

#[test]
fn a_mask_refuses_other_numbers_of_units_and_values_outside_its_range() -> Result<()> {
    let new = |values| Mask::<Ffn, f32, Cpu>::new(&dev(), Ffn(3), values);
    assert_eq!(refusal(new(vec![1.0; 4])), "mask: axis Ffn: expected size 3, got 4");
    assert_eq!(refusal(new(vec![1.0, 0.0, 1.5])), "mask: expected 0 <= c <= 1, got 1.5");
    assert_eq!(refusal(new(vec![1.0, f32::NAN, 0.0])), "mask: expected 0 <= c <= 1, got NaN");
    let applied = new(vec![1.0; 3])?.apply(zeros((Rows(2), Ffn(4))));
    assert_eq!(refusal(applied), "mask: axis Ffn: expected size 4, got 3");
    let mut ramps = Ramps::default();
    ramps.grow(&Growth::new(0, 1).with_axis(AxisMap::append("Ffn", 2, 3)?), Ramp { start: 0, length: 4 });
    assert_eq!(refusal(ramps.values(&Ffn(4), 1)), "mask: axis Ffn: expected size 3, got 4");
    Ok(())
}

#[test]
fn a_gate_refuses_a_layer_that_changes_its_sizes() {
    let other = |_| Ok(zeros((Rows(2), Hidden(4))));
    let x = || zeros((Rows(2), Hidden(3)));
    assert_eq!(refusal(Gate::OPEN.branch(x(), other)), "gate: axis 1: expected size 3, got 4");
    assert_eq!(refusal(Gate::new(0.5).blend(x(), other)), "gate: axis 1: expected size 3, got 4");
    assert_eq!(refusal(same_shape("x", &(1usize,), &(2usize,))), "x: axis 0: expected size 1, got 2");
}

#[test]
fn attention_refuses_other_sizes_and_parts_of_heads() -> Result<()> {
    let run = |key: (usize, usize, usize),
               value: (usize, usize, usize),
               head_dim,
               mask: &AttentionMask<f32, Cpu>| {
        let query = zeros((Batch(2), Query(3), AttnDim(8)));
        let key = zeros((Batch(key.0), Key(key.1), AttnDim(key.2)));
        let value = zeros((Batch(value.0), Key(value.1), AttnDim(value.2)));
        refusal(attention(query, key, value, HeadDim(head_dim), mask, OFF))
    };
    let (fits, full) = ((2, 5, 8), AttentionMask::full());
    assert_eq!(run((1, 5, 8), fits, 4, &full), "attention: axis Batch: expected size 2, got 1");
    assert_eq!(run((2, 5, 4), fits, 4, &full), "attention: axis Inner: expected size 8, got 4");
    assert_eq!(run(fits, (3, 5, 8), 4, &full), "attention: axis Batch: expected size 2, got 3");
    assert_eq!(run(fits, (2, 5, 9), 4, &full), "attention: axis Inner: expected size 8, got 9");
    assert_eq!(run(fits, (2, 6, 8), 4, &full), "attention: axis Key: expected size 5, got 6");
    assert_eq!(run(fits, fits, 3, &full), "attention: inner size 8 is not a whole number of heads of size 3");
    assert_eq!(run(fits, fits, 0, &full), "head size must be at least 1, got 0");
    let causal = |length| AttentionMask::causal(Query(length));
    assert_eq!(run(fits, fits, 4, &causal(4)), "attention mask: axis Query: expected size 4, got 3");
    assert_eq!(run(fits, fits, 4, &causal(3)), "attention mask: axis Key: expected size 3, got 5");
    let padded = |batch, length: usize| {
        let seen: Vec<bool> = (0..batch * length).map(|at| at > 0).collect();
        AttentionMask::full().with_padding(&dev(), &seen, Batch(batch), Query(length))
    };
    assert_eq!(run(fits, fits, 4, &padded(3, 5)?), "attention mask: axis Batch: expected size 3, got 2");
    assert_eq!(run(fits, fits, 4, &padded(2, 4)?), "attention mask: axis Key: expected size 4, got 5");
    let seen = AttentionMask::<f32, Cpu>::full().with_padding(&dev(), &[true; 5], Batch(2), Query(3));
    assert_eq!(refusal(seen), "attention mask: axis Batch x Query: expected size 6, got 5");
    Ok(())
}

#[test]
fn renaming_refuses_sizes_that_do_not_multiply_up() -> Result<()> {
    let rows = merge_rows(zeros((Batch(2), Query(3), Hidden(4))))?;
    assert_eq!(
        refusal(split_rows(rows, Batch(3), Query(4))),
        "split_rows: axis Rows: expected size 12, got 6"
    );
    let x = || zeros((Batch(2), Query(3), AttnDim(9)));
    let text = "attention: inner size 9 is not a whole number of heads of size 2";
    assert_eq!(refusal(split_heads(x(), HeadDim(2))), text);
    Ok(())
}

#[test]
fn tables_refuse_indices_out_of_range_and_wrong_counts() -> Result<()> {
    let new = |ids: &[u32], shape| Ids::new(&dev(), "token", ids, shape, Vocab(7));
    assert_eq!(
        refusal(new(&[1, 2, 7, 9], (Labelled(4),))),
        "token 7 at 2 is out of range: the table has 7 entries"
    );
    assert_eq!(refusal(new(&[1, 2], (Labelled(4),))), "token: expected 4 values, got 2");
    assert_eq!(refusal(new(&[], (Labelled(0),))), "token must be at least 1, got 0");
    let ids = new(&[1, 2, 6], (Labelled(3),))?;
    let table = zeros((Vocab(8), Hidden(2)));
    let embedded = embed::<_, _, _, (Labelled, Hidden), _, _, _>(table, &ids);
    assert_eq!(refusal(embedded), "embed: axis Vocab: expected size 7, got 8");
    Ok(())
}

#[test]
fn cross_entropy_refuses_labels_of_other_classes_or_places() -> Result<()> {
    let new =
        |labels: &[i64]| Labels::<Class, _, f32, Cpu>::new(&dev(), labels, (Batch(2), Query(3)), Class(4));
    let text = "label 4 at 5 is out of range: the table has 4 entries";
    assert_eq!(refusal(new(&[0, 1, 2, 3, -100, 4])), text);
    let text = "label -1 at 0 is out of range: the table has 4 entries";
    assert_eq!(refusal(new(&[-1, 1, 2, 3, -100, 4])), text);
    assert_eq!(refusal(new(&[0, 1])), "label: expected 6 values, got 2");
    let none = Labels::<Class, _, f32, Cpu>::new(&dev(), &[], (Labelled(0),), Class(4));
    assert_eq!(refusal(none), "label must be at least 1, got 0");
    let labels = new(&[0, 1, 2, 3, -100, 0])?;
    let run = |batch, query, class| {
        refusal(cross_entropy(zeros((Batch(batch), Query(query), Class(class))), &labels, 5))
    };
    assert_eq!(run(2, 3, 5), "cross_entropy: axis Class: expected size 4, got 5");
    assert_eq!(run(3, 2, 4), "cross_entropy: axis 0: expected size 3, got 2");
    assert_eq!(run(2, 4, 4), "cross_entropy: axis 1: expected size 4, got 3");
    Ok(())
}

#[test]
fn dropout_refuses_rates_that_leave_nothing_and_more_than_four_axes() -> Result<()> {
    let new = |rate| refusal(Dropout::new(rate, 1, 2, 3));
    assert_eq!(new(1.0), "dropout: expected 0 <= rate < 1, got 1");
    assert_eq!(new(-0.5), "dropout: expected 0 <= rate < 1, got -0.5");
    assert_eq!(new(f32::NAN), "dropout: expected 0 <= rate < 1, got NaN");
    let dropout = Dropout::new(0.5, 1, 2, 3)?;
    assert_eq!(new(1.5), "dropout: expected 0 <= rate < 1, got 1.5");
    let x: Tensor<dfdx::shapes::Rank5<1, 2, 1, 2, 1>, f32, Cpu> = dev().zeros();
    assert_eq!(refusal(dropout.apply(x, SITE)), "dropout: number of axes: expected at most 4, got 5");
    Ok(())
}

#[test]
fn axis_maps_refuse_shrinking_nothing_and_sources_that_are_not_there() -> Result<()> {
    let shrunk = refusal(AxisMap::append("Hidden", 5, 4));
    assert_eq!(shrunk, "growth: axis Hidden cannot shrink: it has 5 units, target 4");
    assert_eq!(refusal(AxisMap::append("Hidden", 0, 4)), "Hidden must be at least 1, got 0");
    assert_eq!(refusal(AxisMap::copies("Hidden", 4, 0)), "Hidden must be at least 1, got 0");
    let beyond = AxisMap::with_sources("Ffn", 3, 5, |unit| Some(unit - 1));
    assert_eq!(refusal(beyond), "growth: axis Ffn: new unit 4 copies unit 3, but the axis has 3 units");
    let huge = AxisMap::append("Ffn", 1, 1 << 32);
    assert_eq!(refusal(huge), "Ffn: expected fewer than 2^32 units, got 4294967296");
    let widened = AxisMap::append("Heads", 2, 3)?.widened("Inner", 0);
    assert_eq!(refusal(widened), "Inner must be at least 1, got 0");
    let other = Growth::new(0, 1).with_axis(AxisMap::append("Hidden", 2, 3)?).map_of(&Hidden(4));
    assert_eq!(refusal(other), "growth: axis Hidden: expected size 2, got 4");
    Ok(())
}

#[test]
fn depth_maps_refuse_lost_doubled_and_disordered_layers() -> Result<()> {
    use LayerSource::{Copy, Fresh, Same};
    let new = |layers: &[LayerSource]| refusal(DepthMap::new(2, layers.to_vec()));
    assert_eq!(
        new(&[Same(1), Same(0)]),
        "growth: layers: expected old layer 0 next, got 1 (of 2 old layers)"
    );
    assert_eq!(
        new(&[Same(0), Same(0)]),
        "growth: layers: expected old layer 1 next, got 0 (of 2 old layers)"
    );
    let text = "growth: layers: expected old layer 2 next, got 2 (of 2 old layers)";
    assert_eq!(new(&[Same(0), Same(1), Same(2)]), text);
    let text = "growth: layers: expected old layer 1 next, got 2 (of 2 old layers)";
    assert_eq!(new(&[Same(0), Copy(2), Same(1)]), text);
    assert_eq!(new(&[Same(0), Fresh]), "growth: axis layers cannot shrink: it has 2 units, target 2");
    assert_eq!(new(&[]), "layers must be at least 1, got 0");
    for make in [DepthMap::stack, DepthMap::fresh, DepthMap::interpolate] {
        assert_eq!(refusal(make(3, 2)), "growth: axis layers cannot shrink: it has 3 units, target 2");
        assert_eq!(refusal(make(0, 2)), "layers must be at least 1, got 0");
    }
    let arranged = DepthMap::stack(2, 3)?.arrange(&["only one"]);
    assert_eq!(refusal(arranged), "growth: axis layers: expected size 2, got 1");
    Ok(())
}

/// An axis whose map disagrees with the const axis that it says it grows to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Liar(usize);

impl Dim for Liar {
    fn size(&self) -> usize {
        self.0
    }
    fn from_size(size: usize) -> Option<Self> {
        Some(Liar(size))
    }
}

impl AxisGrowsTo<Const<5>> for Liar {
    fn axis_map(&self, _: &Growth) -> Result<AxisMap> {
        AxisMap::append("Liar", self.0, 4)
    }
}

#[test]
fn growing_a_tensor_refuses_maps_of_other_sizes() -> Result<()> {
    let fresh = NewEntries { key: Seed::new(0, "w", 1), fill: Fill::Constant(0.0) };
    let growth = Growth::new(0, 1).with_axis(AxisMap::append("Hidden", 2, 3)?);
    let grown: Result<Param<(Ffn, Hidden), Cpu>> = grow_tensor(&zeros((Ffn(2), Hidden(4))), &growth, fresh);
    assert_eq!(refusal(grown), "growth: axis Hidden: expected size 2, got 4");
    let lied = GrowsTo::<(Const<5>,)>::grown(&(Liar(2),), &growth);
    assert_eq!(refusal(lied), "Const: expected the size of the const axis that it grows to, got 4");
    let growth = Growth::new(0, 1).with_axis(AxisMap::append("Const", 3, 5)?);
    let changed = growth.grown_shape(&(Ffn(2), Const::<3>));
    assert_eq!(refusal(changed), "growth: axis Const: expected size 3, got 5");
    Ok(())
}

/// One vector.
#[derive(Clone)]
struct Vector(Param<(Hidden,), Cpu>);

impl Module<Cpu> for Vector {
    fn walk<V: Visitor<Cpu>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
        visitor.visit(&at.join("vector"), Role::bias(), &mut self.0)
    }
}

/// A walk that names another tensor.
#[derive(Clone)]
struct Renamed(Vector);

impl Module<Cpu> for Renamed {
    fn walk<V: Visitor<Cpu>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
        self.0.walk(&at.join("renamed"), visitor)
    }
}

#[test]
fn growing_a_module_refuses_layers_that_it_does_not_have() -> Result<()> {
    let growth = Growth::new(0, 1).with_depth(DepthMap::stack(1, 3)?);
    let grown = grow(&Vector(zeros((Hidden(2),))), &growth, &Masked::default());
    assert_eq!(refusal(grown), "growth: this module has no layers to grow (target 3)");
    Ok(())
}

#[test]
fn missing_tensors_are_named() -> Result<()> {
    let mut map = TensorMap::<Cpu>::default();
    let name = ParamName::root().join("w");
    assert_eq!(refusal(map.get::<(Hidden,)>("load", &name)), "load: no tensor \"w\" of this shape");
    map.insert(&name, zeros((Ffn(2),)));
    assert_eq!(refusal(map.get_mut::<(Hidden,)>("load", &name)), "load: no tensor \"w\" of this shape");

    let module = Vector(zeros((Hidden(2),)));
    let mut optimizer = AdamW::new(&module, AdamWConfig::default())?;
    let mut grads = module.0.leaky_trace().sum::<(), _>().backward();
    let stepped = optimizer.step(&mut Renamed(module.clone()), &mut grads, Update::at(0.1));
    assert_eq!(refusal(stepped), "optimizer: no tensor \"renamed.vector\" of this shape");
    let moments = optimizer.moments::<(Ffn,)>(&ParamName::root().join("vector"));
    assert_eq!(refusal(moments.map(|_| ())), "slots of an optimizer: no tensor \"vector\" of this shape");
    Ok(())
}

#[test]
fn a_device_error_is_passed_on_with_the_operation_under_way() {
    let failed: std::result::Result<(), &str> = Err("no such kernel");
    assert_eq!(refusal(failed.during("matmul")), "matmul: device error: \"no such kernel\"");
}

#[test]
fn a_device_without_memory_is_told_from_one_that_fails() {
    let full: std::result::Result<(), &str> = Err("CUDA_ERROR_OUT_OF_MEMORY");
    assert_eq!(refusal(full.during("matmul")), "matmul: out of memory on the device");
    let text = refusal(full.asking_for(96, "matmul"));
    assert_eq!(text, "matmul: out of memory on the device (96 bytes asked for)");
}

#[test]
fn tensors_without_entries_are_refused_where_dfdx_would_panic() -> Result<()> {
    let x = || zeros((Rows(0), Hidden(3)));
    let weight = zeros((Ffn(5), Hidden(3)));
    assert_eq!(refusal(linear(x(), weight, None)), "linear: number of inputs must be at least 1, got 0");
    let none = linear(zeros((Rows(2), Hidden(3))), zeros((Ffn(0), Hidden(3))), None);
    assert_eq!(refusal(none), "linear: number of weights must be at least 1, got 0");
    let (gain, shift) = (zeros((Hidden(3),)), zeros((Hidden(3),)));
    let normal = masked_layer_norm(x(), &gain, &shift, &Mask::none(), 1e-5);
    assert_eq!(refusal(normal), "masked_layer_norm: number of inputs must be at least 1, got 0");
    let masked = Mask::new(&dev(), Hidden(3), vec![0.5; 3])?.apply(x());
    assert_eq!(refusal(masked), "mask: number of inputs must be at least 1, got 0");
    let run = |queries, keys| {
        let query = zeros((Batch(2), Query(queries), AttnDim(8)));
        let (key, value) =
            (zeros((Batch(2), Key(keys), AttnDim(8))), zeros((Batch(2), Key(keys), AttnDim(8))));
        refusal(attention(query, key, value, HeadDim(4), &AttentionMask::full(), OFF))
    };
    assert_eq!(run(0, 5), "attention: number of queries must be at least 1, got 0");
    assert_eq!(run(3, 0), "attention: number of keys must be at least 1, got 0");
    Ok(())
}

/// Which test above produces which kind of error.
const KINDS: [(&str, &str); 13] = [
    ("Size", "linear_refuses_other_sizes"),
    ("Shrink", "axis_maps_refuse_shrinking"),
    ("Zero", "axis_maps_refuse_shrinking"),
    ("Heads", "attention_refuses_other_sizes_and_parts_of_heads"),
    ("Source", "axis_maps_refuse_shrinking_nothing_and_sources"),
    ("Depth", "depth_maps_refuse"),
    ("NoLayers", "growing_a_module_refuses_layers"),
    ("Index", "tables_refuse_indices_out_of_range"),
    ("Count", "tables_refuse_indices_out_of_range_and_wrong_counts"),
    ("Value", "dropout_refuses_rates"),
    ("Missing", "missing_tensors_are_named"),
    ("Device", "a_device_error_is_passed_on"),
    ("OutOfMemory", "a_device_without_memory_is_told"),
];

#[test]
fn every_kind_of_error_has_a_test_here() {
    let source = include_str!("../../msg-core/src/error.rs");
    let opens = |line: &str| line.strip_prefix("    ").and_then(|l| l.strip_suffix(" {")).map(String::from);
    let body = source.split("pub enum Error {").nth(1).and_then(|rest| rest.split("\n}").next());
    let mut variants: Vec<String> = body.unwrap_or_default().lines().filter_map(opens).collect();
    let mut kinds: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
    variants.sort();
    kinds.sort();
    assert_eq!(variants, kinds, "a kind of error without a test here, or the other way round");
    for (kind, test) in KINDS {
        assert!(include_str!("refuse_core.rs").contains(&format!("fn {test}")), "{kind}");
    }
}
