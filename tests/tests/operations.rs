//! Every operation on the Cpu against its reference: a test is made of each name in the list of operations.

use dfdx::tensor::Cpu;
use msg_core::Result;
use msg_tests::operations::{self, assert_twins};
use std::{collections::BTreeSet, fs, path::Path};

/// Modules of `ops` that other operations are made of.
const HELPERS: [&str; 8] = ["compute", "elementwise", "kernels", "list", "math", "mod", "rows", "stream"];

macro_rules! twins {
    ($($operation:ident,)+) => {
        const OPERATIONS: &[&str] = &[$(stringify!($operation)),+];

        mod agrees_with_its_reference {
            use super::*;

            $(
                #[test]
                fn $operation() -> Result<()> {
                    let ours = operations::$operation::on(&Cpu::default())?;
                    let plain = operations::$operation::plain()?;
                    assert_twins(stringify!($operation), operations::$operation::TOLERANCE, &plain, &ours);
                    Ok(())
                }
            )+
        }
    };
}
msg_core::operations!(twins);

#[test]
fn every_module_of_ops_is_in_the_list_of_operations_or_a_helper() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../msg-core/src/ops");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.is_dir() || path.extension().is_some_and(|ending| ending == "rs"));
    let found: BTreeSet<String> =
        files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let known: BTreeSet<String> = OPERATIONS.iter().chain(&HELPERS).map(|&name| name.to_owned()).collect();
    assert_eq!(found, known, "ops/list.rs names every operation");
}
