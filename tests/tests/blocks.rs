//! Whole blocks, the norm and the head against their plain chains: values and gradients, both norm orders,
//! with and without masks, padding and dropout, at odd sizes and over several blocks of queries.

use dfdx::{
    shapes::{HasShape, Shape},
    tensor::{Cpu, OwnedTape, Tensor, Trace},
    tensor_ops::{Backward, SumTo, TryMul},
};
use msg_core::{
    Result,
    axis::{Hidden, Query, Vocab},
    error::Context,
    ops::{
        Block, Compute, Gelu, Labels, NormOrder, Precision,
        block::plain,
        head::{self, head_loss},
        masked_layer_norm, masked_norm,
    },
};
use msg_tests::{
    block_case::{Case, assert_rounded, mask, outcome},
    close::assert_close,
    finite::tensor,
};

type Traced<S> = Tensor<S, f32, Cpu, OwnedTape<f32, Cpu>>;

fn backward<S: Shape>(output: Traced<S>) -> Result<dfdx::tensor::Gradients<f32, Cpu>> {
    let weights = tensor::<_, f32>("weights of the outputs", *output.shape());
    Ok(output.try_mul(weights).during("test")?.sum::<(), S::AllAxes>().backward())
}

fn agrees(case: Case) -> Result<()> {
    let device = Cpu::default();
    let block = case.block(&device)?;
    let computed = |compute| {
        let block = Block { compute, ..block.clone() };
        outcome(&case, &block, &device, |x| block.clone().forward(x))
    };
    let chained = |compute| {
        let block = Block { compute, ..block.clone() };
        outcome(&case, &block, &device, |x| plain::block(x, &block))
    };
    let ours = computed(block.compute)?;
    let again = computed(Compute { recompute: true, ..block.compute })?;
    assert_eq!(again, ours, "{case:?}: made again");
    let slow = chained(block.compute)?;
    let exact = chained(Compute::default())?;
    for (((name, ours), (_, slow)), (_, exact)) in ours.iter().zip(&slow).zip(&exact) {
        let what = format!("{case:?}: {name}");
        let relative = if *name == "value" { 2e-5 } else { 1e-4 };
        match case.precision {
            Precision::F32 => assert_close(&what, slow, ours, relative),
            Precision::Bf16 => assert_rounded(&what, exact, slow, ours),
        }
    }
    Ok(())
}

#[test]
fn blocks_agree_with_their_plain_chains() -> Result<()> {
    for order in [NormOrder::Pre, NormOrder::Post] {
        for precision in [Precision::F32, Precision::Bf16] {
            Case::all(order, precision).into_iter().try_for_each(agrees)?;
        }
    }
    Ok(())
}

#[test]
fn a_closed_gate_gives_the_input_back_whatever_the_block_holds() -> Result<()> {
    for order in [NormOrder::Pre, NormOrder::Post] {
        let device = Cpu::default();
        let case = Case { gelu: Gelu::Erf, gate: 0.0, ..Case::new(order, Precision::F32) };
        let x = case.input(&device);
        let mut block = case.block(&device)?;
        let nan = vec![f32::NAN; case.ffn * case.shape.2];
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
            let mask = mask(&Cpu::default(), Hidden(units), masked)?;
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
