//! `msg init` and `msg plan --resolved`.

use super::{Place, stderr};
use std::fs;

fn stdout(output: &std::process::Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_starter_is_written_once_and_plans_and_trains() {
    for (family, tokenizer) in [("gpt", "kind = \"bytes\""), ("bert", "kind = \"word_piece\", vocab = 60")] {
        let place = Place::new(family, 1);
        let text = stdout(&place.done(&["init", family]));
        place.done(&["init", family, "--out", "start.toml"]);
        assert_eq!(fs::read_to_string(place.path("start.toml")).unwrap(), text);
        let again = place.msg(&["init", family, "--out", "start.toml"]);
        assert!(!again.status.success() && stderr(&again).contains("start.toml"), "{}", stderr(&again));
        assert_eq!(fs::read_to_string(place.path("start.toml")).unwrap(), text);

        let plan = stdout(&place.done(&["plan", "start.toml"]));
        assert!(plan.contains("2000 steps"), "{plan}");
        let resolved = stdout(&place.done(&["plan", "--resolved", "start.toml"]));
        fs::write(place.path("resolved.toml"), &resolved).unwrap();
        assert_eq!(stdout(&place.done(&["plan", "--resolved", "resolved.toml"])), resolved);
        assert_eq!(stdout(&place.done(&["plan", "resolved.toml"])), plan);

        let tokenizer = format!("data.tokenizer={{ {tokenizer} }}");
        let mut words = vec!["train", "start.toml"];
        for set in [
            "data.sources=[\"text\"]",
            "data.held_out=0.2",
            &tokenizer,
            "lr.warmup=1",
            "train.eval_sequences=2",
            "stage.1.steps=1",
            "stage.2.steps=1",
            "stage.1.sequence=12",
            "stage.1.batch=2",
            "stage.2.ramp=1",
        ] {
            words.extend(["--set", set]);
        }
        place.done(&words);
        let metrics = fs::read_to_string(place.path(&format!("runs/my-{family}/metrics.jsonl"))).unwrap();
        for (kind, count) in [("step", 2), ("growth", 1), ("eval", 2)] {
            assert_eq!(metrics.matches(&format!("\"kind\":\"{kind}\"")).count(), count, "{kind}: {metrics}");
        }
    }
}
