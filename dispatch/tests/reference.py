"""Reads the generated forms of each step's reference with ansible-core's own means, and says what it found."""

import ast
import json
import sys
import tempfile
from pathlib import Path

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.plugin_docs import read_docstring
from ansible.template import Templar, trust_as_template

# What an argument specification has and a validator takes.
SPECIFIED = ("type", "elements", "required", "default", "choices", "aliases", "no_log")


OMITTED = "__omitted__"


def main():
    json.dump([read(step) for step in json.load(sys.stdin)], sys.stdout)


def read(step):
    complaints = []
    loader = DataLoader()
    name = step["name"]
    module = f"k8slab.capi.{name}"

    stub = read_stub(name, step["stub"])
    documentation = stub["doc"]
    complaints += undocumented(documentation["options"], "suboptions", "options")
    complaints += undocumented(stub["returndocs"], "contains", "return")
    if documentation["module"] != name:
        complaints.append(f"the stub is of {documentation['module']}")

    examples = [task[module] or {} for task in loader.load(stub["plainexamples"]) if module in task]
    for example in examples:
        complaints += refused(documentation["options"], "suboptions", example)

    defaults = load(loader, step["defaults"])
    variables = Templar(loader, variables=defaults).template(defaults)
    specs = load(loader, step["argument_specs"])["argument_specs"]["main"]
    complaints += refused(specs["options"], "options", variables)
    if not set(specs["options"]) >= set(defaults):
        complaints.append(f"set and not specified: {sorted(set(defaults) - set(specs['options']))}")
    # As ansible-core before 2.19 has it, where a template that gives nothing gives an empty text.
    complaints += refused(specs["options"], "options", {name: "" if is_nothing(defaults[name], value) else value for name, value in variables.items()})

    templar = Templar(loader, variables=defaults | {"inventory_hostname": "lab", "omit": OMITTED})
    handed = [
        {name: value for name, value in templar.template(task[module]).items() if value != OMITTED}
        for task in load(loader, step["tasks"])
    ]
    if load(loader, step["role_meta"])["dependencies"]:
        complaints.append("the role depends on others")
    return {"complaints": complaints, "title": documentation["short_description"], "examples": examples, "handed": handed}


def is_nothing(default, value):
    return value is None and isinstance(default, str)


def read_stub(name, text):
    """What ansible-doc reads of a stub, which is to hold nothing but that."""
    assigned = [node.targets[0].id for node in ast.parse(text).body if isinstance(node, ast.Assign)]
    assert assigned == ["DOCUMENTATION", "EXAMPLES", "RETURN"], assigned
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.py")
        path.write_text(text)
        return read_docstring(str(path), verbose=False, ignore_errors=False)


def load(loader, text):
    return loader.load(trust_as_template(text))


def undocumented(options, inner, place):
    for name, option in (options or {}).items():
        if not option.get("description") or not option.get("type"):
            yield f"{place}.{name} has no description or no type"
        yield from undocumented(option.get(inner), inner, f"{place}.{name}")


def refused(options, inner, given):
    return ArgumentSpecValidator(specification(options, inner)).validate(given).error_messages


def specification(options, inner):
    specified = {}
    for name, option in options.items():
        specified[name] = {key: option[key] for key in SPECIFIED if key in option}
        if inner in option:
            specified[name]["options"] = specification(option[inner], inner)
    return specified


main()
