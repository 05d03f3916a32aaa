#!/usr/bin/env python3
"""Runs the commands of pages as they stand there, and compares what is printed.

    run.py check [PAGE…]             every block says what it is, and every command is run or says why not
    run.py run BINARY [PAGE…]        runs the pages on clusters of BINARY; `--keep` leaves what a failing page wrote
    run.py list [PAGE…]              what is run, and what is not and why

Without a PAGE: README.md and all that docs/SUMMARY.md links to. Each page has a network of its own (a namespace, with
its own loopback), so its addresses are used as they are printed, and its own processes, which end with it.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pages

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SUMMARY = ROOT / "docs" / "SUMMARY.md"
# A command of a page; the slowest wait for a cluster.
COMMAND_SECONDS = 60
# Of other terminals, when a page fails.
TAIL_CHARACTERS = 1500
# What a terminal is to show.
TERMINAL_SECONDS = 20
DEMO_SECONDS = 90
PAGE_SECONDS = 300
# Two cores carry two clusters, and most of a page's time is waiting.
TRIED_AGAIN_MAX = 3
SECOND_TRY = 78  # as ./test has it: something passed only when it was run once more
AT_ONCE = 2
# What a page without a `./run` of its own has before its first command.
DEMO = "wsgateway demo"
DEMO_IS_UP = "Ctrl-C ends everything."
# Of a client; what is typed before would wait for it all the same, but what others send would not.
CONNECTED = "connected to"
# A page goes on faster than its reader, and an endpoint is on other nodes a moment after the one that was asked.
NO_ENDPOINT = '"code":"no_endpoint"'
ENDPOINT_SECONDS = 5


class Failure(Exception):
    """A command that did not do what its page says."""


def all_pages():
    linked = re.findall(r"\]\(([^)#]+\.md)\)", SUMMARY.read_text(encoding="utf-8"))
    return [ROOT / "README.md"] + [SUMMARY.parent / name for name in linked]


def read(page):
    return page.read_text(encoding="utf-8")


def name_of(page):
    return str(page.relative_to(ROOT) if page.is_relative_to(ROOT) else page)


def script(path, command):
    path.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
    path.chmod(0o755)


class Terminal:
    """A command that goes on, with what it has printed so far."""

    def __init__(self, command, shell):
        self.process = subprocess.Popen(
            ["bash", "-c", f"exec 2>&1; exec {command}" if is_simple(command) else f"exec 2>&1; {command}"],
            cwd=shell.folder, env=shell.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0,
        )  # fmt: skip
        self.printed = ""
        self.read = 0
        self.ended = False
        self.changed = threading.Condition()
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self):
        for line in self.process.stdout:
            with self.changed:
                self.printed += line.decode("utf-8", "replace")
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def type(self, line):
        if line == "^C":
            os.killpg(self.process.pid, signal.SIGINT)
        elif line == "^D":
            self.process.stdin.close()
        else:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()

    def expect(self, shown, known, seconds=TERMINAL_SECONDS, moment=False):
        deadline = time.monotonic() + seconds
        with self.changed:
            while True:
                rest = pages.squeeze(self.printed)[self.read :]
                end = pages.find(shown, rest, known, moment)
                if end is not None:
                    self.read += end
                    return
                left = deadline - time.monotonic()
                if self.ended:
                    raise Failure(f"the page has\n{shown}\nand the program has ended:\n{self.printed}")
                if left <= 0:
                    raise Failure(f"the page has\n{shown}\nwithin {seconds} s, the terminal has shown\n{self.printed}")
                self.changed.wait(left)


def is_simple(command):
    """Then the process is the command itself, and a signal is for it."""
    return not re.search(r"[|;&<>\n]", command)


class Shell:
    """The bash in which a page's commands are typed, one after the other."""

    def __init__(self, folder, environment):
        self.folder = folder
        self.environment = environment
        self.output = folder / ".output"
        self.output.touch()
        # Out of the way of what the page's own commands read and write.
        self.fifo = folder / ".status"
        os.mkfifo(self.fifo)
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                ["bash", "--norc"], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=output,
                process_group=0,
            )  # fmt: skip
        self.status = os.fdopen(os.open(self.fifo, os.O_RDWR), "rb", buffering=0)

    def run(self, command, seconds=COMMAND_SECONDS):
        """Its exit status, and what it printed."""
        before = self.output.stat().st_size
        script = self.folder / ".command"
        script.write_text(command + "\n", encoding="utf-8")
        self.process.stdin.write(b". ./.command </dev/null; printf '%s\\n' $? >.status\n")
        self.process.stdin.flush()
        answered = []
        reader = threading.Thread(target=lambda: answered.append(self.status.readline()), daemon=True)
        reader.start()
        reader.join(seconds)
        printed = self.output.read_bytes()[before:].decode("utf-8", "replace")
        if not answered:
            raise Failure(f"no end within {seconds} s:\n$ {command}\nprinted so far:\n{printed}")
        return int(answered[0]), printed


class Page:
    """One page, in its own network, with a folder and a shell."""

    def __init__(self, path, binary, folder):
        self.name = name_of(path)
        self.text = read(path)
        self.blocks = pages.blocks(self.name, self.text)
        self.known = {}
        self.terminals = {}
        self.commands = 0
        shutil.copytree(ROOT / "docs" / "examples", folder, dirs_exist_ok=True)
        programs = folder / ".bin"
        programs.mkdir()
        (programs / "wsgateway").symlink_to(binary)
        (programs / "sample-service").symlink_to(ROOT / "tests" / "pages" / "service.py")
        script(programs / "start-kafka", f'exec {ROOT}/scripts/kafka.sh start "$PWD/kafka" 9092')
        (folder / ".curlrc").write_text("silent\nshow-error\n", encoding="utf-8")
        # Without the build.
        script(folder / "run", 'exec wsgateway demo "$@"')
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WSGATEWAY")}
        environment |= {
            "PATH": f"{programs}:{environment['PATH']}", "HOME": str(folder), "CURL_HOME": str(folder),
            "XDG_CACHE_HOME": environment.get("XDG_CACHE_HOME", f"{environment['HOME']}/.cache"), "TMPDIR": str(folder),
            "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        self.shell = Shell(folder, environment)

    def run(self):
        if not any(block.is_run and "./run" in block.text for block in self.blocks) and not pages.has_no_cluster(
            self.text
        ):
            demo = self.terminals["the cluster"] = Terminal(DEMO, self.shell)
            demo.expect(DEMO_IS_UP, self.known, DEMO_SECONDS)
        for block in self.blocks:
            try:
                if block.file:
                    (self.shell.folder / block.file).write_text(
                        pages.with_ids(block.text, self.known) + "\n", encoding="utf-8"
                    )
                if block.is_run:
                    self.play(block)
            except Failure as failure:
                raise Failure(f"{block.at}: {failure}") from None

    def play(self, block):
        if block.language == "sh":
            self.commands += 1
            status, printed = self.shell.run(f"(set -e\n{pages.with_ids(block.text, self.known)}\n)")
            if status != 0:
                raise Failure(f"the script ended with {status} and printed\n{printed}")
        elif block.terminal:
            self.play_terminal(block)
        else:
            for step in pages.steps(block.text):
                self.commands += 1
                self.play_step(step, block)

    def play_step(self, step, block):
        command = pages.with_ids(step.command, self.known)
        status, printed = self.shell.run(command)
        shown = step.shown
        while shown and not shown[-1].strip():
            shown = shown[:-1]
        if not shown:
            if status != 0:
                raise Failure(f"ended with {status}:\n$ {command}\n{printed}")
        elif not pages.fits(shown, printed, self.known, block.moment):
            raise Failure(f"$ {command}\n--- the page has\n" + "\n".join(shown) + f"\n--- printed was\n{printed}")

    def play_terminal(self, block):
        """A line `$ …` starts it, a line `> …` is typed, every other line is waited for."""
        shown = []

        def seen():
            if any(line.strip() for line in shown):
                self.terminals[block.terminal].expect(
                    "\n".join(shown), self.known, DEMO_SECONDS if "demo" in block.terminal else TERMINAL_SECONDS,
                    block.moment,
                )  # fmt: skip
            shown.clear()

        for line in block.text.split("\n"):
            if line.startswith("$ "):
                seen()
                self.commands += 1
                self.terminals[block.terminal] = self.start(pages.with_ids(line[2:], self.known))
            elif line.startswith("> ") or line in ("^C", "^D"):
                seen()
                self.terminals[block.terminal].type(pages.with_ids(line.removeprefix("> "), self.known))
            else:
                shown.append(line)
        seen()

    def start(self, command):
        deadline = time.monotonic() + ENDPOINT_SECONDS
        while True:
            terminal = Terminal(command, self.shell)
            if not command.startswith("wsgateway ws "):
                return terminal
            try:
                terminal.expect(CONNECTED, self.known)
                return terminal
            except Failure:
                if NO_ENDPOINT not in terminal.printed or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def end(self):
        for terminal in self.terminals.values():
            if terminal.process.poll() is None:
                os.killpg(terminal.process.pid, signal.SIGINT)
        os.killpg(self.shell.process.pid, signal.SIGKILL)


def loopback_up():
    """Of this namespace, where it is down at first."""
    import fcntl
    import socket
    import struct

    set_flags, up = 0x8914, 0x1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh", b"lo", up))


def run_inside(path, binary, folder):
    loopback_up()
    page = Page(path, binary, folder)
    try:
        page.run()
    except Failure as failure:
        print(failure)
        for name, terminal in page.terminals.items():
            print(f"--- the terminal {name!r} has shown\n{terminal.printed[-TAIL_CHARACTERS:]}")
        return 1
    finally:
        page.end()
    print(f"{page.commands} commands")
    return 0


def run_page(path, binary, keep):
    """In namespaces of its own: (page, is it well, what it said, seconds)."""
    began = time.monotonic()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="wsgateway-page-"))
    # A process that is nobody's child here is killed with the namespace.
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *as_root, "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command += [sys.executable, "-B", __file__, "inside", str(binary), str(path), str(folder)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        said, _ = process.communicate(timeout=PAGE_SECONDS)
        well = process.returncode == 0
    except subprocess.TimeoutExpired:
        process.kill()
        said, well = f"no end within {PAGE_SECONDS} s", False
    if well or not keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        said += f"\nkept: {folder}"
    return path, well, said.strip(), time.monotonic() - began


def check(paths):
    wrong = [fault for path in paths for fault in pages.faults(name_of(path), read(path))]
    for fault in wrong:
        print(fault, file=sys.stderr)
    found = [block for path in paths for block in pages.blocks(name_of(path), read(path))] if not wrong else []
    if wrong:
        return 1
    commands = [block for block in found if block.language in pages.COMMANDS and not block.unseen]
    run = sum(block.is_run for block in commands)
    print(f"{len(paths)} pages: {run} blocks of commands are run, {len(commands) - run} say why they are not")
    return 0


def list_blocks(paths):
    for path in paths:
        for block in pages.blocks(name_of(path), read(path)):
            if block.language in pages.COMMANDS and not block.unseen:
                print(f"{block.at}: {'run' if block.is_run else 'not run: ' + block.not_run}")
    return 0


def run(binary, paths, keep):
    if check(paths) != 0:
        return 1
    paths = [path for path in paths if any(block.is_run for block in pages.blocks(name_of(path), read(path)))]
    # The longest first, so that none of them is the last.
    paths.sort(key=lambda path: -sum(block.is_run for block in pages.blocks(name_of(path), read(path))))
    failed = []
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for future in concurrent.futures.as_completed([pool.submit(run_page, path, binary, keep) for path in paths]):
            if not tell(*future.result()):
                failed.append(future.result()[0])
    print(f"{len(paths) - len(failed)} passed, {len(failed)} failed")
    if len(failed) > TRIED_AGAIN_MAX:
        return 1
    # They share the machine, and some wait for seconds: the few that fail are run once more, each alone. A fault fails both times.
    still = [path for path in failed if not tell(*run_page(path, binary, keep))]
    if still:
        return 1
    return SECOND_TRY if failed else 0


def tell(path, well, said, seconds):
    print(f"{'ok' if well else 'FAILED'} {name_of(path)} ({seconds:.0f} s): {said}", flush=True)
    return well


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["check", "run", "list", "inside"])
    parser.add_argument("arguments", nargs="*")
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_intermixed_args()
    arguments = [pathlib.Path(argument).resolve() for argument in given.arguments]
    if given.what == "inside":
        binary, path, folder = arguments
        return run_inside(path, binary, folder)
    binary = arguments.pop(0) if given.what == "run" and arguments else None
    paths = arguments or all_pages()
    if given.what == "check":
        return check(paths)
    if given.what == "list":
        return list_blocks(paths)
    if binary is None or not os.access(binary, os.X_OK):
        parser.error("run wants the path of the wsgateway binary")
    return run(binary, paths, given.keep)


if __name__ == "__main__":
    sys.exit(main())
