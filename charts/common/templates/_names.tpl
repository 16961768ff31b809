{{/* The given text, which is refused when it is too long for a name. Takes `name`, `limit` and what to `do`. */}}
{{- define "common.name" -}}
{{- if gt (len .name) (int .limit) -}}
{{- fail (printf "the name %s has %d characters, and at most %d are possible: %s" .name (len .name) (int .limit) .do) -}}
{{- end -}}
{{ .name }}
{{- end }}

{{/*
What the name of a cluster's class begins with, unless somebody says otherwise: the cluster's name. A long one is cut, and a digest
keeps it apart from others that begin alike.
*/}}
{{- define "common.class-prefix" -}}
{{- if le (len .) 40 -}}
{{ . }}
{{- else -}}
{{ printf "%s-%s" (trunc 31 . | trimSuffix "-") (sha256sum . | trunc 8) }}
{{- end -}}
{{- end }}

{{/* The name of a class: its prefix, and the version of the chart `capi-cluster-class`, as far as names can have it. */}}
{{- define "common.class" -}}
{{- $slug := .version | lower | replace "." "-" | replace "+" "-" -}}
{{- include "common.name" (dict "name" (printf "%s-%s" .prefix $slug) "limit" 63 "do" "shorten clusterClass.name") -}}
{{- end }}
