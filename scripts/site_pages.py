#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lays out the pages of the site for mdBook: every Markdown page of doc/ and of the root, and their list, SUMMARY.md.

    scripts/site_pages.py FOLDER

Pages keep their places to each other, so their links stay true. A link to a file that is no page leads to the repository.
A new page of doc/ needs nothing: it is listed by its own title, under the chapter that names it here, else under the last one.
"""

import os
import pathlib
import re
import shutil
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHAPTERS = (
    ("Use it", ("doc/comparison.md", "doc/porting.md", "doc/from-nrf5-sdk.md", "doc/from-mcumgr.md", "doc/signing.md", "doc/send.md", "doc/web-updater.md",
                "doc/phone-apps.md", "doc/replay.md", "doc/small-updates.md", "doc/support.md")),
    ("Trust it", ("doc/security.md", "doc/power-loss.md", "doc/mcuboot-compatibility.md", "doc/pitfalls.md", "doc/measurements.md")),
    ("Work on it", ("ARCHITECTURE.md", "doc/internals.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    ("More", ()),
)
FIRST = "README.md"
API = "api.md"
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


def title(text, path):
    heading = re.search(r"^# +(.+?) *$", text, re.MULTILINE)
    if not heading:
        raise SystemExit(f"{path} has no title: a line that begins with `# `")
    return heading[1].replace("`", "")


def pages():
    """All pages, as paths from the root."""
    found = [FIRST] + [page for _, names in CHAPTERS for page in names if (ROOT / page).is_file()]
    rest = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "doc").rglob("*.md"))
    return found + [page for page in rest if page not in found]


def rewrite(text, page, known, repository):
    """The text of a page, with links to what is not on the site leading to the repository."""
    def one(match):
        target = match[2]
        if re.match(r"[a-z]+:", target):
            return match[0]
        path = os.path.normpath(os.path.join(os.path.dirname(page), target))
        if path == FIRST:                                     # mdBook makes the index of it
            index = os.path.relpath("index.html", os.path.dirname(page) or ".")
            return f"{match[1]}{index}{match[3] or ''}{match[4]}"
        if path in known or not (ROOT / path).exists():      # the link check finds what does not exist
            return match[0]
        return f"{match[1]}{repository}/blob/main/{path}{match[3] or ''}{match[4]}"

    return LINK.sub(one, text)


def summary(titles):
    lines = ["# Summary\n", f"[{titles[FIRST]}]({FIRST})\n"]
    chapter_of = {page: name for name, names in CHAPTERS for page in names}
    last = CHAPTERS[-1][0]
    for name, _ in CHAPTERS:
        listed = [page for page in titles if page != FIRST and chapter_of.get(page, last) == name]
        if listed:
            lines.append(f"# {name}\n")
            lines += [f"- [{titles[page]}]({page})" for page in listed]
            lines.append("")
    lines += ["# Reference\n", f"- [Interfaces of C and Rust]({API})", ""]
    return "\n".join(lines)


def api(crates):
    """Where the other two generators have put their pages."""
    lines = ["# Interfaces of C and Rust\n", "- [C: `bledfu.h`](c/index.html), what a Zephyr product calls", "- Rust, a page for each crate:"]
    lines += [f"  - [`{name}`](rust/{name.replace('-', '_')}/index.html): {description}" for name, description in crates]
    return "\n".join(lines) + "\n"


def main():
    folder = pathlib.Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    workspace = tomllib.loads((ROOT / "rust/Cargo.toml").read_text())["workspace"]
    repository = workspace["package"]["repository"]
    crates = []
    for member in workspace["members"]:
        package = tomllib.loads((ROOT / "rust" / member / "Cargo.toml").read_text())["package"]
        if package.get("publish", True):
            crates.append((package["name"], package["description"]))

    known = pages()
    titles = {}
    for page in known:
        text = (ROOT / page).read_text()
        titles[page] = title(text, page)
        copy = folder / page
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(rewrite(text, page, set(known), repository))
    for picture in [path for kind in ("*.svg", "*.png") for path in (ROOT / "doc").rglob(kind)]:
        (folder / picture.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(picture, folder / picture.relative_to(ROOT))
    (folder / API).write_text(api(crates))
    (folder / "SUMMARY.md").write_text(summary(titles))
    print(f"{len(known)} pages")


if __name__ == "__main__":
    main()
