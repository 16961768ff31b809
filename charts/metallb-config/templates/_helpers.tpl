{{- define "config.name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- include "common.name" (dict "name" (printf "%s-v6" (.Values.fullnameOverride | default $name)) "limit" 63 "do" "shorten fullnameOverride") -}}
{{- end }}

{{- define "config.check" -}}
{{- $range := .Values.pool.rangeV6 -}}
{{- if not $range -}}{{- fail "pool.rangeV6 is empty: name the addresses for Services, such as 2001:db8:42:100::200-2001:db8:42:100::2ff" -}}{{- end -}}
{{- if not (contains ":" $range) -}}{{- fail (printf "pool.rangeV6 %s is not IPv6" $range) -}}{{- end -}}
{{- $_ := include "common.range" $range -}}
{{- if not .Values.l2.interface -}}{{- fail "l2.interface is empty: addresses would be announced in every network of the nodes" -}}{{- end -}}
{{- with .Values.pool.prefixV6 -}}
{{- if not (include "common.within" (dict "inner" $range "outer" .)) -}}
{{- fail (printf "pool.rangeV6 %s is not in the external network %s: nobody would ask for its addresses there" $range .) -}}
{{- end -}}
{{- end -}}
{{- range $what, $taken := .Values.pool.taken -}}
{{- if include "common.overlap" (dict "one" $range "other" $taken) -}}
{{- fail (printf "pool.rangeV6 %s overlaps %s, which is %s: choose another range" $range $taken $what) -}}
{{- end -}}
{{- end -}}
{{- with .Values.tests.address -}}
{{- if not (include "common.within" (dict "inner" . "outer" $range)) -}}{{- fail (printf "tests.address %s is not in pool.rangeV6 %s" . $range) -}}{{- end -}}
{{- end -}}
{{- if not .Values.l2.controlPlanes -}}
{{- $workers := list -}}
{{- $nodes := (lookup "v1" "Node" "" "").items | default list -}}
{{- range $nodes -}}
{{- if not (hasKey .metadata.labels "node-role.kubernetes.io/control-plane") -}}{{- $workers = append $workers .metadata.name -}}{{- end -}}
{{- end -}}
{{- if and $nodes (not $workers) -}}
{{- fail "the cluster has no workers, and control planes announce no addresses: set l2.controlPlanes here and metallb.speaker.ignoreExcludeLB of the chart metallb" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The demo's address. */}}
{{- define "config.address" -}}
{{- if .Values.tests.address -}}
{{- .Values.tests.address -}}
{{- else -}}
{{- $digits := splitList " " (include "common.range" .Values.pool.rangeV6) | last -}}
{{- $groups := list -}}
{{- range $index := until 8 -}}
{{- $groups = append $groups (substr (mul 4 $index | int) (mul 4 (add1 $index) | int) $digits | trimPrefix "0" | trimPrefix "0" | trimPrefix "0") -}}
{{- end -}}
{{- join ":" $groups -}}
{{- end -}}
{{- end }}
