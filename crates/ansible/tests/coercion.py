"""Answers what ansible-core makes of values: a list of {spec, given} becomes a list of {value} or {error}."""

import copy
import json
import sys

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator


def coerce(case):
    try:
        result = ArgumentSpecValidator(case["spec"]).validate(copy.deepcopy(case["given"]))
    # Some values make ansible-core itself stumble, which is a refusal too.
    except Exception as error:
        return {"error": repr(error)}
    if result.error_messages:
        return {"error": "; ".join(result.error_messages)}
    return {"value": {name: result.validated_parameters[name] for name in case["spec"]}}


json.dump([coerce(case) for case in json.load(sys.stdin)], sys.stdout)
