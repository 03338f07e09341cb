//! Growing and updating on Cuda move no values through the host: counted by the emulator.

use super::{gpu, optimizer::Toy};
use dfdx::tensor::{Cuda, Tensor, TensorFrom};
use msg_core::{
    Result,
    axis::{Ffn, Hidden},
    growth::{AxisMap, Fill, GrowKernel, Growth, Masked, NewEntries, grow, grow_tensor},
    optim::{AdamW, AdamWConfig, StatePolicy, Update, zero_grads},
    params::{Module, ParamName, Visitor},
    random::Key,
};
use std::{env, fs, path::Path, process::Command};

/// Names what the child process does; unset elsewhere.
const CHILD: &str = "MSG_COPIES_CHILD";
/// Units of both axes before the growth (490,000 bytes) and after it.
const OLD: usize = 350;
const NEW: usize = 400;
/// Updates of the child.
const UPDATES: usize = 3;

/// What happens in the child: a tensor is made on the device, and grows there twice or a module is updated.
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
        "update" => {
            update(&gpu);
            Vec::new()
        }
        kind => {
            let numbers: Vec<usize> = kind.split('-').filter_map(|number| number.parse().ok()).collect();
            if let [updates, toys, grown] = numbers[..] {
                update_many(&gpu, updates, toys, grown == 1);
            }
            Vec::new()
        }
    };
}

/// Updates whose verdicts are read by the ones after them.
fn update(gpu: &Cuda) {
    let mut toy = Toy::new(gpu);
    let mut optimizer = AdamW::new(&toy, AdamWConfig::default()).unwrap();
    for step in 0..UPDATES {
        let mut gradients = toy.gradients(step);
        let loss = gpu.tensor(1.0);
        let update = Update { clip: Some(1.0), ..Update::at(0.01) };
        optimizer.apply(&mut toy, &mut gradients, Some(&loss), update).unwrap();
    }
}

/// Several toys as one module.
#[derive(Clone)]
struct Toys(Vec<Toy<Cuda>>);

impl Module<Cuda> for Toys {
    fn walk<V: Visitor<Cuda>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
        (0..).zip(&mut self.0).try_for_each(|(number, toy)| toy.walk(&at.join(&format!("{number}")), visitor))
    }
}

/// So many updates of so many toys by the same gradients, with one age group or several.
fn update_many(gpu: &Cuda, updates: usize, toys: usize, grown: bool) {
    let mut module = Toys((0..toys).map(|_| Toy::new(gpu)).collect());
    let mut optimizer = AdamW::new(&module, AdamWConfig::default()).unwrap();
    let mut gradients = zero_grads(&module).unwrap();
    let loss = gpu.tensor(1.0);
    optimizer.apply(&mut module, &mut gradients, Some(&loss), Update::at(0.01)).unwrap();
    if grown {
        let growth = Growth::new(1, 1).with_axis(AxisMap::append("Hidden", 5, 9).unwrap());
        module = grow(&module, &growth, &Masked::default()).unwrap();
        optimizer = optimizer.grown(&module, &growth, StatePolicy::Age).unwrap();
        gradients = zero_grads(&module).unwrap();
        // Ffn stays, so weights have two age groups; a tensor of Ffn alone would have one.
    }
    for _ in 0..updates {
        optimizer.apply(&mut module, &mut gradients, Some(&loss), Update::at(0.01)).unwrap();
    }
}

/// The number under a key of the emulator's report.
fn counted(report: &str, key: &str) -> u64 {
    let after = report.split_once(&format!("\"{key}\":")).unwrap_or_else(|| panic!("no {key} in {report}")).1;
    after.split([',', '}']).next().unwrap().parse().unwrap()
}

/// Bytes that a child copies to and from the device, and the kernels that it starts.
fn run(kind: &str, folder: &Path) -> [u64; 3] {
    report(kind, folder, ["h2d_bytes", "d2h_bytes", "launches"])
}

/// Numbers of the emulator's report on a child.
fn report<const N: usize>(kind: &str, folder: &Path, keys: [&str; N]) -> [u64; N] {
    let file = folder.join(kind);
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "copies::cuda_copies_child", "--include-ignored"])
        .env(CHILD, kind)
        .env("EMU_STATS", &file)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let report = fs::read_to_string(file).expect("the emulator's report");
    keys.map(|key| counted(&report, key))
}

/// Whether anything counts the copies.
fn on_the_emulator() -> bool {
    let emulated = |path: String| Path::new(&path).join("include/cuda_emu.h").is_file();
    let emulated = env::var("CUDA_PATH").is_ok_and(emulated);
    if !emulated {
        println!("not on the emulator: nothing counts the copies");
    }
    emulated
}

#[test]
fn cuda_updates_are_not_waited_for_until_the_next_one() {
    if !on_the_emulator() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [_, down, _] = run("update", folder.path());
    let [_, down_without, _] = run("nothing", folder.path());
    // What the host reads is the verdict on each update but the last: four doubles, nothing per tensor.
    assert_eq!(down - down_without, 4 * 8 * (UPDATES as u64 - 1));
}

#[test]
fn cuda_updates_take_as_many_launches_uploads_and_allocations_however_many_tensors_there_are() {
    if !on_the_emulator() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Two for the verdict, and one for each kind of tensors: grown toys have no tensor of one age group left.
    for (grown, launches) in [(0, 3), (1, 3)] {
        for toys in [1, 7] {
            let count = |updates: usize| {
                let kind = format!("{updates}-{toys}-{grown}");
                report(&kind, folder.path(), ["launches", "h2d", "alloc"])
            };
            let (two, five) = (count(2), count(5));
            let apiece: Vec<u64> = five.iter().zip(two).map(|(five, two)| five - two).collect();
            // The table; the table, the parts of the norm and the old values.
            assert_eq!(apiece, [3 * launches, 3, 3 * 3], "{toys} toys, grown {grown}");
        }
    }
}

#[test]
fn cuda_memory_that_is_freed_stays_with_the_process() {
    if !on_the_emulator() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(report("nothing", folder.path(), ["pool_threshold"]), [u64::MAX]);
}

#[test]
fn cuda_growth_moves_no_values_through_the_host() {
    if !on_the_emulator() {
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
