#!/usr/bin/env python3
"""A service for pages whose endpoints call one: prints what it gets, and answers 200.

sample-service [PATH=STATUS[:TEXT]…]    on port 3000

A path may have another status; with TEXT only when that is in the body.
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 3000
RULES = [(path, int(status), text) for path, _, rest in (argument.partition("=") for argument in sys.argv[1:])
         for status, _, text in [rest.partition(":")]]  # fmt: skip


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        print(self.command, self.path, body, flush=True)
        fits = (status for path, status, text in RULES if path == self.path and text in body)
        self.send_response(next(fits, 200))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", PORT), Service).serve_forever()
