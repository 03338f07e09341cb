//! Every growth operator of the list, in a run of each family: it keeps what it promises, and a run resumed inside
//! its ramp ends in the same bytes.

use crate::runs::{bytes, checkpoint, config, copy_folder, corpus, records, run};
use msg_train::{config::operators::OperatorKind, families::registry, metrics::Record, run::Resume};
use std::fs;

/// Inside the first ramp of [`config`], which begins after step 4.
const INSIDE: u64 = 6;

#[test]
fn growth_methods_keep_their_promises_and_resume() {
    for family in registry::names() {
        for &operator in OperatorKind::ALL {
            let home = tempfile::tempdir().unwrap();
            corpus(home.path());
            let mut whole = config(home.path(), family, "whole");
            for stage in &mut whole.stages[1..] {
                stage.operator = operator;
            }
            run(whole.clone(), Resume::Never)
                .unwrap_or_else(|error| panic!("{family}, {}: {error}", operator.name()));
            let folder = home.path().join("whole");
            let growths = records(&folder).into_iter().filter_map(|record| match record {
                Record::Growth(growth) => Some(growth.receipt),
                _ => None,
            });
            let receipts: Vec<_> = growths.collect();
            assert_eq!(receipts.len(), 2, "{family}, {}", operator.name());
            // What an operator promises is the receipt's tolerance; a broken promise has ended the run by itself.
            for receipt in receipts.iter().filter(|receipt| receipt.function_preserving) {
                assert!(
                    receipt.max_dlogit <= receipt.tolerance,
                    "{family}, {}: {receipt:?}",
                    operator.name()
                );
            }

            // The same run from its checkpoint inside the ramp.
            let part = home.path().join("part");
            copy_folder(&folder, &part);
            for entry in fs::read_dir(part.join("checkpoints")).unwrap() {
                let path = entry.unwrap().path();
                if !path.ends_with(checkpoint(INSIDE).trim_start_matches("checkpoints/")) {
                    fs::remove_dir_all(path).unwrap();
                }
            }
            fs::remove_dir_all(part.join("final")).unwrap();
            let mut resumed = whole;
            resumed.run.dir = Some(part.clone());
            run(resumed, Resume::Auto).unwrap();
            assert_eq!(
                bytes(&part.join("final")),
                bytes(&folder.join("final")),
                "{family}, {}",
                operator.name()
            );
        }
    }
}
