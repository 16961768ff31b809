{{- define "calico.check" -}}
{{- $families := list -}}
{{- range .Values.calico.pods.cidrBlocks -}}
{{- $_ := include "common.range" . -}}
{{- $families = append $families (ternary "IPv6" "IPv4" (contains ":" .)) -}}
{{- end -}}
{{- if ne (join " " $families) "IPv4 IPv6" -}}
{{- fail (printf "calico.pods.cidrBlocks is %s: name an IPv4 network and then an IPv6 network" (join ", " .Values.calico.pods.cidrBlocks)) -}}
{{- end -}}
{{- $brought := hasKey .Subcharts "tigera-operator" -}}
{{- if eq .Values.installer "operator" -}}
{{- if not (or $brought (.Capabilities.APIVersions.Has "operator.tigera.io/v1/Installation")) -}}
{{- fail (printf "the cluster does not serve operator.tigera.io/v1/Installation: put upstream's chart tigera-operator %s into the folder charts/ of this chart, or install it first" .Chart.AppVersion) -}}
{{- end -}}
{{- else -}}
{{- if $brought -}}
{{- fail "installer: manifest goes without the operator, but the chart tigera-operator is in the folder charts/: remove it" -}}
{{- end -}}
{{- if not (or .Values.manifest.crds (.Capabilities.APIVersions.Has "crd.projectcalico.org/v1/IPPool")) -}}
{{- fail (printf "the cluster does not serve crd.projectcalico.org/v1/IPPool: apply the CRDs of Calico %s first, or put their text into manifest.crds" .Values.manifest.version) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The agent's namespace and DaemonSet, for the gate. */}}
{{- define "calico.agent" -}}
namespace: {{ ternary "calico-system" .Release.Namespace (eq .Values.installer "operator") }}
name: calico-node
{{- end }}
