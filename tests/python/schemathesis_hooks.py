"""Lets schemathesis find what is there: half of the calls about a connection are about one that is open.

Loaded by schemathesis (SCHEMATHESIS_HOOKS); WSGATEWAY_CONNECTIONS has the ids, separated by commas.
"""

import os
import random

import schemathesis

CONNECTIONS = [cid for cid in os.environ.get("WSGATEWAY_CONNECTIONS", "").split(",") if cid]


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    if path_parameters and "cid" in path_parameters and CONNECTIONS:
        choice = random.Random(str(path_parameters))
        if choice.random() < 0.5:
            path_parameters["cid"] = choice.choice(CONNECTIONS)
    return path_parameters
