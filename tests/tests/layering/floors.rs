//! Inside each crate imports point downward too, and no files import each other in a circle.

use super::imports::{Crate, folder_of_parts};
use super::{CLI_FLOORS, CORE_FLOORS, EXCEPTIONS, MODELS_FLOORS, TRAIN_FLOORS, is_test, sources};
use std::collections::{BTreeMap, BTreeSet};

const CRATES: [(&str, &[&[&str]]); 4] = [
    ("msg-core/src", CORE_FLOORS),
    ("msg-models/src", MODELS_FLOORS),
    ("msg-train/src", TRAIN_FLOORS),
    ("msg-cli/src", CLI_FLOORS),
];
/// The room of `lib.rs` and `main.rs`, above all floors.
const ROOF: &str = "the roof";

/// An import, from one file to another.
type Arrow<'a> = (&'a str, &'a str);

fn crates() -> Vec<(&'static str, &'static [&'static [&'static str]], Crate)> {
    let sources = sources();
    CRATES.map(|(src, floors)| (src, floors, Crate::read(&sources, src))).into()
}

fn arrows(of: &Crate) -> BTreeSet<Arrow<'_>> {
    of.arrows.keys().map(|(from, to)| (from.as_str(), to.as_str())).collect()
}

fn shown((from, to): Arrow<'_>) -> String {
    format!("{from} -> {to}")
}

/// The room of a file: the top-level module that it belongs to.
fn room<'a>(src: &str, file: &'a str) -> &'a str {
    let within = file.strip_prefix(src).expect("a file of the crate").trim_start_matches('/');
    match within.split('/').next().expect("a file in a room").trim_end_matches(".rs") {
        "lib" | "main" => ROOF,
        room => room,
    }
}

/// The arrows that do not end in their own room or on a lower floor.
fn back_up<'a>(src: &str, floors: &[&[&str]], arrows: &BTreeSet<Arrow<'a>>) -> BTreeSet<Arrow<'a>> {
    let level = |file: &str| {
        let room = room(src, file);
        floors.iter().position(|rooms| rooms.contains(&room)).unwrap_or(floors.len())
    };
    let rises = |(from, to): &&Arrow<'_>| room(src, from) != room(src, to) && level(from) <= level(to);
    arrows.iter().filter(rises).copied().collect()
}

/// The files that each file leads to, by however many arrows.
fn reach<'a>(arrows: &BTreeSet<Arrow<'a>>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut ahead: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in arrows {
        ahead.entry(from).or_default().push(to);
    }
    let from = |start: &'a str| {
        let mut seen = BTreeSet::new();
        let mut open = vec![start];
        while let Some(at) = open.pop() {
            open.extend(ahead.get(at).into_iter().flatten().filter(|next| seen.insert(**next)));
        }
        (start, seen)
    };
    ahead.keys().map(|start| from(start)).collect()
}

/// The circles of files. Not counted is a module that only its own parts import while it imports them: what stands
/// in it is theirs together, and no part knows another.
fn circles<'a>(arrows: &BTreeSet<Arrow<'a>>) -> BTreeSet<BTreeSet<&'a str>> {
    let reach = reach(arrows);
    let leads = |from: &str, to: &str| reach.get(from).is_some_and(|reached| reached.contains(to));
    let around = |file: &&'a str| -> BTreeSet<&'a str> {
        let reached = reach.get(file).into_iter().flatten();
        reached.copied().filter(|other| leads(other, file)).collect()
    };
    let of_parts = |circle: &BTreeSet<&str>| {
        let inside = |(from, to): &&Arrow<'_>| circle.contains(from) && circle.contains(to);
        arrows.iter().filter(inside).all(|(from, to)| is_part(from, to) || is_part(to, from))
    };
    let found = reach.keys().map(around).filter(|circle| !circle.is_empty());
    found.filter(|circle| !of_parts(circle)).collect()
}

/// Whether a file is a child module of another.
fn is_part(file: &str, whole: &str) -> bool {
    let folder = folder_of_parts(whole);
    let beside = file.strip_suffix("/mod.rs").unwrap_or(file.trim_end_matches(".rs"));
    file != whole && beside.rsplit_once('/').is_some_and(|(place, _)| place == folder)
}

/// The arrows that are not excepted.
fn kept(of: &Crate) -> BTreeSet<Arrow<'_>> {
    arrows(of).into_iter().filter(|arrow| !EXCEPTIONS.contains(&shown(*arrow).as_str())).collect()
}

#[test]
fn imports_point_downward_within_crates() {
    let crates = crates();
    let up = crates.iter().flat_map(|(src, floors, found)| back_up(src, floors, &kept(found)));
    let up: Vec<String> = up.map(shown).collect();
    assert!(up.is_empty(), "not to a lower floor: {up:#?}");
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut found: Vec<Vec<String>> = Vec::new();
    for (_, _, of) in crates() {
        let arrows = kept(&of);
        let inside = |circle: BTreeSet<&str>| {
            let within = arrows.iter().filter(|(from, to)| circle.contains(from) && circle.contains(to));
            within.map(|arrow| shown(*arrow)).collect()
        };
        found.extend(circles(&arrows).into_iter().map(inside));
    }
    assert!(found.is_empty(), "the imports of each circle: {found:#?}");
}

/// The part of a large room that a file belongs to.
fn part<'a>(hall: &str, file: &'a str) -> Option<&'a str> {
    let inside = file.strip_prefix(hall)?;
    inside.find(['/', '.']).map(|end| &file[..hall.len() + end])
}

#[test]
fn parts_of_the_largest_rooms_are_in_no_circle() {
    let crates = crates();
    for hall in ["msg-core/src/ops/", "msg-core/src/device/"] {
        let pairs = crates.iter().flat_map(|(_, _, found)| kept(found));
        let pairs = pairs.filter_map(|(from, to)| Some((part(hall, from)?, part(hall, to)?)));
        let found = circles(&pairs.filter(|(from, to)| from != to).collect());
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[test]
fn every_exception_is_needed() {
    let found = crates();
    for exception in EXCEPTIONS {
        let needed = found.iter().any(|(src, floors, found)| {
            let Some(arrow) = arrows(found).into_iter().find(|arrow| shown(*arrow) == *exception) else {
                return false;
            };
            let mut others = kept(found);
            others.insert(arrow);
            let closes = |circle: &BTreeSet<&str>| circle.contains(arrow.0) && circle.contains(arrow.1);
            !back_up(src, floors, &BTreeSet::from([arrow])).is_empty() || circles(&others).iter().any(closes)
        });
        assert!(needed, "no longer needed: {exception}");
    }
}

#[test]
fn every_room_has_its_floor() {
    for (src, floors, found) in crates() {
        let listed: Vec<&str> = floors.iter().copied().flatten().copied().collect();
        let once: BTreeSet<&str> = listed.iter().copied().collect();
        let mut rooms: BTreeSet<&str> = found.files().into_iter().map(|file| room(src, file)).collect();
        rooms.remove(ROOF);
        let missing: Vec<_> = once.symmetric_difference(&rooms).collect();
        assert!(missing.is_empty(), "{src}: listed and not there, or there and not listed: {missing:?}");
        assert_eq!(listed.len(), rooms.len(), "{src}: a room on two floors");
    }
}

#[test]
fn every_source_file_is_read() {
    let sources = sources();
    for (src, _, found) in crates() {
        let read = found.files();
        let inside = |name: &&String| name.starts_with(src) && !read.contains(name.as_str());
        let missing: Vec<&String> =
            sources.keys().filter(inside).filter(|name| !in_tests(&sources, name)).collect();
        assert!(missing.is_empty(), "no module declares {missing:#?}");
    }
}

/// Whether a file is a test's or below one.
fn in_tests(sources: &BTreeMap<String, String>, name: &str) -> bool {
    let above = name.match_indices('/').map(|(at, _)| format!("{}.rs", &name[..at]));
    is_test(sources, name)
        || above.filter(|above| sources.contains_key(above)).any(|above| is_test(sources, &above))
}

/// The arrows of a crate that is given by its files.
fn drawn(files: &[(&str, &str)]) -> Vec<String> {
    let sources = files.iter().map(|(name, text)| (format!("src/{name}"), (*text).to_owned())).collect();
    arrows(&Crate::read(&sources, "src")).into_iter().map(|arrow| shown(arrow).replace("src/", "")).collect()
}

#[test]
fn imports_are_drawn_to_what_defines_the_name() {
    let face = ("face/mod.rs", "mod deep; mod same; pub use deep::{Deep, *}; pub use same::same;");
    let deep = ("face/deep.rs", "pub struct Deep; pub enum Kind { A }");
    let same = ("face/same.rs", "pub fn same() {} pub const OTHER: u8 = 0;");
    let root = ("lib.rs", "mod face; mod user; pub use face::Deep as Renamed;");
    let to = |source: &str| drawn(&[root, face, deep, same, ("user.rs", source)]);
    let (deep, same) = ("user.rs -> face/deep.rs", "user.rs -> face/same.rs");
    // Re-exports by name, by another name and by glob; nested groups; a variant.
    assert_eq!(to("use crate::{face::{self, Deep as D}};"), [deep]);
    assert_eq!(to("use crate::Renamed; use std::fmt;"), [deep]);
    assert_eq!(to("use super::face::Kind::A;"), [deep]);
    assert_eq!(to("use crate::face::*; fn f(_: Kind) {}"), [deep]);
    // A module by itself, and what is reached through it.
    assert_eq!(to("use crate::face;"), [""; 0]);
    assert_eq!(to("use crate::face; fn f() { face::same() }"), [same]);
    assert_eq!(to("fn f() { let _ = crate::face::same::OTHER; }"), [same]);
    assert_eq!(to("mod inner { use super::super::face::Deep; }"), [deep]);
    // What a macro defines stands in the module that is asked for it.
    assert_eq!(to("use crate::face::Made;"), ["user.rs -> face/mod.rs"]);
    assert_eq!(to("macro_rules! m { () => { $crate::face::same() }; }"), [same]);
    // Tests, comments, texts and other crates.
    assert_eq!(
        to("#[cfg(test)] mod tests { use crate::face::Deep; } #[cfg(test)] use crate::{Renamed};"),
        [""; 0]
    );
    assert_eq!(
        to(
            "/// [`crate::Renamed`]\nconst T: (&str, [char; 2]) = (r#\"use crate::Renamed;\"#, ['\"', '\\'']);"
        ),
        [""; 0]
    );
    assert_eq!(to("use ::face::Deep; use other::face::Deep; fn f<'a>() -> &'a u8 { other::f() }"), [""; 0]);
}

#[test]
fn circles_are_found_but_for_a_module_and_its_parts() {
    let circle = |of: &[Arrow<'static>]| {
        circles(&of.iter().copied().collect()).into_iter().flatten().collect::<Vec<_>>()
    };
    let parts = [
        ("a/mod.rs", "a/b.rs"),
        ("a/b.rs", "a/mod.rs"),
        ("a/mod.rs", "a/c/mod.rs"),
        ("a/c/mod.rs", "a/mod.rs"),
    ];
    assert_eq!(circle(&parts), [""; 0]);
    assert_eq!(
        circle(&[&parts[..], &[("a/b.rs", "a/c/mod.rs")]].concat()),
        ["a/b.rs", "a/c/mod.rs", "a/mod.rs"]
    );
    assert_eq!(
        circle(&[("a/b.rs", "a/c.rs"), ("a/c.rs", "a/b.rs"), ("a/c.rs", "d.rs")]),
        ["a/b.rs", "a/c.rs"]
    );
    let arrows = BTreeSet::from([
        ("src/a.rs", "src/b/c.rs"),
        ("src/b/c.rs", "src/a.rs"),
        ("src/b/c.rs", "src/lib.rs"),
    ]);
    let up = back_up("src", &[&["a"], &["b"]], &arrows);
    assert_eq!(up, BTreeSet::from([("src/a.rs", "src/b/c.rs"), ("src/b/c.rs", "src/lib.rs")]));
}
