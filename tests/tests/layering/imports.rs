//! Who imports whom inside a crate, by file: a reader of `use` trees and paths that follows re-exports to the file
//! that defines a name.
//!
//! It knows no types: a method counts for nothing, and what a macro defines is taken to stand in the module that is
//! asked for it.

use std::collections::{BTreeMap, BTreeSet};

/// Words that begin an item with a name.
const ITEMS: [&str; 8] = ["fn", "struct", "enum", "union", "trait", "type", "const", "static"];
/// What may stand between such a word and the name; a text is the ABI of `extern`.
const BEFORE_NAMES: [&str; 6] = ["fn", "mut", "unsafe", "async", "extern", "\""];

/// The imports of a crate.
pub struct Crate {
    modules: Vec<Module>,
    /// What is imported from one file to another, by their paths.
    pub arrows: BTreeMap<(String, String), BTreeSet<String>>,
}

#[derive(Default)]
struct Module {
    file: String,
    /// The folder of its children's files.
    folder: String,
    parent: Option<usize>,
    items: BTreeSet<String>,
    children: BTreeMap<String, usize>,
    uses: Vec<Use>,
    /// The paths that are spelled outside of imports.
    paths: Vec<Vec<String>>,
    /// The names that stand alone outside of imports.
    words: BTreeSet<String>,
}

#[derive(Clone)]
struct Use {
    path: Vec<String>,
    /// Its name here; `*` for all names.
    name: String,
    /// Whether other modules see it: a re-export.
    seen: bool,
}

impl Module {
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Use> {
        self.uses.iter().filter(move |import| import.name == name)
    }
}

/// What a path means.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Module(usize),
    /// Something that this module defines.
    ItemOf(usize),
}

impl Target {
    fn module(self) -> Option<usize> {
        match self {
            Target::Module(id) => Some(id),
            Target::ItemOf(_) => None,
        }
    }
}

type Targets = BTreeSet<Target>;
/// The names that are being looked up: faces that hand on to each other must not be followed forever.
type Asked = BTreeSet<(usize, String)>;

impl Crate {
    /// Reads a crate from its roots, which are `lib.rs` and `main.rs` in the folder `src`.
    pub fn read(sources: &BTreeMap<String, String>, src: &str) -> Crate {
        let mut found = Crate { modules: Vec::new(), arrows: BTreeMap::new() };
        for root in ["lib.rs", "main.rs"].map(|root| format!("{src}/{root}")) {
            if sources.contains_key(&root) {
                found.load(sources, root, None);
            }
        }
        for module in 0..found.modules.len() {
            found.draw(module);
        }
        found
    }

    pub fn files(&self) -> BTreeSet<&str> {
        self.modules.iter().map(|module| module.file.as_str()).collect()
    }

    fn load(&mut self, sources: &BTreeMap<String, String>, file: String, parent: Option<usize>) -> usize {
        let module = Module { folder: folder_of_parts(&file), file, parent, ..Module::default() };
        let tokens = without_tests(&tokens(&sources[&module.file]));
        self.modules.push(module);
        let id = self.modules.len() - 1;
        self.read_tokens(sources, id, &tokens);
        id
    }

    /// Takes in a module: items where no bracket is open, imports and paths wherever they stand.
    fn read_tokens(&mut self, sources: &BTreeMap<String, String>, id: usize, tokens: &[&str]) {
        let token = |at: usize| tokens.get(at).copied().unwrap_or_default();
        let before = |at: usize| at.checked_sub(1).map_or("", token);
        let (mut at, mut depth) = (0, 0);
        while at < tokens.len() {
            match token(at) {
                // Not the `use<'a>` of a type.
                "use" if token(at + 1) != "<" => {
                    let end = at + tokens[at..].iter().position(|token| *token == ";").expect("a `use` ends");
                    let seen = ["pub", ")"].contains(&before(at));
                    let leaves = leaves(&tokens[at + 1..end], &[]);
                    let uses = leaves.into_iter().map(|(path, name)| Use { path, name, seen });
                    self.modules[id].uses.extend(uses);
                    at = end;
                }
                "mod" if depth == 0 => at = self.read_child(sources, id, tokens, at),
                "macro_rules" => _ = self.modules[id].items.insert(token(at + 2).to_owned()),
                word => {
                    if ITEMS.contains(&word) && depth == 0 {
                        let name = tokens[at + 1..].iter().find(|token| !BEFORE_NAMES.contains(token));
                        self.modules[id].items.extend(name.map(|name| (*name).to_owned()));
                    }
                    depth += nesting(word);
                    at = self.read_path(id, tokens, at);
                }
            }
            at += 1;
        }
    }

    /// Takes in a child that is declared at `at`; where the declaration ends.
    fn read_child(
        &mut self,
        sources: &BTreeMap<String, String>,
        id: usize,
        tokens: &[&str],
        at: usize,
    ) -> usize {
        let name = tokens[at + 1].to_owned();
        let Module { file, folder, .. } = &self.modules[id];
        let (child, end) = if tokens[at + 2] == ";" {
            let files = [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")];
            let child = files.into_iter().find(|child| sources.contains_key(child));
            let child = child.unwrap_or_else(|| panic!("{file} declares {name}, which has no file"));
            (self.load(sources, child, Some(id)), at + 2)
        } else {
            let (folder, file) = (format!("{folder}/{name}"), file.clone());
            self.modules.push(Module { file, folder, parent: Some(id), ..Module::default() });
            let (child, end) = (self.modules.len() - 1, closing(tokens, at + 2));
            self.read_tokens(sources, child, &tokens[at + 3..end]);
            (child, end)
        };
        self.modules[id].children.insert(name, child);
        end
    }

    /// Takes in the path or name at `at`, if one begins there; where it ends.
    fn read_path(&mut self, id: usize, tokens: &[&str], mut at: usize) -> usize {
        let token = |at: usize| tokens.get(at).copied().unwrap_or_default();
        let before = at.checked_sub(1).map_or("", token);
        if !is_word(token(at)) || before == "::" {
            return at;
        }
        let mut path = vec![token(at).trim_start_matches('$').to_owned()];
        while token(at + 1) == "::" && is_word(token(at + 2)) {
            path.push(token(at + 2).to_owned());
            at += 2;
        }
        if path.len() > 1 {
            self.modules[id].paths.push(path);
        } else if before != "." && token(at + 1) != ":" {
            // What follows a dot or stands before a colon is a field, a method or a variable.
            self.modules[id].words.extend(path);
        } else {
            // Names nothing that could be imported.
        }
        at
    }

    /// What a module calls by a name: a child, an item, or both.
    fn find(&self, id: usize, name: &str, asked: &Asked) -> Targets {
        let module = &self.modules[id];
        let child = module.children.get(name).map(|child| Target::Module(*child));
        let mut asked = asked.clone();
        if !asked.insert((id, name.to_owned())) {
            // A face that hands on a part's item of the part's own name.
            return child.into_iter().collect();
        }
        let mut found: Targets = child.into_iter().collect();
        if module.items.contains(name) {
            found.insert(Target::ItemOf(id));
        }
        found.extend(module.named(name).flat_map(|import| self.resolve(id, &import.path, &asked)));
        if found.is_empty() {
            let targets = module.named("*").flat_map(|import| self.resolve(id, &import.path, &asked));
            let modules = targets.filter_map(Target::module);
            found.extend(modules.flat_map(|module| self.find(module, name, &asked)));
        }
        found
    }

    /// What a path means in a module; nothing where it leads out of the crate.
    fn resolve(&self, id: usize, path: &[String], asked: &Asked) -> Targets {
        let parents = |here: Targets| -> Targets {
            let modules = here.into_iter().filter_map(Target::module);
            modules.filter_map(|module| self.modules[module].parent).map(Target::Module).collect()
        };
        let mut here = match path[0].as_str() {
            "crate" => {
                let mut root = id;
                while let Some(parent) = self.modules[root].parent {
                    root = parent;
                }
                Targets::from([Target::Module(root)])
            }
            "self" => Targets::from([Target::Module(id)]),
            "super" => parents(Targets::from([Target::Module(id)])),
            name => self.find(id, name, asked),
        };
        for name in &path[1..] {
            if name == "super" {
                here = parents(here);
                continue;
            }
            let modules: Vec<usize> = here.iter().copied().filter_map(Target::module).collect();
            if modules.is_empty() {
                // Beyond an item stand its variants and functions.
                return here;
            }
            here = Targets::new();
            for module in modules {
                let known = self.find(module, name, asked);
                if known.is_empty() {
                    here.insert(Target::ItemOf(module));
                }
                here.extend(known);
            }
        }
        here
    }

    /// Adds the arrows of a module.
    fn draw(&mut self, id: usize) {
        let module = &self.modules[id];
        let nothing = Asked::new();
        let mut found: Vec<(Target, String)> = Vec::new();
        for Use { path, name, seen } in &module.uses {
            let targets = self.resolve(id, path, &nothing);
            let mut modules = targets.iter().copied().filter_map(Target::module);
            if name == "*" {
                for from in modules {
                    let items = |word: &String| self.find(from, word, &nothing);
                    let items = module.words.iter().map(|word| (items(word), word));
                    found
                        .extend(items.flat_map(|(of, word)| of.into_iter().map(|item| (item, word.clone()))));
                }
            } else if modules.next().is_some() && !module.words.contains(name) {
                // A name that is both a module's and an item's counts if it is used as an item's.
                continue;
            } else {
                // Imported for good, not only handed on.
            }
            let handed_on =
                |target: &Target| *seen && !module.words.contains(name) && self.within(*target, id);
            let targets = targets.iter().filter(|target| !handed_on(target));
            found.extend(targets.map(|target| (*target, path[path.len() - 1].clone())));
        }
        for path in &module.paths {
            let targets = self.resolve(id, path, &nothing);
            found.extend(targets.into_iter().map(|target| (target, path[path.len() - 1].clone())));
        }
        let from = module.file.clone();
        for (target, name) in found {
            // A module by itself is only named: what is reached through it counts.
            if let Target::ItemOf(to) = target
                && self.modules[to].file != from
            {
                let to = self.modules[to].file.clone();
                self.arrows.entry((from.clone(), to)).or_default().insert(name);
            }
        }
    }

    /// Whether a target stands in a module or below it.
    fn within(&self, target: Target, id: usize) -> bool {
        let (Target::Module(place) | Target::ItemOf(place)) = target;
        let mut place = Some(place);
        while let Some(at) = place {
            if at == id {
                return true;
            }
            place = self.modules[at].parent;
        }
        false
    }
}

/// The folder in which a file's child modules lie.
pub fn folder_of_parts(file: &str) -> String {
    let (folder, name) = file.rsplit_once('/').expect("a file in a folder");
    match name {
        "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
        _ => file.trim_end_matches(".rs").to_owned(),
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_' || letter == '$')
}

fn nesting(token: &str) -> i32 {
    i32::from(["(", "[", "{"].contains(&token)) - i32::from([")", "]", "}"].contains(&token))
}

/// Where the bracket closes that opens at `at`.
fn closing(tokens: &[&str], at: usize) -> usize {
    let mut depth = 0;
    let closes = |token: &&str| {
        depth += nesting(token);
        depth == 0
    };
    at + tokens[at..].iter().position(closes).expect("brackets that close")
}

/// The tokens of a source without comments; every text is one quote.
fn tokens(source: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let behind = |mark: &str| rest.find(mark).map_or(rest.len(), |at| at + mark.len());
        let length = if rest.starts_with("//") {
            behind("\n")
        } else if rest.starts_with("/*") {
            behind("*/")
        } else if let Some(length) = literal(rest) {
            found.push("\"");
            length
        } else if is_word(rest) {
            let ends = |letter: char| !(letter.is_alphanumeric() || letter == '_');
            let length = rest[1..].find(ends).map_or(rest.len(), |at| at + 1);
            found.push(&rest[..length]);
            length
        } else {
            let length = if rest.starts_with("::") { 2 } else { first.len_utf8() };
            if !first.is_whitespace() {
                found.push(&rest[..length]);
            }
            length
        };
        rest = &rest[length..];
    }
    found
}

/// The length of the text or letter that a source begins with, if it does; a lifetime is none.
fn literal(source: &str) -> Option<usize> {
    let open = source.trim_start_matches(['b', 'c']);
    let raw =
        open.strip_prefix('r').map(|open| open.trim_start_matches('#')).filter(|open| open.starts_with('"'));
    if let Some(text) = raw {
        let hashes = open.len() - text.len() - 1;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = text[1..].find(&end).expect("a text that ends") + 1 + end.len();
        return Some(source.len() - text.len() + length);
    }
    let quote = open.chars().next().filter(|first| ['"', '\''].contains(first))?;
    let mut letters = open.char_indices().skip(1).peekable();
    if quote == '\'' {
        let mut ahead = open.chars().skip(1);
        if ahead.next() != Some('\\') && ahead.next() != Some('\'') {
            return None;
        }
    }
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' {
            letters.next();
        } else if letter == quote {
            return Some(source.len() - open.len() + at + 1);
        } else {
            // Within the text.
        }
    }
    None
}

/// Tokens without attributes and without what is compiled for tests alone.
fn without_tests<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].starts_with(&["#", "["]) {
            kept.push(tokens[at]);
            at += 1;
            continue;
        }
        let end = closing(tokens, at + 1);
        let attribute = &tokens[at + 2..end];
        let tested = attribute == ["cfg", "(", "test", ")"]
            || attribute.starts_with(&["cfg", "(", "all", "(", "test"]);
        at = if tested { end_of_item(tokens, end + 1) } else { end + 1 };
    }
    kept
}

/// The place behind the item that begins at `at`.
fn end_of_item(tokens: &[&str], mut at: usize) -> usize {
    let mut import = false;
    while at < tokens.len() {
        match tokens[at] {
            ";" => return at + 1,
            "{" if !import => return closing(tokens, at) + 1,
            "(" | "[" | "{" => at = closing(tokens, at),
            token => import |= token == "use",
        }
        at += 1;
    }
    at
}

/// The path and the name here of each leaf of a `use` tree.
fn leaves(tokens: &[&str], before: &[String]) -> Vec<(Vec<String>, String)> {
    let mut path = before.to_vec();
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            // A path that begins so names another crate.
            "::" if path.is_empty() => return Vec::new(),
            "::" => {}
            "*" => return vec![(path, "*".to_owned())],
            "as" => return vec![(path, tokens[at + 1].to_owned())],
            "self" if !path.is_empty() => {}
            "{" => {
                let inside = &tokens[at + 1..closing(tokens, at)];
                let mut depth = 0;
                let ends = |token: &&str| {
                    depth += nesting(token);
                    depth == 0 && *token == ","
                };
                let parts = inside.split(ends).filter(|part| !part.is_empty());
                return parts.flat_map(|part| leaves(part, &path)).collect();
            }
            name => path.push(name.to_owned()),
        }
    }
    let name = path.last().cloned();
    name.map(|name| (path, name)).into_iter().collect()
}
