{{- define "class.control-plane" -}}
{{- $node := dict "root" . "role" "controlplane" -}}
{{- with .Values.controlPlane -}}
template:
  spec:
    kubeadmConfigSpec:
      format: cloud-config
      clusterConfiguration:
        {{- with $.Values.kubernetes.imageRepository }}
        imageRepository: {{ . | quote }}
        {{- end }}
        {{- with .featureGates }}
        featureGates:
          {{- toYaml . | nindent 10 }}
        {{- end }}
        apiServer:
          {{- with .certSANs }}
          certSANs:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          extraArgs:
            - name: bind-address
              value: "::"
            {{- with .apiServerExtraArgs }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
        {{- with .controllerManagerExtraArgs }}
        controllerManager:
          extraArgs:
            {{- toYaml . | nindent 12 }}
        {{- end }}
        {{- with .schedulerExtraArgs }}
        scheduler:
          extraArgs:
            {{- toYaml . | nindent 12 }}
        {{- end }}
      initConfiguration:
        localAPIEndpoint:
          {{- include "class.local-endpoint" . | nindent 10 }}
        {{- include "class.registration" $node | nindent 8 }}
      joinConfiguration:
        controlPlane:
          localAPIEndpoint:
            {{- include "class.local-endpoint" . | nindent 12 }}
        {{- include "class.registration" $node | nindent 8 }}
      files:
        {{- include "class.files" $node | trim | nindent 8 }}
      preKubeadmCommands:
        {{- include "class.commands" $node | nindent 8 }}
      {{- with .postKubeadmCommands }}
      postKubeadmCommands:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end }}
{{- end }}

{{/* The IPv4 address of the interface that the default route goes by, on machines that join as on the first. */}}
{{- define "class.local-endpoint" -}}
advertiseAddress: 0.0.0.0
bindPort: 6443
{{- end }}

{{- define "class.worker-bootstrap" -}}
{{- $node := dict "root" . "role" "worker" -}}
template:
  spec:
    format: cloud-config
    joinConfiguration:
      {{- include "class.registration" $node | nindent 6 }}
    files:
      {{- include "class.files" $node | trim | nindent 6 }}
    preKubeadmCommands:
      {{- include "class.commands" $node | nindent 6 }}
    {{- with .Values.worker.postKubeadmCommands }}
    postKubeadmCommands:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
