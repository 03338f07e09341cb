//! `msg data prepare`.

use crate::{args::Configured, inputs};
use msg_train::data::{Counts, open::data_folder};

pub fn prepare(args: &Configured) -> anyhow::Result<()> {
    let config = inputs::config(args)?;
    let data = inputs::data(&config)?;
    let Counts { documents, bytes, tokens, held_out_tokens, invalid, .. } = data.manifest().counts;
    println!("{}: {} entries in the token table", data_folder(&config).display(), data.tokenizer().vocab());
    println!("{documents} documents, {bytes} bytes, {tokens} tokens, {held_out_tokens} of them held out");
    if invalid > 0 {
        println!("{invalid} invalid UTF-8 sequence{} replaced", if invalid == 1 { "" } else { "s" });
    }
    Ok(())
}
