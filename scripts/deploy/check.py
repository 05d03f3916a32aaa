"""What scripts/deploy.sh checks of deploy/ by reading it: names of metrics, alerts and their cases, the dashboard, what the
chart renders, the files of Compose and Docker. Prints what it has looked at; ends with 1 and a line for each thing that is
wrong.

    check.py metrics [--names FILE]       every metric that the dashboard and the alerts use is one that a node shows
    check.py dashboard RULES              the dashboard is sound; its expressions, as rules for promtool, go to RULES
    check.py alerts                       every alert has what it must have, both kinds of cases, and a place in the runbook
    check.py chart RENDERED…              what Helm has rendered: Kubernetes' schemas, and that the parts fit together
    check.py docker                       the Dockerfile's context, the file of Compose, and that images have versions
    check.py debian                       the package's metadata, and that unit, settings and scripts are about the same
"""

import argparse
import json
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "deploy/prometheus/alerts.yaml"
CASES = ROOT / "deploy/prometheus/alerts_test.yaml"
DASHBOARD = ROOT / "deploy/grafana/wsgateway.json"
COMPOSE = ROOT / "deploy/docker-compose.yaml"
RUNBOOK = ROOT / "docs/monitoring.md"
RUNBOOK_URL = "https://github.com/wsgateway/wsgateway/blob/main/docs/monitoring.md#"
METRICS_PAGE = ROOT / "docs/metrics.md"

PREFIX = "wsgateway_"
# What prometheus-client puts behind the name of a histogram.
HISTOGRAM = ("_bucket", "_count", "_sum")
# Metrics that Prometheus makes itself.
OWN_OF_PROMETHEUS = {"up", "ALERTS", "scrape_duration_seconds"}
FROM_PROMETHEUS = {"job", "instance", "namespace", "alertname", "alertstate"}
# The oldest version that the chart allows, and the newest whose schemas the package has.
KUBERNETES = ("1.27", "1.37")
# Custom resources: no schemas of Kubernetes' own.
CUSTOM = {"ServiceMonitor", "PrometheusRule"}

wrong: list[str] = []


def complain(what: str) -> None:
    wrong.append(what)


# ------------------------------------------------------------------------------------------------------- names of metrics


def names_in_text(text: str) -> set[str]:
    """The names of a page or of a file of names: whatever begins with the prefix."""
    return set(re.findall(rf"\b{PREFIX}[a-z0-9_]+\b", text))


def names_in_sources() -> set[str]:
    """The names that the sources register, as they are shown: counters end in _total."""
    names: set[str] = set()
    metrics = (ROOT / "src/telemetry/metrics.rs").read_text()
    kinds = dict(re.findall(r"pub (\w+): (?:Family<\w+, )?(Counter|Gauge|Histogram)\b", metrics))
    for name, field in re.findall(r'register\(\s*"(\w+)",\s*(?:"[^"]*"|help),\s*(?:metrics|self)\.(\w+)\.clone', metrics):
        names |= shown(name, kinds[field])
    for path in (ROOT / "src").rglob("*.rs"):
        source = path.read_text()
        # A kind stands before the families that are of it.
        kind = "Gauge"
        for found in re.finditer(r'let kind = Const(Counter|Gauge)|encode_descriptor\("(\w+)"', source):
            kind = found[1] or kind
            if found[2]:
                names |= shown(found[2], kind)
        if "impl Collector for NodeCollector" in source:
            listed = re.search(r"fn gauges.*?\n    }\n", source, re.S)
            counted = re.search(r"let counted = \[.*?\];", source, re.S)
            for block, kind in ((listed, "Gauge"), (counted, "Counter")):
                for name in re.findall(r'\(\s*"([a-z_]+)",', block[0] if block else ""):
                    names |= shown(name, kind)
    return names


def shown(name: str, kind: str) -> set[str]:
    if kind == "Counter":
        return {f"{PREFIX}{name}_total"}
    if kind == "Histogram":
        return {f"{PREFIX}{name}{suffix}" for suffix in HISTOGRAM}
    return {f"{PREFIX}{name}"}


def known_names(file: str | None) -> tuple[set[str], str]:
    if file:
        return names_in_text(Path(file).read_text()), file
    if METRICS_PAGE.exists():
        return names_in_text(METRICS_PAGE.read_text()), "docs/metrics.md"
    return names_in_sources(), "the sources"


def is_known(name: str, known: set[str]) -> bool:
    """A page may name a histogram once, without its suffixes."""
    return name in known or any(name.endswith(suffix) and name.removesuffix(suffix) in known for suffix in HISTOGRAM)


def used_names(expression: str) -> set[str]:
    """The metrics of an expression: words that are no function, label, keyword or text."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", expression)
    bare = re.sub(r"\{[^}]*\}", "", bare)
    bare = re.sub(r"\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    words = re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\s*\()(?![a-zA-Z0-9_:])", bare)
    keywords = {"and", "or", "unless", "by", "on", "bool", "offset", "group_left", "group_right", "ignoring", "without"}
    return {word for word in words if word not in keywords and not re.fullmatch(r"[smhdwy]", word)}


def check_metrics(names: str | None) -> None:
    known, source = known_names(names)
    if len(known) < 50:
        complain(f"only {len(known)} names of metrics were found in {source}: this looks in the wrong place")
    used: dict[str, set[str]] = {}
    for where, expression in [*dashboard_expressions(), *alert_expressions()]:
        for name in used_names(expression):
            used.setdefault(name, set()).add(where)
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
        for name in names_in_text(json.dumps(variable.get("query", ""))):
            used.setdefault(name, set()).add(f"variable {variable['name']}")
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for series in case["input_series"] or []:
            used.setdefault(series["series"].split("{")[0], set()).add(f"case {case['name']!r}")
    for name, places in sorted(used.items()):
        if name not in OWN_OF_PROMETHEUS and not is_known(name, known):
            complain(f"no node shows {name} (used by {', '.join(sorted(places))}; the names are those of {source})")
    if not names and METRICS_PAGE.exists():
        check_labels(page_labels())
    idle = sorted(name for name in known if not name.endswith(HISTOGRAM) and not any(u.startswith(name) for u in used))
    print(f"metrics: {len(used)} are used, all of them in {source}, which has {len(known)}", end="")
    print(f"; used by nothing: {', '.join(idle)}" if idle else "")


def page_labels() -> dict[str, set[str]]:
    """The labels of each metric, as docs/metrics.md has them, and those that Prometheus adds."""
    labels = {}
    for line in METRICS_PAGE.read_text().splitlines():
        if line.startswith(f"| `{PREFIX}"):
            name, kind, of = [cell.strip(" `") for cell in line.split("|")[1:4]]
            own = {label.strip() for label in of.split(",") if label.strip()} | FROM_PROMETHEUS
            for shown_name in [name + suffix for suffix in HISTOGRAM] if kind == "histogram" else [name]:
                labels[shown_name] = own | {"le"} if shown_name.endswith("_bucket") else own
    return labels


def check_labels(labels: dict[str, set[str]]) -> None:
    """A label that a metric has not finds nothing, or everything, and no parser minds."""
    for where, expression in [*dashboard_expressions(), *alert_expressions()]:
        selectors = re.findall(r"([a-z_]+)\{([^}]*)\}", expression)
        for name, matchers in selectors:
            for label in re.findall(r"(\w+)\s*[=!]", re.sub(r'"(?:[^"\\]|\\.)*"', '""', matchers)):
                if name in labels and label not in labels[name]:
                    complain(f"{where}: {name} has no label {label}")
        # Of the metrics of an expression at least one must have what it is grouped by.
        had = set().union(*(labels.get(name, FROM_PROMETHEUS) for name in used_names(expression)))
        for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
            for label in (label.strip() for label in group.split(",")):
                if label not in had:
                    complain(f"{where}: is grouped by {label}, which its metrics have not")
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for series in case["input_series"] or []:
            name, _, rest = series["series"].partition("{")
            for label in re.findall(r'(\w+)="', rest):
                if name in labels and label not in labels[name]:
                    complain(f"case {case['name']!r}: {name} has no label {label}")


# ---------------------------------------------------------------------------------------------------- dashboard and alerts


def dashboard_panels() -> list[dict]:
    panels = []
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        panels += [panel, *panel.get("panels", [])]
    return panels


def dashboard_expressions() -> list[tuple[str, str]]:
    return [
        (f"panel {panel['title']!r}", target["expr"]) for panel in dashboard_panels() for target in panel.get("targets", [])
    ]


def alert_expressions() -> list[tuple[str, str]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [(f"alert {rule['alert']}", rule["expr"]) for group in groups for rule in group["rules"]]


def check_dashboard(rules: str) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    for wanted in ("datasource", "instance", "endpoint"):
        if wanted not in variables:
            complain(f"the dashboard has no variable {wanted}")
    panels = dashboard_panels()
    ids = [panel["id"] for panel in panels]
    if len(ids) != len(set(ids)):
        complain("two panels of the dashboard have the same id")
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        place = panel["gridPos"]
        if place["x"] + place["w"] > 24:
            complain(f"panel {panel['title']!r} is wider than the dashboard")
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                other = taken.setdefault((x, y), panel["title"])
                if other != panel["title"]:
                    complain(f"panels {other!r} and {panel['title']!r} lie upon each other")
        if panel["type"] != "row" and not panel.get("targets"):
            complain(f"panel {panel['title']!r} shows nothing")
    for used in set(re.findall(r"\$\{?([a-zA-Z_]+)", json.dumps(dashboard))):
        if not used.startswith("__") and used not in variables:
            complain(f"the dashboard uses the variable {used}, which it has not")
    found = []
    for number, (where, expression) in enumerate(dashboard_expressions()):
        # A place of a variable is in a text, or a length of time.
        plain = expression.replace("$__rate_interval", "5m").replace("$__interval", "1m").replace("$__range", "1h")
        plain = re.sub(r"\$\{?[a-zA-Z_]+\}?", ".*", plain)
        found.append({"record": f"dashboard:expression:{number}", "expr": plain, "labels": {"where": where}})
    Path(rules).write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": found}]}))
    print(f"dashboard: {len(panels)} panels and rows, {len(found)} expressions")


def check_alerts() -> None:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    anchors = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", RUNBOOK.read_text(), re.M)}
    fires: dict[str, int] = {}
    quiet: dict[str, int] = {}
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for question in case["alert_rule_test"]:
            side = fires if question.get("exp_alerts") else quiet
            side[question["alertname"]] = side.get(question["alertname"], 0) + 1
    names = []
    for rule in (rule for group in groups for rule in group["rules"]):
        name = rule["alert"]
        names.append(name)
        if rule.get("labels", {}).get("severity") not in ("critical", "warning"):
            complain(f"{name}: severity is critical or warning")
        for annotation in ("summary", "description", "runbook_url"):
            if not rule.get("annotations", {}).get(annotation):
                complain(f"{name} has no {annotation}")
        if rule["annotations"]["runbook_url"] != RUNBOOK_URL + name.lower():
            complain(f"{name}: its runbook is not {RUNBOOK_URL}{name.lower()}")
        if name.lower() not in anchors:
            complain(f"{name} has no heading in docs/monitoring.md")
        if name not in fires:
            complain(f"{name} has no case in alerts_test.yaml that fires it")
        if name not in quiet:
            complain(f"{name} has no case in alerts_test.yaml that does not fire it")
    if len(names) != len(set(names)):
        complain("two alerts have the same name")
    for heading in sorted(anchor for anchor in anchors if anchor.startswith("wsgateway") and anchor != "wsgateway"):
        if heading not in {name.lower() for name in names}:
            complain(f"docs/monitoring.md has a heading {heading}, which is no alert")
    print(f"alerts: {len(names)}, with {sum(fires.values())} cases that fire and {sum(quiet.values())} that do not")


# --------------------------------------------------------------------------------------------------------------- the chart


def check_chart(files: list[str]) -> None:
    import kubernetes_validate

    for file in files:
        documents = [document for document in yaml.safe_load_all(Path(file).read_text()) if document]
        for document in documents:
            name = f"{file}: {document['kind']} {document['metadata']['name']}"
            for version in KUBERNETES if document["kind"] not in CUSTOM else ():
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    complain(f"{name}, Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}")
        check_parts(file, documents)
        kinds = sorted({document["kind"] for document in documents})
        print(f"chart: {Path(file).name}: {len(documents)} objects ({', '.join(kinds)})")


def check_parts(file: str, documents: list[dict]) -> None:
    """What no schema says: that names which one object uses are those which another has."""
    of = {}
    for document in documents:
        of.setdefault(document["kind"], {})[document["metadata"]["name"]] = document
    (nodes,) = of["StatefulSet"].values()
    pod = nodes["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    labels = pod["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}

    def selects(selector: dict, what: str) -> None:
        if not selector.items() <= labels.items():
            complain(f"{file}: {what} does not select the pods")

    selects(nodes["spec"]["selector"]["matchLabels"], "the StatefulSet")
    for name, service in of["Service"].items():
        selects(service["spec"]["selector"], f"Service {name}")
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in ports:
                complain(f"{file}: Service {name} leads to the port {port['targetPort']}, which there is not")
    for budget in of.get("PodDisruptionBudget", {}).values():
        selects(budget["spec"]["selector"]["matchLabels"], "the PodDisruptionBudget")
    for policy in of.get("NetworkPolicy", {}).values():
        selects(policy["spec"]["podSelector"]["matchLabels"], "the NetworkPolicy")
    for monitor in of.get("ServiceMonitor", {}).values():
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        chosen = [s for s in of["Service"].values() if wanted <= s["metadata"]["labels"].items()]
        if len(chosen) != 1 or chosen[0]["spec"]["ports"][0]["name"] != monitor["spec"]["endpoints"][0]["port"]:
            complain(f"{file}: the ServiceMonitor does not select the admin Service alone")
    headless = of["Service"].get(nodes["spec"]["serviceName"])
    if headless is None or headless["spec"].get("clusterIP") != "None":
        complain(f"{file}: serviceName is no headless Service")
    elif not headless["spec"].get("publishNotReadyAddresses"):
        complain(f"{file}: nodes that are not ready have no names, and none can get ready")
    volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in nodes["spec"].get("volumeClaimTemplates", [])}
    for mount in container["volumeMounts"]:
        if mount["name"] not in volumes:
            complain(f"{file}: {mount['mountPath']} is mounted from {mount['name']}, which there is not")
    for mount in {mount["name"] for mount in container["volumeMounts"]} ^ volumes:
        complain(f"{file}: the volume {mount} is not mounted, or not there")
    for volume in pod["spec"].get("volumes", []):
        if "configMap" in volume and volume["configMap"]["name"] not in of["ConfigMap"]:
            complain(f"{file}: there is no ConfigMap {volume['configMap']['name']}")
    check_node(file, nodes, container, of)


def check_node(file: str, nodes: dict, container: dict, of: dict) -> None:
    """The flags of a node, the time that it has to leave, and what it may do."""
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in container["args"][1:])
    replicas = nodes["spec"]["replicas"]
    seeds = flags["seeds"].split(",")
    name = nodes["metadata"]["name"]
    pods = [flags["advertise"].replace("$(POD_NAME)", f"{name}-{number}") for number in range(replicas)]
    if seeds != pods[: len(seeds)]:
        complain(f"{file}: the seeds {seeds} are not the first pods {pods}")
    if int(flags["bootstrap-expect"]) != len(seeds) or min(seeds) != seeds[0]:
        complain(f"{file}: bootstrap-expect {flags['bootstrap-expect']} with the seeds {seeds}")
    toml = next(c["data"]["wsgateway.toml"] for c in of["ConfigMap"].values() if "wsgateway.toml" in c["data"])
    check_toml(file, toml)
    drain = int(re.search(r"^drain_seconds = (\d+)$", toml, re.M)[1])
    spec = nodes["spec"]["template"]["spec"]
    if spec["terminationGracePeriodSeconds"] < drain + 45:
        complain(f"{file}: a pod has {spec['terminationGracePeriodSeconds']} s to leave, and drains for {drain} s")
    if not (container["securityContext"]["readOnlyRootFilesystem"] and spec["securityContext"]["runAsNonRoot"]):
        complain(f"{file}: the pods run as root, or may write everywhere")
    if spec["automountServiceAccountToken"] is not False:
        complain(f"{file}: the token of the service account is in /run/secrets, to which documents may refer")
    if nodes["spec"]["podManagementPolicy"] != "Parallel":
        complain(f"{file}: no node is ready before all seeds are there, so pods must not wait for each other")


def check_toml(file: str, text: str) -> None:
    """Its sections and keys are those of the page of settings."""
    try:
        import tomllib
    except ImportError:  # Python 3.10
        return
    page = (ROOT / "docs/operations.md").read_text().split("## Behind a proxy")[0] + (ROOT / "docs/tracing.md").read_text()
    keys = set(re.findall(r"`([a-z]+(?:\.[a-z_]+)+)`", page))
    # The page says `cluster.tls.certificate_file`, `.key_file`, …, and of admin.tls that it has the same keys.
    keys |= {f"{listener}.tls.{key}" for listener in ("client", "admin") for key in TLS_KEYS}
    keys |= {f"cluster.tls.{key}" for key in ("certificate_file", "key_file", "ca_file", "mode")}
    for section, entries in tomllib.loads(text).items():
        for key, value in entries.items():
            # The keys of a table are settings, too, unless the table is one itself and they are the user's.
            whole = f"{section}.{key}"
            for path in [whole] if whole in keys or not isinstance(value, dict) else [f"{whole}.{inner}" for inner in value]:
                if path not in keys:
                    complain(f"{file}: {path} is no setting of docs/operations.md or docs/tracing.md")


TLS_KEYS = ("certificate_file", "key_file", "client_ca_file", "client_crl_file")


# ------------------------------------------------------------------------------------------------------- Docker and Compose


def check_docker() -> None:
    import compose_spec

    options = compose_spec.PyOptions()
    options.apply_merge = True
    text = COMPOSE.read_text()
    try:
        options.from_yaml(text).validate()
    except ValueError as error:
        complain(f"{COMPOSE.name}: {error}")
    compose = yaml.safe_load(text)
    for name, service in compose["services"].items():
        check_image(f"{COMPOSE.name}: {name}", service["image"])
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                if not (COMPOSE.parent / source).exists():
                    complain(f"{COMPOSE.name}: {name} mounts {source}, which there is not")
            elif source not in compose["volumes"]:
                complain(f"{COMPOSE.name}: {name} mounts the volume {source}, which there is not")
    environment = {name: service.get("environment", {}) for name, service in compose["services"].items()}
    nodes = [name for name, variables in environment.items() if "WSGATEWAY__NODE__NAME" in variables]
    for name in nodes:
        variables = environment[name]
        seeds = json.loads(variables["WSGATEWAY__CLUSTER__SEEDS"])
        if seeds != [f"{node}:7000" for node in nodes] or variables["WSGATEWAY__CLUSTER__BOOTSTRAP_EXPECT"] != str(len(nodes)):
            complain(f"{COMPOSE.name}: {name} has other seeds than the nodes {nodes}")
        if variables["WSGATEWAY__CLUSTER__ADVERTISE"] != f"{name}:7000" or compose["services"][name]["hostname"] != name:
            complain(f"{COMPOSE.name}: {name} is not reached at its own name")
        # From outside, at what is published of it.
        published = {port.rsplit(":", 1)[1]: port.rsplit(":", 1)[0] for port in compose["services"][name]["ports"]}
        for listener, scheme in (("CLIENT", "ws"), ("ADMIN", "http")):
            inside = variables[f"WSGATEWAY__{listener}__LISTEN"].rsplit(":", 1)[1]
            if variables.get(f"WSGATEWAY__{listener}__ADVERTISE_URL") != f"{scheme}://{published[inside]}":
                complain(f"{COMPOSE.name}: {name} tells another {listener} URL than what is published at {published[inside]}")
    check_context()
    print(f"docker: {len(compose['services'])} services, {len(nodes)} of them nodes")


def check_image(where: str, image: str) -> None:
    if not re.fullmatch(r"[\w./-]+:v?\d[\w.-]*", image):
        complain(f"{where}: the image {image} has no version")


def check_context() -> None:
    """What the workspace is made of must get into the image's build."""
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    manifest = (ROOT / "Cargo.toml").read_text()
    members = json.loads(re.search(r"^members = (\[.*\])$", manifest, re.M)[1])
    for wanted in {member.split("/")[0] for member in members} | {"Cargo.toml", "Cargo.lock", "build.rs", "src"}:
        if wanted not in kept:
            complain(f".dockerignore keeps {wanted} out of the image's build")
    for path in kept:
        if not (ROOT / path).exists():
            complain(f".dockerignore lets {path} in, which there is not")


# ------------------------------------------------------------------------------------------------------ systemd and Debian


def check_debian() -> None:
    try:
        import tomllib
    except ImportError:  # Python 3.10
        print("debian: not read, which takes Python 3.11")
        return
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    deb = manifest["package"]["metadata"]["deb"]
    if deb["profile"] not in manifest["profile"]:
        complain(f"Cargo.toml: the package is built with the profile {deb['profile']}, which there is not")
    packed = set()
    for source, target, _ in deb["assets"]:
        if not source.startswith("target/") and not list(ROOT.glob(source)):
            complain(f"Cargo.toml: the package has {source}, which there is not")
        packed.add("/" + (target + source.rsplit("/", 1)[-1] if target.endswith("/") else target))
    scripts = ROOT / deb["maintainer-scripts"]
    for script in (path for path in scripts.iterdir() if path.name in ("preinst", "postinst", "prerm", "postrm")):
        if "#DEBHELPER#" not in script.read_text():
            complain(f"{script.name} has no place for what systemd's part of the package is")
    text = (ROOT / deb["systemd-units"]["unit-scripts"] / "wsgateway.service").read_text()
    unit = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"[A-Z]\w+=", line))
    program, *arguments = unit["ExecStart"].split()
    for path in (program, arguments[-1], unit["EnvironmentFile"].lstrip("-")):
        if path not in packed:
            complain(f"wsgateway.service uses {path}, which is not in the package")
    if f"adduser --system --group --quiet --home /var/lib/wsgateway --no-create-home --gecos WSGateway {unit['User']}" not in (
        scripts / "postinst"
    ).read_text():
        complain(f"postinst does not make the user {unit['User']}")
    settings = (ROOT / "deploy/systemd/wsgateway.toml").read_text()
    check_toml("wsgateway.toml", settings)
    # What is commented out is meant to be used, too, in place of what is there.
    used = re.sub(r'^listen = "127.*\n', "", settings, flags=re.M)
    check_toml("wsgateway.toml, all of it", re.sub(r"^# (?=\[\w+\.tls\]$|\w+ = )", "", used, flags=re.M))
    node = tomllib.loads(settings)["node"]
    if int(unit["TimeoutStopSec"]) < node["drain_seconds"] + 45:
        complain(f"wsgateway.service gives a node {unit['TimeoutStopSec']} s to leave, which drains for {node['drain_seconds']} s")
    if not node["data_dir"].startswith(f"/var/lib/{unit['StateDirectory']}/"):
        complain(f"wsgateway.service may not write {node['data_dir']}")
    print(f"debian: {len(packed)} assets; wsgateway.service, wsgateway.toml and the scripts go together")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("metrics").add_argument("--names", help="a file with the names, instead of docs/metrics.md")
    commands.add_parser("dashboard").add_argument("rules")
    commands.add_parser("alerts")
    commands.add_parser("chart").add_argument("rendered", nargs="+")
    commands.add_parser("docker")
    commands.add_parser("debian")
    arguments = parser.parse_args()
    match arguments.command:
        case "metrics":
            check_metrics(arguments.names)
        case "dashboard":
            check_dashboard(arguments.rules)
        case "alerts":
            check_alerts()
        case "chart":
            check_chart(arguments.rendered)
        case "docker":
            check_docker()
        case "debian":
            check_debian()
    for what in wrong:
        print(f"wrong: {what}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


main()
