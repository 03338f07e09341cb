//! Single nodes on Cuda against the Cpu's, which are held against chains of plain operations: values and gradients,
//! both precisions, odd sizes.

use super::{draw, gpu};
use dfdx::{
    shapes::{HasShape, Shape},
    tensor::{Cpu, OwnedTape, Tensor, Trace},
    tensor_ops::{Backward, SumTo, TryMul},
};
use msg_core::{
    Backend, Result,
    axis::{Batch, Hidden, Position, Query, Segment, Vocab},
    error::Context,
    ops::{
        Block, Compute, Dropout, DropoutSite, Embeddings, Ids, Labels, NormOrder, Precision, block::plain,
        head::head_loss, masked_layer_norm,
    },
};
use msg_tests::{
    block_case::{Case, Named, assert_rounded, mask, outcome, tensor},
    close::assert_close,
};

fn gradients<S: Shape, D: Backend>(
    output: Tensor<S, f32, D, OwnedTape<f32, D>>,
) -> Result<dfdx::tensor::Gradients<f32, D>> {
    let weights = tensor(output.device(), "weights of the outputs", *output.shape());
    Ok(output.try_mul(weights).during("test")?.sum::<(), S::AllAxes>().backward())
}

fn forward<D: Backend>(case: &Case, device: &D, compute: Compute) -> Result<Vec<Named>> {
    let block = Block { compute, ..case.block(device)? };
    outcome(case, &block, device, |x| block.clone().forward(x))
}

/// The Cuda node against the Cpu's in f32; in bf16 as near to exact arithmetic as rounding makes the Cpu's.
fn agrees(case: &Case) -> Result<()> {
    let (cpu, gpu) = (Cpu::default(), gpu());
    let compute = Compute { precision: case.precision, ..Compute::default() };
    let ours = forward(case, &gpu, compute)?;
    assert_eq!(forward(case, &gpu, Compute { recompute: true, ..compute })?, ours, "{case:?}: made again");
    let twin = forward(case, &cpu, compute)?;
    let block = Block { compute: Compute::default(), ..case.block(&cpu)? };
    let exact = outcome(case, &block, &cpu, |x| plain::block(x, &block))?;
    for (((name, ours), (_, twin)), (_, exact)) in ours.iter().zip(&twin).zip(&exact) {
        let what = format!("{case:?}: {name}");
        let relative = if *name == "value" { 2e-5 } else { 1e-4 };
        match case.precision {
            Precision::F32 => assert_close(&what, twin, ours, relative),
            Precision::Bf16 => assert_rounded(&what, exact, twin, ours),
        }
    }
    Ok(())
}

#[test]
fn cuda_blocks_before_norms_agree_with_the_cpu() -> Result<()> {
    for precision in [Precision::F32, Precision::Bf16] {
        Case::all(NormOrder::Pre, precision).iter().try_for_each(agrees)?;
    }
    Ok(())
}

#[test]
fn cuda_blocks_after_norms_agree_with_the_cpu() -> Result<()> {
    for precision in [Precision::F32, Precision::Bf16] {
        Case::all(NormOrder::Post, precision).iter().try_for_each(agrees)?;
    }
    Ok(())
}

/// Heads of every size for which there is a kernel, and larger ones, which take the chain.
#[test]
fn cuda_heads_of_any_size_agree_with_the_cpu() -> Result<()> {
    for (length, head_dim) in [(70, 64), (66, 80), (33, 128), (5, 144)] {
        for precision in [Precision::F32, Precision::Bf16] {
            let base = Case::new(NormOrder::Pre, precision);
            agrees(&Case { shape: (1, length, 8), heads: (1, head_dim), padded: true, ..base })?;
        }
    }
    Ok(())
}

fn norm_results<D: Backend>(device: &D, (rows, units): (usize, usize), masked: bool) -> Result<Vec<Named>> {
    let x = tensor(device, "x", (Query(rows), Hidden(units)));
    let (gain, shift) = (tensor(device, "gain", (Hidden(units),)), tensor(device, "shift", (Hidden(units),)));
    let y = masked_layer_norm(x.leaky_trace(), &gain, &shift, &mask(device, Hidden(units), masked)?, 1e-12)?;
    let value = y.as_vec();
    let grads = gradients(y)?;
    Ok(vec![
        ("value", value),
        ("x", grads.get(&x).as_vec()),
        ("gain", grads.get(&gain).as_vec()),
        ("shift", grads.get(&shift).as_vec()),
    ])
}

#[test]
fn cuda_norms_agree_with_the_cpu() -> Result<()> {
    // The last one is too wide for a row in shared memory.
    for size in [(3, 5), (70, 33), (1, 258), (9, 1028), (2, 13_001)] {
        for masked in [false, true] {
            let expected = norm_results(&Cpu::default(), size, masked)?;
            let got = norm_results(&gpu(), size, masked)?;
            for ((name, expected), (_, got)) in expected.iter().zip(&got) {
                assert_close(&format!("{size:?}: {name}"), expected, got, 2e-5);
            }
        }
    }
    Ok(())
}

fn head_results<D: Backend>(
    device: &D,
    (rows, classes, inputs): (usize, usize, usize),
    biased: bool,
    precision: Precision,
) -> Result<Vec<Named>> {
    let x = tensor(device, "x", (Query(rows), Hidden(inputs)));
    let table = tensor(device, "table", (Vocab(classes), Hidden(inputs)));
    let bias = tensor(device, "bias", (Vocab(classes),));
    let bias = biased.then_some(&bias);
    let label = |row: usize| if row % 5 == 3 { -100 } else { (row * 7 % classes) as i64 };
    let labels: Vec<i64> = (0..rows).map(label).collect();
    let labels = Labels::new(device, &labels, (Query(rows),), Vocab(classes))?;
    let loss = head_loss(x.leaky_trace(), &table, bias, &labels, 5, precision)?;
    let untaped = head_loss(x.clone(), &table, bias, &labels, 5, precision)?;
    assert_eq!(untaped.as_vec(), loss.as_vec(), "the loss does not depend on the tape");
    let value = loss.as_vec();
    // Another factor than 1 on the loss.
    let grads = loss.try_mul(0.7).during("test")?.backward();
    let mut named =
        vec![("loss", value), ("x", grads.get(&x).as_vec()), ("table", grads.get(&table).as_vec())];
    if let Some(bias) = bias {
        named.push(("bias", grads.get(bias).as_vec()));
    }
    Ok(named)
}

#[test]
fn cuda_head_losses_agree_with_the_cpu() -> Result<()> {
    for size in [(1, 2, 1), (7, 11, 5), (60, 1037, 19), (33, 2048, 8)] {
        for (biased, precision) in [
            (false, Precision::F32),
            (true, Precision::F32),
            (false, Precision::Bf16),
            (true, Precision::Bf16),
        ] {
            let expected = head_results(&Cpu::default(), size, biased, precision)?;
            let got = head_results(&gpu(), size, biased, precision)?;
            for ((name, expected), (_, got)) in expected.iter().zip(&got) {
                // In bf16 both round the gradients of logits.
                let tolerance = match (precision, *name) {
                    (_, "loss") => 1e-5,
                    (Precision::F32, _) => 2e-5,
                    (Precision::Bf16, _) => 5e-3,
                };
                assert_close(&format!("{size:?} {precision:?}: {name}"), expected, got, tolerance);
            }
        }
    }
    Ok(())
}

fn embedding_results<D: Backend>(device: &D, segments: usize, width: usize) -> Result<Vec<Named>> {
    let (batch, length, words) = (Batch(3), Query(101), Vocab(17));
    let places = batch.0 * length.0;
    let tables = (
        tensor(device, "words", (words, Hidden(width))),
        tensor(device, "segments", (Segment(segments), Hidden(width))),
        tensor(device, "positions", (Position(120), Hidden(width))),
    );
    let word_ids: Vec<u32> = (0..places).map(|at| draw("words", at, words.0) as u32).collect();
    let segment_ids: Vec<u32> = (0..places).map(|at| draw("segments", at, segments) as u32).collect();
    // Positions that repeat within a sequence, too.
    let position_ids: Vec<u32> = (0..length.0 as u32).map(|at| at / 2 + 3).collect();
    let word_ids = Ids::new(device, "words", &word_ids, (batch, length), words)?;
    let segment_ids = Ids::new(device, "segments", &segment_ids, (batch, length), Segment(segments))?;
    let position_ids = Ids::new(device, "positions", &position_ids, (length,), Position(120))?;
    let of = Embeddings {
        words: (&tables.0, &word_ids),
        segments: (segments > 1).then_some((&tables.1, &segment_ids)),
        positions: (&tables.2, &position_ids),
    };
    let sum = of.sum(OwnedTape::default())?;
    let value = sum.as_vec();
    let grads = gradients(sum)?;
    let mut named = vec![
        ("value", value),
        ("words", grads.get(&tables.0).as_vec()),
        ("positions", grads.get(&tables.2).as_vec()),
    ];
    if segments > 1 {
        named.push(("segments", grads.get(&tables.1).as_vec()));
    }
    Ok(named)
}

#[test]
fn cuda_embeddings_agree_with_the_cpu() -> Result<()> {
    for (segments, width) in [(1, 5), (2, 33), (6, 300)] {
        let expected = embedding_results(&Cpu::default(), segments, width)?;
        let got = embedding_results(&gpu(), segments, width)?;
        for ((name, expected), (_, got)) in expected.iter().zip(&got) {
            assert_close(&format!("{segments} segments, width {width}: {name}"), expected, got, 1e-6);
        }
    }
    Ok(())
}

#[test]
fn cuda_dropout_drops_what_the_cpu_drops() -> Result<()> {
    let dropout = Dropout::new(0.3, 5, 6, 7)?;
    let site = DropoutSite { layer: Some(4), place: "test" };
    fn dropped<D: Backend>(device: &D, dropout: Dropout, site: DropoutSite) -> Result<Vec<f32>> {
        let x = tensor(device, "x", (Batch(3), Query(5), Hidden(70)));
        Ok(dropout.apply(x, site)?.as_vec())
    }
    assert_eq!(dropped(&gpu(), dropout, site)?, dropped(&Cpu::default(), dropout, site)?);
    Ok(())
}
