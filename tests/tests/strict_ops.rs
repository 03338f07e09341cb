//! Strictness of the single operations, bit for bit in f32: units behind a mask at 0 change nothing,
//! whatever they hold, and a mask of ones is no mask.

use dfdx::tensor::{Cpu, Tensor, TensorFromVec};
use msg_core::{
    Result,
    axis::{AttnDim, Batch, Ffn, HeadDim, Hidden, Key, Query, Rows},
    mask::Mask,
    ops::{AttentionMask, Dropout, DropoutSite, Gelu, attention, linear, masked_gelu, masked_layer_norm},
};
use msg_tests::{close::assert_same_bits, finite::normals};

/// Axis sizes before and after: odd, across a block of the products' sums, and those of real models.
const SIZES: [(usize, usize); 5] = [(1, 3), (7, 19), (258, 700), (255, 257), (512, 768)];
/// What new units may hold.
const EVIL: [f32; 5] = [3e38, -1e-30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];

fn dev() -> Cpu {
    Cpu::default()
}

/// Rows of `old` values, each followed by evil ones up to `new`.
fn widened(values: &[f32], old: usize, new: usize) -> Vec<f32> {
    let rows = values.chunks(old).enumerate();
    let evil = |row: usize| (old..new).map(move |at| EVIL[(row + at) % EVIL.len()]);
    rows.flat_map(|(row, values)| values.iter().copied().chain(evil(row)).collect::<Vec<_>>()).collect()
}

/// The first `old` of every `new` values.
fn narrowed(values: &[f32], old: usize, new: usize) -> Vec<f32> {
    values.chunks(new).flat_map(|row| row[..old].to_vec()).collect()
}

/// 1 for old units, 0 for new ones.
fn step(old: usize, new: usize) -> Vec<f32> {
    (0..new).map(|unit| if unit < old { 1.0 } else { 0.0 }).collect()
}

fn norm(x: Vec<f32>, gain: Vec<f32>, shift: Vec<f32>, mask: Option<Vec<f32>>) -> Result<Vec<f32>> {
    let width = Hidden(gain.len());
    let rows = Rows(x.len() / gain.len());
    let mask = mask.map_or(Ok(Mask::none()), |values| Mask::new(&dev(), width, values))?;
    let (gain, shift) = (dev().tensor_from_vec(gain, (width,)), dev().tensor_from_vec(shift, (width,)));
    let x: Tensor<(Rows, Hidden), f32, Cpu> = dev().tensor_from_vec(x, (rows, width));
    Ok(masked_layer_norm(x, &gain, &shift, &mask, 1e-5)?.as_vec())
}

#[test]
fn new_units_at_zero_change_no_bit_of_a_norm_and_come_out_as_zero() -> Result<()> {
    for (old, new) in SIZES {
        let x: Vec<f32> = normals("x", 6 * old);
        let (gain, shift) = (normals("gain", old), normals("shift", old));
        let small = norm(x.clone(), gain.clone(), shift.clone(), None)?;
        let large = norm(
            widened(&x, old, new),
            widened(&gain, old, new),
            widened(&shift, old, new),
            Some(step(old, new)),
        )?;
        assert_same_bits("norm", &small, &narrowed(&large, old, new));
        let fresh = large.chunks(new).flat_map(|row| row[old..].to_vec());
        assert!(fresh.into_iter().all(|y| y == 0.0), "{old} -> {new}");
        assert_same_bits("ones", &small, &norm(x, gain, shift, Some(vec![1.0; old]))?);
    }
    Ok(())
}

struct FeedForward {
    up: Vec<f32>,
    bias: Vec<f32>,
    down: Vec<f32>,
}

fn feed_forward(x: &[f32], hidden: usize, parts: FeedForward, form: Gelu, mask: &[f32]) -> Result<Vec<f32>> {
    let (hidden, ffn) = (Hidden(hidden), Ffn(parts.bias.len()));
    let mask = if mask.is_empty() { Mask::none() } else { Mask::new(&dev(), ffn, mask.to_vec())? };
    let x = dev().tensor_from_vec(x.to_vec(), (Rows(x.len() / hidden.0), hidden));
    let up: Tensor<(Ffn, Hidden), f32, Cpu> = dev().tensor_from_vec(parts.up, (ffn, hidden));
    let inner = linear(x, up, Some(dev().tensor_from_vec(parts.bias, (ffn,))))?;
    let bent = masked_gelu(inner, form, &mask)?;
    let down: Tensor<(Hidden, Ffn), f32, Cpu> = dev().tensor_from_vec(parts.down, (hidden, ffn));
    Ok(linear(bent, down, None)?.as_vec())
}

#[test]
fn new_units_at_zero_change_no_bit_of_a_feed_forward_layer() -> Result<()> {
    for (old, new) in SIZES {
        for (form, hidden) in [(Gelu::Tanh, 13), (Gelu::Erf, 33)] {
            let x: Vec<f32> = normals("x", 5 * hidden);
            let (up, bias): (Vec<f32>, Vec<f32>) = (normals("up", old * hidden), normals("bias", old));
            let down: Vec<f32> = normals("down", hidden * old);
            let parts = || FeedForward { up: up.clone(), bias: bias.clone(), down: down.clone() };
            let small = feed_forward(&x, hidden, parts(), form, &[])?;
            // What reads new units must be a number (0 times infinity is none); what makes them need not.
            let wild = |values: Vec<f32>| values.into_iter().map(|w| if w.is_finite() { w } else { 2e38 });
            let grown = FeedForward {
                up: widened(&up, old * hidden, new * hidden),
                bias: widened(&bias, old, new),
                down: wild(widened(&down, old, new)).collect(),
            };
            let large = feed_forward(&x, hidden, grown, form, &step(old, new))?;
            assert_same_bits("feed-forward", &small, &large);
            assert_same_bits("ones", &small, &feed_forward(&x, hidden, parts(), form, &vec![1.0; old])?);
        }
    }
    Ok(())
}

const LENGTH: usize = 5;

fn heads(
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    width: usize,
    mask: &[f32],
    output: Vec<f32>,
) -> Result<Vec<f32>> {
    let inner = AttnDim(query.len() / (2 * LENGTH));
    let mask = if mask.is_empty() { Mask::none() } else { Mask::new(&dev(), inner, mask.to_vec())? };
    let query = mask.apply(dev().tensor_from_vec(query, (Batch(2), Query(LENGTH), inner)))?;
    let key = mask.apply(dev().tensor_from_vec(key, (Batch(2), Key(LENGTH), inner)))?;
    let value = mask.apply(dev().tensor_from_vec(value, (Batch(2), Key(LENGTH), inner)))?;
    let causal = AttentionMask::causal(Query(LENGTH));
    let seen = [true, true, true, true, false, true, true, true, true, true];
    let causal = causal.with_padding(&dev(), &seen, Batch(2), Query(LENGTH))?;
    let off = (Dropout::OFF, DropoutSite { layer: None, place: "test" });
    let mixed = attention(query, key, value, HeadDim(width), &causal, off)?;
    let output: Tensor<(Hidden, AttnDim), f32, Cpu> =
        dev().tensor_from_vec(output.clone(), (Hidden(output.len() / inner.0), inner));
    Ok(linear(mixed, output, None)?.as_vec())
}

#[test]
fn new_heads_at_zero_change_no_bit_of_attention_and_its_output_map() -> Result<()> {
    for (old_heads, new_heads, width) in [(1, 3, 1), (2, 5, 7), (4, 11, 64), (8, 12, 64)] {
        let (old, new) = (old_heads * width, new_heads * width);
        let part = |name| -> Vec<f32> { normals(name, 2 * LENGTH * old) };
        let output: Vec<f32> = normals("output", 17 * old);
        let small = heads(part("q"), part("k"), part("v"), width, &[], output.clone())?;
        let wide = |name| widened(&part(name), old, new);
        let reads = widened(&output, old, new).into_iter().map(|w| if w.is_finite() { w } else { 2e38 });
        let large = heads(wide("q"), wide("k"), wide("v"), width, &step(old, new), reads.collect())?;
        assert_same_bits("attention", &small, &large);
        let ones = heads(part("q"), part("k"), part("v"), width, &vec![1.0; old], output)?;
        assert_same_bits("ones", &small, &ones);
    }
    Ok(())
}

#[test]
fn a_partly_raised_mask_is_the_formula() -> Result<()> {
    // The same numbers as the definition in f64; 2 units at 1, one at 0.3.
    let (x, c) = ([0.5f32, -1.25, 3.0], [1.0f32, 1.0, 0.3]);
    let (gain, shift) = ([1.5f32, -0.5, 2.0], [0.25f32, 0.0, -1.0]);
    let ours = norm(x.to_vec(), gain.to_vec(), shift.to_vec(), Some(c.to_vec()))?;
    let sum = |f: &dyn Fn(usize) -> f64| (0..3).map(|unit| f64::from(c[unit]) * f(unit)).sum::<f64>();
    let total = sum(&|_| 1.0);
    let mean = sum(&|unit| f64::from(x[unit])) / total;
    let variance = sum(&|unit| (f64::from(x[unit]) - mean).powi(2)) / total;
    let expected: Vec<f32> = (0..3)
        .map(|unit| {
            let normal = (f64::from(x[unit]) - mean) / (variance + 1e-5).sqrt();
            (f64::from(c[unit]) * (normal * f64::from(gain[unit]) + f64::from(shift[unit]))) as f32
        })
        .collect();
    msg_tests::close::assert_close("norm", &expected, &ours, 1e-6);
    Ok(())
}
