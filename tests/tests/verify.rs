//! Parity receipts of checkpoints: they hold to the bit, and fail where a mask is missing.

use crate::runs::{checkpoint, config, corpus, run};
use dfdx::tensor::Cpu;
use msg_core::{growth::Ramp, optim::AdamWConfig};
use msg_models::{GrowthSpec, Sizes, bert::Bert, gpt::Gpt, sizes};
use msg_tests::families::{Family, drawn};
use msg_train::{
    checkpoint::load,
    parity::own_batch::BatchOf,
    run::Resume,
    verify::{receipts, verify},
};
use std::{fs, path::Path};

/// A run of 12 steps: its checkpoint after step 6 stands inside a ramp of all widths.
fn trained(folder: &Path, family: &str) {
    corpus(folder);
    run(config(folder, family, "run"), Resume::Never).unwrap_or_else(|error| panic!("{error}"));
}

fn holds_to_the_bit<M: Family<Cpu>>(family: &str) {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    trained(folder, family);
    let at = |step| folder.join("run").join(checkpoint(step));
    for (path, ramping) in [(at(2), false), (at(6), true), (at(10), true), (folder.join("run"), false)] {
        let verification = verify(&Cpu::default(), &path, None).unwrap_or_else(|error| panic!("{error}"));
        assert!(verification.holds(), "{verification}");
        assert_eq!(verification.ramping, ramping, "{verification}");
        assert_eq!(verification.batch, BatchOf::Text(folder.join(format!("data-{family}"))));
        let rows: Vec<&str> = verification.rows.iter().map(|row| row.what).collect();
        assert_eq!(rows, ["layers", "hidden", "ffn", "heads", "together", "ramp end"]);
        for row in &verification.rows {
            let receipt = row.receipt;
            assert_eq!((receipt.differing, receipt.tolerance, receipt.max_dlogit), (0, 0.0, 0.0));
            assert!(receipt.outputs >= 2 * 12 * 50, "{receipt:?}");
        }
        let text = verification.to_string();
        assert_eq!(text.matches("holds to the bit").count(), 6, "{text}");
        assert!(!text.contains("FAILS") && text.contains("text of "), "{text}");
    }
    let one = verify(&Cpu::default(), &at(6), Some("ffn=14".parse().unwrap())).unwrap();
    let rows: Vec<&str> = one.rows.iter().map(|row| row.what).collect();
    assert_eq!((rows, one.holds()), (vec!["ffn", "ramp end"], true));

    // The batch is another where the text is gone, and the report says so.
    fs::rename(folder.join(format!("data-{family}")), folder.join("moved")).unwrap();
    let drawn = verify(&Cpu::default(), &at(6), None).unwrap();
    assert!(drawn.holds() && matches!(drawn.batch, BatchOf::Drawn(_)), "{drawn}");
    assert!(drawn.to_string().contains("random ids (no data in "), "{drawn}");

    every_mask_is_needed::<M>(&at(6), 6);
    // Without an old ramp nothing else can fail.
    let failed = every_mask_is_needed::<M>(&at(12), 12);
    assert!(failed.iter().all(|&rows| rows == 2), "{failed:?}");
}

/// Without any one mask some receipts fail, and so does that of a ramp's end where a mask is not at 1.
/// Returns how many fail for each mask.
fn every_mask_is_needed<M: Family<Cpu>>(path: &Path, step: u64) -> Vec<usize> {
    let model = load::<Cpu, M>(path, &Cpu::default(), AdamWConfig::default()).unwrap().model;
    let from = model.growing().sizes;
    let to =
        sizes! { layers: from.layers + 1, hidden: from.hidden + 2, ffn: from.ffn + 3, heads: from.heads + 1 };
    let host = drawn(&model, (2, 12), 1);
    let take = |hook: &dyn Fn(_) -> _| receipts(&model, step, &host, to, hook).unwrap();
    assert!(take(&|masks| masks).iter().all(|row| row.receipt.holds()));
    let sites = M::sites(from.layers);
    assert!(sites.len() > 4);
    let layer = msg_models::MaskSite::in_layer(from.layers, msg_models::MaskPlace::Layer);
    let mut counts = Vec::new();
    for site in sites.into_iter().chain([layer]) {
        let rows = take(&|masks: msg_models::Masks<Cpu>| masks.without(site));
        let failed: Vec<&str> = rows.iter().filter(|row| !row.receipt.holds()).map(|row| row.what).collect();
        assert!(failed.contains(&"together") && failed.len() >= 2, "{site:?}: {failed:?}");
        counts.push(failed.len());
    }

    let to = Sizes { ffn: from.ffn + 3, ..from };
    let growth = model.growth_to(to, &GrowthSpec::default()).unwrap();
    let ramp = Ramp { start: 0, length: 1 << 40 };
    let unfinished = model.grown(&growth, &msg_core::growth::Masked::default(), ramp).unwrap();
    let low = unfinished.masks_kept(step).unwrap();
    let rows = receipts(&model, step, &host, to, &|_| low.clone()).unwrap();
    assert!(!rows.last().unwrap().receipt.holds(), "{rows:?}");
    counts
}

#[test]
fn a_gpt_checkpoint_holds_to_the_bit_and_no_mask_can_be_missing() {
    holds_to_the_bit::<Gpt<Cpu>>("gpt");
}

#[test]
fn a_bert_checkpoint_holds_to_the_bit_and_no_mask_can_be_missing() {
    holds_to_the_bit::<Bert<Cpu>>("bert");
}

#[test]
fn impossible_targets_and_paths_are_refused_in_one_line() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    trained(folder, "gpt");
    let refused = |path: &Path, to: &str| {
        let error = to.parse().and_then(|target| verify(&Cpu::default(), path, Some(target))).unwrap_err();
        error.to_string()
    };
    let run = folder.join("run");
    assert_eq!(refused(&run, "hidden=8"), "--to: hidden: expected at least 9, the present size, got 8");
    assert_eq!(refused(&run, "heads=0"), "--to: heads: expected 1 to 16777216, got 0");
    assert_eq!(refused(&run, "ffn=11"), "--to: sizes: expected an axis that grows, got the present sizes");
    assert_eq!(
        refused(&run, "width=11"),
        "--to: unknown key `width`: expected `layers`, `hidden`, `ffn` or `heads`"
    );
    let nowhere = refused(&folder.join("text"), "ffn=12");
    assert!(nowhere.contains("expected a checkpoint") && !nowhere.contains('\n'), "{nowhere}");
}
