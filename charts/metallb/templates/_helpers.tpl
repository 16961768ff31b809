{{- define "metallb.check" -}}
{{- with .Values.metallb.crds -}}
{{- if and .enabled (not .manifest) (not ($.Capabilities.APIVersions.Has "metallb.io/v1beta1/IPAddressPool")) -}}
{{- fail (printf "the cluster does not serve metallb.io/v1beta1/IPAddressPool: apply the CRDs of MetalLB %s first, or put their text into metallb.crds.manifest" $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Labels that MetalLB's own programs look for. */}}
{{- define "metallb.selector" -}}
{{ include "common.selector" .root }}
app.kubernetes.io/component: {{ .component }}
app: metallb
component: {{ .component }}
{{- end }}

{{- define "metallb.probe" -}}
httpGet: {path: /metrics, port: monitoring}
periodSeconds: 2
{{- end }}
