use super::*;
use crate::metrics::{Eval, Step};

fn step(step: u64, stage: usize) -> Record {
    Record::Step(Step {
        step,
        stage,
        loss: step as f32,
        lr: 0.5,
        grad_norm: 2.0,
        mask: 1.0,
        ..Step::default()
    })
}

fn clock() -> WallClock {
    Box::new(|| 1_700_000_000.5)
}

/// Step, tag and value of everything in a folder, in TensorBoard's order.
fn scalars(folder: &Path) -> Vec<(u64, String, f32)> {
    let mut all = Vec::new();
    for path in event_files(folder).unwrap() {
        let bytes = fs::read(&path).unwrap();
        let events: Vec<Event> = Frames::new(&bytes).map(|payload| Event::decode(payload).unwrap()).collect();
        assert_eq!(events[0], Event::version(1_700_000_000.5));
        for event in events {
            all.extend(event.scalars.into_iter().map(|(tag, value)| (event.step, tag, value)));
        }
    }
    all
}

#[test]
fn the_scalars_of_records_and_timings_are_in_the_file_with_the_clock_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = TensorBoardWriter::start(folder.path(), clock()).unwrap();
    writer.record(&step(1, 1)).unwrap();
    let timing =
        StepTiming { step: 1, seconds: 9.0, step_seconds: 1.0, data_seconds: 0.0, tokens_per_second: 64.0 };
    writer.timing(&timing).unwrap();
    writer
        .record(&Record::Eval(Eval { step: 1, stage: 1, loss: 0.5, perplexity: 4.0, accuracy: None }))
        .unwrap();
    let all = scalars(folder.path());
    let tags: Vec<&str> = all.iter().map(|(_, tag, _)| tag.as_str()).collect();
    assert_eq!(
        tags,
        [
            "loss/train",
            "schedule/lr",
            "grad_norm",
            "schedule/mask",
            "schedule/stage",
            "tokens_per_second",
            "loss/val",
            "val/perplexity"
        ]
    );
    assert_eq!(all[5], (1, "tokens_per_second".to_owned(), 64.0));
    assert!(folder.path().join("events.out.tfevents.1700000000.msg").exists());
}

#[test]
fn a_file_cut_at_any_byte_by_a_kill_keeps_its_whole_events_up_to_the_step() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = TensorBoardWriter::start(folder.path(), clock()).unwrap();
    let path = writer.path.clone();
    let mut ends = vec![(0, fs::metadata(&path).unwrap().len() as usize)];
    for n in 1..=3 {
        writer.record(&step(n, 1)).unwrap();
        ends.push((n, fs::metadata(&path).unwrap().len() as usize));
    }
    let whole = fs::read(&path).unwrap();
    for length in 0..=whole.len() {
        // The step goes round with the length, since every cut waits for the disk.
        let last = length as u64 % 5;
        fs::write(&path, &whole[..length]).unwrap();
        truncate_after(folder.path(), last).unwrap();
        let kept = ends.iter().rev().find(|(n, end)| *n <= last && *end <= length);
        match kept {
            Some((1.., end)) => assert_eq!(fs::read(&path).unwrap(), &whole[..*end]),
            _ => assert!(!path.exists(), "length {length}, step {last}"),
        }
    }
}

#[test]
fn a_resumed_run_has_each_scalar_once_and_marks_the_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = TensorBoardWriter::start(folder.path(), clock()).unwrap();
    for n in 1..=5 {
        writer.record(&step(n, 1)).unwrap();
    }
    drop(writer);
    for (from, to) in [(3, 6), (2, 7)] {
        let mut writer = TensorBoardWriter::resume(folder.path(), from, clock()).unwrap();
        for n in from + 1..=to {
            writer.record(&step(n, 1)).unwrap();
        }
    }
    let all = scalars(folder.path());
    let losses: Vec<u64> = all.iter().filter(|(_, tag, _)| tag == "loss/train").map(|(n, _, _)| *n).collect();
    assert_eq!(losses, [1, 2, 3, 4, 5, 6, 7]);
    let files = event_files(folder.path()).unwrap();
    assert_eq!(files.len(), 2, "the file of the resume that was itself cut back is gone: {files:?}");
    let bytes = fs::read(&files[1]).unwrap();
    let second = Frames::new(&bytes).nth(1).and_then(Event::decode);
    assert_eq!(second, Some(Event::restart(1_700_000_000.5, 3)));
}

#[test]
fn files_of_others_in_the_folder_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("events.out.tfevents.1600000000.somebody");
    fs::write(&other, b"theirs").unwrap();
    truncate_after(folder.path(), 0).unwrap();
    assert_eq!(fs::read(&other).unwrap(), b"theirs");
}
