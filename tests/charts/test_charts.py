"""Every chart with every example of its own: linted, rendered, and held against the definitions of the kinds."""

import json
import re
from pathlib import Path

import pytest
import yaml
from definitions import faults
from helm import CHARTS, NAMES, Refused, chart_yaml, examples
from jsonschema import Draft7Validator

EXAMPLES = [pytest.param(chart, values, id=f"{chart}-{name}") for chart in NAMES for name, values in examples(chart).items()]
# Of these the bundle has no definition: they belong to upstream's operator.
FOREIGN = {"operator.tigera.io/v1"}
KEPT = {"Cluster", "ClusterClass", "LXCClusterTemplate", "LXCMachineTemplate", "KubeadmControlPlaneTemplate", "KubeadmConfigTemplate"}


def test_there_are_examples():
    assert {chart for chart in NAMES if examples(chart)} == set(NAMES)


@pytest.mark.parametrize(("chart", "values"), EXAMPLES)
def test_both_majors_lint(chart, values, helm, helm3):
    for program in (helm, helm3):
        done = program.lint(chart, values)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("chart", "values"), EXAMPLES)
def test_both_majors_render_the_same(chart, values, helm, helm3):
    def ordered(objects):
        return sorted(objects, key=lambda item: (item["kind"], item["metadata"]["name"], item["metadata"].get("namespace", "")))

    assert ordered(helm.render(chart, values)) == ordered(helm3.render(chart, values))


@pytest.mark.parametrize(("chart", "values"), EXAMPLES)
def test_kubernetes_takes_every_object(chart, values, helm):
    found = [fault for item in helm.render(chart, values) if item["apiVersion"] not in FOREIGN for fault in faults(item)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("chart", "values"), EXAMPLES)
def test_every_object_says_whose_it_is(chart, values, helm):
    for item in helm.render(chart, values, release="mine"):
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "mine", item["metadata"]["name"]
        assert labels["helm.sh/chart"] == f"{chart}-{chart_yaml(chart)['version']}", item["metadata"]["name"]


@pytest.mark.parametrize(("chart", "values"), EXAMPLES)
def test_what_a_cluster_is_made_of_outlives_the_release(chart, values, helm):
    for item in helm.render(chart, values):
        policy = item["metadata"].get("annotations", {}).get("helm.sh/resource-policy")
        assert (policy == "keep") == (item["kind"] in KEPT | {"CustomResourceDefinition"}), item["metadata"]["name"]


@pytest.mark.parametrize("chart", NAMES)
def test_a_chart_shares_the_library(chart):
    library = chart_yaml("common")
    assert (CHARTS / chart / "charts" / "common").resolve() == (CHARTS / "common").resolve()
    expected = {"name": "common", "version": library["version"], "repository": "file://../common"}
    assert chart_yaml(chart)["dependencies"] == [expected]


@pytest.mark.parametrize("chart", NAMES)
def test_a_schema_is_draft_7_and_knows_every_default(chart):
    schema = json.loads((CHARTS / chart / "values.schema.json").read_text())
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    Draft7Validator.check_schema(schema)
    defaults = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    assert not unknown(schema, schema, defaults)


def unknown(schema, root, values, path=""):
    """Defaults that the schema says nothing of."""
    schema = root["definitions"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema
    if not isinstance(values, dict) or "properties" not in schema:
        return []
    found = [f"{path}{key}" for key in values if key not in schema["properties"]]
    for key, value in values.items():
        found += unknown(schema["properties"].get(key, {}), root, value, f"{path}{key}.")
    return [name for name in found if not name.startswith("tigera-operator.")]


@pytest.mark.parametrize("chart", NAMES)
def test_a_readme_names_every_value(chart):
    text = (CHARTS / chart / "README.md").read_text()
    defaults = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    assert not [path for path in paths(defaults) if f"`{path}`" not in text]


def paths(values, above=""):
    for key, value in values.items():
        # A map that has values is described by them.
        if isinstance(value, dict) and value:
            yield from paths(value, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def test_versions_agree():
    pins = Path("crates/lab/src/versions.rs").read_text()
    pin = dict(re.findall(r'pub const (\w+): &str = "([^"]+)"', pins))
    workload, of_class = chart_yaml("capi-workload-cluster"), chart_yaml("capi-cluster-class")
    assert workload["annotations"]["k8s-lab.io/capi-cluster-class-chart-version"] == of_class["version"]
    assert f"v{workload['appVersion']}" == pin["CLUSTERCTL"]
    assert f"v{of_class['appVersion']}" == pin["CAPN"]
    values = {chart: yaml.safe_load((CHARTS / chart / "values.yaml").read_text()) for chart in NAMES}
    assert values["capi-cluster-class"]["clusterApi"]["version"] == pin["CLUSTERCTL"]
    assert values["capi-workload-cluster"]["kubernetes"]["version"] == pin["KUBERNETES"]
    for chart in NAMES:
        if "tests" in values[chart]:
            assert values[chart]["tests"]["kubectlVersion"] == pin["KUBERNETES"], chart


def test_what_the_bundle_brings_is_what_the_charts_run():
    """A chart names an image as the bundle has it."""
    modules = Path("bundle/modules.toml").read_text()
    for chart, image in [
        ("cni-flannel", "ghcr.io/flannel-io/flannel"),
        ("cni-calico", "docker.io/calico/node"),
        ("cni-calico", "docker.io/calico/kube-controllers"),
        ("metallb", "quay.io/metallb/controller"),
        ("metallb", "quay.io/metallb/speaker"),
        ("metallb-config", "registry.k8s.io/e2e-test-images/agnhost:2.59"),
        ("metallb-config", "registry.k8s.io/kubectl"),
    ]:
        assert image in (CHARTS / chart / "values.yaml").read_text(), image
        assert f'reference = "{image}' in modules, image


@pytest.mark.parametrize("chart", NAMES)
def test_bare_defaults_render_or_say_what_is_missing(chart, helm):
    missing = {"capi-cluster-class": "kubernetes.version is empty", "metallb-config": "pool.rangeV6 is empty"}
    if chart not in missing:
        assert helm.render(chart)
        return
    with pytest.raises(Refused, match=missing[chart]):
        helm.render(chart)
