use super::*;
use crate::metrics::StagePlan;
use msg_models::sizes;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Screen {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

/// Two stages of 10 and 20 steps; a step of the second costs four times one of the first.
fn plan() -> RunPlan {
    let first = StagePlan {
        number: 1,
        first_step: 1,
        steps: 10,
        sizes: sizes! { layers: 1, hidden: 8, ffn: 12, heads: 2 },
        sequence: 5,
        batch: 2,
        params: 100,
        flops_per_token: 10.0,
        ramp: 0,
    };
    let second = StagePlan { number: 2, first_step: 11, steps: 20, flops_per_token: 40.0, ..first };
    RunPlan { name: "a".into(), family: "gpt".into(), stages: vec![first, second], total_steps: 30 }
}

fn step(step: u64) -> Record {
    Record::Step(Step {
        step,
        stage: if step <= 10 { 1 } else { 2 },
        loss: 2.5,
        lr: 3e-4,
        grad_norm: 0.75,
        mask: 0.5,
        tokens: step * 10,
        flops: step as f64 * 100.0,
        ..Step::default()
    })
}

fn timing(step: u64, seconds: f64) -> StepTiming {
    StepTiming { step, seconds, step_seconds: 1.0, data_seconds: 0.0, tokens_per_second: 12_345.0 }
}

#[test]
fn plain_lines_stand_in_columns_under_their_heads_and_come_at_an_interval() {
    let sink = Screen::default();
    let mut console = Console::lines(plan(), Box::new(sink.clone()));
    for n in 1..=8 {
        console.record(&step(n)).unwrap();
        console.timing(&timing(n, n as f64 * 4.0)).unwrap();
    }
    let lines = sink.lines();
    let header = "stage            step     loss      val        lr     norm   mask   tok/s       ETA";
    assert_eq!(lines[0], header);
    // 100 FLOPs a second; after step 1 there are 9 * 100 + 20 * 400 left: 89 seconds.
    assert_eq!(
        lines[1],
        "  1/2            1/30   2.5000        -   3.00e-4    0.750  0.500   12.3k    1m 29s"
    );
    assert_eq!(lines[1].len(), header.len());
    let steps: Vec<&str> = lines[1..].iter().map(|line| line[6..21].trim()).collect();
    assert_eq!(steps, ["1/30", "4/30", "7/30"], "every ten seconds at four seconds a step");
}

#[test]
fn the_last_step_of_a_stage_and_the_first_of_the_next_always_have_a_line() {
    let sink = Screen::default();
    let mut console = Console::lines(plan(), Box::new(sink.clone()));
    for n in 9..=12 {
        if n == 11 {
            console
                .record(&Record::Growth(Growth {
                    step: 11,
                    from_stage: 1,
                    to_stage: 2,
                    from: sizes! { layers: 1, hidden: 8, ffn: 12, heads: 2 },
                    to: sizes! { layers: 2, hidden: 8, ffn: 16, heads: 2 },
                    params: 1234,
                    operator: None,
                    receipt: Receipt {
                        max_dlogit: 0.0,
                        dloss: 0.0,
                        tolerance: 0.0,
                        function_preserving: true,
                    },
                }))
                .unwrap();
        }
        console.record(&step(n)).unwrap();
        console.timing(&timing(n, n as f64 * 0.001)).unwrap();
    }
    let lines = sink.lines();
    let heads: Vec<&str> = lines[1..].iter().map(|line| line[..21].trim()).collect();
    assert_eq!(heads[0], "1/2            9/30");
    assert_eq!(heads[1], "1/2           10/30");
    assert_eq!(
        lines[3],
        "step 11: stage 2 of 1.23k parameters; layers 1 → 2, ffn 12 → 16; \
         max |dlogit| 0.0e0 (tolerance 0.0e0), dloss +0.0e0: function preserved"
    );
    assert_eq!(heads[3], "2/2           11/30");
    assert_eq!(lines.len(), 5);
}

#[test]
fn skipped_updates_and_evaluations_are_said_at_once() {
    let sink = Screen::default();
    let mut console = Console::lines(plan(), Box::new(sink.clone()));
    let Record::Step(skipped) = step(3) else { panic!() };
    console.record(&Record::Step(Step { loss: f32::NAN, skipped: true, ..skipped })).unwrap();
    console
        .record(&Record::Eval(Eval { step: 3, stage: 1, loss: 2.0, perplexity: 7.389, accuracy: None }))
        .unwrap();
    console.timing(&timing(3, 0.0)).unwrap();
    let lines = sink.lines();
    assert_eq!(lines[1], "step 3: update left out, loss NaN, gradient norm 0.75");
    assert_eq!(lines[2], "step 3: validation loss 2.0000, perplexity 7.39");
    assert!(lines[3].contains(" NaN   2.0000 "), "{}", lines[3]);
}

#[test]
fn the_bar_has_a_template_that_indicatif_accepts_and_goes_through_a_whole_run() {
    let screen = indicatif::InMemoryTerm::new(20, 120);
    let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
    let mut console = Console::bar(plan(), 0, target);
    console.record(&step(12)).unwrap();
    console.timing(&timing(12, 1.0)).unwrap();
    if let Out::Bar(bar) = &console.out {
        bar.force_draw();
    }
    let shown = screen.contents();
    assert!(shown.contains("stage 2/2 [=========>"), "{shown}");
    assert!(shown.contains("12/30  40 %"), "{shown}");
    assert!(
        shown.contains("loss 2.5000  val -  lr 3.00e-4  norm 0.750  mask 0.500  tok/s 12.3k  ETA 18s"),
        "{shown}"
    );
}
