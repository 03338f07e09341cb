use super::*;
use crate::{config::SpecialTokens, data::testing::prepared};

const LENGTH: usize = 48;

fn mlm(folder: &tempfile::TempDir, documents: usize, config: MlmConfig) -> Mlm {
    Mlm::new(prepared(folder.path(), SpecialTokens::Bert, documents, 0.1), 7, config).unwrap()
}

/// The text of a row's segments before masking.
fn unmasked(batch: &MlmBatch, row: usize) -> Vec<u32> {
    let at = row * batch.shape.1;
    let row = at..at + batch.shape.1;
    let pairs = batch.ids[row.clone()].iter().zip(&batch.labels[row]);
    pairs.map(|(&id, &label)| if label == IGNORED { id } else { label as u32 }).collect()
}

#[test]
fn every_token_comes_once_an_epoch_and_half_of_the_pairs_are_exchanged() {
    let folder = tempfile::tempdir().unwrap();
    let mlm = mlm(&folder, 300, MlmConfig::default());
    let documents = mlm.data.documents(Part::Train);
    for length in [8, LENGTH] {
        let spans = mlm.spans(Part::Train, length).unwrap();
        let count = mlm.epoch_examples(length).unwrap();
        for epoch in 0..2 {
            let mut seen = vec![0; documents.tokens() as usize];
            let mut random = 0;
            for index in 0..count {
                let segments = mlm.train.pairs.segments(&spans, documents, index, epoch);
                let Segments { first, second, .. } = segments;
                assert!(first.tokens > 0 && second.tokens > 0);
                assert!(first.tokens + second.tokens + 3 <= length as u64);
                assert_eq!(second.start == first.start + first.tokens, !segments.random);
                random += u64::from(segments.random);
                for span in [first, second] {
                    (span.start..span.start + span.tokens).for_each(|token| seen[token as usize] += 1);
                }
            }
            assert!(seen.iter().all(|&times| times == 1));
            // Coins are tossed for pairs: five standard deviations of that many.
            let deviation = (count as f64 / 2.0).sqrt();
            assert!((random as f64 - count as f64 / 2.0).abs() < 5.0 * deviation, "{random} of {count}");
        }
    }
}

#[test]
fn examples_are_two_marked_segments_and_padding() {
    let folder = tempfile::tempdir().unwrap();
    let mlm = mlm(&folder, 60, MlmConfig::default());
    let batch = mlm.batch(3, 200, LENGTH).unwrap();
    for row in 0..200 {
        let ids = unmasked(&batch, row);
        let at = row * LENGTH;
        let used = batch.seen[at..at + LENGTH].iter().filter(|&&seen| seen).count();
        assert!(batch.seen[at..at + used].iter().all(|&seen| seen));
        assert_eq!((ids[0], ids[used - 1]), (mlm.specials.cls, mlm.specials.sep));
        assert!(ids[used..].iter().all(|&id| id == mlm.specials.pad));
        let first = ids.iter().position(|&id| id == mlm.specials.sep).unwrap();
        let segments: Vec<u32> = (0..LENGTH).map(|at| u32::from(at > first && at < used)).collect();
        assert_eq!(batch.segments[at..at + LENGTH], segments);
        assert_eq!(ids[1..used].iter().filter(|id| mlm.specials.sorted().contains(id)).count(), 2);
        let labelled = batch.labels[at..at + LENGTH].iter().filter(|&&label| label != IGNORED).count();
        assert_eq!(labelled, ((used - 3) as f64 * 0.15).round().max(1.0) as usize);
    }
}

#[test]
fn chosen_tokens_are_hidden_replaced_or_kept_in_the_published_shares() {
    let folder = tempfile::tempdir().unwrap();
    let mlm = mlm(&folder, 300, MlmConfig::default());
    let batch = mlm.batch(0, 6000, LENGTH).unwrap();
    let [mut chosen, mut hidden, mut kept] = [0.0_f64; 3];
    for (&id, &label) in batch.ids.iter().zip(&batch.labels).filter(|(_, label)| **label != IGNORED) {
        chosen += 1.0;
        hidden += f64::from(u8::from(id == mlm.specials.mask));
        kept += f64::from(u8::from(i64::from(id) == label));
        assert!(id == mlm.specials.mask || !mlm.specials.sorted().contains(&id));
        assert!(!mlm.specials.sorted().contains(&(label as u32)));
    }
    // A random token is the old one once in 256 times, hence the small excess.
    for (share, expected) in [(hidden / chosen, 0.8), (kept / chosen, 0.1 + 0.1 / 256.0)] {
        let deviation = (expected * (1.0 - expected) / chosen).sqrt();
        assert!((share - expected).abs() < 5.0 * deviation, "{share} of {chosen}, not {expected}");
    }
}

#[test]
fn batches_of_any_size_and_a_resumed_stream_are_the_same_examples() {
    let folder = tempfile::tempdir().unwrap();
    let first = mlm(&folder, 40, MlmConfig::default());
    let data = Arc::new(Prepared::open(&folder.path().join("data")).unwrap());
    let again = Mlm::new(data, 7, MlmConfig::default()).unwrap();
    let whole = first.batch(0, 600, LENGTH).unwrap();
    assert!(first.epoch_examples(LENGTH).unwrap() < 300, "the batch spans two epochs");
    for sequences in [1, 7, 50] {
        let (mut ids, mut labels, mut next, mut cursor) = (Vec::new(), Vec::new(), Vec::new(), 0);
        while next.len() < 600 {
            let batch = again.batch(cursor, sequences, LENGTH).unwrap();
            ids.extend(batch.ids);
            labels.extend(batch.labels);
            next.extend(batch.next);
            cursor = again.advance(cursor, sequences, LENGTH);
        }
        let positions = 600 * LENGTH;
        assert!(ids[..positions] == whole.ids && labels[..positions] == whole.labels);
        assert!(next[..600] == whole.next);
    }
}

#[test]
fn static_masks_stay_and_dynamic_ones_change_with_the_epoch() {
    let folder = tempfile::tempdir().unwrap();
    for dynamic in [false, true] {
        let mlm = mlm(&folder, 40, MlmConfig { dynamic, ..MlmConfig::default() });
        let count = mlm.epoch_examples(LENGTH).unwrap();
        let rows = |epoch: u64| {
            let batch = mlm.batch(epoch * count, count as usize, LENGTH).unwrap();
            let rows = batch.ids.chunks(LENGTH).zip(batch.labels.chunks(LENGTH));
            let mut rows: Vec<_> = rows.map(|(ids, labels)| (ids.to_vec(), labels.to_vec())).collect();
            let order = rows.clone();
            rows.sort();
            (rows, order)
        };
        let ((first, first_order), (second, second_order)) = (rows(0), rows(1));
        assert_eq!(first == second, !dynamic);
        assert_ne!(first_order, second_order);
    }
}

#[test]
fn whole_words_are_masked_together() {
    let folder = tempfile::tempdir().unwrap();
    let config = MlmConfig { whole_word: true, rate: 0.3, ..MlmConfig::default() };
    let mlm = mlm(&folder, 40, config);
    let parts = mlm.data.tokenizer().word_parts();
    let batch = mlm.batch(0, 300, LENGTH).unwrap();
    let mut chosen = 0;
    for row in 0..300 {
        let ids = unmasked(&batch, row);
        let labels = &batch.labels[row * LENGTH..][..LENGTH];
        for at in 1..LENGTH {
            chosen += usize::from(labels[at] != IGNORED);
            if parts.joins(ids[at - 1], ids[at]) {
                assert_eq!(labels[at - 1] == IGNORED, labels[at] == IGNORED);
            }
        }
    }
    assert!(chosen > 2000, "{chosen}");
}

#[test]
fn held_out_examples_do_not_depend_on_the_seed_and_cover_their_part() {
    let folder = tempfile::tempdir().unwrap();
    let one = mlm(&folder, 100, MlmConfig::default());
    let two = Mlm::new(one.data.clone(), 8, MlmConfig::default()).unwrap();
    assert_ne!(one.batch(0, 4, LENGTH).unwrap(), two.batch(0, 4, LENGTH).unwrap());
    let (mut first, mut tokens) = (0, 0);
    while let Some(batch) = one.held_out(first, 3, LENGTH).unwrap() {
        assert_eq!(two.held_out(first, 3, LENGTH).unwrap().as_ref(), Some(&batch));
        first += batch.shape.0;
        tokens += batch.seen.iter().filter(|&&seen| seen).count() - 3 * batch.shape.0;
    }
    assert_eq!(first, one.held_out_sequences(LENGTH).unwrap());
    assert_eq!(tokens as u64, one.data.documents(Part::HeldOut).tokens());
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mlm = mlm(&folder, 10, MlmConfig::default());
    assert_eq!(
        mlm.batch(0, 1, 7).unwrap_err().to_string(),
        "configuration: stage.sequence: expected at least 8 for sentence pairs, got 7"
    );
    for rate in [0.0, 1.0, f64::NAN] {
        let config = MlmConfig { rate, ..MlmConfig::default() };
        assert_eq!(
            Mlm::new(mlm.data.clone(), 0, config).unwrap_err().to_string(),
            format!("configuration: data.mlm.rate: expected a share between 0 and 1, got {rate}")
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let gpt = prepared(folder.path(), SpecialTokens::EndOfText, 3, 0.0);
    assert_eq!(
        Mlm::new(gpt, 0, MlmConfig::default()).unwrap_err().to_string(),
        "configuration: model.family: expected data prepared for bert, got data prepared for gpt"
    );
}
