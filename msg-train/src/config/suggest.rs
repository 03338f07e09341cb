//! The nearest valid name to a misspelt one.

/// The candidate nearest to `given`, if any is near enough to be meant: at most one edit for every three
/// letters, and one at least. Dashes and underscores count as equal, letters in either case, too.
pub(crate) fn nearest<'a>(given: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let folded = fold(given);
    let allowed = (folded.len() / 3).max(1);
    let ranked = candidates.iter().map(|&name| (edits(&folded, &fold(name)), name));
    // Of equally near ones the first listed.
    let (edits, name) = ranked.min_by_key(|(edits, _)| *edits)?;
    (edits <= allowed).then_some(name)
}

/// What to write instead of `given`: the nearest candidate, or all of them.
pub(crate) fn hint(given: &str, candidates: &[&str]) -> String {
    match nearest(given, candidates) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("expected {}", any_of(candidates)),
    }
}

/// `a`, `b` or `c`.
pub(crate) fn any_of(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
    }
}

fn fold(name: &str) -> Vec<char> {
    name.chars().map(|letter| if letter == '-' { '_' } else { letter.to_ascii_lowercase() }).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours that make `b` of `a`.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut fewest = replaced.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    fewest = fewest.min(table[i - 2][j - 2] + 1);
                }
                fewest
            };
        }
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slip_of_any_kind_finds_its_name() {
        let names = ["steps", "hidden", "rewarm_steps", "heads"];
        for (given, meant) in [
            ("hiden", "hidden"),
            ("hiddden", "hidden"),
            ("hidedn", "hidden"),
            ("step", "steps"),
            ("Heads", "heads"),
            ("rewarm-steps", "rewarm_steps"),
            ("rewarm_stp", "rewarm_steps"),
        ] {
            assert_eq!(nearest(given, &names), Some(meant), "{given}");
        }
    }

    #[test]
    fn what_resembles_nothing_gets_no_guess() {
        assert_eq!(nearest("colour", &["steps", "hidden"]), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
