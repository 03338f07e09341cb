#!/usr/bin/env python3
"""Measures how the crates are built inside: rooms, floors, arrows between rooms, arrows back up, circles of files.

A room is a top-level module of a crate; `lib.rs` and `main.rs` are its roof. Floors are listed in
tests/tests/layering.rs, which fails on what is counted here. An arrow is an import, drawn to the file that defines what
is imported: re-exports are followed. It runs back up where it ends in another room that lies on no lower floor. Tests
and links of documentation do not count. Of a module and its parts, which may import each other, the sizes are told
apart. `ops` and `device` of msg-core are measured by their parts too; their floors are the longest chain of those.

Exit status 1 where an arrow between rooms runs back up, a circle joins rooms or such parts, or the lists of floors
and the rooms differ.
"""

import argparse
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parents[1]
LISTS = "tests/tests/layering.rs"
CRATES = ["msg-core", "msg-models", "msg-train", "msg-cli"]
# Rooms of many parts, measured again by part.
HALLS = {"msg-core": ["ops", "device"]}
ROOF = "lib"
# Of circles with up to so many files the imports are told too.
SMALL = 8

SKIPPED = re.compile(
    r"""//[^\n]*|/\*.*?\*/|b?r(?P<hashes>\#*)".*?"(?P=hashes)|[bc]?"(?:\\.|[^"\\])*"|b?'(?:\\.[^']*|[^'\\])'""", re.S
)
TOKEN = re.compile(r"\$?\w+|::|\S")
ITEMS = {"fn", "struct", "enum", "union", "trait", "type", "const", "static"}
# Between an item's keyword and its name.
BEFORE_NAMES = {"fn", "mut", "unsafe", "async", "extern"}
CLOSING = {"(": ")", "[": "]", "{": "}"}


def tokens_of(text):
    """The tokens of a source without comments, texts and what is compiled for tests only."""
    tokens = TOKEN.findall(SKIPPED.sub(lambda found: " " if found[0][0] == "/" else ' "" ', text))
    kept, at = [], 0
    while at < len(tokens):
        if tokens[at : at + 2] == ["#", "["]:
            end = closing(tokens, at + 1)
            attribute = tokens[at + 2 : end]
            if attribute == ["cfg", "(", "test", ")"] or attribute[:5] == ["cfg", "(", "all", "(", "test"]:
                at = item_end(tokens, end + 1)
            else:
                at = end + 1
        else:
            kept.append(tokens[at])
            at += 1
    return kept


def closing(tokens, at):
    """Where the bracket that opens at `at` closes."""
    depth = 0
    for place in range(at, len(tokens)):
        depth += (tokens[place] in CLOSING) - (tokens[place] in CLOSING.values())
        if depth == 0:
            return place
    return len(tokens) - 1


def item_end(tokens, at):
    """The place behind the item that begins at `at`, its attributes included."""
    use = False
    while at < len(tokens):
        token = tokens[at]
        use |= token == "use"
        if token in CLOSING:
            at = closing(tokens, at)
            if token == "{" and not use:
                return at + 1
        elif token == ";":
            return at + 1
        at += 1
    return at


def leaves(tokens, before=()):
    """The (path, name in this file or "*") of each name of a use tree."""
    path, at = list(before), 0
    while at < len(tokens):
        if tokens[at] == "::":
            # A path that begins so names another crate.
            if not path:
                return
        elif tokens[at] == "{":
            part = at + 1
            for place in range(part, closing(tokens, at) + 1):
                inside = tokens[part:place]
                ended = tokens[place] == "," or place == closing(tokens, at)
                if ended and inside.count("{") == inside.count("}"):
                    yield from leaves(inside, path)
                    part = place + 1
            return
        elif tokens[at] == "as":
            yield tuple(path), tokens[at + 1]
            return
        elif tokens[at] == "*":
            yield tuple(path), "*"
            return
        elif tokens[at] != "self" or not path:
            path.append(tokens[at])
        at += 1
    if path:
        yield tuple(path), path[-1]


class Module:
    """A module: its file, what it defines, its children, the names it takes in and the paths it spells."""

    def __init__(self, file, path, parent):
        self.file, self.path, self.parent = file, path, parent
        self.items, self.children = set(), {}
        # (path, name, whether others see it)
        self.uses, self.paths = [], []
        # Names that stand alone, outside of imports.
        self.words = set()

    def root(self):
        return self.parent.root() if self.parent else self


class Crate:
    """The modules of one crate and its arrows by file."""

    def __init__(self, root, name):
        self.folder, self.name = root / name / "src", name
        self.modules, self.arrows = [], {}
        for top in ("lib.rs", "main.rs"):
            if (self.folder / top).exists():
                self.load(top, (), None)
        for module in self.modules:
            self.draw(module)

    def load(self, file, path, parent):
        module = Module(file, path, parent)
        self.modules.append(module)
        self.read(module, tokens_of((self.folder / file).read_text()))
        return module

    def file_of(self, module, name):
        """The file of a child that a module declares."""
        file = pathlib.PurePosixPath(module.file)
        inline = module.path[len(self.path_of_file(module)) :]
        face = file.stem in ("mod", "lib", "main")
        folder = (file.parent if face else file.with_suffix("")).joinpath(*inline)
        for candidate in (folder / f"{name}.rs", folder / name / "mod.rs"):
            if (self.folder / candidate).exists():
                return str(candidate)
        sys.exit(f"{self.name}: {module.file} declares {name}, which has no file")

    def path_of_file(self, module):
        while module.parent and module.parent.file == module.file:
            module = module.parent
        return module.path

    def read(self, module, tokens):
        """Takes in one module's tokens: items where no bracket is open, imports and paths wherever they stand."""
        at, depth = 0, 0
        while at < len(tokens):
            token = tokens[at]
            next_one = tokens[at + 1] if at + 1 < len(tokens) else ""
            if token == "use" and (at == 0 or tokens[at - 1] not in ("::", ".")) and next_one not in ("<", ","):
                end = tokens.index(";", at)
                seen = at > 0 and (tokens[at - 1] == "pub" or tokens[at - 1] == ")")
                module.uses += [(path, name, seen) for path, name in leaves(tokens[at + 1 : end])]
                at = end + 1
                continue
            if token == "mod" and depth == 0:
                behind = tokens[at + 2]
                if behind == ";":
                    path = (*module.path, next_one)
                    module.children[next_one] = self.load(self.file_of(module, next_one), path, module)
                else:
                    end = closing(tokens, at + 2)
                    child = Module(module.file, (*module.path, next_one), module)
                    module.children[next_one] = child
                    self.modules.append(child)
                    self.read(child, tokens[at + 3 : end])
                    at = end
                at += 1 if behind == "{" else 3
                continue
            if token == "macro_rules" and next_one == "!":
                module.items.add(tokens[at + 2])
            elif token in ITEMS and depth == 0:
                name = at + 1
                while tokens[name] in BEFORE_NAMES or tokens[name] == '"':
                    name += 1
                module.items.add(tokens[name])
            depth += (token in CLOSING) - (token in CLOSING.values())
            if re.match(r"[$\w]", token) and (at == 0 or tokens[at - 1] != "::"):
                path, before = [token.lstrip("$")], tokens[at - 1]
                while tokens[at + 1 : at + 2] == ["::"] and re.match(r"\w", tokens[at + 2]):
                    path.append(tokens[at + 2])
                    at += 2
                if len(path) > 1:
                    module.paths.append(tuple(path))
                # Not what follows a dot or stands before a colon: a field, a method, a variable.
                elif before != "." and tokens[at + 1 : at + 2] != [":"]:
                    module.words.add(token)
            at += 1

    def found(self, module, name, asked):
        """What a module calls by a name: its child and the modules that define it; both, where both are called so."""
        if (module, name) in asked:
            # A face that hands on a part's item of the part's own name.
            return {module.children[name]} if name in module.children else set()
        asked = asked | {(module, name)}
        at = set()
        if name in module.children:
            at.add(module.children[name])
        if name in module.items:
            at.add((module, name))
        for path, alias, _ in module.uses:
            if alias == name:
                at |= self.resolved(module, path, asked)
        if not at:
            for path, alias, _ in module.uses:
                for target in self.resolved(module, path, asked) if alias == "*" else ():
                    if isinstance(target, Module):
                        at |= self.found(target, name, asked)
        return at

    def resolved(self, module, path, asked=frozenset()):
        """What a path means: modules, and pairs of a module and what it defines. Nothing, if it is another crate's."""
        head, *rest = path
        if head == "crate":
            here = {module.root()}
        elif head == "self":
            here = {module}
        elif head == "super":
            here = {module.parent}
        else:
            here = self.found(module, head, asked)
        for name in rest:
            if name == "super":
                here = {place.parent for place in here}
                continue
            places = [place for place in here if isinstance(place, Module)]
            # Beyond an item stand its variants and functions.
            if not places:
                return here
            here = set()
            for place in places:
                # What a macro defines is not seen: it stands where it was asked for.
                here |= self.found(place, name, asked) or {(place, name)}
        return here

    def draw(self, module):
        """Adds the arrows of one module."""
        for path, name, seen in module.uses:
            targets = self.resolved(module, path)
            if name == "*":
                for target in [target for target in targets if isinstance(target, Module)]:
                    for word in sorted(module.words):
                        self.add(module, self.found(target, word, frozenset()), word)
                self.add(module, targets, name)
                continue
            # A name that is both a module's and an item's counts if it is used as an item's.
            if any(isinstance(target, Module) for target in targets) and name not in module.words:
                continue
            for target in targets:
                # Only handed on by a face to what it is the face of.
                handed_on = seen and name not in module.words and self.within(target, module)
                if not handed_on:
                    self.add(module, {target}, path[-1])
        for path in module.paths:
            self.add(module, self.resolved(module, path), path[-1])

    @staticmethod
    def within(target, module):
        place = target if isinstance(target, Module) else target[0]
        return place.path[: len(module.path)] == module.path

    def add(self, module, targets, name):
        for target in targets:
            # A module by itself is only named; what is reached through it counts.
            if not isinstance(target, Module) and target[0].file != module.file:
                self.arrows.setdefault((module.file, target[0].file), set()).add(name)

    def files(self):
        return sorted({module.file for module in self.modules})


def room(file):
    top = file.split("/")[0].removesuffix(".rs")
    return ROOF if top == "main" else top


def part(file):
    """The part of a hall that a file belongs to."""
    return file.split("/")[1].removesuffix(".rs")


def circles(nodes, arrows):
    """The strongly connected sets of more than one node, largest first."""
    ahead = {node: [] for node in nodes}
    for start, end in arrows:
        ahead[start].append(end)
    reach = {}
    for node in nodes:
        seen, stack = set(), [node]
        while stack:
            for end in ahead[stack.pop()]:
                if end not in seen:
                    seen.add(end)
                    stack.append(end)
        reach[node] = seen
    sets = {frozenset(end for end in reach[node] if node in reach[end]) for node in nodes if node in reach[node]}
    return sorted((sorted(found) for found in sets if len(found) > 1), key=lambda found: (-len(found), found))


def is_part(file, whole):
    """Whether a file is a child module of another."""
    path, above = pathlib.PurePosixPath(file), pathlib.PurePosixPath(whole)
    beside = path.parent if path.stem == "mod" else path
    folder = above.parent if above.stem in ("mod", "lib", "main") else above.with_suffix("")
    return file != whole and beside.parent == folder


def of_parts(circle, arrows):
    """Whether a circle is only a module that its own parts import while it imports them: no part knows another."""
    inside = [(start, end) for start, end in arrows if start in circle and end in circle]
    return all(is_part(start, end) or is_part(end, start) for start, end in inside)


def lists_of(path):
    """The floors of each crate, as the test has them."""
    text = re.sub(r"//[^\n]*", "", path.read_text())
    found = re.findall(r"const (\w+)_FLOORS: &\[&\[&str\]\] =\s*&\[(.*?)\];", text, re.S)
    lists = {
        f"msg-{name.lower()}": [re.findall(r'"([^"]+)"', floor) for floor in re.findall(r"&\[([^\]]*)\]?", floors)]
        for name, floors in found
    }
    if set(lists) != set(CRATES):
        sys.exit(f"{path} has floors for {', '.join(lists) or 'no crate'}")
    return lists


def sizes(found):
    return ", ".join(str(len(files)) for files in found) or "none"


def chain(nodes, arrows):
    """How many nodes the longest chain of arrows has; those of a circle are one floor."""
    together = {node: frozenset(circle) for circle in circles(nodes, arrows) for node in circle}
    floor = {node: together.get(node, frozenset([node])) for node in nodes}
    below = {place: set() for place in floor.values()}
    for start, end in arrows:
        below[floor[start]] |= {floor[end]} - {floor[start]}

    def height(place):
        return 1 + max(map(height, below[place]), default=0)

    return max(map(height, below))


def measure(crate, floors):
    """The rows of a crate and its halls, what there is to tell of it by file, and whether all is well."""
    files, arrows = crate.files(), crate.arrows
    rooms = {room(file) for file in files}
    level = {name: at for at, names in enumerate([*floors, [ROOF]]) for name in names}
    between = {(room(start), room(end)) for start, end in arrows if room(start) != room(end)}
    # Who is on no floor is taken to be on top.
    up = {(start, end) for start, end in between if level.get(start, len(floors)) <= level.get(end, len(floors))}
    found = circles(files, arrows)
    mutual = [circle for circle in found if of_parts(circle, arrows)]
    knots = [circle for circle in found if circle not in mutual]

    def path(file):
        return f"{crate.name}/src/{file}"

    told = [f"{crate.name}: on no floor: {name}" for name in sorted(rooms - level.keys())]
    told += [f"{crate.name}: on a floor, but not there: {name}" for name in sorted(level.keys() - rooms)]
    well = not told and not up and all(len({room(file) for file in knot}) == 1 for knot in knots)
    for (start, end), names in sorted(arrows.items()):
        if (room(start), room(end)) in up:
            told.append(f"back up: {path(start)} -> {path(end)}: {', '.join(sorted(names))}")
    for knot in knots:
        told.append(f"circle of {len(knot)}: {', '.join(map(path, knot))}")
        for (start, end), names in sorted(arrows.items()) if len(knot) <= SMALL else ():
            if start in knot and end in knot:
                told.append(f"  {path(start)} -> {path(end)}: {', '.join(sorted(names))}")
    told += [f"a module and its parts: {', '.join(map(path, circle))}" for circle in mutual]
    used = len({level[name] for name in rooms & level.keys()})
    rows = [(crate.name, len(rooms), used, len(between), len(up), sizes(knots), sizes(mutual))]
    for hall in HALLS.get(crate.name, []):
        inside = {file: part(file) for file in files if file.startswith(f"{hall}/")}
        pairs = {(inside[start], inside[end]) for start, end in arrows if start in inside and end in inside}
        pairs = {(start, end) for start, end in pairs if start != end}
        parts = set(inside.values())
        mixed = circles(parts, pairs)
        told += [f"parts of {path(hall)} in a circle: {', '.join(circle)}" for circle in mixed]
        well &= not mixed
        own = [[circle for circle in kind if inside.keys() >= set(circle)] for kind in (knots, mutual)]
        rows.append((f"- its {hall}/", len(parts), chain(parts, pairs), len(pairs), "", *map(sizes, own)))
    return rows, told, well


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verbose", action="store_true", help="tell arrows back up and circles by file")
    parser.add_argument("--floors", type=pathlib.Path, metavar="FILE", help=f"a file with the floors, else {LISTS}")
    parser.add_argument("root", nargs="?", type=pathlib.Path, default=HERE, metavar="ROOT")
    given = parser.parse_args()
    lists = lists_of(given.floors or given.root / LISTS)
    measured = [measure(Crate(given.root, name), lists[name]) for name in CRATES]
    print("| | rooms | floors | arrows | back up | circles of files | a module and its parts |")
    print("|---|---|---|---|---|---|---|")
    for rows, _, _ in measured:
        for row in rows:
            print(f"| {' | '.join(map(str, row))} |")
    if given.verbose:
        print(*(line for _, told, _ in measured for line in told), sep="\n")
    sys.exit(0 if all(well for _, _, well in measured) else 1)


if __name__ == "__main__":
    main()
