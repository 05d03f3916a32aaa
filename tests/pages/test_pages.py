#!/usr/bin/env python3
"""Pages are read and compared as README.md, beside this file, says."""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent.parent / "scripts"))

import book_links
import check_site
import pages

PAGE = """# A page
<!-- only a remark -->
<!-- file: a.json -->
```json
{}
```
- in a list
  <!-- unseen
  $ true
  -->
  <!-- not run: it would take an hour -->
  ```console
  $ sleep 3600
  ```
<!-- terminal: ann -->
<!-- unseen
$ wsgateway ws
-->
```sh
true
```
"""


class Reading(unittest.TestCase):
    def test_blocks_are_found_with_what_comments_say_of_them(self):
        found = pages.blocks("a.md", PAGE)
        self.assertEqual([block.language for block in found], ["json", "console", "console", "console", "sh"])
        self.assertEqual([block.line for block in found], [4, 8, 12, 16, 19])
        self.assertEqual(found[0].file, "a.json")
        self.assertEqual((found[1].text, found[1].unseen), ("$ true", True))
        self.assertEqual((found[2].text, found[2].is_run), ("$ sleep 3600", False))
        self.assertEqual((found[3].terminal, found[3].unseen, found[3].text), ("ann", True, "$ wsgateway ws"))
        self.assertTrue(found[4].is_run)

    def test_blocks_that_are_neither_run_nor_no_commands_are_faults(self):
        def faults(text):
            return pages.faults("a.md", text)

        self.assertEqual(faults(PAGE), [])
        for text, word in [
            ("```\n$ x\n```\n", "say what"),
            ("```text\n$ x\n```\n", "console, not text"),
            ("```console\nx\n```\n", "begins with a command"),
            ("```sh\n$ x\n```\n", "sh is a script"),
            ("```c++,x\nx\n```\n", "no language"),
            ("<!-- not run: no -->\n```sh\nx\n```\n", "say why"),
            ("<!-- not run: it is no command -->\n```json\n{}\n```\n", "never run"),
            ("<!-- not run: the block is not here -->\ntext\n```sh\nx\n```\n", "between"),
            ("<!-- file: a.json -->\n", "for no block"),
            ("<!-- no end\n", "no end"),
            ("```sh\nx\n", "no end"),
        ]:
            self.assertTrue(len(faults(text)) == 1 and word in faults(text)[0], (text, faults(text)))

    def test_commands_end_where_bash_says(self):
        text = "$ a \\\n  b\nout\n\n$ cat <<'END' |\nx\nEND\n  cat\n$ echo '{\n}'\n$ c; echo $?\n1"
        found = [(step.command, step.shown) for step in pages.steps(text)]
        self.assertEqual(found[0], ("a \\\n  b", ["out", ""]))
        self.assertEqual(found[1], ("cat <<'END' |\nx\nEND\n  cat", []))
        self.assertEqual(found[2], ("echo '{\n}'", []))
        self.assertEqual(found[3], ("c; echo $?", ["1"]))

    def test_a_page_may_do_without_a_cluster(self):
        self.assertTrue(pages.has_no_cluster("a\n<!-- no cluster -->\n"))
        self.assertFalse(pages.has_no_cluster(PAGE))


class Comparing(unittest.TestCase):
    def fits(self, shown, printed, known=None):
        return pages.fits(shown.split("\n"), printed, {} if known is None else known)

    def test_lines_are_broken_anywhere_and_left_out_where_it_is_said(self):
        self.assertTrue(self.fits('{"a":1,\n "b":2}', '{"a":1,"b":2}\n'))
        self.assertTrue(self.fits("a … z\n…\nend", "a b z\nc\nd\nend\n"))
        self.assertTrue(self.fits("x", "connected to ws://127.0.0.1:8081/a; each line is one\nx\n"))
        for shown, printed in [("a", "a\nb"), ("a\nb", "a"), ("a … z", "a b"), ('"n":1', '"n":2'), ("", "x")]:
            self.assertFalse(self.fits(shown, printed), (shown, printed))

    def test_ids_are_any_of_their_shape_and_are_known_from_then_on(self):
        known = {}
        self.assertTrue(
            self.fits(
                "id ep-88d37f9f5813ea3a at 2026-11-23T20:33:11.408Z",
                "id ep-0000000000000001 at 2030-01-01T00:00:00.000Z",
                known,
            )
        )
        self.assertEqual(pages.with_ids("curl /ep-88d37f9f5813ea3a/x", known), "curl /ep-0000000000000001/x")
        self.assertFalse(self.fits("id ep-88d37f9f5813ea3a", "id ep-1"))
        connection, other = "A" + "x" * 39 + "lGk0", "A" + "y" * 43
        self.assertTrue(self.fits(f'"id":"{connection}"', f'"id":"{other}"', known))
        self.assertEqual(pages.with_ids("/Axxx…lGk0?a", known), f"/{other}?a")
        self.assertEqual(pages.with_ids("/Azzz…lGk0", known), "/Azzz…lGk0")
        self.assertTrue(self.fits("01JDG2…  delivered", "01M8QV76G22D4M9F9ZYFWX4WFV  delivered"))
        self.assertTrue(self.fits('{"id":"AQ…","eventId":"01M8…"}', '{"id":"AUzu","eventId":"01M9"}'))

    def test_numbers_that_differ_from_run_to_run_are_any(self):
        self.assertTrue(self.fits('{"index":24,"matched":3}', '{"index":7,"matched":3}'))
        self.assertFalse(self.fits('{"index":24,"matched":3}', '{"index":7,"matched":4}'))

    def test_of_an_answer_the_headers_of_the_page_are_there(self):
        printed = (
            'HTTP/1.1 201 Created\r\ncontent-length: 9\r\netag: "1"\r\nlocation: /ep-0000000000000001\r\n\r\n{"a":1}\n'
        )
        self.assertTrue(
            self.fits('HTTP/1.1 201 Created\nlocation: /ep-88d37f9f5813ea3a\netag: "1"\n\n{"a":1}', printed)
        )
        self.assertTrue(self.fits("HTTP/1.1 201 Created", printed))
        self.assertFalse(self.fits("HTTP/1.1 200 OK", printed))
        self.assertFalse(self.fits('HTTP/1.1 201 Created\netag: "2"', printed))
        self.assertFalse(self.fits('HTTP/1.1 201 Created\n\n{"a":2}', printed))

    def test_terminals_are_read_from_where_they_were(self):
        known = {}
        printed = pages.squeeze("one\nAND more\ntwo ep-0000000000000001\n")
        end = pages.find("more\ntwo ep-88d37f9f5813ea3a", printed, known)
        self.assertEqual((end, known), (len(printed), {"ep-88d37f9f5813ea3a": "ep-0000000000000001"}))
        self.assertIsNone(pages.find("one", printed[end:], known))


class Site(unittest.TestCase):
    def test_links_that_leave_the_book_go_to_the_repository(self):
        def rewritten(text, path="a/b.md"):
            return book_links.rewritten(text, path, "docs", "https://example.com/r")

        self.assertEqual(rewritten("[x](../../src/a.rs#l)"), "[x](https://example.com/r/blob/main/src/a.rs#l)")
        for kept in ["[x](../c.md#d)", "[x](#e)", "[x](https://example.org)", "```text\n[x](../../src)\n```\n"]:
            self.assertEqual(rewritten(kept), kept)
        self.assertEqual(
            rewritten("a\n<!-- unseen\n$ x\n-->\n```sh\ny <!-- z -->\n```\n"), "a\n```sh\ny <!-- z -->\n```\n"
        )

    def test_dead_links_and_what_is_loaded_from_elsewhere_are_found(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            for number in range(10):
                (folder / f"{number}.html").write_text(
                    "<h1 id=top>x</h1><a href='0.html#top'>x</a><a href='https://example.com'>x</a>"
                )
            self.assertEqual(check_site.faults(folder), ([], 10))
            (folder / "0.html").write_text(
                "<a href='1.html#no'></a><a href='no.html'></a><script src='https://example.com/x.js'></script>"
            )
            (folder / "a.css").write_text("@font-face { src: url(//example.com/f) }")
            wrong, _ = check_site.faults(folder)
            self.assertEqual(len(wrong), 13, wrong)  # nine other pages looked for its heading


if __name__ == "__main__":
    unittest.main(verbosity=0)
