{{- define "class.lxc-cluster" -}}
template:
  spec:
    secretRef:
      name: {{ .Values.capn.infrastructureSecretName }}
    unprivileged: true
    skipDefaultKubeadmProfile: true
    cloudProviderNodePatch: false
    {{- with .Values.controlPlaneEndpoint.host }}
    controlPlaneEndpoint:
      host: {{ . | quote }}
      port: 6443
    {{- end }}
    loadBalancer:
    {{- range $kind, $balancer := .Values.loadBalancer }}
      {{- if not (has $kind (list "lxc" "oci")) }}
      {{ $kind }}:
        {{- toYaml $balancer | nindent 8 }}
      {{- else }}
      {{ $kind }}:
        instanceSpec:
          profiles:
            {{- toYaml (prepend ($balancer.profilesExtra | default list) "capi-base") | nindent 12 }}
          image:
            {{- include "class.image" $balancer.image | trim | nindent 12 }}
          {{- with pick $balancer "flavor" "target" }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
        {{- if $balancer.disableHealthzCheck }}
        disableHealthzCheck: true
        {{- end }}
        {{- if $balancer.haproxyConfig }}
        customHAProxyConfigTemplate: |
          {{- $.Files.Get "files/haproxy.cfg" | nindent 10 }}
        {{- end }}
      {{- end }}
    {{- end }}
{{- end }}

{{/* Takes `root`, the `role` as in values, and its `profile`. */}}
{{- define "class.lxc-machine" -}}
{{- $image := index .root.Values.images .role -}}
{{- $instance := index .root.Values.instances .role -}}
template:
  spec:
    instanceType: container
    image:
      {{- include "class.image" (merge (dict "name" $image.ref) $image) | trim | nindent 6 }}
    profiles:
      {{- toYaml (concat (list "capi-base" .profile) (index .root.Values.profilesExtra .role)) | nindent 6 }}
    {{- with index .root.Values.devicesExtra .role }}
    devices:
      {{- range . }}
      - {{ . | quote }}
      {{- end }}
    {{- end }}
    {{- with $instance }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* An image, as far as something is said of it. */}}
{{- define "class.image" -}}
{{- range $key := list "name" "fingerprint" "server" "protocol" }}
{{- with index $ $key }}
{{ $key }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
