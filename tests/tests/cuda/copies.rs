//! Growing and updating on Cuda move no values through the host: counted by the emulator.

use super::gpu;
use dfdx::tensor::{Cuda, Tensor};
use msg_core::{
    axis::{Ffn, Hidden},
    device::Backend,
    growth::{AxisMap, Fill, Growth, NewEntries, grow_tensor},
    random::Key,
};
use std::{env, fs, path::Path, process::Command};

/// Names the growth for the child process; unset elsewhere.
const CHILD: &str = "MSG_COPIES_CHILD";
/// Units of both axes before the growth (490,000 bytes) and after it.
const OLD: usize = 350;
const NEW: usize = 400;

/// What happens in the child: two tensors are made on the device, and grow there in the child proper.
#[test]
#[ignore = "the part of the next test that runs in a process of its own"]
fn cuda_copies_child() {
    let Ok(kind) = env::var(CHILD) else { return };
    let gpu = gpu();
    let entries = |fill| NewEntries { key: Key::new(1, "w", 1), fill };
    let normal = entries(Fill::Normal { std: 0.02 });
    let weight: Tensor<(Ffn, Hidden), f32, Cuda> = gpu.fresh(&(Ffn(OLD), Hidden(OLD)), normal).unwrap();
    let growth = Growth::new(1, 1)
        .with_axis(AxisMap::append("Ffn", OLD, NEW).unwrap())
        .with_axis(AxisMap::copies("Hidden", OLD, NEW).unwrap());
    let _grown: Vec<Tensor<(Ffn, Hidden), f32, Cuda>> = match kind.as_str() {
        "grow" => [normal, entries(Fill::Constant(0.0))]
            .map(|new| grow_tensor(&weight, &growth, new).unwrap())
            .into_iter()
            .collect(),
        _ => Vec::new(),
    };
}

/// The number under a key of the emulator's report.
fn counted(report: &str, key: &str) -> u64 {
    let after = report.split_once(&format!("\"{key}\":")).unwrap_or_else(|| panic!("no {key} in {report}")).1;
    after.split([',', '}']).next().unwrap().parse().unwrap()
}

/// Bytes that a child copies to and from the device, and the kernels that it starts.
fn run(kind: &str, folder: &Path) -> [u64; 3] {
    let file = folder.join(kind);
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "cuda::copies::cuda_copies_child", "--include-ignored"])
        .env(CHILD, kind)
        .env("EMU_STATS", &file)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let report = fs::read_to_string(file).expect("the emulator's report");
    ["h2d_bytes", "d2h_bytes", "launches"].map(|key| counted(&report, key))
}

#[test]
fn cuda_growth_moves_no_values_through_the_host() {
    let emulated = |path: String| Path::new(&path).join("include/cuda_emu.h").is_file();
    if !env::var("CUDA_PATH").is_ok_and(emulated) {
        println!("not on the emulator: nothing counts the copies");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [up, down, launches] = run("grow", folder.path());
    let [up_without, down_without, launches_without] = run("nothing", folder.path());
    assert_eq!(launches - launches_without, 2);
    assert_eq!(down, down_without);
    // Sources of both axes for both tensors, four bytes a unit.
    assert_eq!(up - up_without, 2 * 2 * 4 * NEW as u64);
    assert!(up_without + down_without < 200, "the initial values went through the host");
}
