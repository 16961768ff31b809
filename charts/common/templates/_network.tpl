{{/*
The gate of a cluster's network: nodes, and connections from a Pod to another one on its node and on another node, to a Service, by
name, and out of the cluster, each on both families.

Takes `root` and the CNI's `agent`: its namespace and the name of its DaemonSet.
*/}}
{{- define "common.network.gate" -}}
{{- if .root.Values.tests.enabled -}}
{{- $own := .root.Release.Namespace -}}
{{- $restarts := list "get" "list" "watch" "patch" -}}
{{- $daemon := dict "apiGroups" (list "apps") "resources" (list "daemonsets") "verbs" $restarts -}}
{{- $namespaces := dict $own (list (dict "apiGroups" (list "apps") "resources" (list "deployments") "verbs" (list "get" "list" "watch"))) -}}
{{- if .root.Values.tests.restart -}}
{{- /* Both may be of one namespace. */ -}}
{{- range list (dict "namespace" "kube-system" "name" "kube-proxy") .agent -}}
{{- $rule := set (deepCopy $daemon) "resourceNames" (list .name) -}}
{{- $_ := set $namespaces .namespace (append (get $namespaces .namespace | default list) $rule) -}}
{{- end -}}
{{- end -}}
{{- $nodes := list (dict "apiGroups" (list "") "resources" (list "nodes") "verbs" (list "get" "list" "watch")) -}}
{{ include "common.gate.account" (dict "root" .root "cluster" $nodes "namespaces" $namespaces) }}
---
{{ include "common.gate.server" (dict "root" .root "component" "near" "affinity" (include "common.network.anywhere" .)) }}
---
{{ include "common.gate.server" (dict "root" .root "component" "far" "affinity" (include "common.network.elsewhere" .)) }}
{{- range $family := list "IPv4" "IPv6" }}
{{- range $server := list "near" "far" "service" }}
---
{{ include "common.network.service" (dict "root" $.root "server" $server "family" $family) }}
{{- end }}
{{- end }}
---
{{ include "common.network.pod" (dict "root" .root "name" "network" "weight" 0) }}
{{- if .root.Values.tests.restart }}
---
{{ include "common.network.pod" (dict "root" .root "name" "network-after-restart" "weight" 1 "restarted" (list (dict "namespace" "kube-system" "name" "kube-proxy") .agent)) }}
{{- end }}
{{- end -}}
{{- end }}

{{- define "common.network.pod" -}}
{{- $tests := .root.Values.tests -}}
{{- $deadline := add $tests.nodesReadyTimeoutSeconds $tests.podToPodTimeoutSeconds (mul 2 $tests.connectTimeoutSeconds) 30 -}}
{{- include "common.gate.pod" (dict
  "root" .root "name" .name "weight" .weight "deadline" $deadline
  "affinity" (include "common.network.beside" .)
  "init" (include "common.network.first" .) "checks" (include "common.network.checks" .)) -}}
{{- end }}

{{/* Only a name of one family says anything about it, so there is a Service for each. Those of Pods are headless. */}}
{{- define "common.network.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "common.network.service-name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "common.gate.labels" (dict "root" .root "component" .server) | nindent 4 }}
spec:
  {{- if ne .server "service" }}
  clusterIP: None
  {{- end }}
  ipFamilyPolicy: SingleStack
  ipFamilies: [{{ .family }}]
  selector:
    {{- include "common.selector" .root | nindent 4 }}
    # A Service's Pod is on another node.
    app.kubernetes.io/component: {{ ternary "far" .server (eq .server "service") }}
  ports:
    - {name: http, port: 8080, targetPort: http}
{{- end }}

{{- define "common.network.service-name" -}}
{{ .root.Release.Name }}-{{ .server }}-{{ lower .family }}
{{- end }}

{{/* What has to be true before connections can be tried. */}}
{{- define "common.network.first" -}}
{{- $tests := .root.Values.tests -}}
{{- $check := dict "root" .root -}}
{{- with .restarted }}
{{- range . }}
{{ include "common.gate.check" (merge (dict "name" (printf "restart-%s" .name) "kubectl" (list "rollout" "restart" (printf "daemonset/%s" .name) (printf "--namespace=%s" .namespace))) $check) }}
{{- end }}
{{- range . }}
{{ include "common.gate.check" (merge (dict "name" (printf "back-%s" .name) "kubectl" (list "rollout" "status" (printf "daemonset/%s" .name) (printf "--namespace=%s" .namespace) (printf "--timeout=%ds" (int $tests.podToPodTimeoutSeconds)))) $check) }}
{{- end }}
{{- else }}
{{ include "common.gate.check" (merge (dict "name" "nodes-ready" "kubectl" (list "wait" "--for=condition=Ready" "nodes" "--all" (printf "--timeout=%ds" (int $tests.nodesReadyTimeoutSeconds)))) $check) }}
{{ include "common.gate.check" (merge (dict "name" "servers-ready" "kubectl" (list "rollout" "status" "deployment" (printf "--selector=app.kubernetes.io/instance=%s,app.kubernetes.io/component in (near,far)" .root.Release.Name) (printf "--timeout=%ds" (int $tests.podToPodTimeoutSeconds)))) $check) }}
{{- end }}
{{- end }}

{{- define "common.network.checks" -}}
{{- $root := .root -}}
{{- if not .restarted }}
{{- $all := list "nodes" "--all" "--timeout=5s" }}
{{ include "common.gate.check" (dict "root" $root "name" "two-addresses-per-node" "kubectl" (concat (list "wait" "--for=jsonpath={.status.addresses[1].type}=InternalIP") $all)) }}
{{ include "common.gate.check" (dict "root" $root "name" "two-pod-networks-per-node" "kubectl" (concat (list "wait" "--for=jsonpath={.spec.podCIDRs[1]}") $all)) }}
{{- end }}
{{- range $family := list "IPv4" "IPv6" }}
{{- $way := dict "root" $root "family" $family }}
{{- $suffix := lower $family }}
{{- $host := include "common.network.service-name" (merge (dict "server" "service") $way) | upper | replace "-" "_" | printf "$(%s_SERVICE_HOST)" }}
{{ include "common.gate.connect" (dict "root" $root "name" (printf "pod-on-this-node-%s" $suffix) "to" (include "common.network.target" (merge (dict "server" "near") $way))) }}
{{- if $root.Values.tests.acrossNodes }}
{{ include "common.gate.connect" (dict "root" $root "name" (printf "pod-on-another-node-%s" $suffix) "to" (include "common.network.target" (merge (dict "server" "far") $way))) }}
{{- end }}
{{ include "common.gate.connect" (dict "root" $root "name" (printf "service-%s" $suffix) "to" (printf (ternary "[%s]:8080" "%s:8080" (eq $family "IPv6")) $host)) }}
{{ include "common.gate.connect" (dict "root" $root "name" (printf "dns-%s" $suffix) "to" (include "common.network.target" (merge (dict "server" "service") $way))) }}
{{- with index $root.Values.tests.egress $suffix }}
{{ include "common.gate.connect" (dict "root" $root "name" (printf "egress-%s" $suffix) "to" .) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "common.network.target" -}}
{{ include "common.network.service-name" . }}.{{ .root.Release.Namespace }}.svc:8080
{{- end }}

{{/* On a worker if there is one. */}}
{{- define "common.network.anywhere" -}}
nodeAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 1
      preference:
        matchExpressions:
          - {key: node-role.kubernetes.io/control-plane, operator: DoesNotExist}
{{- end }}

{{- define "common.network.elsewhere" -}}
{{ include "common.network.anywhere" . }}
{{- if .root.Values.tests.acrossNodes }}
podAntiAffinity:
  {{- include "common.network.near" . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "common.network.beside" -}}
podAffinity:
  {{- include "common.network.near" . | nindent 2 }}
{{- end }}

{{- define "common.network.near" -}}
requiredDuringSchedulingIgnoredDuringExecution:
  - topologyKey: kubernetes.io/hostname
    labelSelector:
      matchLabels:
        {{- include "common.selector" .root | nindent 8 }}
        app.kubernetes.io/component: near
{{- end }}
