{{/*
Pods that judge a cluster by `helm test`. Each check is one container, so the Pod's status says which one failed and with which words.
What has to be true before anything can be judged are init containers, in order; the checks themselves run side by side.
*/}}

{{- define "common.gate.labels" -}}
{{ include "common.labels" .root }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* One container. Takes `root`, a `name`, and the arguments either of `kubectl` or of `agnhost`. */}}
{{- define "common.gate.check" -}}
{{- $tests := .root.Values.tests -}}
- name: {{ .name }}
  image: {{ ternary (printf "%s:%s" $tests.kubectlImage $tests.kubectlVersion) $tests.image (hasKey . "kubectl") }}
  imagePullPolicy: IfNotPresent
  args:
    {{- toYaml (.kubectl | default .agnhost) | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  resources:
    requests: {cpu: 5m, memory: 16Mi}
  securityContext:
    {{- include "common.gate.confined" . | nindent 4 }}
{{- end }}

{{/* One container that tries a connection. Takes `root`, a `name` and `to`. */}}
{{- define "common.gate.connect" -}}
{{- $arguments := list "connect" (printf "--timeout=%ds" (int .root.Values.tests.connectTimeoutSeconds)) .to -}}
{{- include "common.gate.check" (dict "root" .root "name" .name "agnhost" $arguments) -}}
{{- end }}

{{- define "common.gate.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65534
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Nodes of every kind will do. */}}
{{- define "common.gate.tolerations" -}}
- {key: node-role.kubernetes.io/control-plane, operator: Exists, effect: NoSchedule}
{{- end }}

{{/* What the metadata of a Pod of `helm test` says. Takes `weight`. */}}
{{- define "common.gate.hook" -}}
helm.sh/hook: test
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation
{{- end }}

{{/* A program that answers on both families. Takes `root`, `component`, optionally a `hostname` and an `affinity`. */}}
{{- define "common.gate.server" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .root.Release.Name }}-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "common.gate.labels" . | nindent 4 }}
spec:
  replicas: 1
  # The new one may need the place of the old one.
  strategy: {type: Recreate}
  selector:
    matchLabels:
      {{- include "common.selector" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
  template:
    metadata:
      labels:
        {{- include "common.selector" .root | nindent 8 }}
        app.kubernetes.io/component: {{ .component }}
    spec:
      {{- with .hostname }}
      hostname: {{ . }}
      {{- end }}
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 1
      {{- with .affinity }}
      affinity:
        {{- . | nindent 8 }}
      {{- end }}
      tolerations:
        {{- include "common.gate.tolerations" . | nindent 8 }}
      containers:
        - name: server
          image: {{ .root.Values.tests.image }}
          imagePullPolicy: IfNotPresent
          args: [netexec, --http-port=8080, --udp-port=-1]
          ports:
            - {name: http, containerPort: 8080}
          readinessProbe:
            httpGet: {path: /hostname, port: http}
            periodSeconds: 1
          resources:
            requests: {cpu: 5m, memory: 16Mi}
          securityContext:
            {{- include "common.gate.confined" . | nindent 12 }}
{{- end }}

{{/* The account of a test Pod, and what it may. Takes `root`, `cluster` and `namespaces`: rules for all, and rules by namespace. */}}
{{- define "common.gate.account" -}}
{{- $name := printf "%s-test" .root.Release.Name -}}
{{- $labels := include "common.gate.labels" (dict "root" .root "component" "test") -}}
{{- $subject := dict "kind" "ServiceAccount" "name" $name "namespace" .root.Release.Namespace -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- $labels | nindent 4 }}
{{- with .cluster }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $name }}
  labels:
    {{- $labels | nindent 4 }}
rules:
  {{- toYaml . | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $name }}
  labels:
    {{- $labels | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ $name }}}
subjects: [{{ $subject | toJson }}]
{{- end }}
{{- range $namespace, $rules := .namespaces }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- $labels | nindent 4 }}
rules:
  {{- toYaml $rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- $labels | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $name }}}
subjects: [{{ $subject | toJson }}]
{{- end }}
{{- end }}

{{/* A test Pod. Takes `root`, a `name`, a `weight`, the `init` containers and the `checks`, and optionally an `affinity`. */}}
{{- define "common.gate.pod" -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ .root.Release.Name }}-test-{{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "common.gate.labels" (dict "root" .root "component" "test") | nindent 4 }}
  annotations:
    {{- include "common.gate.hook" . | nindent 4 }}
spec:
  restartPolicy: Never
  activeDeadlineSeconds: {{ .deadline }}
  terminationGracePeriodSeconds: 1
  serviceAccountName: {{ .root.Release.Name }}-test
  {{- with .affinity }}
  affinity:
    {{- . | nindent 4 }}
  {{- end }}
  tolerations:
    {{- include "common.gate.tolerations" . | nindent 4 }}
  initContainers:
    {{- .init | trim | nindent 4 }}
  containers:
    {{- .checks | trim | nindent 4 }}
{{- end }}
