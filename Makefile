# Atlas. `make help` lists the targets; `make up` and `make test` need nothing prepared.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

INSTANCE ?= dev
DEVENV := bin/devenv
TOOL := go tool -modfile=hack/tools/go.mod
LINT := go tool -modfile=hack/tools/lint/go.mod golangci-lint
SPEC := services/api/openapi
GOTESTFLAGS ?=

# The same for every build, so that programs, images and tests share what is compiled: -trimpath and cgo change all of it.
export CGO_ENABLED := 0
export GOFLAGS := $(strip $(filter-out -trimpath,$(shell go env GOFLAGS)) -trimpath)

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^## / {printf "\n%s\n", substr($$0, 4)} /^[a-zA-Z_-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## Run
.PHONY: up
up: devenv ## Start PostgreSQL, Kafka, Elasticsearch and a Kubernetes node; install the operator and an AtlasStack; wait until it is Ready
	@$(DEVENV) up --instance $(INSTANCE) stack

.PHONY: dev
dev: atlas ## Run all of Atlas in one process, without root, Java or a cluster; Ctrl-C stops it
	@bin/atlas dev

.PHONY: demo
demo: atlas ## Load 1,000 real documents into the running Atlas as an ordinary user, then search them
	@bin/atlas demo

.PHONY: status
status: devenv ## Show what runs
	@$(DEVENV) status --instance $(INSTANCE)

.PHONY: down
down: devenv ## Stop everything that `make up` started and remove its data
	@$(DEVENV) down --instance $(INSTANCE)

## Test
.PHONY: test
test: devenv ## Run every test: unit, integration, API server and end-to-end on a real node
	@hack/test.sh

.PHONY: test-unit
test-unit: ## Run the tests that need no server
	@go test -short $(GOTESTFLAGS) ./...

.PHONY: test-faults
test-faults: ## Kill, pause, restart and cut off everything at random under a workload, and check that nothing is lost (FAULTS=200 SEED=7 REPORT=table.md)
	@go test ./test/faults -run TestFaults -v -count=1 -timeout 120m -faults.count=$(or $(FAULTS),12) -faults.seed=$(or $(SEED),0) -faults.report=$(abspath $(REPORT))

.PHONY: test-operator-faults
test-operator-faults: devenv ## Fail and kill the operator at every call that it makes while a stack is made, changed, upgraded, rolled back and deleted, one at a time; about 30 minutes
	@KUBEBUILDER_ASSETS="$$($(DEVENV) assets)" FAULTS=all go test ./controllers/atlasstack -run TestEveryFault -v -count=1 -timeout 120m

.PHONY: test-reindex
test-reindex: devenv ## Rebuild the index of a platform that is written to and searched, kill a worker and an indexer meanwhile, and check that nobody notices; about 4 minutes
	@trap '$(DEVENV) down --instance reindex' EXIT; $(DEVENV) up --instance reindex servers && \
	  REINDEX_LOAD=1 $(DEVENV) exec --instance reindex -- go test ./test/reindex -v -count=1 -timeout 15m

.PHONY: lint
lint: lint-spec ## Run the linters
	@$(LINT) run

.PHONY: lint-spec
lint-spec: ## Lint the OpenAPI document, and compare it with its baseline: a change that breaks clients fails
	@go -C hack/tools/openapi run ./lint rules.yaml $(CURDIR)/$(SPEC).yaml
	@go tool -modfile=hack/tools/openapi/go.mod oasdiff breaking --fail-on WARN $(SPEC).baseline.yaml $(SPEC).yaml

.PHONY: spec-baseline
spec-baseline: ## Accept the OpenAPI document as it is as the new baseline, breaking changes and all
	@cp $(SPEC).yaml $(SPEC).baseline.yaml

.PHONY: format
format: ## Format the code
	@$(LINT) fmt

.PHONY: bench
bench: devenv atlas ## Measure the API beside its ceilings and a FastAPI rival, on real servers; takes about 10 minutes
	@hack/bench.sh

.PHONY: bench-operator
bench-operator: devenv ## Measure the operator with 1,000 AtlasStacks on a real API server, and with 3 on a real node; takes about 20 minutes
	@hack/bench_operator.sh

## Build
.PHONY: build
build: atlas operator devenv ## Build every program into bin/

.PHONY: atlas
atlas:
	@go build -o bin/atlas ./services

.PHONY: kubectl-atlas
kubectl-atlas: ## Build the plugin of kubectl into bin/
	@go build -o bin/kubectl-atlas ./cmd/kubectl-atlas

.PHONY: operator
operator:
	@go build -o bin/operator .

.PHONY: devenv
devenv:
	@go build -o $(DEVENV) ./hack/devenv

.PHONY: generate
generate: ## Generate code, manifests and the chart's copies of them
	@hack/generate.sh

.PHONY: verify-generated
verify-generated: ## Fail when generated files are stale
	@hack/generate.sh
	@git diff --exit-code --stat || { echo "generated files are stale: run 'make generate' and commit the result" >&2; exit 1; }
