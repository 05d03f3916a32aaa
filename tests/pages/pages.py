"""Reads pages: their blocks, what the test does with each, and whether a command printed what its page shows.

Pure but for `bash -n`, which says where a command ends. README.md, beside this file, says how pages are written.
"""

import dataclasses
import re
import subprocess

# Blocks of these languages are run, unless a comment before them says why not.
COMMANDS = {"console", "sh"}

FENCE = re.compile(r"^(?P<indent>[ \t]*)```(?P<info>.*)$")
COMMENT = re.compile(r"^(?P<indent>[ \t]*)<!--(?P<text>.*)$")
DIRECTIVE = re.compile(r"^(?P<name>not run|file|terminal):\s*(?P<value>.+)$", re.DOTALL)
UNSEEN = "unseen"
MOMENT = "moment"
NO_CLUSTER = "no cluster"


class PageError(Exception):
    """What is wrong with a page, as `page:line: what`."""


@dataclasses.dataclass
class Block:
    page: str
    line: int
    language: str
    text: str
    # Of the comments right before it.
    not_run: str | None = None
    file: str | None = None
    terminal: str | None = None
    # In a comment: run, and shown to nobody.
    unseen: bool = False
    # Figures, roles and the order of lines are those of a moment.
    moment: bool = False

    @property
    def at(self):
        return f"{self.page}:{self.line}"

    @property
    def is_run(self):
        return self.language in COMMANDS and self.not_run is None


def blocks(page, text):
    """The blocks of a page, in order; raises PageError."""
    found = []
    pending = {}
    lines = text.split("\n")
    index = 0
    while index < len(lines):
        line, number = lines[index], index + 1
        index += 1
        fence, comment = FENCE.match(line), COMMENT.match(line)
        if comment:
            parts = [comment["text"]]
            while "-->" not in parts[-1]:
                if index == len(lines):
                    raise PageError(f"{page}:{number}: the comment has no end")
                parts.append(lines[index].removeprefix(comment["indent"]))
                index += 1
            body = "\n".join(parts).split("-->", 1)[0]
            first, _, rest = body.strip().partition("\n")
            if first.strip() == UNSEEN:
                found.append(Block(page, number, "console", rest, unseen=True, **_fields(page, number, pending)))
                pending = {}
            elif first.strip() == MOMENT:
                pending[MOMENT] = True
            elif directive := DIRECTIVE.match(" ".join(body.split())):
                pending[directive["name"]] = directive["value"]
            continue
        if not fence:
            if line.strip() and pending:
                raise PageError(f"{page}:{number}: nothing may stand between a comment and its block")
            continue
        inside = []
        while True:
            if index == len(lines):
                raise PageError(f"{page}:{number}: the block has no end")
            if lines[index].strip() == "```":
                break
            inside.append(lines[index].removeprefix(fence["indent"]))
            index += 1
        index += 1
        found.append(Block(page, number, fence["info"].strip(), "\n".join(inside), **_fields(page, number, pending)))
        pending = {}
    if pending:
        raise PageError(f"{page}: a comment at the end is for no block")
    return found


def _fields(page, line, pending):
    fields = {name.replace(" ", "_"): value for name, value in pending.items()}
    if len(fields.get("not_run", "long enough")) < 10:
        raise PageError(f"{page}:{line}: say why it is not run")
    return fields


def has_no_cluster(text):
    """Does the page say that its commands need none?"""
    return any(
        match and match["text"].split("-->")[0].strip() == NO_CLUSTER for match in map(COMMENT.match, text.split("\n"))
    )


def faults(page, text):
    """What a page must not have: blocks that are neither run, nor said to be no commands."""
    try:
        found = blocks(page, text)
    except PageError as error:
        return [str(error)]
    wrong = []
    for block in found:
        if not block.language:
            wrong.append(f"{block.at}: say what the block is: console, sh, json, … or text")
        elif not re.fullmatch(r"[a-z]+", block.language):
            wrong.append(f"{block.at}: {block.language!r} is no language")
        elif block.language not in COMMANDS:
            if block.not_run or block.terminal or block.moment:
                wrong.append(f"{block.at}: {block.language} is never run")
            if re.search(r"^\$ ", block.text, re.MULTILINE):
                wrong.append(f"{block.at}: has a command; that is console, not {block.language}")
        elif block.language == "console" and block.terminal is None and not block.text.startswith("$ "):
            wrong.append(f"{block.at}: a console block begins with a command, behind `$ `")
        elif block.language == "sh" and (block.terminal or re.search(r"^\$ ", block.text, re.MULTILINE)):
            wrong.append(f"{block.at}: sh is a script; what is typed line by line is console")
    return wrong


@dataclasses.dataclass
class Step:
    """A command, and what the page shows of its output; none: it is not compared."""

    command: str
    shown: list


def is_whole(command):
    """Or does the command go on in the next line?"""
    if command.endswith("\\"):
        return False
    said = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False).stderr
    return not re.search(r"unexpected EOF|unexpected end of file|here-document", said)


def steps(text):
    """The commands of a console block."""
    found = []
    lines = text.split("\n")
    index = 0
    while index < len(lines):
        line = lines[index]
        index += 1
        if line.startswith("$ "):
            command = line[2:]
            while not is_whole(command) and index < len(lines):
                command += "\n" + lines[index]
                index += 1
            found.append(Step(command, []))
        elif found:
            found[-1].shown.append(line)
    return found


# Values that differ from run to run, by their shape. An id stands for the one that came in its place, in all later
# commands of the page; a time stands for any.
SHAPES = [
    ("trace", r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-9]"),
    ("time", r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?Z"),
    ("time", r"(?<![0-9:])[0-2][0-9]:[0-5][0-9]:[0-5][0-9]\.[0-9]{3}(?![0-9])"),
    ("day", r"[0-9]{4}-[01][0-9]-[0-3][0-9]"),
    ("date", r"[MTWFS][a-z]{2}, [0-3][0-9] [A-Z][a-z]{2} [0-9]{4} [0-2][0-9]:[0-5][0-9]:[0-5][0-9] GMT"),
    ("id", r"(?:ep|tok)-[0-9a-f]{16}"),
    ("id", r"A[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])"),
    ("id", r"01[0-9A-HJKMNP-TV-Z]{24}"),
    ("id", r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])"),
    ("id", r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])"),
    ("id", r"(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])"),
]
# Members of answers whose numbers differ from run to run.
NUMBERS = [
    "activeConnections", "appliedIndex", "committedIndex", "durationMillis", "index", "lastLogIndex",
    "retryAfterMillis", "stateIndex", "term", "uptimeSeconds",
]  # fmt: skip
# The same in texts.
COUNTS = ["applied", "index", "term", "no answer within"]
# `"AQ…"` and the like are ids of connections and events, cut short: their first characters differ as well.
USUAL = [
    r'(?P<short>"(?:A|01)[A-Za-z0-9_-]{1,8}…[^"]*")',
    r"(?P<event>\b01[0-9A-Z]{2,8}…)",
    r"(?P<any>…)",
    rf'(?P<number>"(?:{"|".join(NUMBERS)})": ?[0-9]+|\b(?:{"|".join(COUNTS)}) [0-9]+)',
] + [f"(?P<shape{index}>{shape})" for index, (_, shape) in enumerate(SHAPES)]
VARYING = re.compile("|".join(USUAL))
# Beside those, of a moment: what stands in the page, and what may come in its place. Numbers of addresses, versions and
# names are none of these.
OF_A_MOMENT = {
    "bars": (r"[▁▂▃▄▅▆▇█]+", r"[▁▂▃▄▅▆▇█]+"),
    "role": (r"(?<=  )(?:leader|voter)(?=  )", r"(?:leader|voter)"),
    "leader": (r"(?<=leader )n[0-9]+", r"n[0-9]+"),
    "figure": (r"(?<![\w.:/-])(?:[0-9]+(?:\.[0-9]+)?|-)(?![\w.:/-])", r"(?:[0-9]+(?:\.[0-9]+)?|-)"),
}
VARYING_IN_A_MOMENT = re.compile("|".join(USUAL + [f"(?P<{name}>{shown})" for name, (shown, _) in OF_A_MOMENT.items()]))


def squeeze(text):
    """Without blanks and line ends: pages break lines where programs do not."""
    return re.sub(r"\s+", "", text)


def pattern(shown, moment=False):
    """A regular expression for squeezed output, and what stands in the page at each of its groups."""
    parts, samples, end = [], [], 0
    for match in (VARYING_IN_A_MOMENT if moment else VARYING).finditer(shown):
        parts.append(re.escape(squeeze(shown[end : match.start()])))
        end = match.end()
        if match["short"]:
            parts.append('"[^"]*"')
        elif match["event"]:
            parts.append("01[0-9A-Z]{24}")
        elif match["any"]:
            parts.append(".*?")
        elif moment and match.lastgroup in OF_A_MOMENT:
            parts.append(OF_A_MOMENT[match.lastgroup][1])
        elif match["number"]:
            parts.append(re.escape(squeeze(match["number"]).rstrip("0123456789")) + "[0-9]+")
        else:
            kind, shape = next(SHAPES[index] for index in range(len(SHAPES)) if match[f"shape{index}"])
            # Squeezed output has no blanks, and what stood apart stands together.
            shape = re.sub(r"\(\?<?!.*?\)", "", shape).replace(" ", "")
            if kind == "id":
                parts.append(f"({shape})")
                samples.append(match[0])
            else:
                parts.append(f"(?:{shape})")
    parts.append(re.escape(squeeze(shown[end:])))
    return "".join(parts), samples


def learn(known, samples, match):
    for sample, seen in zip(samples, match.groups()):
        known[sample] = seen


def fits(shown, printed, known, moment=False):
    """Is `printed` what the page shows? Learns the ids that came in the place of the page's."""
    if moment:
        return _moment_fits(shown, printed, known)
    if shown and shown[0].startswith("HTTP/1.1 "):
        return _answer_fits(shown, printed, known)
    text = "\n".join(shown)
    if "connected to" not in text:
        printed = re.sub(r"^connected to wss?://.*\n?", "", printed, flags=re.MULTILINE)
    regex, samples = pattern(text)
    match = re.fullmatch(regex, squeeze(printed), re.DOTALL)
    if match:
        learn(known, samples, match)
    return match is not None


def _moment_fits(shown, printed, known):
    """Each line of the page is one of those that were printed, in any order, and no other was; a line `…` is any number."""
    rest = [line for line in printed.split("\n") if line.strip()]
    for line in (line for line in shown if line.strip() not in ("", "…")):
        regex, samples = pattern(line, moment=True)
        matches = ((place, re.fullmatch(regex, squeeze(found))) for place, found in enumerate(rest))
        place, match = next(((place, match) for place, match in matches if match), (None, None))
        if match is None:
            return False
        learn(known, samples, match)
        del rest[place]
    return not rest or any(line.strip() == "…" for line in shown)


def _answer_fits(shown, printed, known):
    """Of `curl -i`: the headers of the page are there, in whichever order, and the body, when the page has one."""

    def apart(text):
        head, _, body = text.replace("\r", "").partition("\n\n")
        return head.split("\n"), body

    (wanted, body), (headers, answer) = apart("\n".join(shown)), apart(printed)
    for line in wanted:
        regex, samples = pattern(line)
        matches = (re.fullmatch(regex, squeeze(header), re.IGNORECASE) for header in headers)
        match = next(filter(None, matches), None)
        if not match:
            return False
        learn(known, samples, match)
    return not body.strip() or fits(body.split("\n"), answer, known)


def find(shown, printed, known, moment=False):
    """Where the text that a terminal shows ends in squeezed output, or None."""
    regex, samples = pattern(shown, moment)
    match = re.search(regex, printed, re.DOTALL)
    if not match:
        return None
    learn(known, samples, match)
    return match.end()


def with_ids(text, known):
    """A command with this run's ids in the place of the page's, shortened ones (`AWCg…lGk0`) among them."""
    for sample, seen in known.items():
        text = text.replace(sample, seen)

    def whole(match):
        for sample, seen in known.items():
            if sample.startswith(match[1]) and sample.endswith(match[2]):
                return seen
        return match[0]

    return re.sub(r"([A-Za-z0-9_-]{4})…([A-Za-z0-9_-]{4})", whole, text)
