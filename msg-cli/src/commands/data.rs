//! `msg data prepare`.

use crate::args::Configured;
use indicatif::{ProgressBar, ProgressStyle};
use msg_train::{
    config::Resolved,
    data::{
        Counts, Phase, Prepared,
        open::{data_folder, open_data},
    },
};
use std::sync::Arc;

pub fn prepare(args: &Configured) -> anyhow::Result<()> {
    let config = super::read(args)?;
    let data = open(&config)?;
    let Counts { documents, bytes, tokens, held_out_tokens, invalid, .. } = data.manifest().counts;
    println!("{}: {} entries in the token table", data_folder(&config).display(), data.tokenizer().vocab());
    println!("{documents} documents, {bytes} bytes, {tokens} tokens, {held_out_tokens} of them held out");
    if invalid > 0 {
        println!("{invalid} invalid UTF-8 sequence{} replaced", if invalid == 1 { "" } else { "s" });
    }
    Ok(())
}

/// Prepares data with a progress bar, where that is not done yet, and opens it.
pub fn open(config: &Resolved) -> anyhow::Result<Arc<Prepared>> {
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
