"""What Kubernetes takes: the kinds that the bundle's definitions describe, and Kubernetes' own."""

import functools
import json
import subprocess
from pathlib import Path

import yaml
from helm import bundled
from jsonschema import Draft7Validator

MANIFESTS = ["cluster-api", "bootstrap-kubeadm", "control-plane-kubeadm", "infrastructure-incus", "metallb", "calico-crds"]
METADATA = {"type": "object"}


@functools.cache
def custom():
    """A schema by version and kind."""
    schemas = {}
    for name in MANIFESTS:
        for file in bundled(name):
            if file.suffix != ".yaml":
                continue
            for found in yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader):
                if found and found["kind"] == "CustomResourceDefinition":
                    spec = found["spec"]
                    for version in spec["versions"]:
                        key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
                        schemas[key] = strict(version["schema"]["openAPIV3Schema"], top=True)
    return schemas


@functools.cache
def native():
    """Kubernetes' own description of its API, and where each kind is in it."""
    command = ["go", "mod", "download", "-json", "k8s.io/kubernetes"]
    done = subprocess.run(command, cwd="bundle/modules/kubernetes", capture_output=True, text=True, check=True)
    swagger = json.loads((Path(json.loads(done.stdout)["Dir"]) / "api/openapi-spec/swagger.json").read_text())
    definitions = {name: strict(schema) for name, schema in swagger["definitions"].items()}
    kinds = {}
    for name, schema in definitions.items():
        for kind in schema.get("x-kubernetes-group-version-kind", []):
            version = "/".join(filter(None, [kind["group"], kind["version"]]))
            kinds[version, kind["kind"]] = name
    return definitions, kinds


def strict(schema, top=False):
    """A schema that refuses what it does not describe, as a strict apply does."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) if key not in ("properties", "default", "enum") else value for key, value in schema.items()}
    if "properties" in schema:
        made["properties"] = {name: strict(value) for name, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
            made["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        made.pop("type", None)
    made.pop("format", None)
    if top:
        made["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": METADATA}
    return made


def faults(thing):
    """What is wrong with an object."""
    key = thing["apiVersion"], thing["kind"]
    if key in custom():
        schema = custom()[key]
    else:
        definitions, kinds = native()
        if key not in kinds:
            return [f"nobody knows {key}"]
        schema = {"$ref": f"#/definitions/{kinds[key]}", "definitions": definitions}
    found = Draft7Validator(schema).iter_errors(thing)
    return [f"{thing['kind']} {thing['metadata']['name']}: {'.'.join(map(str, error.path))}: {error.message}" for error in found]
