"""The chart makes its secrets once: an upgrade finds them in Kubernetes and keeps them, since nodes with another secret are not
let in, and secrets in endpoint documents could not be read any more.

    kept_secrets.py HELM      renders the chart's Secret against a stand-in of Kubernetes' API, on loopback, with one and without
"""

import base64
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import yaml

CHART = Path(__file__).resolve().parents[2] / "deploy/helm/wsgateway"
KEPT = {"cluster-secrets": '["the-secret-of-the-cluster"]', "admin-token": "the-token-of-the-admin"}
DATA = {key: base64.b64encode(value.encode()).decode() for key, value in KEPT.items()}
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ws-wsgateway", "namespace": "gw"}, "data": DATA}
KIND = {"name": "secrets", "singularName": "secret", "namespaced": True, "kind": "Secret", "verbs": ["get", "list"]}
ANSWERS = {
    "/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [KIND]},
}
MISSING = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"}


class Kubernetes(http.server.BaseHTTPRequestHandler):
    secrets: dict = {}

    def do_GET(self):
        path = self.path.split("?")[0]
        answer = ANSWERS.get(path) or self.secrets.get(path)
        body = json.dumps(answer or MISSING).encode()
        self.send_response(200 if answer else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def rendered(helm: str, port: int) -> dict[str, str]:
    command = [helm, "template", "ws", str(CHART), "--namespace", "gw", "--dry-run=server", "--kube-version", "1.33.0"]
    command += ["--kube-apiserver", f"http://127.0.0.1:{port}", "--show-only", "templates/secret.yaml"]
    done = subprocess.run(command, env={**os.environ, "KUBECONFIG": "/dev/null"}, capture_output=True, text=True, timeout=60)
    if done.returncode:
        sys.exit(f"wrong: {done.stderr}")
    return {key: base64.b64decode(value).decode() for key, value in yaml.safe_load(done.stdout)["data"].items()}


def main() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Kubernetes)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    first = rendered(sys.argv[1], server.server_port)
    if len(first["admin-token"]) < 16 or [len(secret) >= 16 for secret in json.loads(first["cluster-secrets"])] != [True]:
        sys.exit("wrong: the first installation makes no secrets that a node takes")
    Kubernetes.secrets = {"/api/v1/namespaces/gw/secrets/ws-wsgateway": SECRET}
    if rendered(sys.argv[1], server.server_port) != KEPT:
        sys.exit("wrong: an upgrade of the chart makes new secrets")
    print("chart: secrets are made once and kept")


main()
