{{- define "backends.labels" -}}
app.kubernetes.io/part-of: posthouse-backends
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The password of one account: generated at the first install, kept at every upgrade. */}}
{{- define "backends.password" -}}
{{- $secret := lookup "v1" "Secret" .root.Release.Namespace "posthouse-backends" -}}
{{- $kept := dig "data" .key "" ($secret | default dict) -}}
{{- if $kept -}}
{{- $kept | b64dec -}}
{{- else -}}
{{- $fresh := get .root.Values "generated" | default dict -}}
{{- if not (hasKey $fresh .key) -}}
{{- $_ := set $fresh .key (randAlphaNum 32) -}}
{{- $_ := set .root.Values "generated" $fresh -}}
{{- end -}}
{{- get $fresh .key -}}
{{- end -}}
{{- end }}

{{- define "backends.env" -}}
valueFrom: {secretKeyRef: {name: posthouse-backends, key: {{ . }}}}
{{- end }}

{{/* The backends that tenants use, each a Service and a pod of that name. */}}
{{- define "backends.ports" -}}
{kafka: 9092, scylla: 9042, keycloak: 8080, postgres: 5432, redis: 6379}
{{- end }}
