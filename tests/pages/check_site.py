#!/usr/bin/env python3
"""Looks at a built site: every link inside leads to a page and a heading that are there, and nothing is loaded from
elsewhere. `check_site.py FOLDER`; prints what is wrong and ends with 1 if anything is.
"""

import html.parser
import pathlib
import posixpath
import re
import sys
import urllib.parse

# All pages in one, whose links are those of the pages.
PRINTED = "print.html"
# What a browser loads by itself, by element and attribute.
LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")}
# Elements named here only tell about the page.
NOT_LOADED = {"canonical", "next", "prev", "alternate"}


class Parser(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids, self.links, self.loaded = set(), [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if "id" in values:
            self.ids.add(values["id"])
        if tag == "a" and values.get("name"):
            self.ids.add(values["name"])
        if tag == "a" and values.get("href") is not None:
            self.links.append(values["href"])
        for name, value in values.items():
            if (tag, name) in LOADED and value and values.get("rel") not in NOT_LOADED:
                self.loaded.append(value)


def is_elsewhere(target):
    return bool(re.match(r"[a-z][a-z0-9+.-]*:|//", target)) and not target.startswith("data:")


def faults(folder):
    pages = {}
    for file in sorted(folder.rglob("*.html")):
        name = file.relative_to(folder).as_posix()
        if name != PRINTED:
            pages[name] = Parser()
            pages[name].feed(file.read_text(encoding="utf-8"))
    wrong = []
    for name, page in pages.items():
        for target in page.links + page.loaded:
            if is_elsewhere(target):
                if target in page.loaded:
                    wrong.append(f"{name}: loads {target}")
                continue
            if target.startswith("data:"):
                continue
            path, _, part = target.partition("#")
            path, part = urllib.parse.unquote(path.split("?")[0]), urllib.parse.unquote(part)
            there = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name
            if (folder / there).is_dir():
                there = posixpath.normpath(posixpath.join(there, "index.html"))
            if there == PRINTED:
                continue
            if not (folder / there).is_file():
                wrong.append(f"{name}: {target} leads nowhere")
            elif part and there in pages and part not in pages[there].ids:
                wrong.append(f"{name}: {target}: the page has no such heading")
    for file in sorted(folder.rglob("*.css")):
        for found in re.findall(
            r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")\s]+)", file.read_text(encoding="utf-8")
        ):
            wrong.append(f"{file.relative_to(folder)}: loads {found}")
    if len(pages) < 10:
        wrong.append(f"{folder}: only {len(pages)} pages: is this the site?")
    return wrong, len(pages)


def main():
    wrong, count = faults(pathlib.Path(sys.argv[1]))
    for fault in wrong:
        print(fault, file=sys.stderr)
    if wrong:
        sys.exit(f"{len(wrong)} faults")
    print(f"{count} pages, no dead link, nothing from elsewhere")


if __name__ == "__main__":
    main()
