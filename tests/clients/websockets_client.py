"""The cases of README.md through PyPI's websockets."""

import asyncio
import json
import sys

import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

TIMEOUT = 15


async def run(case):
    protocols = case["protocols"] or None
    try:
        client = await websockets.connect(case["url"], subprotocols=protocols, max_size=None, proxy=None, compression=None)
    except InvalidStatus as error:
        return {"refused": error.response.status_code}
    said = {"protocol": client.subprotocol or "", "received": [], "code": None}
    try:
        for text in case["send"]:
            await client.send(text)
        for _ in range(case["receive"]):
            said["received"].append(await asyncio.wait_for(client.recv(), TIMEOUT))
        if case["close"]:
            await client.close(1000)
        else:
            await asyncio.wait_for(client.recv(), TIMEOUT)
    except ConnectionClosed:
        pass
    await client.wait_closed()
    said["code"] = client.close_code
    return said


async def main():
    plan = json.load(open(sys.argv[1], encoding="utf-8"))
    print(json.dumps({case["name"]: await run(case) for case in plan["cases"]}))


asyncio.run(main())
