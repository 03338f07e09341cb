//! What commands print: lines for people and pipes, and the texts that several commands share.
//!
//! The standard macros panic if a line cannot be written, which would end a run of days together with its terminal.
//! The macros here replace them in this crate.

use msg_core::Backend;
use msg_train::{
    checkpoint,
    data::Prepared,
    files::names,
    generate::{Sample, of_held_out},
    interop::Parity,
    report,
    run::Outcome,
};
use std::{
    fmt::Arguments,
    io::{self, ErrorKind, IsTerminal, Write},
    sync::Mutex,
};

/// The first failure to write a result.
static LOST: Mutex<Option<io::Error>> = Mutex::new(None);

/// A line of results. A closed pipe is ignored: its reader has all it wants. Any other failure is remembered.
macro_rules! println {
    ($($text:tt)*) => { $crate::output::result(format_args!($($text)*)) };
}

/// A line for a person on stderr; failures are ignored.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::output::note(format_args!($($text)*)) };
}

pub fn result(text: Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout(), "{text}")
        && error.kind() != ErrorKind::BrokenPipe
        && let Ok(mut lost) = LOST.lock()
    {
        lost.get_or_insert(error);
    }
}

pub fn note(text: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The first result that was lost, if any.
pub fn lost() -> Option<io::Error> {
    LOST.lock().ok()?.take()
}

/// A receipt in two lines.
pub fn parity(parity: &Parity) {
    let Parity { batch, shape: (sequences, length), receipt } = parity;
    println!("batch   {batch}: {sequences} x {length}");
    println!(
        "parity  max |dlogit| {:.1e}, dloss {:.1e}, {} of {} outputs differ (tolerance {:.1e})",
        receipt.max_dlogit, receipt.dloss, receipt.differing, receipt.outputs, receipt.tolerance
    );
}

/// Columns of the sample's text.
const WIDTH: usize = 96;

/// The last words of `msg train`: writes the report of a finished run, then shows a sample, a table, and where
/// everything lies.
pub fn finished<D: Backend>(device: &D, outcome: &Outcome, data: &Prepared) -> anyhow::Result<()> {
    let folder = &outcome.folder;
    let page = folder.join(names::REPORT);
    report::report(std::slice::from_ref(folder), &page)?;
    // The run is done and saved: what a sample refuses must not make a failure of it.
    match checkpoint::open(folder, device).and_then(|saved| of_held_out(&saved, data)) {
        Ok(Some(sample)) => println!("\n{}", worded(&sample)),
        Ok(None) => {}
        Err(error) => eprintln!("no sample: {error}"),
    }
    println!("\n{}", report::summary(folder)?);
    println!("model   {}", folder.join(names::FINAL).display());
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
            heading("and the model continues"),
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
    match io::stdout().is_terminal() {
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
