#!/usr/bin/env python3
"""Writes the parts of README.md and docs/install.md that say how to get the program.

  packaging/first_screen.py source                before the first release: built from source
  packaging/first_screen.py released              after it: npx, uvx, bundles; run by the release workflow
  packaging/first_screen.py released --to FOLDER  writes the pages into another folder

Nothing may be copied from a page that runs a package before this project has published it: whoever registered its name
would supply the program. The parts are in packaging/first_screen/STATE/, the one-click links in links.json there.
"""

import argparse
import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = ROOT / "packaging/first_screen"
PAGES = ["README.md", "docs/install.md"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("state", choices=["source", "released"])
    parser.add_argument("--to", type=Path, default=ROOT)
    args = parser.parse_args()
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
    download = f"{workspace['repository']}/releases/download/v{workspace['version']}"
    values = {
        "version": workspace["version"],
        "bundle": f"{download}/callingbox-mcp-{workspace['version']}",
        **json.loads((PARTS / "links.json").read_text())[args.state],
    }

    def part(match):
        text = (PARTS / args.state / f"{match['name']}.md").read_text()
        for name, value in values.items():
            text = text.replace(f"${{{name}}}", value)
        return f"{match['begin']}{text}{match['end']}"

    for page in PAGES:
        text = (ROOT / page).read_text()
        marked = r"(?P<begin><!-- (?P<name>[a-z-]+): written by packaging/first_screen\.py -->\n).*?(?P<end><!-- /(?P=name) -->)"
        text, count = re.subn(marked, part, text, flags=re.DOTALL)
        if count == 0:
            raise SystemExit(f"{page} has no part to write")
        (args.to / page).parent.mkdir(parents=True, exist_ok=True)
        (args.to / page).write_text(text)


main()
