{{- define "bridge.name" -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{- define "bridge.labels" -}}
app.kubernetes.io/name: grpc-lambda-bridge
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "bridge.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "bridge.name" .) -}}
{{- end -}}

{{/* The bridge's container. A sidecar listens on loopback, so only its pod can call. */}}
{{- define "bridge.container" -}}
name: grpc-lambda-bridge
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  - name: BRIDGE_LISTEN
    value: {{ printf "%s:%v" (eq .Values.mode "sidecar" | ternary "127.0.0.1" "0.0.0.0") .Values.ports.grpc | quote }}
  - name: BRIDGE_ADMIN
    value: {{ printf "0.0.0.0:%v" .Values.ports.admin | quote }}
  {{- with .Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.secrets }}
envFrom:
  {{- range . }}
  - secretRef:
      name: {{ . }}
  {{- end }}
{{- end }}
ports:
  - name: grpc
    containerPort: {{ .Values.ports.grpc }}
  - name: admin
    containerPort: {{ .Values.ports.admin }}
{{- if eq .Values.mode "sidecar" }}
# The kubelet cannot reach loopback, so it asks the admin port. The app starts when this answers.
startupProbe:
  httpGet:
    path: /readyz
    port: admin
  periodSeconds: 1
  failureThreshold: 60
{{- else }}
startupProbe:
  grpc:
    port: {{ .Values.ports.grpc }}
  periodSeconds: 1
  failureThreshold: 60
readinessProbe:
  grpc:
    port: {{ .Values.ports.grpc }}
  periodSeconds: 2
  failureThreshold: 2
{{- end }}
# Alive is less than ready: a bridge that drains, or waits for credentials, is not restarted.
livenessProbe:
  httpGet:
    path: /healthz
    port: admin
  periodSeconds: 10
  failureThreshold: 6
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
volumeMounts:
  - name: config
    mountPath: /etc/grpc-lambda-bridge
    readOnly: true
{{- end -}}

{{- define "bridge.pod" -}}
metadata:
  labels:
    {{- include "bridge.labels" . | nindent 4 }}
  annotations:
    checksum/config: {{ toYaml .Values.config | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "bridge.serviceAccount" . }}
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if eq .Values.mode "sidecar" }}
  initContainers:
    - restartPolicy: Always
      {{- include "bridge.container" . | nindent 6 }}
  containers:
    {{- if not .Values.app.containers }}
    {{- fail "mode: sidecar needs app.containers" }}
    {{- end }}
    {{- toYaml .Values.app.containers | nindent 4 }}
  {{- else }}
  containers:
    - {{- include "bridge.container" . | nindent 6 }}
  topologySpreadConstraints:
    {{- range .Values.topologySpread }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "bridge.labels" $ | nindent 10 }}
    {{- end }}
  {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "bridge.name" . }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
