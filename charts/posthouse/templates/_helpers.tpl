{{- define "posthouse.commonLabels" -}}
app.kubernetes.io/part-of: posthouse
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "posthouse.selectorLabels" -}}
app.kubernetes.io/name: posthouse-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "posthouse.labels" -}}
{{ include "posthouse.selectorLabels" . }}
{{ include "posthouse.commonLabels" . }}
{{- end }}

{{- define "posthouse.consoleSelectorLabels" -}}
app.kubernetes.io/name: posthouse-console
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "posthouse.consoleLabels" -}}
{{ include "posthouse.consoleSelectorLabels" . }}
{{ include "posthouse.commonLabels" . }}
{{- end }}

{{- define "posthouse.monitoringLabels" -}}
app.kubernetes.io/name: posthouse-monitoring
app.kubernetes.io/instance: {{ .Release.Name }}
{{ include "posthouse.commonLabels" . }}
{{- with .Values.monitoring.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "posthouse.tag" -}}
{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "posthouse.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "posthouse.viewerRules" -}}
- apiGroups: [messenger.posthouse.dev]
  resources: [messengertenants]
  verbs: [get, list, watch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [get, list, watch]
- apiGroups: [metrics.k8s.io]
  resources: [pods]
  verbs: [get, list]
{{- end }}
