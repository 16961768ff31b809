{{/*
Arithmetic on addresses. An address stands for a number as hexadecimal digits, 8 for IPv4 and 32 for IPv6; numbers of one length
compare as texts do.
*/}}

{{- define "common.address" -}}
{{- $text := lower . -}}
{{- $digits := "" -}}
{{- if contains ":" $text -}}
  {{- $halves := splitList "::" $text -}}
  {{- $head := compact (splitList ":" (first $halves)) -}}
  {{- $tail := list -}}
  {{- if gt (len $halves) 1 -}}{{- $tail = compact (splitList ":" (last $halves)) -}}{{- end -}}
  {{- $missing := sub 8 (add (len $head) (len $tail)) | int -}}
  {{- $groups := $head -}}
  {{- if and (eq (len $halves) 2) (ge $missing 1) -}}
    {{- range until $missing -}}{{- $groups = append $groups "0" -}}{{- end -}}
  {{- end -}}
  {{- range concat $groups $tail -}}
    {{- if regexMatch "^[0-9a-f]{1,4}$" . -}}
      {{- $digits = printf "%s%s%s" $digits (repeat (sub 4 (len .) | int) "0") . -}}
    {{- end -}}
  {{- end -}}
  {{- if or (gt (len $halves) 2) (ne (len $digits) 32) (regexMatch "[^0-9a-f:]" $text) -}}{{- $digits = "" -}}{{- end -}}
{{- else if regexMatch "^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(\\.|$)){4}$" $text -}}
  {{- range splitList "." $text -}}{{- $digits = printf "%s%02x" $digits (int .) -}}{{- end -}}
{{- end -}}
{{- if not $digits -}}{{- fail (printf "%q is no IP address" .) -}}{{- end -}}
{{ $digits }}
{{- end }}

{{/* The first and the last address of a network, of a range `first-last` or of one address. */}}
{{- define "common.range" -}}
{{- if contains "/" . -}}
  {{- $parts := splitList "/" . -}}
  {{- $address := include "common.address" (first $parts) -}}
  {{- $length := last $parts -}}
  {{- if or (ne (len $parts) 2) (not (regexMatch "^[0-9]{1,3}$" $length)) (gt (int $length) (mul 4 (len $address) | int)) -}}
    {{- fail (printf "%q is no network" .) -}}
  {{- end -}}
  {{- $whole := div (int $length) 4 | int -}}
  {{- $kept := trunc $whole $address -}}
  {{- if eq $whole (len $address) -}}
{{ $kept }} {{ $kept }}
  {{- else -}}
    {{- $block := index (list 16 8 4 2) (mod (int $length) 4) -}}
    {{- $digit := substr $whole (add1 $whole | int) $address -}}
    {{- $value := 0 -}}
    {{- range $number := until 16 -}}{{- if eq (printf "%x" $number) $digit -}}{{- $value = $number -}}{{- end -}}{{- end -}}
    {{- $low := sub $value (mod $value $block) -}}
    {{- $rest := sub (len $address) (add1 $whole) | int -}}
{{ $kept }}{{ printf "%x" $low }}{{ repeat $rest "0" }} {{ $kept }}{{ printf "%x" (sub (add $low $block) 1) }}{{ repeat $rest "f" }}
  {{- end -}}
{{- else -}}
  {{- $parts := splitList "-" . -}}
  {{- $first := include "common.address" (first $parts) -}}
  {{- $last := include "common.address" (last $parts) -}}
  {{- if or (gt (len $parts) 2) (ne (len $first) (len $last)) (gt $first $last) -}}
    {{- fail (printf "%q is no range of addresses" .) -}}
  {{- end -}}
{{ $first }} {{ $last }}
{{- end -}}
{{- end }}

{{/* Takes `one` and `other`, and says "true" if they have an address in common. */}}
{{- define "common.overlap" -}}
{{- $one := splitList " " (include "common.range" .one) -}}
{{- $other := splitList " " (include "common.range" .other) -}}
{{- if eq (len (first $one)) (len (first $other)) -}}
{{- if and (le (first $one) (last $other)) (le (first $other) (last $one)) -}}true{{- end -}}
{{- end -}}
{{- end }}

{{/* Takes `inner` and `outer`, and says "true" if every address of the one is in the other. */}}
{{- define "common.within" -}}
{{- $inner := splitList " " (include "common.range" .inner) -}}
{{- $outer := splitList " " (include "common.range" .outer) -}}
{{- if eq (len (first $inner)) (len (first $outer)) -}}
{{- if and (ge (first $inner) (first $outer)) (le (last $inner) (last $outer)) -}}true{{- end -}}
{{- end -}}
{{- end }}

{{/* Refuses ranges that have an address in common. Takes a list of pairs: what it is, and the range. */}}
{{- define "common.apart" -}}
{{- range $index, $one := . -}}
{{- range slice $ (add1 $index | int) -}}
{{- if include "common.overlap" (dict "one" (last $one) "other" (last .)) -}}
{{- fail (printf "%s %s and %s %s overlap: give one of them a range of its own" (first $one) (last $one) (first .) (last .)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
