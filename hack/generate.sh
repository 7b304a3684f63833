#!/usr/bin/env bash
# Generates everything that is generated: queries, what is said of the kinds of jobs in several places, the REST server and client, deep copies, CRDs, RBAC, and the chart's copies of the last two.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
tool() { go tool -modfile="$root/hack/tools/go.mod" "$@"; }

(cd internal/postgres && tool sqlc generate)
go run ./hack/jobkinds
tool oapi-codegen -config services/api/gen/config.yaml services/api/openapi.yaml
tool oapi-codegen -config client/config.yaml services/api/openapi.yaml
tool controller-gen object paths=./api/...
tool controller-gen crd paths=./api/... output:crd:dir=config/crd
tool controller-gen rbac:roleName=atlas-operator paths=./controllers/... output:rbac:dir=config/rbac

# Helm can't read files outside its chart.
cp config/crd/platform.atlas.dev_*.yaml charts/atlas-operator/files/crd/
cp config/rbac/role.yaml charts/atlas-operator/files/role.yaml
