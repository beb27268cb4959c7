"""Reads the production code of the workspace, from the work tree or from a git revision.

A reader of Rust just good enough for the counts in this folder: it blanks out comments and literals, follows `mod`
declarations from each crate's roots, and leaves out what is under `#[cfg(test)]`. It does not expand macros.
"""

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

REPOSITORY = Path(__file__).resolve().parent.parent
CRATES = {"callingbox-mcp": "src", "callingbox": "crates/callingbox/src", "callingbox-sandbox": "crates/callingbox-sandbox/src"}
ROOTS = ("lib.rs", "main.rs")

LITERAL_OR_COMMENT = re.compile(
    r"""
    (?P<line>//[^\n]*)
  | (?P<block>/\*)
  | (?P<raw>\b(?:b|c)?r(?P<hashes>\#*)"(?s:.*?)"(?P=hashes))
  | (?P<string>(?:\b(?:b|c))?"(?s:\\.|[^"\\])*")
  | (?P<char>(?:\bb)?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[^}]*\}|.)|[^'\\\n])')
    """,
    re.VERBOSE,
)
def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout


class Tree:
    """The files of a revision, or of the work tree where the revision is None."""

    def __init__(self, revision=None):
        self.revision = revision
        listing = ["ls-files", "--cached", "--others", "--exclude-standard"]
        if revision:
            listing = ["ls-tree", "-r", "--name-only", revision]
        self.paths = {path for path in git(*listing).splitlines() if revision or (REPOSITORY / path).exists()}

    def read(self, path):
        if self.revision:
            return git("show", f"{self.revision}:{path}")
        return (REPOSITORY / path).read_text()


@dataclass
class Block:
    """A pair of braces: what opens it, and where it begins and ends in the text."""

    kind: str  # fn, impl, trait_impl, trait, mod, or other
    header: str
    begin: int
    end: int = -1


@dataclass
class Source:
    """A production file: its module path and its text without comments, literals and tests."""

    crate: str
    path: str
    module: tuple
    text: str
    code: str
    blocks: list = field(default_factory=list)

    def blocks_around(self, position):
        """The blocks around a position, the innermost first."""
        around = [block for block in self.blocks if block.begin < position < block.end]
        return sorted(around, key=lambda block: block.begin, reverse=True)


def blank(text):
    """The text without comments and with literals masked; every position and line stays."""
    parts, position = [], 0
    while found := LITERAL_OR_COMMENT.search(text, position):
        parts.append(text[position : found.start()])
        end = end_of_block_comment(text, found.start()) if found["block"] else found.end()
        taken = text[found.start() : end]
        is_comment = found["line"] or found["block"]
        # What a literal holds is masked, not removed: its lines are lines of code.
        parts.append(re.sub(r"[^\n]", " ", taken) if is_comment else re.sub(r"\S", "~", taken))
        position = end
    parts.append(text[position:])
    return "".join(parts)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def end_of_block_comment(text, start):
    depth = 0
    for found in re.finditer(r"/\*|\*/", text[start:]):
        depth += 1 if found[0] == "/*" else -1
        if depth == 0:
            return start + found.end()
    return len(text)


def closing(code, opening):
    """The position after the bracket that closes the one at `opening`."""
    pairs = {"{": "}", "(": ")", "[": "]"}
    left, right = code[opening], pairs[code[opening]]
    depth = 0
    for found in re.finditer(rf"[\{left}\{right}]", code[opening:]):
        depth += 1 if found[0] == left else -1
        if depth == 0:
            return opening + found.end()
    return len(code)


def end_of_item(code, start):
    """The position after the item that begins at `start`: its closing brace or its semicolon, or its field's comma."""
    position = start
    while position < len(code):
        character = code[position]
        if character == "#" and code[position : position + 2] == "#[":
            position = closing(code, position + 1)
        elif character in "([":
            position = closing(code, position)
        elif character == "{":
            return closing(code, position)
        elif character in ";,":
            return position + 1
        elif character in ")}]":
            return position
        else:
            position += 1
    return position


def without_tests(code):
    """Blanks out every item under `#[cfg(test)]`; returns the text and the names of the test modules in other files."""
    test_modules = set()
    while found := re.search(r"#\[cfg\(test\)\]", code):
        end = end_of_item(code, found.end())
        declaration = re.search(r"\bmod\s+(\w+)\s*;$", code[found.end() : end])
        if declaration:
            test_modules.add(declaration[1])
        code = code[: found.start()] + re.sub(r"[^\n]", " ", code[found.start() : end]) + code[end:]
    return code, test_modules


def blocks_of(code):
    blocks, open_blocks, header_start = [], [], 0
    for found in re.finditer(r"[{};]", code):
        if found[0] == "{":
            header = " ".join(code[header_start : found.start()].split())
            block = Block(kind_of(header), header, found.start())
            blocks.append(block)
            open_blocks.append(block)
        elif found[0] == "}" and open_blocks:
            open_blocks.pop().end = found.end()
        header_start = found.end()
    return blocks


def kind_of(header):
    header = re.sub(r"#!?\[[^\]]*\]", " ", header)
    if re.search(r"\bfn\s+\w+", header):
        return "fn"
    if re.search(r"(^|\s)(unsafe\s+)?impl\b", header):
        return "trait_impl" if re.search(r"\bfor\b(?!\s*<)", header) else "impl"
    if re.search(r"\btrait\s+\w+", header):
        return "trait"
    if re.search(r"\bmod\s+\w+$", header):
        return "mod"
    return "other"


def sources(tree):
    """The production files of every crate: those that `mod` declarations reach from its roots."""
    found = {}
    for crate, folder in CRATES.items():
        for root in ROOTS:
            # The binary of a package is a crate of its own; its files are counted with the library's.
            follow(tree, crate, f"{folder}/{root}", (), found)
    return list(found.values())


def follow(tree, crate, path, module, found):
    if path not in tree.paths or path in found:
        return
    text = tree.read(path)
    code, test_modules = without_tests(blank(text))
    found[path] = Source(crate, path, module, text, code, blocks_of(code))
    name = PurePosixPath(path).name
    children = PurePosixPath(path).parent if name in (*ROOTS, "mod.rs") else PurePosixPath(path).with_suffix("")
    for declaration in re.finditer(r"\bmod\s+(\w+)\s*;", code):
        child = declaration[1]
        if child in test_modules:
            continue
        attributes = max(code.rfind(end, 0, declaration.start()) for end in ";{}") + 1
        named = re.findall(r'path = "([^"]*)"', text[attributes : declaration.end()])
        for file in named or (f"{child}.rs", f"{child}/mod.rs"):
            follow(tree, crate, f"{children}/{file}", (*module, child), found)
