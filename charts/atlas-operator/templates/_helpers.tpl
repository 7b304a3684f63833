{{/* The first part of every name. The release "atlas-operator" gives plain names. */}}
{{- define "atlas-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "atlas-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.name -}}
{{- .Values.serviceAccount.name -}}
{{- else if .Values.serviceAccount.create -}}
{{- include "atlas-operator.fullname" . -}}
{{- else -}}
{{- fail "serviceAccount.create is false: set serviceAccount.name to the ServiceAccount that the operator shall use" -}}
{{- end -}}
{{- end }}

{{- define "atlas-operator.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end }}

{{/* What selects the operator's pods. Also the pods' only labels: a new chart version alone restarts nothing. */}}
{{- define "atlas-operator.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "atlas-operator.labels" -}}
{{ include "atlas-operator.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The subject of every binding. */}}
{{- define "atlas-operator.subject" -}}
- kind: ServiceAccount
  name: {{ include "atlas-operator.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
