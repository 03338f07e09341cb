//! What models write, against choices made by hand from their logits.

use crate::eval::{open, tiny_run};
use dfdx::tensor::{Cpu, NoneTape};
use msg_core::ops::{Dropout, cross_entropy::IGNORED};
use msg_models::{
    GrowingModel,
    bert::Bert,
    gpt::{Gpt, GptBatch},
};
use msg_train::{
    checkpoint::load_model,
    data::{MlmBatch, Part, Prepared},
    generate::{Request, Sample, continued, fill, of_held_out, prompt_ids, sampling::Sampling},
};

/// A step inside a ramp.
const MID_RAMP: u64 = 6;
const GREEDY: Sampling = Sampling { temperature: 0.0, top_k: None, top_p: 1.0, seed: 0 };

fn argmax(row: &[f32]) -> u32 {
    let best = (0..row.len()).rev().max_by(|&a, &b| row[a].total_cmp(&row[b]));
    best.expect("a logit") as u32
}

#[test]
fn a_greedy_gpt_takes_the_largest_of_all_logits_again_and_again_and_its_context_slides() {
    let temporary = tempfile::tempdir().unwrap();
    tiny_run(temporary.path(), "gpt");
    let saved = open(temporary.path(), MID_RAMP);
    let (model, _) = load_model::<Cpu, Gpt<Cpu>>(&saved.path, &Cpu::default()).unwrap();
    let (model, tokenizer) = (&model, saved.tokenizer().unwrap());
    let prompt = prompt_ids(tokenizer, "grow mask").unwrap();
    let write = |sampling, tokens| {
        let mut text = String::new();
        let request = Request { tokens, sampling, step: MID_RAMP };
        let ids = continued(model, tokenizer, &prompt, &request, &mut |piece| {
            text.push_str(piece);
            Ok(())
        });
        (ids.unwrap(), text)
    };
    let (ids, text) = write(GREEDY, 20);
    assert_eq!(text, tokenizer.decode(&ids).unwrap());

    let masks = model.masks(MID_RAMP).unwrap();
    let mut all = prompt.clone();
    for _ in 0..20 {
        let seen = &all[all.len().saturating_sub(12)..];
        let shape = (1, seen.len());
        let labels = vec![IGNORED; seen.len()];
        let batch = GptBatch::new(model.device(), seen, &labels, shape, model.config()).unwrap();
        let logits = model.logits(&batch, &masks, &Dropout::OFF, NoneTape).unwrap().as_vec();
        all.push(argmax(&logits[logits.len() - model.config().vocab..]));
    }
    assert_eq!(model.config().positions, 12);
    let end = tokenizer.specials().end().unwrap();
    assert!(!all.contains(&end), "the text must be longer than the context");
    assert_eq!(ids, all[prompt.len()..]);

    let drawn = |seed| write(Sampling { temperature: 1.0, seed, ..GREEDY }, 40);
    assert_eq!(drawn(5), drawn(5));
    assert_ne!(drawn(5).0, drawn(6).0);
    assert_eq!(drawn(5).1, tokenizer.decode(&drawn(5).0).unwrap());
    // With one candidate any seed is greedy.
    assert_eq!(write(Sampling { temperature: 1.0, top_k: Some(1), seed: 9, ..GREEDY }, 20).0, ids);
}

#[test]
fn a_gpt_refuses_nothing_to_write_and_begins_documents_by_itself() {
    let temporary = tempfile::tempdir().unwrap();
    tiny_run(temporary.path(), "gpt");
    let saved = open(temporary.path(), 12);
    let (model, _) = load_model::<Cpu, Gpt<Cpu>>(&saved.path, &Cpu::default()).unwrap();
    let (model, tokenizer) = (&model, saved.tokenizer().unwrap());
    let end = tokenizer.specials().end().unwrap();
    assert_eq!(prompt_ids(tokenizer, "").unwrap(), [end]);
    let refused = |tokens, sampling| {
        let request = Request { tokens, sampling, step: 12 };
        continued(model, tokenizer, &[end], &request, &mut |_| Ok(())).unwrap_err().to_string()
    };
    assert_eq!(refused(0, GREEDY), "tokens: expected at least 1, got 0");
    let top_p = refused(3, Sampling { top_p: 0.0, ..GREEDY });
    assert_eq!(top_p, "top-p: expected a share above 0, at most 1, got 0");

    let data = Prepared::open(&temporary.path().join("data-gpt")).unwrap();
    let sample = of_held_out(&saved, &data).unwrap();
    let Some(Sample::Continued { prompt, .. }) = &sample else { panic!("{sample:?}") };
    let mut first = vec![0; 12];
    data.read(Part::HeldOut, 0, &mut first).unwrap();
    assert_eq!(*prompt, tokenizer.decode(&first).unwrap());
    assert_eq!(sample, of_held_out(&saved, &data).unwrap());
}

#[test]
fn a_bert_fills_every_mask_with_the_most_probable_token() {
    let temporary = tempfile::tempdir().unwrap();
    tiny_run(temporary.path(), "bert");
    let saved = open(temporary.path(), MID_RAMP);
    let (model, _) = load_model::<Cpu, Bert<Cpu>>(&saved.path, &Cpu::default()).unwrap();
    let (model, tokenizer) = (&model, saved.tokenizer().unwrap());
    let specials = tokenizer.specials().bert().unwrap();
    let filled = fill(model, tokenizer, "grow [MASK] layer [MASK]", 3, MID_RAMP).unwrap();

    let encoded = |text: &str| tokenizer.encode(text).unwrap();
    let middle = [encoded("grow"), vec![specials.mask], encoded("layer"), vec![specials.mask]].concat();
    let ids = [vec![specials.cls], middle.clone(), vec![specials.sep]].concat();
    let host = MlmBatch {
        ids: ids.clone(),
        segments: vec![0; ids.len()],
        seen: vec![true; ids.len()],
        labels: vec![IGNORED; ids.len()],
        next: vec![0],
        shape: (1, ids.len()),
    };
    let outputs = msg_tests::families::outputs(model, &host, &model.masks(MID_RAMP).unwrap()).unwrap();
    let places: Vec<usize> = (0..ids.len()).filter(|&at| ids[at] == specials.mask).collect();
    assert_eq!((places.len(), filled.places.len()), (2, 2));
    let mut expected = middle;
    for (&at, candidates) in places.iter().zip(&filled.places) {
        let row = &outputs[at * model.config().vocab..(at + 1) * model.config().vocab];
        let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
        let mut ordinary: Vec<usize> =
            (0..row.len()).filter(|&id| !specials.sorted().contains(&(id as u32))).collect();
        ordinary.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        assert_eq!(candidates.len(), 3);
        for (candidate, &id) in candidates.iter().zip(&ordinary) {
            let probability = f64::from(row[id]).exp() / sum;
            assert_eq!(candidate.id as usize, id);
            assert_eq!(candidate.token, tokenizer.token(id as u32).unwrap());
            assert!((candidate.probability - probability).abs() <= 1e-6, "{candidate:?} {probability}");
        }
        expected[at - 1] = ordinary[0] as u32;
    }
    assert_eq!(filled.text, tokenizer.decode(&expected).unwrap());

    let refused = |text: &str, top| fill(model, tokenizer, text, top, MID_RAMP).unwrap_err().to_string();
    assert_eq!(refused("grow layer", 3), "prompt: expected a text with [MASK], got one without");
    assert_eq!(refused("[MASK]", 0), "top-k: expected at least 1, got 0");
    let long = format!("[MASK]{}", " grow".repeat(10));
    assert_eq!(refused(&long, 1), "prompt: expected at most 10 tokens beside [CLS] and [SEP], got 11");

    let data = Prepared::open(&temporary.path().join("data-bert")).unwrap();
    let sample = of_held_out(&saved, &data).unwrap();
    let Some(Sample::Filled { prompt, candidates, .. }) = &sample else { panic!("{sample:?}") };
    assert!(prompt.contains("[MASK]") && candidates.len() == 3, "{sample:?}");
}
