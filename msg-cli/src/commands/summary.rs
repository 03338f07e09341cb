//! The last words of `msg train`: a sample, a table, and where everything lies.

use msg_core::Backend;
use msg_train::{
    checkpoint,
    data::Prepared,
    generate::{Sample, of_held_out},
    report,
    run::Outcome,
};
use std::io::IsTerminal;

/// Columns of the sample's text.
const WIDTH: usize = 96;

/// Shows what a finished run came to, and writes its report.
pub fn show<D: Backend>(device: &D, outcome: &Outcome, data: &Prepared) -> anyhow::Result<()> {
    let folder = &outcome.folder;
    let page = folder.join("report.html");
    report::report(std::slice::from_ref(folder), &page)?;
    // The run is done and saved: what a sample refuses must not make a failure of it.
    match checkpoint::open(folder, device).and_then(|saved| of_held_out(&saved, data)) {
        Ok(Some(sample)) => println!("\n{}", worded(&sample)),
        Ok(None) => {}
        Err(error) => eprintln!("no sample: {error}"),
    }
    println!("\n{}", report::summary(folder)?);
    println!("model   {}", folder.join("final").display());
    if let Some(reason) = &outcome.unrepresentable {
        println!("        without a config.json for transformers: {reason}");
    }
    println!("report  {}", page.display());
    Ok(())
}

fn worded(sample: &Sample) -> String {
    match sample {
        Sample::Continued { prompt, text } => format!(
            "{}\n{}\n{}\n{}",
            heading("the held-out text begins"),
            indented(prompt),
            heading("and the model goes on"),
            indented(text)
        ),
        Sample::Filled { prompt, hidden, candidates } => {
            let candidates = candidates.iter().map(|candidate| {
                format!("    {:>5.1} %  {}", candidate.probability * 100.0, candidate.token)
            });
            format!(
                "{}\n{}\n{}\n{}",
                heading("held-out text with a token masked"),
                indented(prompt),
                heading(&format!("the model fills in (the text has {hidden:?})")),
                candidates.collect::<Vec<String>>().join("\n")
            )
        }
    }
}

/// Bold on a terminal.
fn heading(text: &str) -> String {
    match std::io::stdout().is_terminal() {
        true => format!("\x1b[1m{text}\x1b[0m"),
        false => text.to_owned(),
    }
}

/// The lines of a text four columns in, long ones broken, empty ones at either end left out. Control
/// characters, which a model may well write, would play with the terminal.
fn indented(text: &str) -> String {
    let shown = |letter: char| if letter.is_control() && letter != '\n' { ' ' } else { letter };
    let text: String = text.chars().map(shown).collect();
    let lines = text.trim_matches('\n').lines().flat_map(|line| {
        let letters: Vec<char> = line.chars().collect();
        let pieces: Vec<String> = letters.chunks(WIDTH).map(|piece| piece.iter().collect()).collect();
        if pieces.is_empty() { vec![String::new()] } else { pieces }
    });
    lines.map(|line| format!("    {line}").trim_end().to_owned()).collect::<Vec<String>>().join("\n")
}
