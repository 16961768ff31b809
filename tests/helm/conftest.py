"""One control plane for all tests, and for each of them a namespace."""

import itertools

import pytest
from control_plane import Kubectl, Step, bundled, running, written

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory):
    with running(tmp_path_factory.mktemp("control-plane")) as kubeconfig:
        yield kubeconfig


@pytest.fixture(scope="session", params=["helm", "helm3"])
def helm(request):
    """Both majors."""
    return bundled(request.param)


@pytest.fixture
def namespace():
    return f"helm-{next(NUMBERS)}"


@pytest.fixture
def kubectl(kubeconfig, namespace):
    return Kubectl(kubeconfig, namespace)


@pytest.fixture
def chart(tmp_path):
    """A chart that renders what its values name: hooks, ConfigMaps, a test."""
    files = {
        "Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0\n",
        "values.schema.json": '{"properties": {"token": {"type": "string", "writeOnly": true, "pattern": "^[a-z0-9]*$"}}}',
        "templates/all.yaml": TEMPLATE,
    }
    return written(tmp_path / "demo", files)


@pytest.fixture
def step(tmp_path, kubeconfig, namespace, chart, helm):
    options = {
        "name": "demo", "namespace": namespace, "create_namespace": True, "chart": str(chart), "kubeconfig_path": str(kubeconfig),
        "helm_path": str(helm), "opt_root": str(tmp_path / "opt"), "timeout": 60,
    }
    return Step(tmp_path, **options)


TEMPLATE = """
{{- range .Values.objects }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ . }}}
data: {text: {{ $.Values.text | quote }}}
{{- end }}
{{- range .Values.hooks }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ . }}
  annotations: {helm.sh/hook: {{ . }}, helm.sh/hook-delete-policy: before-hook-creation}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: x, image: x}]}}}
{{- end }}
{{- if .Values.gate }}
---
apiVersion: v1
kind: Pod
metadata:
  name: gate
  annotations: {helm.sh/hook: test, helm.sh/hook-delete-policy: before-hook-creation}
spec: {restartPolicy: Never, initContainers: [{name: dns-ipv6, image: x}], containers: [{name: verdict, image: x}]}
{{- end }}
{{- if .Values.web }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}}, spec: {containers: [{name: x, image: x}]}}}
{{- end }}
"""
