{{/* The templates of the class: of which kind each is, and what is in it. */}}

{{- define "class.parts" -}}
{{- $infrastructure := "infrastructure.cluster.x-k8s.io/v1alpha2" -}}
{{- $parts := dict
  "infra" (dict "group" $infrastructure "kind" "LXCClusterTemplate" "spec" (include "class.lxc-cluster" .))
  "cp" (dict "group" $infrastructure "kind" "LXCMachineTemplate" "role" "control-plane" "spec" (include "class.lxc-machine" (dict "root" . "role" "controlplane" "profile" "capi-controlplane")))
  "md0" (dict "group" $infrastructure "kind" "LXCMachineTemplate" "role" "worker" "spec" (include "class.lxc-machine" (dict "root" . "role" "worker" "profile" "capi-worker")))
  "kcp" (dict "group" "controlplane.cluster.x-k8s.io/v1beta2" "kind" "KubeadmControlPlaneTemplate" "spec" (include "class.control-plane" .))
  "md0-bootstrap" (dict "group" "bootstrap.cluster.x-k8s.io/v1beta2" "kind" "KubeadmConfigTemplate" "role" "worker" "spec" (include "class.worker-bootstrap" .))
-}}
{{ $parts | toJson }}
{{- end }}
