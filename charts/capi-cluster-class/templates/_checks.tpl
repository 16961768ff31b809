{{/* What no schema can say. */}}
{{- define "class.check" -}}
{{- if not .Values.kubernetes.version -}}{{- fail "kubernetes.version is empty: name the version of the nodes, such as v1.35.0" -}}{{- end -}}
{{- if not .Values.capn.infrastructureSecretName -}}{{- fail "capn.infrastructureSecretName is empty: name the Secret with the identity for LXD, such as incus-identity" -}}{{- end -}}
{{- $init := "have clusterctl init install" -}}
{{- include "common.serves" (dict "root" . "kind" "cluster.x-k8s.io/v1beta2/ClusterClass" "do" (printf "%s Cluster API 1.11 or later" $init)) -}}
{{- include "common.serves" (dict "root" . "kind" "controlplane.cluster.x-k8s.io/v1beta2/KubeadmControlPlaneTemplate" "do" (printf "%s the control plane provider kubeadm" $init)) -}}
{{- include "common.serves" (dict "root" . "kind" "bootstrap.cluster.x-k8s.io/v1beta2/KubeadmConfigTemplate" "do" (printf "%s the bootstrap provider kubeadm" $init)) -}}
{{- include "common.serves" (dict "root" . "kind" "infrastructure.cluster.x-k8s.io/v1alpha2/LXCClusterTemplate" "do" (printf "%s the infrastructure provider incus, 0.8 or later" $init)) -}}
{{- if not .Values.kubernetes.skipVersionCheck -}}
{{- include "common.supported" (dict "root" . "version" .Values.kubernetes.version "default" .Values.clusterApi.version) -}}
{{- end -}}
{{- if hasKey .Values.worker "featureGates" -}}
{{- fail "worker.featureGates: kubeadm's feature gates are the cluster's, so they belong to controlPlane; kubelet's belong to worker.kubeletConfiguration.featureGates" -}}
{{- end -}}
{{- include "class.check-arguments" . -}}
{{- include "class.check-balancer" . -}}
{{- with .Values.external.prefixV6 -}}
{{- if not (contains ":" .) -}}{{- fail (printf "external.prefixV6 %s is no IPv6 network" .) -}}{{- end -}}
{{- $_ := include "common.range" . -}}
{{- end -}}
{{- range .Values.kubeProxy.nodePortAddresses -}}{{- $_ := include "common.range" . -}}{{- end -}}
{{- end }}

{{/* Arguments that the chart sets itself, and arguments that are given twice. */}}
{{- define "class.check-arguments" -}}
{{- $cidrs := "it comes from the Cluster's clusterNetwork" -}}
{{- $dual := "both families are served" -}}
{{- $kubelet := dict
  "provider-id" "the provider finds nodes by it"
  "node-ip" "it is the node's address of each family"
  "feature-gates" "put it into kubeletConfiguration.featureGates" -}}
{{- $reserved := dict
  "controlPlane.apiServerExtraArgs" (dict "bind-address" $dual "advertise-address" "each machine has its own" "service-cluster-ip-range" $cidrs)
  "controlPlane.controllerManagerExtraArgs" (dict "allocate-node-cidrs" $cidrs "cluster-cidr" $cidrs "service-cluster-ip-range" $cidrs)
  "controlPlane.schedulerExtraArgs" dict
  "controlPlane.kubeletExtraArgs" $kubelet
  "worker.kubeletExtraArgs" $kubelet -}}
{{- range $path, $names := $reserved -}}
  {{- $parts := splitList "." $path -}}
  {{- $seen := list -}}
  {{- range index $.Values (first $parts) (last $parts) -}}
    {{- if hasKey $names .name -}}{{- fail (printf "%s: %s is the chart's own: %s" $path .name (index $names .name)) -}}{{- end -}}
    {{- if has .name $seen -}}{{- fail (printf "%s: %s stands there twice" $path .name) -}}{{- end -}}
    {{- $seen = append $seen .name -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{- define "class.check-balancer" -}}
{{- $kind := keys .Values.loadBalancer | first -}}
{{- $finds := has $kind (list "lxc" "oci") -}}
{{- if and $finds .Values.controlPlaneEndpoint.host -}}
{{- fail (printf "controlPlaneEndpoint.host: a load balancer of kind %s has an address of its own" $kind) -}}
{{- end -}}
{{- if not (or $finds .Values.controlPlaneEndpoint.host) -}}
{{- fail (printf "controlPlaneEndpoint.host is empty: a load balancer of kind %s cannot find an address itself" $kind) -}}
{{- end -}}
{{- if $finds -}}
{{- $balancer := index .Values.loadBalancer $kind -}}
{{- if not ($balancer.image).name -}}
{{- fail (printf "loadBalancer.%s.image.name is empty: without one the provider asks a public server" $kind) -}}
{{- end -}}
{{- /* A field that a provider does not know it drops, and the API server says nothing. */ -}}
{{- with lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "lxcclustertemplates.infrastructure.cluster.x-k8s.io" -}}
{{- range .spec.versions -}}
{{- if eq .name "v1alpha2" -}}
{{- $known := (index .schema.openAPIV3Schema.properties.spec.properties.template.properties.spec.properties.loadBalancer.properties $kind).properties -}}
{{- if and $balancer.haproxyConfig (ne "string" (dig "customHAProxyConfigTemplate" "type" "" $known)) -}}
{{- fail (printf "the installed infrastructure provider does not take loadBalancer.%s.customHAProxyConfigTemplate as a text: set loadBalancer.%s.haproxyConfig to false, and name an image whose haproxy listens on both families" $kind $kind) -}}
{{- end -}}
{{- if and $balancer.disableHealthzCheck (not (hasKey $known "disableHealthzCheck")) -}}
{{- fail (printf "the installed infrastructure provider does not know loadBalancer.%s.disableHealthzCheck" $kind) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
