{{/*
A file on a node, as an item of a list. cloud-init reads the whole of what a node is given as a template, so what looks like one is
encoded. Takes `path`, `content` and optionally `permissions`.
*/}}
{{- define "class.file" -}}
- path: {{ .path }}
  owner: {{ .owner | default "root:root" }}
  permissions: {{ .permissions | default "0644" | quote }}
  {{- if .contentFrom }}
  contentFrom:
    {{- toYaml .contentFrom | nindent 4 }}
  {{- else if or .encoding (not (regexMatch "[{][{%#]" .content)) }}
  {{- with .encoding }}
  encoding: {{ . }}
  {{- end }}
  content: {{ .content | toRawJson }}
  {{- else }}
  encoding: base64
  content: {{ .content | b64enc }}
  {{- end }}
{{- end }}

{{/* Fields of the configuration of kubelet in an unprivileged container, under those of the values. */}}
{{- define "class.kubelet" -}}
{{- $own := dict "apiVersion" "kubelet.config.k8s.io/v1beta1" "kind" "KubeletConfiguration" -}}
{{- $needed := dict "failCgroupV1" false "featureGates" (dict "KubeletInUserNamespace" true) -}}
{{- mergeOverwrite $needed (deepCopy .) $own | toYaml -}}
{{- end }}

{{/* Containers may not set the host's limits on connections, so kube-proxy leaves them alone. */}}
{{- define "class.kube-proxy" -}}
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
conntrack:
  maxPerCore: 0
  min: 0
{{- with .Values.kubeProxy.nodePortAddresses }}
{{- $families := list }}
{{- range . }}{{ $families = append $families (contains ":" .) }}{{ end }}
nodePortAddresses:
{{- range . }}
- {{ . | quote }}
{{- end }}
# A family without a network would listen everywhere; nobody has these.
{{- if not (has true $families) }}
- 100::/128
{{- end }}
{{- if not (has false $families) }}
- 192.0.2.255/32
{{- end }}
{{- end }}
{{ end }}

{{/* The files of a node, as a list. Takes `root` and the `role` as in values. */}}
{{- define "class.files" -}}
{{- $values := .root.Values -}}
{{- $files := .root.Files -}}
{{- $role := ternary $values.controlPlane $values.worker (eq .role "controlplane") -}}
{{ include "class.file" (dict "path" "/etc/kubernetes/patches/kubeletconfiguration+merge.yaml" "content" (include "class.kubelet" $role.kubeletConfiguration)) }}
{{ include "class.file" (dict "path" "/usr/local/lib/k8slab/node-ip" "permissions" "0755" "content" (tpl ($files.Get "files/node/node-ip") .root)) }}
{{ include "class.file" (dict "path" "/etc/systemd/system/kubelet.service.d/20-node-ip.conf" "content" ($files.Get "files/node/kubelet-node-ip.conf")) }}
{{- if eq .role "controlplane" }}
{{ include "class.file" (dict "path" "/etc/k8slab/kube-proxy.yaml" "content" (include "class.kube-proxy" .root)) }}
{{- end }}
{{- if $values.external.enabled }}
{{ include "class.file" (dict "path" "/etc/systemd/network/30-k8slab-external.network" "content" (tpl ($files.Get "files/node/external.network") .root)) }}
{{- if $values.external.prefixV6 }}
{{ include "class.file" (dict "path" "/etc/k8slab/external.nft" "content" (tpl ($files.Get "files/node/external.nft") .root)) }}
{{ include "class.file" (dict "path" "/etc/systemd/system/k8slab-external.service" "content" ($files.Get "files/node/k8slab-external.service")) }}
{{- end }}
{{- end }}
{{- range $mirror := $values.registryMirrors }}
{{ include "class.file" (dict "path" (printf "/etc/containerd/certs.d/%s/hosts.toml" $mirror.registry) "content" (tpl ($files.Get "files/node/hosts.toml" | trim) (dict "mirror" $mirror "Template" $.root.Template) | trim)) }}
{{- range $index, $endpoint := $mirror.endpoints }}
{{- with $endpoint.ca }}
{{ include "class.file" (dict "path" (printf "/etc/containerd/certs.d/%s/%d.crt" $mirror.registry $index) "content" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- range concat $values.files $role.files }}
{{ include "class.file" . }}
{{- end }}
{{- end }}

{{/* What a node does before it becomes one, as a list. A command that fails is passed over, so these end it themselves. */}}
{{- define "class.commands" -}}
{{- $values := .root.Values -}}
{{- $role := ternary $values.controlPlane $values.worker (eq .role "controlplane") -}}
{{- $online := "/lib/systemd/systemd-networkd-wait-online" -}}
{{- $commands := list -}}
{{- with $values.external -}}
{{- if .enabled -}}
  {{- if .prefixV6 -}}
    {{- $commands = append $commands "systemctl daemon-reload && systemctl enable --now k8slab-external.service || { echo 'k8slab-external.service does not start: answers would leave by another interface'; exit 1; }" -}}
  {{- end -}}
  {{- $commands = append $commands "networkctl reload" -}}
{{- end -}}
{{- end -}}
{{- with $values.internal.interface -}}
  {{- $commands = append $commands (printf "%s --interface=%s:routable --ipv4 --ipv6 --timeout=60 || { echo '%s has no IPv4 address or no IPv6 address after 60 s'; exit 1; }" $online . .) -}}
{{- end -}}
{{- with $values.external -}}
{{- if and .enabled (gt (int .waitSeconds) 0) -}}
  {{- $commands = append $commands (printf "%s --interface=%s:routable --ipv6 --timeout=%d || { echo '%s has no address after %d s: no router announces a network there'; %s; }" $online .interface (int .waitSeconds) .interface (int .waitSeconds) (ternary "exit 1" "true" .required)) -}}
{{- end -}}
{{- end -}}
{{- if eq .role "controlplane" -}}
  {{- /* Where the cluster begins; machines that join read it from the cluster. */ -}}
  {{- $commands = append $commands "[ ! -e /run/kubeadm/kubeadm.yaml ] || cat /etc/k8slab/kube-proxy.yaml >>/run/kubeadm/kubeadm.yaml" -}}
{{- end -}}
{{ concat $commands $role.preKubeadmCommands | toYaml }}
{{- end }}

{{/* How a machine registers. Takes `root` and the `role` as in values. */}}
{{- define "class.registration" -}}
{{- $role := ternary .root.Values.controlPlane .root.Values.worker (eq .role "controlplane") -}}
nodeRegistration:
  {{- with .root.Values.kubeadm.ignorePreflightErrors }}
  ignorePreflightErrors:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  kubeletExtraArgs:
    # cloud-init puts the machine's name in its place.
    - name: provider-id
      value: {{ "lxc:///{{ v1.local_hostname }}" | quote }}
    {{- with $role.kubeletExtraArgs }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
patches:
  directory: /etc/kubernetes/patches
timeouts:
  kubernetesAPICallSeconds: {{ .root.Values.kubeadm.apiTimeoutSeconds }}
{{- end }}
