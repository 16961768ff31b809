{{/* CRDs of a manifest, which outlive the release, since with a CRD go all objects of its kind. Takes `root` and the `text`. */}}
{{- define "common.definitions" -}}
{{- range regexSplit "(?m)^---.*$" .text -1 }}
{{- $definition := fromYaml . }}
{{- if eq (get $definition "kind") "CustomResourceDefinition" }}
{{- $annotations := merge (dict "helm.sh/resource-policy" "keep") ($definition.metadata.annotations | default dict) }}
{{- $_ := set $definition.metadata "annotations" $annotations }}
---
{{ unset $definition "status" | toYaml }}
{{- end }}
{{- end }}
{{- end }}
