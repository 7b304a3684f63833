#!/usr/bin/env bash
# Measures the operator with many AtlasStacks on an API server of its own, and with a few on a real node. BENCHFLAGS passes flags to it: `go run ./bench/stacks -help` lists them.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
go build -o "$folder/operator" .
go build -o "$folder/stacks" ./bench/stacks
KUBEBUILDER_ASSETS=$(bin/devenv assets)
export KUBEBUILDER_ASSETS
# shellcheck disable=SC2086 # flags are a list
"$folder/stacks" -operator "$folder/operator" ${BENCHFLAGS:-}

# And a few with pods, on a real node.
trap 'bin/devenv down --instance bench; rm -rf "$folder"' EXIT
bin/devenv up --instance bench stack
bin/devenv exec --instance bench -- "$folder/stacks" -node 3
