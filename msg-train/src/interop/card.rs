//! The model card of an export: what the model is, the schedule, receipts and figures, where it comes from.

use super::provenance::Step;
use crate::{
    config::Resolved,
    error::Result,
    families::family::CardWords,
    report,
    schedule::{plan::Plan, table::plan_table},
    step::state::State,
};
use msg_models::{Cost, GrowthState};
use std::{fmt::Write, path::Path};

/// What a card tells.
pub(super) struct Card<'a> {
    pub(super) family: CardWords,
    pub(super) growing: &'a GrowthState,
    pub(super) vocab: Option<usize>,
    pub(super) positions: usize,
    pub(super) parameters: usize,
    pub(super) state: &'a State,
    pub(super) config: Option<&'a Resolved>,
    /// What the model costs.
    pub(super) cost: Cost,
    /// The run's folder, where its metrics lie.
    pub(super) run: Option<&'a Path>,
    pub(super) steps: &'a [Step],
    pub(super) source_blake3: &'a str,
    /// Heads that the model does not have.
    pub(super) absent: &'a [String],
}

/// The card in Markdown, with the front matter of the Hugging Face hub.
///
/// # Errors
/// Where the run's files are damaged.
pub(super) fn card(card: &Card<'_>) -> Result<String> {
    let CardWords { class, pipeline: task, norms } = card.family;
    let name = card.config.map_or("model", |config| config.run().name.as_str());
    let mut text = format!(
        "---\nlibrary_name: transformers\npipeline_tag: {task}\ntags:\n- msg\n- masked-structural-growth\n---\n\n\
         # {}\n\nA {class} ({norms}) of {} parameters: {} of {}, \
         {} positions",
        escaped(name),
        card.parameters,
        card.growing.sizes,
        card.growing.head_dim,
        card.positions
    );
    if let Some(vocab) = card.vocab {
        push(&mut text, format_args!(", {vocab} tokens"));
    }
    text.push_str(".\n");
    if !card.absent.is_empty() {
        let absent = card.absent.iter().map(|group| format!("`{}`", group.trim_end_matches('.')));
        let absent: Vec<String> = absent.collect();
        push(
            &mut text,
            format_args!("\nWithout {}, as the model that it was imported from.\n", absent.join(", ")),
        );
    }
    if let Some(config) = card.config {
        push(
            &mut text,
            format_args!(
                "\n## Schedule\n\nGrown in stages by masked structural growth (arXiv 2305.02869); this is the model after \
                 step {}, in stage {}.\n\n```\n{}\n```\n",
                card.state.step,
                card.state.stage,
                plan_table(config, &Plan::new(config), &card.cost).trim_end()
            ),
        );
    }
    if let Some(run) = card.run {
        let summary = report::summary(run)?;
        push(&mut text, format_args!("\n## Figures\n\n```\n{}\n```\n", summary.trim_end()));
        if let Some(receipts) = report::receipt_lines(run)? {
            let receipts = receipts.trim_end();
            push(
                &mut text,
                format_args!(
                    "\n## Receipts\n\nOutputs on a fixed batch before and after each growth.\n\n```\n{receipts}\n```\n"
                ),
            );
        }
    }
    text.push_str("\n## Provenance\n\n");
    let began = card.config.and_then(|config| config.init()?.from.file_name());
    if let Some(name) = began {
        push(
            &mut text,
            format_args!("- the run began at the checkpoint {}\n", escaped(&name.to_string_lossy())),
        );
    }
    for step in card.steps {
        push(
            &mut text,
            format_args!(
                "- `{}` of {} (BLAKE3 {})",
                step.operation,
                escaped(&step.source),
                step.source_blake3
            ),
        );
        if let Some(receipt) = &step.receipt {
            push(
                &mut text,
                format_args!(
                    ": max |dlogit| {:.1e}, dloss {:.1e}, tolerance {:.1e}",
                    receipt.max_dlogit, receipt.dloss, receipt.tolerance
                ),
            );
        }
        text.push('\n');
    }
    push(
        &mut text,
        format_args!("- weights exported here: BLAKE3 {} in the checkpoint\n", card.source_blake3),
    );
    Ok(text)
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Text has room for text.
    let _ = text.write_fmt(arguments);
}

/// A name that cannot be read as markup.
fn escaped(name: &str) -> String {
    let mut safe = String::new();
    for letter in name.chars().filter(|letter| !letter.is_control()) {
        if "\\`*_{}[]<>#|".contains(letter) {
            safe.push('\\');
        }
        safe.push(letter);
    }
    safe
}
