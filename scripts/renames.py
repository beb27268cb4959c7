"""Finds functions that were renamed between two revisions, as far as the diffs of the commits between them show it.

In each hunk a removed `fn` line is paired with the added one that resembles it most, apart from the name. The pairs of
successive commits are chained, so that a function renamed twice is reported once.
"""

import difflib
import re

from rust_source import CRATES, git

SIGNATURE = re.compile(r"\bfn\s+(?P<name>\w+)(?P<rest>.*)")
SIMILAR = 0.5


def renamed_functions(base, revision):
    """Triples of the file (as of the last rename), the old name and the new name."""
    chains = {}  # (file, present name) → name in the base
    log = git("log", "--reverse", "--no-merges", "-p", "-U0", "-M40%", "--format=commit %H", f"{base}..{revision}", "--", *CRATES.values())
    for before, after, removed, added in hunks(log):
        for old, new in pairs(removed, added):
            original = chains.pop((before, old), old)
            chains[after, new] = original
    return {(path, old, new) for (path, new), old in chains.items() if old != new and not path.endswith("tests.rs")}


def hunks(log):
    """The `fn` lines of each hunk: the file before and after, the removed lines, the added lines."""
    before = after = None
    removed, added = [], []
    for line in [*log.splitlines(), "@@"]:
        if line.startswith(("@@", "diff --git")):
            if removed and added:
                yield before, after, removed, added
            removed, added = [], []
        elif line.startswith("--- "):
            before = line[6:]
        elif line.startswith("+++ "):
            after = line[6:]
        elif line.startswith(("-", "+")) and (found := SIGNATURE.search(line)):
            (removed if line[0] == "-" else added).append((found["name"], line[1:].replace(found["name"], "", 1)))


def pairs(removed, added):
    candidates = []
    for place, (old, before) in enumerate(removed):
        for other, (new, after) in enumerate(added):
            likeness = difflib.SequenceMatcher(None, before, after).ratio() - abs(place - other) / 100
            candidates.append((old == new, likeness, place, other, old, new))
    taken, others = set(), set()
    for same, likeness, place, other, old, new in sorted(candidates, reverse=True):
        if place in taken or other in others or (not same and likeness < SIMILAR):
            continue
        taken.add(place)
        others.add(other)
        yield old, new
