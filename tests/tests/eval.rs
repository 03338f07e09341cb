//! Held-out figures against plain means taken by hand from logits in f64, on checkpoints of tiny runs.

use crate::runs::{config, corpus, run};
use dfdx::tensor::Cpu;
use msg_models::{GrowingModel, bert::Bert, gpt::Gpt};
use msg_tests::{close::assert_close, families::outputs};
use msg_train::{
    checkpoint::{self, Saved, load_model},
    data::{Batches, Causal, Mlm, Prepared},
    eval::{Choice, evaluate_saved},
    families::{
        family::{HostOf, Trainable},
        held_out::{HeldOut, Span, evaluate},
    },
    metrics::{METRICS, Record, sinks::jsonl},
    run::Resume,
};
use std::{fs, path::Path, sync::Arc};

/// A step inside a ramp.
const MID_RAMP: u64 = 6;
const LENGTH: usize = 12;
/// The seed of the tiny runs.
const SEED: u64 = 3;

/// A run of a family in `folder`.
pub(crate) fn tiny_run(folder: &Path, family: &str) {
    fs::create_dir(folder.join("text")).unwrap();
    corpus(&folder.join("text"));
    run(config(folder, family, "tiny"), Resume::Never).unwrap_or_else(|error| panic!("{error}"));
}

pub(crate) fn open(folder: &Path, step: u64) -> Saved<Cpu> {
    let path = folder.join(format!("tiny/checkpoints/step-{step:08}"));
    checkpoint::open(&path, &Cpu::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// Loss, and whether the label is the first of the largest, of every row with a label.
fn by_hand(logits: &[f32], labels: &[i64]) -> (Vec<f64>, usize) {
    let classes = logits.len() / labels.len();
    let (mut losses, mut right) = (Vec::new(), 0);
    for (row, &label) in logits.chunks(classes).zip(labels) {
        let Ok(label) = usize::try_from(label) else { continue };
        let row: Vec<f64> = row.iter().map(|&logit| f64::from(logit)).collect();
        let sum: f64 = row.iter().map(|logit| logit.exp()).sum();
        losses.push(sum.ln() - row[label]);
        right += usize::from((0..classes).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])) == Some(label));
    }
    (losses, right)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// All held-out sequences in one batch.
fn whole<B: Batches>(batches: &B) -> (B::Batch, usize) {
    let all = batches.held_out_sequences(LENGTH).unwrap();
    (batches.held_out(0, all, LENGTH).unwrap().unwrap(), all)
}

/// The same figures, to the bit, in batches of any size.
fn batched<M: Trainable<Cpu>, B: Batches<Batch = HostOf<Cpu, M>>>(
    model: &M,
    batches: &B,
    expected: &HeldOut,
) {
    assert!(expected.sequences > 7);
    for micro_batch in [1, 3, 7, 1000] {
        let span = Span { sequences: usize::MAX, length: LENGTH, micro_batch };
        let got = evaluate(model, batches, MID_RAMP, span).unwrap();
        assert_eq!(got.as_ref(), Some(expected), "batches of {micro_batch}");
    }
}

fn data(folder: &Path, family: &str) -> Arc<Prepared> {
    Arc::new(Prepared::open(&folder.join(format!("data-{family}"))).unwrap())
}

#[test]
fn figures_of_a_gpt_are_the_plain_means_under_the_masks_of_its_step() {
    let temporary = tempfile::tempdir().unwrap();
    tiny_run(temporary.path(), "gpt");
    let saved = open(temporary.path(), MID_RAMP);
    let held_out = evaluate_saved(&saved, &Choice::default()).unwrap().held_out;
    let (model, _) = load_model::<Cpu, Gpt<Cpu>>(&saved.path, &Cpu::default()).unwrap();

    let batches = Causal::new(data(temporary.path(), "gpt"), SEED, LENGTH).unwrap();
    let (host, all) = whole(&batches);
    let figures = |step| {
        let logits = outputs(&model, &host, &model.masks(step).unwrap()).unwrap();
        by_hand(&logits, &host.labels)
    };
    let (losses, right) = figures(MID_RAMP);
    assert_eq!((held_out.sequences, held_out.tokens().labels), (all, losses.len() as u64));
    assert_close("loss", &[mean(&losses)], &[held_out.loss()], 1e-6);
    assert_close("perplexity", &[mean(&losses).exp()], &[held_out.perplexity()], 1e-6);
    assert_eq!((held_out.tokens().right, held_out.accuracy()), (right as u64, None));
    assert!(right > 0 && right < losses.len());
    // Other masks say something else, so the comparison sees them.
    assert!((mean(&figures(MID_RAMP + 1).0) - held_out.loss()).abs() > 1e-6 * held_out.loss());
    batched(&model, &batches, &held_out);
}

#[test]
fn figures_of_a_bert_are_means_by_the_own_count_of_each_term_and_stand_in_the_metrics() {
    let temporary = tempfile::tempdir().unwrap();
    tiny_run(temporary.path(), "bert");
    let saved = open(temporary.path(), MID_RAMP);
    let held_out = evaluate_saved(&saved, &Choice::default()).unwrap().held_out;
    let (model, _) = load_model::<Cpu, Bert<Cpu>>(&saved.path, &Cpu::default()).unwrap();

    let batches =
        Mlm::new(data(temporary.path(), "bert"), SEED, saved.config.as_ref().unwrap().data().mlm).unwrap();
    let (host, all) = whole(&batches);
    let outputs = outputs(&model, &host, &model.masks(MID_RAMP).unwrap()).unwrap();
    let (tokens, pairs) = outputs.split_at(outputs.len() - 2 * all);
    let (mlm, mlm_right) = by_hand(tokens, &host.labels);
    let (nsp, nsp_right) = by_hand(pairs, &host.next);
    assert_eq!((held_out.tokens().labels, held_out.terms[1].labels), (mlm.len() as u64, all as u64));
    assert_close("loss", &[mean(&mlm) + mean(&nsp)], &[held_out.loss()], 1e-6);
    assert_close("perplexity", &[mean(&mlm).exp()], &[held_out.perplexity()], 1e-6);
    let heads = held_out.accuracy().unwrap();
    assert_eq!(heads.mlm, mlm_right as f64 / mlm.len() as f64);
    assert_eq!(heads.nsp, nsp_right as f64 / all as f64);
    assert!(nsp_right > 0 && nsp_right < all);
    batched(&model, &batches, &held_out);

    // The run itself evaluates its first 4 sequences.
    let records: Vec<Record> = jsonl::read(&temporary.path().join("tiny").join(METRICS)).unwrap();
    let evals: Vec<_> =
        records.iter().filter_map(|r| if let Record::Eval(e) = r { Some(e) } else { None }).collect();
    assert_eq!(evals.iter().map(|eval| eval.step).collect::<Vec<_>>(), [3, 4, 6, 8, 9, 12]);
    for eval in evals {
        let choice = Choice { sequences: Some(4), ..Choice::default() };
        let again = evaluate_saved(&open(temporary.path(), eval.step), &choice).unwrap().held_out;
        assert_eq!((again.sequences, again.accuracy()), (4, eval.accuracy), "step {}", eval.step);
        assert_eq!((again.loss(), again.perplexity()), (eval.loss, eval.perplexity), "step {}", eval.step);
        assert!(eval.accuracy.is_some());
    }
}

#[test]
fn what_cannot_be_evaluated_is_refused_in_one_line() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    tiny_run(folder, "gpt");
    // A run's folder means its latest checkpoint.
    let saved = checkpoint::open(&folder.join("tiny"), &Cpu::default()).unwrap();
    assert_eq!(saved.state.step, 12);
    let refused = |choice: Choice| evaluate_saved(&saved, &choice).unwrap_err().to_string();
    let positions = "sequence: expected from 1 to the model's 12 positions, got";
    assert_eq!(refused(Choice { length: Some(13), ..Choice::default() }), format!("{positions} 13"));
    assert_eq!(refused(Choice { length: Some(0), ..Choice::default() }), format!("{positions} 0"));
    let none = refused(Choice { sequences: Some(0), ..Choice::default() });
    assert_eq!(none, "sequences: expected at least 1, got 0");
    let nowhere = folder.join("nowhere");
    let missing = refused(Choice { data: Some(nowhere.clone()), ..Choice::default() });
    let expected = "expected prepared data (`msg data prepare`, or another folder by --data), got none";
    assert_eq!(missing, format!("{}: {expected}", nowhere.display()));

    run(config(folder, "bert", "other"), Resume::Never).unwrap();
    let other = refused(Choice { data: Some(folder.join("data-bert")), ..Choice::default() });
    let expected = "expected data of the checkpoint's tokenizer, got those of another";
    assert_eq!(other, format!("{}: {expected}", folder.join("data-bert").display()));
}
