//! What commands read before they begin: the configuration and its data.

use crate::args::Configured;
use indicatif::{ProgressBar, ProgressStyle};
use msg_train::{
    config::Resolved,
    data::{Phase, Prepared, open::open_data},
    families::registry,
};
use std::sync::Arc;

/// The checked configuration.
pub fn config(args: &Configured) -> anyhow::Result<Resolved> {
    Ok(registry::read(&args.config, &args.set)?)
}

/// Prepares data with a progress bar, unless it is already prepared, and opens it.
pub fn data(config: &Resolved) -> anyhow::Result<Arc<Prepared>> {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg:20} [{bar:30}] {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    let data = open_data(config, &mut |phase, done, total| {
        bar.set_message(match phase {
            Phase::Scan => "reading the text",
            Phase::Learn => "learning the tokens",
            Phase::Tokenize => "writing tokens",
        });
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    Ok(data?)
}
