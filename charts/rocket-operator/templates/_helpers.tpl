{{/* Names leave room for suffixes such as -metrics below the 63 characters of a label. */}}
{{- define "rocket-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "rocket-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "rocket-operator.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Of what has no namespace: releases of one name in two namespaces have roles of their own. A colon is in neither name. */}}
{{- define "rocket-operator.clusterName" -}}
{{ .Release.Namespace }}:{{ include "rocket-operator.fullname" . }}
{{- end -}}

{{- define "rocket-operator.selectorLabels" -}}
app.kubernetes.io/name: rocket-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "rocket-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "rocket-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: rocketcluster
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "rocket-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "rocket-operator.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "rocket-operator.leaseName" -}}
{{- .Values.leaderElection.leaseName | default (include "rocket-operator.fullname" .) -}}
{{- end -}}

{{- define "rocket-operator.repository" -}}
{{- with .registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- .repository -}}
{{- end -}}

{{- define "rocket-operator.image" -}}
{{- include "rocket-operator.repository" .Values.image -}}
{{- with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* What the operator does in the namespaces that it watches: for a ClusterRole or for a Role in each. No more than what its tests on an
API server run with (operator/tests/api/rules.yaml, which charts/check compares). */}}
{{- define "rocket-operator.rules" -}}
- apiGroups: [rocketcluster.io]
  resources: [rocketclusters]
  verbs: [get, list, watch, patch]
- apiGroups: [rocketcluster.io]
  resources: [rocketclusters/status]
  verbs: [patch]
{{- /* Some clusters ask for it of whoever makes objects that a RocketCluster owns. */}}
- apiGroups: [rocketcluster.io]
  resources: [rocketclusters/finalizers]
  verbs: [update]
- apiGroups: [rocketcluster.io]
  resources: [rocketbrokergroups]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [rocketcluster.io]
  resources: [rocketbrokergroups/status]
  verbs: [get, update]
{{- /* Requests are made by people; the operator tells what became of them, and deletes them after their time. */}}
- apiGroups: [rocketcluster.io]
  resources: [rocketoperations]
  verbs: [get, list, watch, delete]
- apiGroups: [rocketcluster.io]
  resources: [rocketoperations/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
{{- /* Of clusters that elect: one Secret each, made once and read by its name. None is listed, watched, changed or deleted. No
    name can be demanded, since clusters are named by people; a pod that the operator may make reads any Secret beside it as well. */}}
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create]
{{- /* The role label is a patch, an orderly restart a deletion. No exec, no logs. */}}
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch, delete]
{{- /* StatefulSets create volumes; the operator grows them, and deletes them when a cluster's policy says so. */}}
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, watch, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
{{- /* Where the Services of groups that elect lead: written with the record of an election, which is sooner than Kubernetes would
find the master by its label. OpenShift asks for the second of whoever leads to pods. */}}
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices/restricted]
  verbs: [create]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
{{- /* Each broker group's account may write the status of its own group object: a part of what the operator may. */}}
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch, delete]
{{- /* Where the Prometheus operator is not installed this allows nothing. */}}
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors]
  verbs: [get, list, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
