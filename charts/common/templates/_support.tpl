{{/* Which versions of Kubernetes each minor version of Cluster API carries: on its clusters, and under itself. */}}
{{- define "common.support" -}}
"1.11": {clusters: [28, 34], management: [30, 34]}
"1.12": {clusters: [29, 35], management: [31, 35]}
{{- end }}

{{/* Cluster API as it is installed; what the chart was made for where nobody can be asked. */}}
{{- define "common.cluster-api" -}}
{{- $version := .default -}}
{{- if .root.Capabilities.APIVersions.Has "clusterctl.cluster.x-k8s.io/v1alpha3/Provider" -}}
{{- range (lookup "clusterctl.cluster.x-k8s.io/v1alpha3" "Provider" "" "").items -}}
{{- if eq .providerName "cluster-api" -}}{{- $version = .version -}}{{- end -}}
{{- end -}}
{{- end -}}
{{ $version }}
{{- end }}

{{/*
Refuses a version of Kubernetes that Cluster API does not support. Takes `root`, the `version`, and as `default` the version of Cluster
API that counts where nobody can be asked.
*/}}
{{- define "common.supported" -}}
{{- $api := include "common.cluster-api" . -}}
{{- $minor := regexReplaceAll "^v?([0-9]+\\.[0-9]+).*$" $api "${1}" -}}
{{- $known := include "common.support" .root | fromYaml -}}
{{- if not (hasKey $known $minor) -}}
{{- fail (printf "Cluster API %s is not known to this chart, which knows %s: install one of these, or set kubernetes.skipVersionCheck" $api (keys $known | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $support := index $known $minor -}}
{{- $kubernetes := semver (trimPrefix "v" .version) -}}
{{- $range := $support.clusters -}}
{{- if or (ne $kubernetes.Major 1) (lt (int $kubernetes.Minor) (int (first $range))) (gt (int $kubernetes.Minor) (int (last $range))) -}}
{{- fail (printf "kubernetes.version %s: Cluster API %s supports Kubernetes v1.%d to v1.%d on its clusters" .version $api (int (first $range)) (int (last $range))) -}}
{{- end -}}
{{- if lookup "v1" "Namespace" "" "kube-system" -}}
{{- $own := semver .root.Capabilities.KubeVersion.Version -}}
{{- $range := $support.management -}}
{{- if or (lt (int $own.Minor) (int (first $range))) (gt (int $own.Minor) (int (last $range))) -}}
{{- fail (printf "this cluster runs Kubernetes %s: Cluster API %s supports v1.%d to v1.%d under itself" .root.Capabilities.KubeVersion.Version $api (int (first $range)) (int (last $range))) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Refuses a cluster that does not serve a kind. Takes `root`, the `kind` with its version, and what to `do`. */}}
{{- define "common.serves" -}}
{{- if not (.root.Capabilities.APIVersions.Has .kind) -}}
{{- fail (printf "the cluster does not serve %s: %s" .kind .do) -}}
{{- end -}}
{{- end }}
