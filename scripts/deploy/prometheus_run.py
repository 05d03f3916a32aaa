"""A real Prometheus on deploy/prometheus: it loads the configuration and the alerts, scrapes a stand-in of a node with the token
that the configuration names, and evaluates every alert and every expression of the dashboard on what it got.

    prometheus_run.py PROMETHEUS      the program; ended by this one, which takes a minute at most

The stand-in shows each metric of docs/metrics.md with its labels. So an expression that finds nothing asks for a name or a
label that no node has. Everything is on loopback, in a folder that is removed.
"""

import http.server
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/metrics.md"
TOKEN = "a-token-of-the-role-viewer"
WITHIN_SECONDS = 60
# What a backticked word in the description of a metric can be a value of; the others get values of their own.
NAMED = {"outcome", "reason", "result", "limit", "status", "listener", "tls", "mode", "purpose"}
SAMPLE = {"endpoint": "/shop", "route": "rest", "backend": "default/rest/0", "source": "topic/group", "version": "0.1.0", "code": "1006"}


def rows() -> list[tuple[str, str, list[str], str]]:
    """Name, kind, labels and description of each metric."""
    cells = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return [(row[0].strip("`"), row[1], [label.strip() for label in row[2].split(",") if label.strip()], row[3]) for row in cells]


def exposition(step: int) -> str:
    """What a node could answer: every metric, each word of its description as a value, and counters that grow."""
    lines = []
    for name, kind, labels, text in rows():
        family = name.removesuffix("_total")
        words = [*re.findall(r"`([a-zA-Z0-9_]+)`", text), "other"]
        free = [label for label in labels if label in NAMED]
        series = [{**{label: SAMPLE.get(label, word) for label in labels}, **{label: word for label in free}} for word in words]
        if not labels:
            series = [{}]
        if free == [] and labels:
            series = series[:1]
        if "status" in labels:
            series += [{**series[0], "status": status} for status in ("401", "503")]
        lines.append(f"# TYPE {family} {kind}")
        for one in series:
            shown = ",".join(f'{label}="{value}"' for label, value in one.items())
            if kind == "histogram":
                inner = shown + ("," if shown else "")
                lines += [f'{name}_bucket{{{inner}le="{bound}"}} {step}' for bound in ("0.5", "2.5", "+Inf")]
                lines += [f"{name}_count{{{shown}}} {step}", f"{name}_sum{{{shown}}} {step}"]
            else:
                lines.append(f"{name}{{{shown}}} {step if kind == 'counter' else 1}")
    return "\n".join([*lines, "# EOF", ""])


class Node(http.server.BaseHTTPRequestHandler):
    step = 0

    def do_GET(self):
        allowed = self.path == "/metrics" and self.headers["authorization"] == f"Bearer {TOKEN}"
        Node.step += 1
        body = exposition(Node.step).encode() if allowed else b""
        self.send_response(200 if allowed else 401)
        self.send_header("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Prometheus:
    def __init__(self, program: str, folder: Path, node: int):
        shutil.copy(ROOT / "deploy/prometheus/alerts.yaml", folder)
        (folder / "wsgateway.token").write_text(TOKEN)
        config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yaml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{node}"]}]
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        self.address = f"127.0.0.1:{free_port()}"
        self.log = folder / "log"
        self.process = subprocess.Popen(
            [program, "--config.file=prometheus.yaml", "--storage.tsdb.path=data", f"--web.listen-address={self.address}"],
            cwd=folder,
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
        )

    def ask(self, path: str, **query: str) -> dict:
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path} {query}: {error.read().decode()}") from error

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def expressions() -> list[tuple[str, str]]:
    found = []
    for panel in json.loads((ROOT / "deploy/grafana/wsgateway.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            plain = target["expr"].replace("$__rate_interval", "1m")
            found.append((panel["title"], re.sub(r"\$\{?[a-zA-Z_]+\}?", ".+", plain)))
    return found


def check(prometheus: Prometheus, deadline: float) -> list[str]:
    wanted = {rule["alert"] for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())["groups"] for rule in group["rules"]}
    while True:
        if prometheus.process.poll() is not None or time.monotonic() > deadline:
            return [f"Prometheus did not scrape and evaluate in time; its log ends: {prometheus.log.read_text()[-2000:]}"]
        try:
            rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
            scraped = prometheus.ask("query", query="count_over_time(wsgateway_disk_full[1m]) >= 3")["result"]
            if scraped and rules and all(rule["lastEvaluation"] > "2" for rule in rules):
                break
        except (OSError, RuntimeError):
            # Not listening yet, or 503 while it reads its folder.
            pass
        time.sleep(0.5)
    wrong = [f"alert {rule['name']}: {rule['lastError']}" for rule in rules if rule.get("lastError")]
    loaded = {rule["name"] for rule in rules}
    if loaded != wanted:
        wrong.append(f"Prometheus has loaded {sorted(loaded)}, not {sorted(wanted)}")
    full = next(rule for rule in rules if rule["name"] == "WSGatewayDiskFull")
    if full["state"] not in ("pending", "firing"):
        wrong.append("the stand-in's disk is full, and WSGatewayDiskFull does not see it")
    asked = expressions()
    for title, expression in asked:
        try:
            if not prometheus.ask("query", query=expression)["result"]:
                wrong.append(f"panel {title!r}: nothing that a node shows is found by {expression}")
        except RuntimeError as error:
            wrong.append(f"panel {title!r}: {error}")
    print(f"prometheus: {len(loaded)} alerts are evaluated, {len(asked)} expressions of the dashboard find what a node shows")
    return wrong


def main() -> None:
    node = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Node)
    threading.Thread(target=node.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        prometheus = Prometheus(sys.argv[1], Path(folder), node.server_port)
        try:
            wrong = check(prometheus, time.monotonic() + WITHIN_SECONDS)
        finally:
            prometheus.end()
    for what in wrong:
        print(f"wrong: {what}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


main()
