"""The chart on the real program: what a pod is started with is read by `wsgateway settings`, and every value arrives as it was
given.

    chart_settings.py PROGRAM HELM

For each file of values in the chart's ci/: its settings, the headers of tracing among them, are those that the program reads
from the flags, the environment and the file that the chart makes of them. And for each setting that the program has: either
the chart's schema allows it, or the chart sets it itself and refuses it.
"""

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import jsonschema
import yaml

CHART = Path(__file__).resolve().parents[2] / "deploy/helm/wsgateway"
KUBERNETES = "1.33.0"
# What the chart decides: by the flag or the variable that it has for it.
OF_THE_CHART = {
    "node.name": "--name",
    "node.data_dir": "--data-dir",
    "client.listen": "--client-listen",
    "admin.listen": "--admin-listen",
    "admin.token": "WSGATEWAY__ADMIN__TOKEN",
    "cluster.listen": "--cluster-listen",
    "cluster.advertise": "--advertise",
    "cluster.seeds": "--seeds",
    "cluster.bootstrap_expect": "--bootstrap-expect",
    "cluster.secrets": "WSGATEWAY__CLUSTER__SECRETS",
    "tracing.headers": "WSGATEWAY__TRACING__HEADERS",
}
# Of a Secret that is not the chart's.
EXISTING = {
    "cluster-secrets": '["one-long-random-secret"]',
    "admin-token": "a-token-of-16-or-more",
    "tracing-headers": '{"authorization"="Bearer abc"}',
}

wrong: list[str] = []


def run(*command: str, **more) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **more)
    if done.returncode:
        sys.exit(f"wrong: {' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def rendered(helm: str, values: Path) -> list[dict]:
    said = run(helm, "template", "ws", str(CHART), "--namespace", "gw", "--kube-version", KUBERNETES, "--values", str(values))
    return [document for document in yaml.safe_load_all(said) if document]


def container_of(documents: list[dict]) -> dict:
    (nodes,) = [document for document in documents if document["kind"] == "StatefulSet"]
    (container,) = nodes["spec"]["template"]["spec"]["containers"]
    return container


def of_secret(documents: list[dict], name: str, key: str) -> str | None:
    for document in documents:
        if document["kind"] == "Secret" and document["metadata"]["name"] == name:
            value = document["data"].get(key)
            return value and base64.b64decode(value).decode()
    return EXISTING[key]


def environment_of(documents: list[dict]) -> dict[str, str]:
    """The settings among the variables of a pod, as Kubernetes fills them in."""
    found = {}
    for variable in container_of(documents)["env"]:
        if not variable["name"].startswith("WSGATEWAY__"):
            continue
        value = variable.get("value")
        if value is None:
            source = variable["valueFrom"]["secretKeyRef"]
            value = of_secret(documents, source["name"], source["key"])
            if value is None and not source.get("optional"):
                wrong.append(f"{variable['name']} is to come from {source['key']}, which the chart's Secret has not")
        if value is not None:
            found[variable["name"]] = in_pod(value)
    return found


def in_pod(text: str) -> str:
    return text.replace("$(POD_NAME)", "ws-wsgateway-0")


def read_by(program: str, arguments: list[str], environment: dict[str, str]) -> dict[str, object]:
    """Each setting as the program has read it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WSGATEWAY")}
    said = run(program, "settings", *arguments, env=clean | environment)
    lines = (re.fullmatch(r"([\w.]+) = (.*)    # .*", line) for line in said.splitlines())
    shown = {line[1]: line[2] for line in lines if line}
    return {name: value if value == "(secret)" else json.loads(value) for name, value in shown.items()}


def check_values(program: str, helm: str, values: Path) -> int:
    """The settings of a file of values, through the chart and the program: how many were compared."""
    documents = rendered(helm, values)
    environment = environment_of(documents)
    check_urls(values, environment)
    (toml,) = [d["data"]["wsgateway.toml"] for d in documents if d["kind"] == "ConfigMap" and "wsgateway.toml" in d["data"]]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "wsgateway.toml"
        file.write_text(toml)
        flags = [in_pod(flag) for flag in container_of(documents)["args"][1:]]
        flags = [f"--config={file}" if flag.startswith("--config=") else flag for flag in flags]
        read = read_by(program, flags, environment)
    given = yaml.safe_load(values.read_text())
    compared = 0
    for section, keys in given.get("settings", {}).items():
        for key, value in keys.items():
            # Of a table that the program shows whole, such as tls, others may come from the chart.
            shown = read[f"{section}.{key}"]
            seen = {inner: shown.get(inner) for inner in value} if isinstance(value, dict) else shown
            if seen != (in_pod(value) if isinstance(value, str) else value):
                wrong.append(f"{values.name}: {section}.{key} is {value!r}, and the node reads {shown!r}")
            compared += 1
    headers = given.get("secrets", {}).get("tracingHeaders")
    if headers:
        if read["tracing.headers"] != "(secret)" or any(json.dumps(text) in toml for text in headers.values()):
            wrong.append(f"{values.name}: the headers of tracing are not with the secrets")
        # The program does not show them. It reads all maps alike, and shows this one.
        line = environment["WSGATEWAY__TRACING__HEADERS"]
        seen = read_by(program, [], {"WSGATEWAY__TRACING__ATTRIBUTES": line})["tracing.attributes"]
        if seen != headers:
            wrong.append(f"{values.name}: the headers of tracing are {headers!r}, and the node reads {seen!r}")
        compared += 1
    return compared


def check_urls(values: Path, environment: dict[str, str]) -> None:
    """What nodes tell browsers: what was set, or else the Ingress, or else nothing."""
    given = yaml.safe_load(values.read_text())
    ingress = given.get("ingress", {})
    url = given.get("settings", {}).get("client", {}).get("advertise_url")
    if not url and ingress.get("enabled"):
        url = f"{'wss' if ingress.get('tls') else 'ws'}://{ingress['hosts'][0]['host']}"
    if environment.get("WSGATEWAY__CLIENT__ADVERTISE_URL") != url:
        wrong.append(f"{values.name}: clients are not told to come to {url}")


def check_schema(settings: dict[str, object], container: dict) -> None:
    """Every setting is the user's or the chart's, and none is both or neither."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    # Helm refuses what the schema does; this one is drawn from the same file.
    allows = jsonschema.Draft7Validator(schema).is_valid
    sections = set(schema["properties"]["settings"]["properties"])
    for section in sections ^ {name.split(".")[0] for name in settings}:
        wrong.append(f"[{section}] is a section of the program or of the chart's schema, and not of both")
    set_by_chart = {flag.split("=")[0] for flag in container["args"]} | {variable["name"] for variable in container["env"]}
    for name, default in settings.items():
        section, key = name.split(".")
        # Any text where the default is none; keys without a value say nothing of a table.
        sample = "x" if default is None else default
        if isinstance(default, dict):
            sample = {inner: "x" for inner in default} or {"a.b": "x"}
        allowed = allows({"settings": {section: {key: sample}}})
        if name in OF_THE_CHART:
            if allowed:
                wrong.append(f"the chart takes settings.{name}, which is the chart's own")
            if OF_THE_CHART[name] not in set_by_chart:
                wrong.append(f"the chart neither takes settings.{name} nor sets it with {OF_THE_CHART[name]}")
        elif not allowed:
            wrong.append(f"the chart refuses settings.{name} = {sample!r}, and does not set it itself")
    for name in OF_THE_CHART.keys() - settings.keys():
        wrong.append(f"the chart sets {name}, which is no setting of the program")


def main() -> None:
    program, helm = sys.argv[1:]
    settings = read_by(program, [], {})
    files = sorted(CHART.glob("ci/*-values.yaml"))
    compared = sum(check_values(program, helm, file) for file in files)
    check_schema(settings, container_of(rendered(helm, CHART / "ci/full-values.yaml")))
    for what in wrong:
        print(f"wrong: {what}", file=sys.stderr)
    if wrong:
        sys.exit(1)
    print(f"chart: the program reads {compared} values of {len(files)} files as they are; of its {len(settings)} settings "
          f"{len(OF_THE_CHART)} are the chart's")  # fmt: skip


main()
