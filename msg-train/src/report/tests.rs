use super::*;
use crate::metrics::{
    End, Eval, Growth, Heads, METRICS, RampEnd, Receipt, Record, RunPlan, StagePlan, Start, Step, StepTiming,
    TIMING, sinks::jsonl::JsonlWriter,
};
use msg_models::{Sizes, sizes};

const EXACT: Receipt = Receipt { max_dlogit: 0.0, dloss: 0.0, tolerance: 0.0, function_preserving: true };

/// What a made-up run is like.
#[derive(Clone)]
struct Made {
    name: &'static str,
    stages: Vec<(u64, Sizes)>,
    eval_every: u64,
    flops: f64,
    plan: bool,
    bad_steps: std::ops::Range<u64>,
    heads: Option<Heads>,
}

impl Default for Made {
    fn default() -> Self {
        let sizes = |layers, hidden, ffn, heads| sizes! { layers, hidden, ffn, heads };
        Made {
            name: "quickstart-gpt",
            stages: vec![
                (150, sizes(2, 64, 192, 2)),
                (150, sizes(2, 64, 256, 2)),
                (200, sizes(4, 64, 256, 2)),
                (300, sizes(4, 128, 512, 4)),
            ],
            eval_every: 40,
            flops: 1e6,
            plan: true,
            bad_steps: 0..0,
            heads: None,
        }
    }
}

impl Made {
    fn plan(&self) -> RunPlan {
        let mut first_step = 1;
        let stage = |(at, (steps, sizes)): (usize, &(u64, Sizes))| {
            let params =
                sizes.layers * sizes.hidden * (sizes.ffn * 2 + 256 * sizes.heads) + 4096 * sizes.hidden;
            let stage = StagePlan {
                number: at + 1,
                first_step,
                steps: *steps,
                sizes: *sizes,
                sequence: if at == 0 { 64 } else { 128 },
                batch: 16,
                params: params as u64,
                flops_per_token: 6.0 * params as f64 * self.flops / 1e6,
                ramp: if at == 0 { 0 } else { 60 },
            };
            first_step += steps;
            stage
        };
        let stages: Vec<StagePlan> = self.stages.iter().enumerate().map(stage).collect();
        let total_steps = first_step - 1;
        RunPlan { name: self.name.into(), family: "gpt".into(), stages, total_steps }
    }

    /// Writes the run's files.
    fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        let plan = self.plan();
        if self.plan {
            plan.write(folder).unwrap();
        }
        let mut metrics = JsonlWriter::append(folder.join(METRICS)).unwrap();
        let mut timing = JsonlWriter::append(folder.join(TIMING)).unwrap();
        let (mut tokens, mut flops, mut seconds, mut noise) = (0, 0.0, 0.0, 1u64);
        if let Some(first) = plan.stages.first() {
            let start = Start { step: 0, name: self.name.into(), sizes: first.sizes, params: first.params };
            metrics.write(&Record::Start(start)).unwrap();
        }
        for pair in 0..plan.stages.len() {
            let stage = plan.stages[pair];
            if let Some(before) = pair.checked_sub(1).map(|at| plan.stages[at]) {
                let growth = Growth {
                    step: stage.first_step,
                    from_stage: before.number,
                    to_stage: stage.number,
                    from: before.sizes,
                    to: stage.sizes,
                    params: stage.params,
                    operator: None,
                    receipt: EXACT,
                };
                metrics.write(&Record::Growth(growth)).unwrap();
            }
            for step in stage.first_step..=stage.last_step() {
                tokens += stage.tokens_per_step();
                flops += stage.flops_per_step();
                let step_seconds = stage.flops_per_step() / 2e10;
                seconds += step_seconds;
                noise = noise.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let wobble = (noise >> 40) as f64 / (1u64 << 24) as f64 - 0.5;
                let capacity = (stage.params as f64).powf(0.08);
                let clean = 4.6 / capacity + 6.2 * (-(step as f64) / 70.0).exp() + 4.0 / (step as f64).sqrt();
                let into = (step - stage.first_step + 1) as f64;
                let share = step as f64 / plan.total_steps as f64;
                let bad = self.bad_steps.contains(&step);
                let record = Step {
                    step,
                    stage: stage.number,
                    loss: if bad { f32::NAN } else { (clean + 0.5 * wobble) as f32 },
                    lr: 6e-4
                        * (step as f64 / 40.0).min(1.0)
                        * (0.1 + 0.45 * (1.0 + (share * std::f64::consts::PI).cos())),
                    grad_norm: 1.0,
                    mask: if stage.ramp == 0 { 1.0 } else { (into / stage.ramp as f64).min(1.0) as f32 },
                    tokens,
                    flops,
                    skipped: bad,
                };
                metrics.write(&Record::Step(record)).unwrap();
                let tokens_per_second = stage.tokens_per_step() as f64 / step_seconds;
                let data_seconds = 0.0;
                let record = StepTiming { step, seconds, step_seconds, data_seconds, tokens_per_second };
                timing.write(&record).unwrap();
                if stage.ramp > 0 && into as u64 == stage.ramp {
                    let receipt = Receipt { max_dlogit: 2.4e-7, tolerance: 1e-6, ..EXACT };
                    metrics.write(&Record::RampEnd(RampEnd { step, receipt })).unwrap();
                }
                if self.eval_every > 0 && (step % self.eval_every == 0 || step == stage.last_step()) {
                    let loss = clean + 0.08;
                    let perplexity = loss.exp();
                    let accuracy = self.heads;
                    let eval = Eval { step, stage: stage.number, loss, perplexity, accuracy };
                    metrics.write(&Record::Eval(eval)).unwrap();
                }
            }
        }
        metrics.write(&Record::End(End { step: plan.total_steps, tokens, flops })).unwrap();
    }
}

/// The page about these runs, checked for what no page may have.
fn page_of(made: &[Made]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let folders: Vec<PathBuf> = (0..made.len()).map(|at| folder.path().join(format!("run-{at}"))).collect();
    for (made, folder) in made.iter().zip(&folders) {
        made.write(folder);
    }
    let out = folder.path().join("deep/er/report.html");
    report(&folders, &out).unwrap();
    // For eyes: a folder in this variable keeps the pages.
    if let Some(keep) = std::env::var_os("MSG_REPORT_SAMPLES") {
        let name = format!(
            "{}-{}.html",
            made[0].name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"),
            made.len()
        );
        fs::create_dir_all(&keep).unwrap();
        fs::copy(&out, Path::new(&keep).join(name)).unwrap();
    }
    let page = fs::read_to_string(&out).unwrap();
    assert_eq!(fs::read_dir(out.parent().unwrap()).unwrap().count(), 1);
    check(&page);
    page
}

/// Well-formed as far as elements go, nothing from outside, no number that is none in a drawing.
fn check(page: &str) {
    for outside in ["http", "<script", "src=", "@import", "url(", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
    let mut open = Vec::new();
    let body = page.split_once("</style>").unwrap().1;
    for tag in body.split('<').skip(1).map(|rest| rest.split_once('>').unwrap().0) {
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            let last = open.pop();
            // The head was opened before the style sheet.
            assert!(
                last == Some(name) || (last.is_none() && ["head", "html"].contains(&name)),
                "{tag} {last:?}"
            );
        } else if !tag.ends_with('/') {
            open.push(name);
        } else {
            assert!(!tag.contains("NaN") && !tag.contains("inf"), "{tag}");
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_page_about_one_run_shows_its_curves_stages_receipts_and_costs() {
    let page = page_of(&[Made::default()]);
    assert!(page.contains("<h1>quickstart-gpt</h1>"));
    for over in ["optimizer steps", "tokens", "floating-point operations", "training time"] {
        assert!(page.contains(&format!("Training and validation loss against {over}")), "{over}");
    }
    assert!(page.contains(">2: ffn 192 → 256, sequence 64 → 128</text>"));
    assert!(page.contains(">4: hidden 64 → 128, ffn 256 → 512, heads 2 → 4</text>"));
    assert!(page.contains("means of 4 consecutive steps"));
    assert_eq!(page.matches("✓ preserved").count(), 6);
    assert!(page.contains("2.4e-7"));
    assert!(page.contains("× the plan's"));
    assert!(page.contains("finished"));
    for label in ["Gradient norm", "Learning rate", "Mask value", "layers", "hidden", "ffn", "heads"] {
        assert!(page.contains(&format!(r#"aria-label="{label} against optimizer steps""#)), "{label}");
    }
}

#[test]
fn several_runs_share_axes_and_a_legend_and_are_told_apart() {
    let full = Made {
        name: "full size",
        stages: vec![(500, sizes! { layers: 4, hidden: 128, ffn: 512, heads: 4 })],
        ..Made::default()
    };
    let bert = Made { eval_every: 25, heads: Some(Heads { mlm: 0.25, nsp: 0.5 }), ..Made::default() };
    let page = page_of(&[Made::default(), full, bert]);
    assert!(page.contains("<h1>Training runs</h1>"));
    assert!(page.contains("To the same validation loss"));
    assert!(page.contains("quickstart-gpt (2)"));
    assert!(page.contains("MLM 25.0 %, NSP 50.0 %"));
    for run in ["run0", "run1", "run2"] {
        assert!(page.contains(&format!(r#"class="line {run}""#)), "{run}");
    }
}

#[test]
fn a_failed_receipt_stands_out() {
    let folder = tempfile::tempdir().unwrap();
    let made = Made::default();
    made.write(folder.path());
    let path = folder.path().join(METRICS);
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replacen(r#""function_preserving":true"#, r#""function_preserving":false"#, 1);
    fs::write(&path, text).unwrap();
    let out = folder.path().join("r.html");
    report(&[folder.path().to_path_buf()], &out).unwrap();
    assert_eq!(fs::read_to_string(&out).unwrap().matches("✗ not preserved").count(), 1);
}

#[test]
fn names_cannot_become_markup() {
    let name = "<img src=x onerror=alert(1)> & \"friends\"";
    let page = page_of(
        &[Made { name, ..Made::default() }, Made { name, ..Made::default() }]
            .map(|made| Made { name: "<b>&\"'", ..made }),
    );
    assert!(page.contains("&lt;b&gt;&amp;&quot;&#39;"));
    assert!(!page.contains("<b>"));
}

#[test]
fn runs_without_evaluations_plans_or_with_losses_that_are_no_numbers_have_a_page() {
    let page =
        page_of(&[Made { name: "gaps", eval_every: 0, plan: false, bad_steps: 300..360, ..Made::default() }]);
    assert!(!page.contains("last validation loss"));
    assert!(page.contains("<dt>updates left out</dt><dd>60</dd>"));
    assert!(page.contains(">2: ffn 192 → 256</text>"), "stages come from the growths");
    page_of(&[Made { name: "all bad", bad_steps: 0..10_000, ..Made::default() }]);
}

#[test]
fn runs_of_one_step_of_none_and_of_unequal_lengths_have_a_page() {
    let sizes = sizes! { layers: 1, hidden: 8, ffn: 8, heads: 1 };
    let one = Made { name: "one", stages: vec![(1, sizes)], eval_every: 1, ..Made::default() };
    let none = Made { name: "none", stages: vec![], ..Made::default() };
    page_of(std::slice::from_ref(&one));
    let page = page_of(std::slice::from_ref(&none));
    assert!(page.contains("No losses are on file."));
    page_of(&[one, Made::default(), none]);
}

#[test]
fn the_name_comes_from_the_config_where_nothing_else_tells_and_else_from_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("the-folder");
    fs::create_dir(&run).unwrap();
    fs::write(run.join(METRICS), "").unwrap();
    let out = folder.path().join("r.html");
    report(std::slice::from_ref(&run), &out).unwrap();
    assert!(fs::read_to_string(&out).unwrap().contains("<h1>the-folder</h1>"));
    fs::write(run.join("config.toml"), "[run]\nname = \"from config\"\n").unwrap();
    report(&[run], &out).unwrap();
    assert!(fs::read_to_string(&out).unwrap().contains("<h1>from config</h1>"));
}

#[test]
fn a_folder_without_metrics_a_damaged_file_and_no_run_at_all_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("r.html");
    assert!(matches!(report(&[], &out), Err(crate::Error::Data { .. })));
    let runs = [folder.path().to_path_buf()];
    assert!(matches!(report(&runs, &out), Err(crate::Error::Io { .. })));
    fs::write(folder.path().join(METRICS), "junk\n{}\n").unwrap();
    let error = report(&runs, &out).unwrap_err().to_string();
    assert!(error.contains("metrics.jsonl: line 1: expected"), "{error}");
    assert!(!out.exists());
}

#[test]
fn a_summary_has_a_line_for_each_stage_whose_parts_add_up_and_says_what_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let heads = Some(Heads { mlm: 0.25, nsp: 0.5 });
    let made = Made { heads, ..Made::default() };
    made.write(folder.path());
    let text = summary(folder.path()).unwrap();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    let head = [
        "stage",
        "steps",
        "parameters",
        "tokens",
        "FLOPs",
        "training time",
        "validation loss",
        "perplexity",
        "MLM",
        "NSP",
    ];
    assert_eq!(lines[0], head);
    let column = |at: usize| lines[1..6].iter().map(|line| line[at]).collect::<Vec<_>>();
    assert_eq!(column(0), ["1", "2", "3", "4", "all"]);
    assert_eq!(column(1), ["150", "150", "200", "300", "800"]);
    assert_eq!(column(3), ["154k", "307k", "410k", "614k", "1.48M"]);
    assert_eq!((lines[5][8], lines[5][9]), ("25.0 %", "50.0 %"));
    // The whole ends with the figures of the last stage.
    assert_eq!(lines[4][6..], lines[5][6..]);
    let plan = made.plan();
    let factor = plan.flops_at_full_size().unwrap() / plan.flops_after(0);
    assert!(text.contains(&format!("{factor:.2}x fewer than the full size")), "{text}");
    // Columns stand under each other.
    let widths: Vec<usize> = text.lines().take(6).map(|line| line.chars().count()).collect();
    assert!(widths.iter().all(|width| *width == widths[0]), "{text}");

    let plain = tempfile::tempdir().unwrap();
    Made { eval_every: 0, plan: false, stages: vec![made.stages[0]], ..Made::default() }.write(plain.path());
    let text = summary(plain.path()).unwrap();
    assert!(!text.contains("MLM") && !text.contains("NaN") && !text.contains("all"), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
}
