//! Import, export and growth hold no more in memory at once than source and target take as files.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use dfdx::tensor::Cpu;
use msg_core::growth::Init;
use msg_models::{
    DepthInit, Sizes, WidthInit,
    gpt::{Gpt, GptConfig},
    hf::{self, Format, StoredType},
    sizes,
};
use msg_tests::fuzz::{Counting, counts, peak_of};
use msg_train::{
    families::family::Family,
    interop::{Export, Given, GrowRequest, export, grow, import},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A published folder of a GPT.
fn publish(folder: &Path, vocab: usize, sizes: Sizes, stored: StoredType) -> PathBuf {
    let config =
        GptConfig { vocab, positions: 16, head_dim: sizes.hidden / sizes.heads, sizes, ..Default::default() };
    let model = Gpt::new(&Cpu::default(), config, Init::default()).unwrap();
    fs::create_dir(folder).unwrap();
    let (notes, stored) = (BTreeMap::new(), |_: &str| stored);
    let format = Format { stored: &stored, ..Format::plain(&notes) };
    hf::save_folder(&model, &Gpt::<Cpu>::NAMING, &format, folder).unwrap();
    let config = serde_json::to_string(&model.hugging_face(None).unwrap().config).unwrap();
    fs::write(folder.join("config.json"), config).unwrap();
    folder.to_owned()
}

fn weights(folder: &Path) -> usize {
    fs::metadata(folder.join(hf::WEIGHTS)).unwrap().len() as usize
}

/// The most pages that the process had during `work` beyond those of before, in bytes; none where the system
/// does not say.
fn pages_of(work: impl FnOnce()) -> Option<usize> {
    let read = |key: &str| -> Option<usize> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kilobytes| kilobytes << 10)
    };
    // Sets the peak to what there is.
    let reset = fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = read("VmRSS:").filter(|_| reset);
    work();
    Some(read("VmHWM:")?.saturating_sub(before?))
}

/// What one test allocates counts for the other: they take turns.
static TURN: Mutex<()> = Mutex::new(());

/// A checkpoint goes from the device to its files and back by one tensor at a time, and none of it stays on the host.
#[cfg(all(feature = "cuda", not(feature = "ci-check")))]
#[test]
fn cuda_checkpoints_are_never_on_the_host_as_a_whole() {
    use dfdx::tensor::Cuda;
    use msg_core::optim::{AdamWConfig, AnyOptimizer};
    use msg_train::{State, checkpoint};

    let _turn = TURN.lock();
    let gpu = msg_core::device::open_cuda(0).unwrap();
    let sizes = sizes! { layers: 12, hidden: 128, ffn: 512, heads: 4 };
    let config = GptConfig { vocab: 1000, positions: 16, head_dim: 32, sizes, ..Default::default() };
    let place = tempfile::tempdir().unwrap();
    let run = r#"
        [run]
        name = "large"
        [data]
        sources = ["text"]
        tokenizer = { kind = "bytes" }
        [model]
        family = "gpt"
        head_dim = 32
        [lr]
        shape = "constant"
        peak = 1e-3
        [[stage]]
        steps = 1
        layers = 12
        hidden = 128
        ffn = 512
        heads = 4
        sequence = 16
        batch = 1
    "#;
    let (written, path) = {
        let model: Gpt<Cuda> = Gpt::new(&gpu, config, Init::default()).unwrap();
        let optimizer = AnyOptimizer::new(&model, AdamWConfig::default()).unwrap();
        let snapshot = checkpoint::Snapshot {
            model: &model,
            optimizer: &optimizer,
            state: &State { stage: 1, ..State::default() },
            config: run,
            tokenizer: None,
        };
        peak_of(|| checkpoint::save(place.path(), &snapshot).unwrap())
    };
    let whole = 3 * weights(&path);
    // Buffers of files, and the largest tensor twice: as it lies and as the file has it.
    let most = whole / 8;
    assert!(written <= most, "{written} bytes on the host for a checkpoint of {whole}");
    let load = || checkpoint::load::<Cuda, Gpt<Cuda>>(&path, &gpu, AdamWConfig::default());
    let (read, loaded) = peak_of(load);
    assert!(read <= most, "{read} bytes on the host to read a checkpoint of {whole}");
    drop(loaded.unwrap());
}

#[test]
fn source_and_target_are_never_exceeded() {
    let _turn = TURN.lock();
    assert!(counts());
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let device = Cpu::default();

    // Half precision goes from file to file: as f32 the model alone would be as large as both.
    let sizes = sizes! { layers: 2, hidden: 256, ffn: 512, heads: 4 };
    let half = publish(&at("half"), 40_000, sizes, StoredType::F16);
    let both = 2 * weights(&half);
    let pages = pages_of(|| drop(import(&device, &half, &at("half-in")).unwrap()));
    assert!(pages.is_none_or(|pages| pages <= both), "import: {pages:?} of {both}");
    let request = Export {
        from: at("half-in"),
        out: at("half-out"),
        fold: false,
        stored: None,
        largest: u64::MAX,
        given: Given::Nothing,
    };
    let pages = pages_of(|| drop(export(&device, &request).unwrap()));
    assert!(pages.is_none_or(|pages| pages <= both), "export: {pages:?} of {both}");

    let sizes = sizes! { layers: 6, hidden: 128, ffn: 512, heads: 4 };
    let whole = publish(&at("whole"), 4000, sizes, StoredType::F32);
    for (name, layers, exact) in [
        ("hidden=192,heads=6,ffn=768", DepthInit::Stack, false),
        ("hidden=192,heads=6,ffn=768", DepthInit::Stack, true),
        ("hidden=192,heads=6,layers=9", DepthInit::Stack, true),
        ("hidden=192,heads=6,layers=9", DepthInit::Interpolate, false),
        ("hidden=192,heads=6,layers=9", DepthInit::Fresh, false),
    ] {
        let out = at(&format!("{name}-{exact}-{layers:?}"));
        let request = GrowRequest {
            from: whole.clone(),
            to: name.parse().unwrap(),
            out: out.clone(),
            exact,
            units: WidthInit::Normal,
            layers,
            seed: 1,
            ramp: 10,
            given: Given::Ids(vec![1, 2, 3]),
        };
        let (peak, grown) = peak_of(|| grow(&device, &request));
        grown.unwrap();
        let both = weights(&whole) + weights(&out);
        assert!(peak <= both, "{name}, exact {exact}, {layers:?}: {peak} of {both}");
    }
}
