//! The matrix products, the norm and attention against plain dfdx chains, values and gradients, in f32
//! and f64, with operands in any memory order.

use dfdx::{
    shapes::{Axes2, Axes3, Axes4, Axis as At, HasShape, Shape},
    tensor::{Cpu, Gradients, OwnedTape, Tensor, TensorFromVec, Trace},
    tensor_ops::{Backward, BroadcastTo, PermuteTo, SumTo, TryAdd, TryMatMul, TryMul},
};
use msg_core::{
    Result,
    axis::{AttnDim, Batch, Ffn, HeadDim, Heads, Hidden, Key, Query, Rows, merge_heads, split_heads},
    error::Context,
    float::Float,
    mask::Mask,
    ops::{
        AttentionMask, Dropout, DropoutSite, Kernels, attention, linear, masked_layer_norm, matmul::Matmul,
    },
};
use msg_tests::{close::assert_close, finite::tensor};

type Traced<S, E> = Tensor<S, E, Cpu, OwnedTape<E, Cpu>>;

/// Sums an output with weights, so that each entry gets another gradient.
fn backward<S: Shape, E: Float>(output: Traced<S, E>) -> Result<Gradients<E, Cpu>>
where
    Cpu: Kernels<E>,
{
    let weights = tensor::<_, E>("weights of the outputs", *output.shape());
    Ok(output.try_mul(weights).during("test")?.sum::<(), S::AllAxes>().backward())
}

/// Both forms with the same operands: equal values and equal gradients at the tensors `$of`.
macro_rules! assert_twins {
    ($tolerance:expr, $ours:expr, $plain:expr, [$($of:expr),+]) => {{
        let (ours, plain) = ($ours, $plain);
        assert_close("value", &plain.as_vec(), &ours.as_vec(), $tolerance);
        let (ours, plain) = (backward(ours)?, backward(plain)?);
        $(assert_close(stringify!($of), &plain.get(&$of).as_vec(), &ours.get(&$of).as_vec(), $tolerance);)+
    }};
}

fn products_agree<E: Float>(tolerance: f64) -> Result<()>
where
    Cpu: Kernels<E>,
{
    // Longer than one block of the product's sums.
    let x = tensor::<_, E>("x", (Batch(2), Query(3), Hidden(301)));
    let w = tensor::<_, E>("w", (Ffn(37), Hidden(301)));
    assert_twins!(
        tolerance,
        linear(x.leaky_trace(), w.leaky_trace(), None)?,
        x.leaky_trace().matmul(w.leaky_trace().permute::<(Hidden, Ffn), Axes2<1, 0>>()),
        [x, w]
    );
    let q = tensor::<_, E>("q", (Batch(2), Heads(3), Query(5), HeadDim(7)));
    let k = tensor::<_, E>("k", (Batch(2), Heads(3), Key(11), HeadDim(7)));
    let turned = k.leaky_trace().permute::<(Batch, Heads, HeadDim, Key), Axes4<0, 1, 3, 2>>();
    assert_twins!(
        tolerance,
        <Cpu as Matmul<E>>::scores(q.leaky_trace(), k.leaky_trace())?,
        q.leaky_trace().matmul(turned),
        [q, k]
    );
    let p = tensor::<_, E>("p", (Batch(2), Heads(3), Query(5), Key(11)));
    assert_twins!(
        tolerance,
        <Cpu as Matmul<E>>::weighted_values(p.leaky_trace(), k.leaky_trace())?,
        p.leaky_trace().matmul(k.leaky_trace()),
        [p, k]
    );
    Ok(())
}

#[test]
fn products_agree_with_dfdx() -> Result<()> {
    products_agree::<f32>(2e-6)?;
    products_agree::<f64>(1e-14)
}

fn products_of_views_agree<E: Float>(tolerance: f64) -> Result<()>
where
    Cpu: Kernels<E>,
{
    // Views: permuted with a tape, permuted before the tape, and broadcast (stride 0).
    let x = tensor::<_, E>("x", (Hidden(13), Batch(2), Query(3)));
    let w = tensor::<_, E>("w", (Hidden(13), Ffn(5)));
    let row = tensor::<_, E>("row", (Batch(2), Hidden(13)));
    let input = || x.leaky_trace().permute::<(Batch, Query, Hidden), Axes3<1, 2, 0>>();
    let turned = || w.leaky_trace().permute::<(Ffn, Hidden), Axes2<1, 0>>();
    let plain = || input().matmul(w.leaky_trace());
    assert_twins!(tolerance, linear(input(), turned(), None)?, plain(), [x, w]);
    let late = w.clone().permute::<(Ffn, Hidden), Axes2<1, 0>>().retaped();
    assert_twins!(tolerance, linear(input(), late, None)?, plain(), [x, w]);
    let spread = || row.leaky_trace().broadcast_like::<_, At<1>>(&(Batch(2), Query(3), Hidden(13)));
    assert_twins!(tolerance, linear(spread(), turned(), None)?, spread().matmul(w.leaky_trace()), [row, w]);

    let q = tensor::<_, E>("q", (Batch(2), Query(5), Heads(3), HeadDim(7)));
    let k = tensor::<_, E>("k", (HeadDim(7), Batch(2), Heads(3), Key(11)));
    let p = tensor::<_, E>("p", (Batch(2), Heads(3), Key(11), Query(5)));
    let queries = || q.leaky_trace().permute::<(Batch, Heads, Query, HeadDim), Axes4<0, 2, 1, 3>>();
    let keys = || k.leaky_trace().permute::<(Batch, Heads, Key, HeadDim), Axes4<1, 2, 3, 0>>();
    let down = || k.leaky_trace().permute::<(Batch, Heads, HeadDim, Key), Axes4<1, 2, 0, 3>>();
    assert_twins!(
        tolerance,
        <Cpu as Matmul<E>>::scores(queries(), keys())?,
        queries().matmul(down()),
        [q, k]
    );
    let shares = || p.leaky_trace().permute::<(Batch, Heads, Query, Key), Axes4<0, 1, 3, 2>>();
    assert_twins!(
        tolerance,
        <Cpu as Matmul<E>>::weighted_values(shares(), keys())?,
        shares().matmul(keys()),
        [p, k]
    );
    Ok(())
}

#[test]
fn products_of_permuted_and_broadcast_operands_agree_with_dfdx_and_lose_no_gradient() -> Result<()> {
    products_of_views_agree::<f32>(2e-6)?;
    products_of_views_agree::<f64>(1e-14)
}

fn the_norm_agrees<E: Float>(tolerance: f64) -> Result<()>
where
    Cpu: Kernels<E>,
{
    let shape = (Batch(2), Query(3), Hidden(258));
    let x = tensor::<_, E>("x", shape);
    let (gain, shift) = (tensor::<_, E>("gain", (Hidden(258),)), tensor::<_, E>("shift", (Hidden(258),)));
    for eps in [1e-5, 1e-12] {
        let normal = x.leaky_trace().normalize::<At<2>>(eps);
        let scaled = normal.try_mul(gain.leaky_trace().broadcast_like::<_, Axes2<0, 1>>(&shape));
        let plain = scaled
            .and_then(|y| y.try_add(shift.leaky_trace().broadcast_like::<_, Axes2<0, 1>>(&shape)))
            .during("test")?;
        assert_twins!(
            tolerance,
            masked_layer_norm(x.leaky_trace(), &gain, &shift, &Mask::none(), eps)?,
            plain,
            [x, gain, shift]
        );
    }
    Ok(())
}

#[test]
fn the_norm_without_a_mask_is_the_one_that_dfdx_computes() -> Result<()> {
    the_norm_agrees::<f32>(1e-5)?;
    the_norm_agrees::<f64>(1e-13)
}

fn attention_agrees<E: Float>(tolerance: f64, causal: bool) -> Result<()>
where
    Cpu: Kernels<E>,
{
    let (length, keys) = (5, if causal { 5 } else { 11 });
    let q = tensor::<_, E>("q", (Batch(2), Query(length), AttnDim(21)));
    let k = tensor::<_, E>("k", (Batch(2), Key(keys), AttnDim(21)));
    let v = tensor::<_, E>("v", (Batch(2), Key(keys), AttnDim(21)));
    let mask = match causal {
        true => AttentionMask::causal(Query(length)),
        false => AttentionMask::full(),
    };
    let turned = split_heads(k.leaky_trace(), HeadDim(7))?
        .permute::<(Batch, Heads, HeadDim, Key), Axes4<0, 1, 3, 2>>();
    let scores = split_heads(q.leaky_trace(), HeadDim(7))?.matmul(turned);
    let mut scores = scores.try_mul(E::of(1.0 / 7f64.sqrt())).during("test")?;
    if causal {
        let hidden = (0..25).map(|at| E::of(if at % 5 > at / 5 { -1e30 } else { 0.0 })).collect();
        let hidden = q.device().tensor_from_vec(hidden, (Query(5), Key(5)));
        let shape = *scores.shape();
        scores = scores.try_add(hidden.broadcast_like::<_, Axes2<0, 1>>(&shape)).during("test")?;
    }
    let shares = scores.softmax::<At<3>>();
    let plain = merge_heads(shares.matmul(split_heads(v.leaky_trace(), HeadDim(7))?))?;
    let off = (Dropout::OFF, DropoutSite { layer: None, place: "test" });
    assert_twins!(
        tolerance,
        attention(q.leaky_trace(), k.leaky_trace(), v.leaky_trace(), HeadDim(7), &mask, off)?,
        plain,
        [q, k, v]
    );
    Ok(())
}

#[test]
fn attention_is_the_plain_chain_of_dfdx() -> Result<()> {
    for causal in [false, true] {
        attention_agrees::<f32>(1e-5, causal)?;
        attention_agrees::<f64>(1e-13, causal)?;
    }
    Ok(())
}

/// Attention of one head written as loops, to pin which entry of AttnDim belongs to which head.
#[test]
fn attention_is_its_definition_and_heads_lie_side_by_side() -> Result<()> {
    let (length, heads, width) = (3, 2, 4);
    let shape = (Batch(1), Query(length), AttnDim(heads * width));
    let (q, k) = (tensor::<_, f64>("q", shape), tensor::<_, f64>("k", (Batch(1), Key(length), shape.2)));
    let v = tensor::<_, f64>("v", (Batch(1), Key(length), shape.2));
    let mask = AttentionMask::causal(Query(length));
    let off = (Dropout::OFF, DropoutSite { layer: None, place: "test" });
    let ours = attention(q.clone(), k.clone(), v.clone(), HeadDim(width), &mask, off)?.as_vec();
    let (q, k, v) = (q.as_vec(), k.as_vec(), v.as_vec());
    let entry = |values: &[f64], at: usize, head: usize, unit: usize| {
        values[at * heads * width + head * width + unit]
    };
    let mut expected = Vec::new();
    for query in 0..length {
        for head in 0..heads {
            let score =
                |key| (0..width).map(|u| entry(&q, query, head, u) * entry(&k, key, head, u)).sum::<f64>();
            let weights: Vec<f64> = (0..=query).map(|key| f64::exp(score(key) / 2.0)).collect();
            let total: f64 = weights.iter().sum();
            expected.extend((0..width).map(|unit| {
                weights.iter().enumerate().map(|(key, w)| w / total * entry(&v, key, head, unit)).sum::<f64>()
            }));
        }
    }
    assert_close("attention", &expected, &ours, 1e-13);
    Ok(())
}

#[test]
fn rows_and_positions_are_the_same_to_linear() -> Result<()> {
    let x = tensor::<_, f32>("x", (Rows(6), Hidden(7)));
    let y = tensor::<_, f32>("x", (Batch(2), Query(3), Hidden(7)));
    let w = tensor::<_, f32>("w", (Ffn(5), Hidden(7)));
    let (x, y) = (linear(x, w.clone(), None)?.as_vec(), linear(y, w, None)?.as_vec());
    msg_tests::close::assert_same_bits("linear", &x, &y);
    Ok(())
}
