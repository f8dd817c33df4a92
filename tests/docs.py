#!/usr/bin/env python3
"""Checks the documentation: the reference pages are what the tables in the code say, and every link within it leads
somewhere. With --write the pages are written anew.

    docs.py [--write] [--reference build/tests/docs/docs_reference]
"""
import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = ("supported", "errors", "configuration")


def generated(reference, write):
    for page in PAGES:
        text = subprocess.run([reference, page], check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout
        path = ROOT / "docs" / f"{page}.md"
        if write:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            yield f"docs/{page}.md is not what the code says now. Write it anew: tests/docs.py --write"


def anchors(text):
    """What a heading is called in a link: lower case, blanks as hyphens, no other signs."""
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)}


def links():
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            to = (path.parent / name).resolve() if name else path
            if not to.exists():
                yield f"{path.relative_to(ROOT)}: {target} is not there"
            elif anchor and anchor.lower() not in anchors(to.read_text()):
                yield f"{path.relative_to(ROOT)}: {target}: no such heading"


parser = argparse.ArgumentParser()
parser.add_argument("--write", action="store_true")
parser.add_argument("--reference", default=ROOT / "build/tests/docs/docs_reference")
args = parser.parse_args()
wrong = [*generated(args.reference, args.write), *links()]
print("\n".join(wrong) or "the reference pages are current, every link leads somewhere")
sys.exit(bool(wrong))
