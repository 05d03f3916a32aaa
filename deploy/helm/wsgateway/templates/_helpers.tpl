{{- define "wsgateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{/* Room for -0 and the names of services, within the 63 characters of a name in DNS. */}}
{{- define "wsgateway.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "wsgateway.selectorLabels" -}}
app.kubernetes.io/name: {{ include "wsgateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "wsgateway.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "wsgateway.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "wsgateway.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "wsgateway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "wsgateway.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{- define "wsgateway.secretName" -}}
{{ default (include "wsgateway.fullname" .) .Values.secrets.existingSecret }}
{{- end -}}

{{/* The name of the headless service, and what stands behind a pod's name in its full one. */}}
{{- define "wsgateway.clusterService" -}}
{{ include "wsgateway.fullname" . }}-cluster
{{- end -}}
{{- define "wsgateway.podDomain" -}}
{{ include "wsgateway.clusterService" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}

{{/* How many seeds there are, which is also for how many nodes a new cluster waits. */}}
{{- define "wsgateway.seedCount" -}}
{{ .Values.cluster.seeds | default .Values.replicas | int }}
{{- end -}}

{{- define "wsgateway.seeds" -}}
{{- $domain := include "wsgateway.podDomain" . -}}
{{- $name := include "wsgateway.fullname" . -}}
{{- $seeds := list -}}
{{- range $i := until (include "wsgateway.seedCount" . | int) -}}
{{- $seeds = append $seeds (printf "%s-%d.%s:7000" $name $i $domain) -}}
{{- end -}}
{{- join "," $seeds -}}
{{- end -}}

{{- define "wsgateway.drainSeconds" -}}
{{ dig "node" "drain_seconds" 5 .Values.settings | int }}
{{- end -}}

{{/* The settings with the files of TLS, as YAML. Without the URLs, in which the environment can name the pod. */}}
{{- define "wsgateway.settings" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- range $listener := list "client" "admin" -}}
{{- with index $settings $listener -}}
{{- $_ := set $settings $listener (omit . "advertise_url") -}}
{{- end -}}
{{- end -}}
{{- range $listener := list "client" "admin" "cluster" -}}
{{- $tls := index $.Values.tls $listener -}}
{{- if $tls.secretName -}}
{{- $folder := printf "/etc/wsgateway/tls/%s" $listener -}}
{{- $files := dict "certificate_file" (printf "%s/tls.crt" $folder) "key_file" (printf "%s/tls.key" $folder) -}}
{{- if eq $listener "cluster" -}}
{{- $files = merge $files (dict "ca_file" (printf "%s/ca.crt" $folder) "mode" $tls.mode) -}}
{{- end -}}
{{- $settings = mergeOverwrite $settings (dict $listener (dict "tls" $files)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{/* At which URL a browser reaches the client listeners: what was set, or the first host of the Ingress. */}}
{{- define "wsgateway.clientUrl" -}}
{{- $url := dig "client" "advertise_url" "" .Values.settings -}}
{{- if and (not $url) .Values.ingress.enabled .Values.ingress.hosts -}}
{{- $host := (first .Values.ingress.hosts).host -}}
{{- $scheme := "ws" -}}
{{- range .Values.ingress.tls -}}
{{- if or (not .hosts) (has $host .hosts) (has (regexReplaceAll "^[^.]+" $host "*") .hosts) -}}
{{- $scheme = "wss" -}}
{{- end -}}
{{- end -}}
{{- if not (contains "*" $host) -}}
{{- $url = printf "%s://%s" $scheme $host -}}
{{- end -}}
{{- end -}}
{{- $url -}}
{{- end -}}
{{- define "wsgateway.adminUrl" -}}
{{ dig "admin" "advertise_url" "" .Values.settings }}
{{- end -}}

{{/* A key is quoted where TOML wants it: what is between dots would be a table of its own. */}}
{{- define "wsgateway.tomlKey" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . -}}{{ . }}{{- else -}}{{ toJson . }}{{- end -}}
{{- end -}}

{{/* JSON's texts, lists of them, numbers and booleans are TOML's, too. */}}
{{- define "wsgateway.toml" -}}
{{- range $section, $keys := include "wsgateway.settings" . | fromYaml }}
[{{ $section }}]
{{- range $key, $value := $keys }}
{{- if not (kindIs "map" $value) }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- range $key, $value := $keys }}
{{- if kindIs "map" $value }}
[{{ $section }}.{{ $key }}]
{{- range $inner, $text := $value }}
{{ include "wsgateway.tomlKey" $inner }} = {{ toJson $text }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A map of texts in one line, as nodes read it from the environment. */}}
{{- define "wsgateway.tomlLine" -}}
{{- $members := list -}}
{{- range $key, $text := . -}}
{{- $members = append $members (printf "%s=%s" (toJson $key) (toJson $text)) -}}
{{- end -}}
{ {{- join ", " $members -}} }
{{- end -}}

{{/* "yes" when the admin listener speaks TLS, and when it also asks for certificates, which kubelet has none of. */}}
{{- define "wsgateway.adminTls" -}}
{{- if dig "admin" "tls" "certificate_file" "" (include "wsgateway.settings" . | fromYaml) -}}yes{{- end -}}
{{- end -}}
{{- define "wsgateway.adminWantsCertificates" -}}
{{- if dig "admin" "tls" "client_ca_file" "" (include "wsgateway.settings" . | fromYaml) -}}yes{{- end -}}
{{- end -}}

{{/* dict "root" . "path" "/livez" */}}
{{- define "wsgateway.probe" -}}
{{- if include "wsgateway.adminWantsCertificates" .root -}}
tcpSocket:
  port: admin
{{- else -}}
httpGet:
  path: {{ .path }}
  port: admin
  scheme: {{ ternary "HTTPS" "HTTP" (eq (include "wsgateway.adminTls" .root) "yes") }}
{{- end -}}
{{- end -}}
