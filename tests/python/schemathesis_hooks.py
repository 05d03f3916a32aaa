"""Lets schemathesis find what is there: half of the calls about a connection or an endpoint are about one that exists.

Loaded by schemathesis (SCHEMATHESIS_HOOKS); WSGATEWAY_CONNECTIONS and WSGATEWAY_ENDPOINTS have the ids, separated by
commas. Endpoints are not deleted by these: those that schemathesis makes are.
"""

import os
import random

import schemathesis

# One line is as good as several.
schemathesis.serializer.alias("application/x-ndjson", "application/json")


def listed(name):
    return [item for item in os.environ.get(name, "").split(",") if item]


EXISTING = {"cid": listed("WSGATEWAY_CONNECTIONS"), "id": listed("WSGATEWAY_ENDPOINTS")}


def is_about(operation, name):
    if name == "cid":
        return True
    return operation.path.startswith("/api/v1/endpoints/") and operation.method.lower() != "delete"


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    choice = random.Random(str(path_parameters))
    for name, existing in EXISTING.items():
        if path_parameters and name in path_parameters and existing and is_about(context.operation, name):
            if choice.random() < 0.5:
                path_parameters[name] = choice.choice(existing)
    return path_parameters
