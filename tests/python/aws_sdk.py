"""The gateway through AWS's own SDK: boto3's client of the API Gateway management API, pointed at the nodes.

Called by tests/gateway/aws.rs with one JSON object: `key` (the admin token), `urls` (one admin listener per node) and
`connections` (connection ids). Sends every connection a message through every URL, looks at it, deletes it, and prints
what the SDK made of the answers as JSON. Checks nothing itself.
"""

import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

SERVICE = "apigatewaymanagementapi"


def connect(url, key):
    """A client as an application makes it: credentials of its own, which the gateway does not look at."""
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=15, proxies={})
    client = boto3.client(
        SERVICE,
        endpoint_url=url,
        region_name="eu-west-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="not-a-secret",
        config=config,
    )
    if key is not None:
        add_key = lambda request, **_: request.headers.add_header("X-Api-Key", key)
        client.meta.events.register(f"before-sign.{SERVICE}.*", add_key)
    return client


def outcome(client, call, **arguments):
    """The answer, or the exception as the SDK types it."""
    try:
        answer = getattr(client, call)(**arguments)
    except ClientError as error:
        typed = [
            name
            for name in ("GoneException", "ForbiddenException", "LimitExceededException", "PayloadTooLargeException")
            if isinstance(error, getattr(client.exceptions, name))
        ]
        return {
            "typed": typed[0] if typed else None,
            "code": error.response["Error"]["Code"],
            "message": error.response["Error"]["Message"],
            "status": error.response["ResponseMetadata"]["HTTPStatusCode"],
        }
    return {"status": answer["ResponseMetadata"]["HTTPStatusCode"], "answer": answer}


def main():
    plan = json.loads(sys.argv[1])
    key, urls, ids = plan["key"], plan["urls"], plan["connections"]
    clients = [connect(url, key) for url in urls]
    said = {"posts": [], "gets": [], "deletes": [], "gone": {}, "refused": {}}

    for number, client in enumerate(clients):
        for cid in ids:
            data = json.dumps({"from": number, "text": "grüße"}).encode()
            said["posts"].append(outcome(client, "post_to_connection", ConnectionId=cid, Data=data))
            said["gets"].append(outcome(client, "get_connection", ConnectionId=cid))

    said["refused"]["not JSON"] = outcome(clients[0], "post_to_connection", ConnectionId=ids[0], Data=b"hello")
    too_long = b'"' + b"x" * 131_072 + b'"'
    said["refused"]["too long"] = outcome(clients[0], "post_to_connection", ConnectionId=ids[0], Data=too_long)
    for name, wrong in {"no key": None, "wrong key": "wrong"}.items():
        stranger = connect(urls[0], wrong)
        said["refused"][name] = outcome(stranger, "post_to_connection", ConnectionId=ids[0], Data=b"1")

    for client, cid in zip(clients, ids):
        said["deletes"].append(outcome(client, "delete_connection", ConnectionId=cid))
    for call, more in {"post_to_connection": {"Data": b"1"}, "get_connection": {}, "delete_connection": {}}.items():
        said["gone"][call] = outcome(clients[1], call, ConnectionId=ids[0], **more)
    # An id as AWS gives them out, in an application that has moved here.
    said["gone"]["an id of AWS"] = outcome(clients[0], "post_to_connection", ConnectionId="Iu3cKdJ2oAMCKqg=", Data=b"1")
    print(json.dumps(said, default=lambda value: value.isoformat()))


main()
