{{/* What no schema can say. */}}
{{- define "cluster.check" -}}
{{- if hasKey .Values "apiProxy" -}}
{{- fail "apiProxy is gone, and with it the Jobs that attached the API's port: the step cluster_publish publishes it" -}}
{{- end -}}
{{- include "common.serves" (dict "root" . "kind" "cluster.x-k8s.io/v1beta2/Cluster" "do" "have clusterctl init install Cluster API 1.11 or later") -}}
{{- if not .Values.kubernetes.skipVersionCheck -}}
{{- include "common.supported" (dict "root" . "version" .Values.kubernetes.version "default" .Chart.AppVersion) -}}
{{- end -}}
{{- $name := .Values.cluster.name -}}
{{- /* Its load balancer's instance is named <cluster>-xxxxx-xxxxx-lb, and names of instances have at most 63 characters. */ -}}
{{- $_ := include "common.name" (dict "name" $name "limit" 48 "do" "choose a shorter cluster.name, since instances are named after it") -}}
{{- $replicas := int .Values.topology.controlPlane.replicas -}}
{{- if eq (mod $replicas 2) 0 -}}
{{- fail (printf "topology.controlPlane.replicas is %d: etcd decides by majority, so it has to be odd" $replicas) -}}
{{- end -}}
{{- include "cluster.check-networks" . -}}
{{- include "cluster.check-class" . -}}
{{- end }}

{{- define "cluster.check-networks" -}}
{{- $ranges := list -}}
{{- range $what := list "pods" "services" -}}
  {{- $blocks := (index $.Values.clusterNetwork $what).cidrBlocks -}}
  {{- $families := list -}}
  {{- range $blocks -}}
    {{- $families = append $families (ternary "IPv6" "IPv4" (contains ":" .)) -}}
    {{- $ranges = append $ranges (list (printf "clusterNetwork.%s" $what) .) -}}
  {{- end -}}
  {{- if ne (join " " $families) "IPv4 IPv6" -}}
  {{- fail (printf "clusterNetwork.%s.cidrBlocks is %s: name an IPv4 network and then an IPv6 network" $what (join ", " $blocks)) -}}
  {{- end -}}
{{- end -}}
{{- range $what, $network := .Values.clusterNetwork.taken -}}
  {{- $ranges = append $ranges (list (printf "clusterNetwork.taken.%s" $what) $network) -}}
{{- end -}}
{{- include "common.apart" $ranges -}}
{{- end }}

{{/* A class is for one cluster, unless somebody wants it otherwise. */}}
{{- define "cluster.check-class" -}}
{{- $class := include "cluster.class" . -}}
{{- $namespace := .Values.clusterClass.namespace | default .Release.Namespace -}}
{{- if not .Values.clusterClass.shared -}}
{{- range (lookup "cluster.x-k8s.io/v1beta2" "Cluster" "" "").items -}}
{{- $other := dig "topology" "classRef" dict .spec -}}
{{- $is := and (eq .metadata.name $.Values.cluster.name) (eq .metadata.namespace $.Release.Namespace) -}}
{{- if and (not $is) (eq (get $other "name") $class) (eq (get $other "namespace" | default .metadata.namespace) $namespace) -}}
{{- fail (printf "the class %s belongs to the cluster %s: choose another clusterClass.name, or set clusterClass.shared" $class .metadata.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
