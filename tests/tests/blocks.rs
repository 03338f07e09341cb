//! Whole blocks, the norm and the head against their plain chains: values and gradients, both norm orders,
//! with and without masks, padding and dropout, at odd sizes and over several blocks of queries.

use dfdx::{
    shapes::{HasShape, Shape},
    tensor::{Cpu, OwnedTape, Tensor, Trace},
    tensor_ops::{Backward, SumTo, TryMul},
};
use msg_core::{
    Result,
    axis::{Axis, Batch, Ffn, HeadDim, Hidden, Inner, Qkv, Query, Vocab},
    error::Context,
    mask::{Gate, Mask},
    ops::{
        AttentionMask, Block, BlockMasks, Compute, Dropout, Gelu, Labels, NormOrder, Precision,
        block::{Stream, plain},
        head::{self, head_loss},
        masked_layer_norm, masked_norm,
    },
};
use msg_tests::{close::assert_close, finite::tensor};

type Traced<S> = Tensor<S, f32, Cpu, OwnedTape<f32, Cpu>>;

fn backward<S: Shape>(output: Traced<S>) -> Result<dfdx::tensor::Gradients<f32, Cpu>> {
    let weights = tensor::<_, f32>("weights of the outputs", *output.shape());
    Ok(output.try_mul(weights).during("test")?.sum::<(), S::AllAxes>().backward())
}

/// Old units at 1, a ramping group, and at the end units that are not there yet.
fn mask<A: Axis>(axis: A, on: bool) -> Result<Mask<A, f32, Cpu>> {
    if !on {
        return Ok(Mask::none());
    }
    let size = axis.size();
    let value = |at: usize| {
        if at < size / 2 {
            1.0
        } else if at + 2 < size {
            0.3
        } else {
            0.0
        }
    };
    Mask::new(&Cpu::default(), axis, (0..size).map(value).collect())
}

#[derive(Clone, Copy, Debug)]
struct Case {
    order: NormOrder,
    gelu: Gelu,
    masked: bool,
    gate: f32,
    padded: bool,
    dropout: f32,
    shape: (usize, usize, usize),
    heads: (usize, usize),
    ffn: usize,
    precision: Precision,
}

fn block(case: &Case) -> Result<Block<Cpu>> {
    let device = Cpu::default();
    let (batch, length, hidden) = case.shape;
    let (heads, head_dim) = case.heads;
    let (hidden, inner, ffn) = (Hidden(hidden), Inner(heads * head_dim), Ffn(case.ffn));
    let seen = match case.order {
        NormOrder::Pre => AttentionMask::causal(&device, Query(length))?,
        NormOrder::Post => AttentionMask::full(),
    };
    let padding: Vec<bool> = (0..batch * length).map(|at| at % length < length - at / length % 3).collect();
    let seen = match case.padded {
        true => seen.with_padding(&device, &padding, Batch(batch), Query(length))?,
        false => seen,
    };
    Ok(Block {
        order: case.order,
        attention_norm: (tensor("gain 1", (hidden,)), tensor("shift 1", (hidden,))),
        qkv: (tensor("qkv", (Qkv(3), inner, hidden)), tensor("qkv bias", (Qkv(3), inner))),
        output: (tensor("output", (hidden, inner)), tensor("output bias", (hidden,))),
        feed_forward_norm: (tensor("gain 2", (hidden,)), tensor("shift 2", (hidden,))),
        up: (tensor("up", (ffn, hidden)), tensor("up bias", (ffn,))),
        down: (tensor("down", (hidden, ffn)), tensor("down bias", (hidden,))),
        masks: BlockMasks {
            attention_norm: mask(hidden, case.masked)?,
            feed_forward_norm: mask(hidden, case.masked)?,
            qkv: [mask(inner, case.masked)?, mask(inner, false)?, mask(inner, case.masked)?],
            feed_forward: mask(ffn, case.masked)?,
            gate: Gate::new(case.gate),
        },
        seen,
        head_dim: HeadDim(head_dim),
        eps: 1e-5,
        gelu: case.gelu,
        dropout: Dropout::new(case.dropout, 7, 3, 1)?,
        layer_id: 2,
        compute: Compute { precision: case.precision, ..Compute::default() },
    })
}

/// Fails unless ours is as near to the chain in f32 as a few times the chain with operands rounded to bf16 is, or a
/// few roundings of each value: ours rounds stored activations and gradients, too.
fn assert_rounded(what: &str, exact: &[f32], slow: &[f32], ours: &[f32]) {
    const STEP: f64 = 1.0 / 256.0;
    let apart = |x: &[f32], y: &[f32]| {
        assert_eq!(x.len(), y.len(), "{what}: number of values");
        x.iter().zip(y).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>().sqrt()
    };
    let size = exact.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let (error, usual) = (apart(ours, exact), apart(slow, exact));
    assert!(
        error <= 3.0 * usual + 5.0 * STEP * size,
        "{what}: {error} where rounding makes {usual} of {size}"
    );
}

fn agrees(case: Case) -> Result<()> {
    let (batch, length, hidden) = case.shape;
    let x = tensor::<_, f32>("x", (Batch(batch), Query(length), Hidden(hidden)));
    let block = block(&case)?;
    let ours: Stream<Cpu, _> = block.clone().forward(x.leaky_trace())?;
    let compute = Compute { recompute: true, ..block.compute };
    let again = Block { compute, ..block.clone() }.forward(x.leaky_trace())?;
    let slow: Stream<Cpu, _> = plain::block(x.leaky_trace(), &block)?;
    let exact = Block { compute: Compute::default(), ..block.clone() };
    let exact: Stream<Cpu, _> = plain::block(x.leaky_trace(), &exact)?;
    assert_eq!(again.as_vec(), ours.as_vec(), "{case:?}: value, made again");
    let near = |what: &str, [exact, slow, ours]: [Vec<f32>; 3], relative: f64| {
        let what = format!("{case:?}: {what}");
        match case.precision {
            Precision::F32 => assert_close(&what, &slow, &ours, relative),
            Precision::Bf16 => assert_rounded(&what, &exact, &slow, &ours),
        }
    };
    near("value", [exact.as_vec(), slow.as_vec(), ours.as_vec()], 2e-5);
    let (ours, again) = (backward(ours)?, backward(again)?);
    let (exact, slow) = (backward(exact)?, backward(slow)?);
    macro_rules! gradients {
        ($($name:literal $of:expr;)+) => {
            $(
                assert_eq!(again.get($of).as_vec(), ours.get($of).as_vec(), "{case:?}: {}, made again", $name);
                near($name, [&exact, &slow, &ours].map(|grads| grads.get($of).as_vec()), 1e-4);
            )+
        };
    }
    gradients! {
        "x" &x;
        "attention gain" &block.attention_norm.0;
        "attention shift" &block.attention_norm.1;
        "qkv" &block.qkv.0;
        "qkv bias" &block.qkv.1;
        "output" &block.output.0;
        "output bias" &block.output.1;
        "feed-forward gain" &block.feed_forward_norm.0;
        "feed-forward shift" &block.feed_forward_norm.1;
        "up" &block.up.0;
        "up bias" &block.up.1;
        "down" &block.down.0;
        "down bias" &block.down.1;
    }
    Ok(())
}

#[test]
fn blocks_agree_with_their_plain_chains() -> Result<()> {
    let base = Case {
        order: NormOrder::Pre,
        gelu: Gelu::Tanh,
        masked: false,
        gate: 1.0,
        padded: false,
        dropout: 0.0,
        shape: (2, 5, 7),
        heads: (3, 4),
        ffn: 11,
        precision: Precision::F32,
    };
    let orders = [NormOrder::Pre, NormOrder::Post].into_iter();
    for (order, precision) in orders.flat_map(|order| [(order, Precision::F32), (order, Precision::Bf16)]) {
        let base = Case { order, precision, ..base };
        agrees(base)?;
        agrees(Case { gelu: Gelu::Erf, ..base })?;
        agrees(Case { masked: true, ..base })?;
        agrees(Case { masked: true, gate: 0.4, ..base })?;
        agrees(Case { dropout: 0.3, gate: 0.4, ..base })?;
        agrees(Case { padded: true, masked: true, ..base })?;
        // Several blocks of queries, none of them whole; widths beyond a vector and a tile.
        agrees(Case { shape: (2, 131, 50), heads: (2, 9), ffn: 70, masked: true, ..base })?;
        agrees(Case { shape: (1, 1, 1), heads: (1, 1), ffn: 1, ..base })?;
    }
    Ok(())
}

#[test]
fn a_closed_gate_gives_the_input_back_whatever_the_block_holds() -> Result<()> {
    for order in [NormOrder::Pre, NormOrder::Post] {
        let case = Case {
            order,
            gelu: Gelu::Erf,
            masked: false,
            gate: 0.0,
            padded: false,
            dropout: 0.0,
            shape: (2, 3, 5),
            heads: (1, 2),
            ffn: 3,
            precision: Precision::F32,
        };
        let x = tensor::<_, f32>("x", (Batch(2), Query(3), Hidden(5)));
        let mut block = block(&case)?;
        let nan = vec![f32::NAN; 15];
        block.up.0.copy_from(&nan);
        assert_eq!(block.forward(x.clone())?.as_vec(), x.as_vec());
    }
    Ok(())
}

#[test]
fn the_norm_agrees_with_its_plain_chain_behind_a_mask() -> Result<()> {
    for (rows, units) in [(3, 5), (70, 33), (1, 258)] {
        let shape = (Query(rows), Hidden(units));
        let x = tensor::<_, f32>("x", shape);
        let (gain, shift) = (tensor("gain", (Hidden(units),)), tensor("shift", (Hidden(units),)));
        for masked in [false, true] {
            let mask = mask(Hidden(units), masked)?;
            let ours = masked_layer_norm(x.leaky_trace(), &gain, &shift, &mask, 1e-12)?;
            let slow = masked_norm::plain::layer_norm(x.leaky_trace(), &gain, &shift, &mask, 1e-12)?;
            assert_close("value", &slow.as_vec(), &ours.as_vec(), 1e-5);
            let (ours, slow) = (backward(ours)?, backward(slow)?);
            assert_close("x", &slow.get(&x).as_vec(), &ours.get(&x).as_vec(), 2e-5);
            assert_close("gain", &slow.get(&gain).as_vec(), &ours.get(&gain).as_vec(), 2e-5);
            assert_close("shift", &slow.get(&shift).as_vec(), &ours.get(&shift).as_vec(), 2e-5);
        }
    }
    Ok(())
}

#[test]
fn the_head_agrees_with_its_plain_chain_over_several_chunks_of_rows() -> Result<()> {
    let device = Cpu::default();
    for (rows, classes, inputs) in [(1, 2, 1), (7, 11, 5), (600, 37, 19)] {
        let x = tensor::<_, f32>("x", (Query(rows), Hidden(inputs)));
        let (table, bias) =
            (tensor("table", (Vocab(classes), Hidden(inputs))), tensor("bias", (Vocab(classes),)));
        let label = |row: usize| if row % 5 == 3 { -100 } else { (row * 7 % classes) as i64 };
        let labels: Vec<i64> = (0..rows).map(label).collect();
        let labels = Labels::new(&device, &labels, (Query(rows),), Vocab(classes))?;
        for (bias, precision) in [
            (None, Precision::F32),
            (Some(&bias), Precision::F32),
            (None, Precision::Bf16),
            (Some(&bias), Precision::Bf16),
        ] {
            // In bf16 ours rounds the gradients of logits, too.
            let tolerance = if precision == Precision::F32 { 1e-5 } else { 5e-3 };
            let ours = head_loss(x.leaky_trace(), &table, bias, &labels, 5, precision)?;
            let slow = head::plain(x.leaky_trace(), &table, bias, &labels, 5, precision)?;
            assert_close("loss", &slow.as_vec(), &ours.as_vec(), 1e-5);
            // Another factor than 1 on the loss.
            let (ours, slow) = (backward(ours)?, backward(slow)?);
            assert_close("x", &slow.get(&x).as_vec(), &ours.get(&x).as_vec(), tolerance);
            assert_close("table", &slow.get(&table).as_vec(), &ours.get(&table).as_vec(), tolerance);
            if let Some(bias) = bias {
                assert_close("bias", &slow.get(bias).as_vec(), &ours.get(bias).as_vec(), tolerance);
            }
            let untaped = head_loss(x.clone(), &table, bias, &labels, 5, precision)?;
            let taped = head_loss(x.leaky_trace(), &table, bias, &labels, 5, precision)?;
            assert_eq!(untaped.as_vec(), taped.as_vec(), "the loss does not depend on the tape");
        }
    }
    Ok(())
}
