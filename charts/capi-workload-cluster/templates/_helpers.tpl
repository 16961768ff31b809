{{- define "cluster.class" -}}
{{- $version := index .Chart.Annotations "k8s-lab.io/capi-cluster-class-chart-version" | required "Chart.yaml lacks the annotation k8s-lab.io/capi-cluster-class-chart-version" -}}
{{- $prefix := .Values.clusterClass.name | default (include "common.class-prefix" .Values.cluster.name) -}}
{{- include "common.class" (dict "prefix" $prefix "version" $version) -}}
{{- end }}

{{/* The port that the API is published at: the one that is given, or one by the name. */}}
{{- define "cluster.port" -}}
{{- .Values.loadBalancer.lxc.proxyApiPort | default (add 20000 (mod (adler32sum .Values.cluster.name | int64) 10000)) | int -}}
{{- end }}
