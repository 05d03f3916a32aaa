#!/usr/bin/env python3
"""A preprocessor of mdBook: links that leave docs/ go to the repository, and comments stay out of the site.

Reads `[context, book]` as JSON and prints the book. Called by mdBook, as book.toml says.
"""

import json
import posixpath
import re
import sys

LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
COMMENT = re.compile(r"^[ \t]*<!--.*?-->[ \t]*\n?", re.DOTALL | re.MULTILINE)
# Code is left as it is.
FENCED = re.compile(r"^([ \t]*```.*?^[ \t]*```[ \t]*$)", re.DOTALL | re.MULTILINE)


def outside(target, path, source, repository):
    """The link to use in the place of `target`, a link of the page `path`."""
    if re.match(r"[a-z]+:|#|/", target):
        return target
    file, hash_sign, part = target.partition("#")
    whole = posixpath.normpath(posixpath.join(source, posixpath.dirname(path), file))
    if whole == source or whole.startswith(source + "/"):
        return target
    return f"{repository}/blob/main/{whole}{hash_sign}{part}"


def rewritten(content, path, source, repository):
    parts = FENCED.split(COMMENT.sub("", content) if "<!--" in content else content)
    for index in range(0, len(parts), 2):
        parts[index] = LINK.sub(lambda match: f"]({outside(match['target'], path, source, repository)})", parts[index])
    return "".join(parts)


def visit(items, source, repository):
    for item in items:
        chapter = item.get("Chapter") if isinstance(item, dict) else None
        if chapter:
            if chapter.get("path"):
                chapter["content"] = rewritten(chapter["content"], chapter["path"], source, repository)
            visit(chapter["sub_items"], source, repository)


def main():
    if sys.argv[1:2] == ["supports"]:
        return
    context, book = json.load(sys.stdin)
    config = context["config"]
    visit(book["items"], config["book"]["src"], config["output"]["html"]["git-repository-url"].rstrip("/"))
    json.dump(book, sys.stdout)


if __name__ == "__main__":
    main()
