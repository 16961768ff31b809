{{- define "class.prefix" -}}
{{- .Values.clusterClass.name | default (include "common.class-prefix" (trimSuffix "-class" .Release.Name)) -}}
{{- end }}

{{- define "class.name" -}}
{{- include "common.class" (dict "prefix" (include "class.prefix" .) "version" .Chart.Version) -}}
{{- end }}

{{/*
A template's name: the class, a part of its own, and a digest of what is in it. Templates cannot be changed, so other values make other
templates, which the class then refers to. Takes `root`, the `part` and the `spec`.
*/}}
{{- define "class.template-name" -}}
{{- $name := printf "%s-%s-%s" (include "class.name" .root) .part (.spec | fromYaml | toJson | sha256sum | trunc 8) -}}
{{- include "common.name" (dict "name" $name "limit" 100 "do" "shorten clusterClass.name") -}}
{{- end }}

{{/* A reference to a template. Takes `root`, `group`, `kind`, `part` and `spec`. */}}
{{- define "class.reference" -}}
apiVersion: {{ .group }}
kind: {{ .kind }}
name: {{ include "class.template-name" . }}
{{- end }}

{{/* A template as an object. Takes the same, and the `role` of the machines that it is for. */}}
{{- define "class.template" -}}
apiVersion: {{ .group }}
kind: {{ .kind }}
metadata:
  name: {{ include "class.template-name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "class.labels" .root | nindent 4 }}
    {{- with .role }}
    cluster.x-k8s.io/role: {{ . }}
    {{- end }}
  annotations:
    {{- include "class.annotations" .root | nindent 4 }}
spec:
  {{- .spec | nindent 2 }}
{{- end }}

{{/* With the label that `clusterctl move` goes by: a template that no class refers to any more belongs to nothing. */}}
{{- define "class.labels" -}}
{{ include "common.labels" . }}
app.kubernetes.io/part-of: cluster-api
k8s-lab.io/class-prefix: {{ include "class.prefix" . }}
clusterctl.cluster.x-k8s.io/move: ""
{{- end }}

{{/* Clusters are made of it: it has to outlive the release. */}}
{{- define "class.annotations" -}}
helm.sh/resource-policy: keep
{{- end }}
