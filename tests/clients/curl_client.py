"""The cases of README.md through libcurl's WebSocket, by way of pycurl."""

import json
import select
import struct
import sys
import time

import pycurl

TIMEOUT = 15


def wait(client, deadline, writing=False):
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("nothing in time")
    socket = client.getinfo(pycurl.ACTIVESOCKET)
    select.select([] if writing else [socket], [socket] if writing else [], [], min(left, 0.5))


def send(client, data, kind):
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            sent = client.ws_send(data, kind)
        except BlockingIOError:
            sent = 0
        except pycurl.error as error:
            if error.args[0] != pycurl.E_AGAIN:
                raise
            sent = 0
        if sent == len(data):
            return
        data = data[sent:]
        wait(client, deadline, writing=True)


def receive(client):
    """The next whole message: its flags and bytes."""
    deadline = time.monotonic() + TIMEOUT
    message = b""
    while True:
        try:
            piece, meta = client.ws_recv(65536)
        except BlockingIOError:
            wait(client, deadline)
            continue
        except pycurl.error as error:
            if error.args[0] != pycurl.E_AGAIN:
                raise
            wait(client, deadline)
            continue
        message += piece
        if meta.bytesleft == 0 and not meta.flags & pycurl.WS_CONT:
            return meta.flags, message


def run(case):
    client = pycurl.Curl()
    client.setopt(pycurl.URL, case["url"])
    client.setopt(pycurl.CONNECT_ONLY, 2)
    client.setopt(pycurl.TIMEOUT, TIMEOUT)
    client.setopt(pycurl.PROXY, "")
    if case.get("ca"):
        client.setopt(pycurl.CAINFO, case["ca"])
    headers = []
    client.setopt(pycurl.HEADERFUNCTION, lambda line: headers.append(line.decode("latin-1").strip()))
    if case["protocols"]:
        client.setopt(pycurl.HTTPHEADER, ["Sec-WebSocket-Protocol: " + ", ".join(case["protocols"])])
    try:
        client.perform()
    except pycurl.error:
        return {"refused": client.getinfo(pycurl.RESPONSE_CODE)}
    chosen = [line.split(":", 1)[1].strip() for line in headers if line.lower().startswith("sec-websocket-protocol:")]
    said = {"protocol": chosen[0] if chosen else "", "received": [], "code": None}
    for text in case["send"]:
        send(client, text.encode(), pycurl.WS_TEXT)
    while len(said["received"]) < case["receive"]:
        flags, data = receive(client)
        if flags & pycurl.WS_TEXT:
            said["received"].append(data.decode())
    if case["close"]:
        send(client, struct.pack("!H", 1000), pycurl.WS_CLOSE)
    while said["code"] is None:
        flags, data = receive(client)
        if flags & pycurl.WS_CLOSE:
            said["code"] = struct.unpack("!H", data[:2])[0] if len(data) >= 2 else 1005
    client.close()
    return said


def main():
    plan = json.load(open(sys.argv[1], encoding="utf-8"))
    print(json.dumps({case["name"]: run(case) for case in plan["cases"]}))


main()
