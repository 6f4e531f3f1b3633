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

{{/* What the panels of dashboards open in Grafana's Explore, as a JSON list: of the chosen tenants, in the time that is shown. `+`, `&` and `#` have a meaning in an address. */}}
{{- define "posthouse.panelLinks" -}}
{{- $links := list }}
{{- $range := dict "from" "${__from}" "to" "${__to}" }}
{{- with .tempoUid }}
{{- $query := dict "refId" "A" "queryType" "traceql" "query" "{resource.tenant=~\"${tenant:regex}\"}" "datasource" (dict "type" "tempo" "uid" .) }}
{{- $links = append $links (dict "title" "Traces" "pane" (dict "datasource" . "queries" (list $query) "range" $range)) }}
{{- end }}
{{- with .lokiUid }}
{{- $query := dict "refId" "A" "expr" "{pod=~\"${tenant:regex}-.*\"}" "datasource" (dict "type" "loki" "uid" .) }}
{{- $links = append $links (dict "title" "Logs" "pane" (dict "datasource" . "queries" (list $query) "range" $range)) }}
{{- end }}
{{- toRawJson $links }}
{{- end }}
