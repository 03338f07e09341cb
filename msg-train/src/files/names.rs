//! The names of files and folders, each once. They are part of the formats: a new name breaks old folders.

/// The resolved configuration, in a run's folder and in each checkpoint.
pub const CONFIG: &str = "config.toml";
/// A tokenizer as the library `tokenizers` writes it, beside weights and beside token shards.
pub const TOKENIZER: &str = "tokenizer.json";
/// Held by the process that writes to the folder.
pub const LOCK: &str = "lock";

/// The checkpoints of a run.
pub const CHECKPOINTS: &str = "checkpoints";
/// The finished model of a run, as transformers reads it.
pub const FINAL: &str = "final";
/// The prepared data of a run, unless its configuration names another folder.
pub const DATA: &str = "data";
/// Records of a run, one a line.
pub const METRICS: &str = "metrics.jsonl";
/// Clock readings of a run, one a line.
pub const TIMING: &str = "timing.jsonl";
/// The stages of a run as planned.
pub const PLAN: &str = "plan.json";
/// What the names of TensorBoard's event files begin with.
pub const EVENTS: &str = "events.out.tfevents.";
/// The report of a run.
pub const REPORT: &str = "report.html";

/// What makes a folder a checkpoint.
pub const MARKER: &str = "checkpoint.json";
/// Weights.
pub const MODEL: &str = "model.safetensors";
/// What of a checkpoint is no tensor.
pub const STATE: &str = "state.json";
/// What the files of an imported model say that a checkpoint has no place for.
pub const ORIGIN: &str = "origin.json";

/// What makes a folder prepared data.
pub const MANIFEST: &str = "manifest.json";
/// Where the documents of prepared data end.
pub const DOCUMENTS: &str = "documents.bin";

/// The configuration that transformers reads.
pub const HF_CONFIG: &str = "config.json";
/// How transformers generates.
pub const HF_GENERATION: &str = "generation_config.json";
/// How transformers uses the tokenizer.
pub const HF_TOKENIZER: &str = "tokenizer_config.json";
/// The special tokens by transformers' names for them.
pub const HF_SPECIAL_TOKENS: &str = "special_tokens_map.json";

/// The folder of the checkpoint after `step`.
pub fn checkpoint(step: u64) -> String {
    format!("{STEP}{step:08}")
}

/// The step of a checkpoint's folder; none for other names.
pub fn checkpoint_step(name: &str) -> Option<u64> {
    name.strip_prefix(STEP)?.parse().ok()
}

const STEP: &str = "step-";

/// The file of the shard of tokens number `at`, from 0.
pub fn shard(at: usize) -> String {
    format!("tokens-{at:05}.bin")
}

/// Whether a name is that of a shard of tokens.
pub fn is_shard(name: &str) -> bool {
    let number = name.strip_prefix("tokens-").and_then(|name| name.strip_suffix(".bin"));
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_names_are_recognised() {
        assert_eq!((checkpoint(12).as_str(), shard(3).as_str()), ("step-00000012", "tokens-00003.bin"));
        assert_eq!(checkpoint_step(&checkpoint(123_456_789)), Some(123_456_789));
        assert_eq!([".saving-1", "step-", "step-x"].map(checkpoint_step), [None; 3]);
        assert!(is_shard(&shard(0)) && is_shard(&shard(123_456)));
        assert!(!is_shard("tokens-a.bin") && !is_shard("tokens-00000.bin.tmp"));
    }
}
