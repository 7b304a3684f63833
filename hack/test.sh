#!/usr/bin/env bash
# Runs every test on an environment of its own (instance "test"), which it starts and removes. When that instance runs already
# (`bin/devenv up --instance test stack`), it is used and kept, for a fast inner loop.
# ATLAS_TEST_PACKAGES narrows the packages, GOTESTFLAGS passes flags to go test.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! bin/devenv status --instance test --quiet 2> /dev/null; then
  trap 'bin/devenv down --instance test' EXIT
fi
bin/devenv up --instance test stack
bin/devenv metrics --instance test
bin/devenv tools --instance test
# shellcheck disable=SC2086 # flags and packages are lists
bin/devenv exec --instance test -- go test -timeout 20m ${GOTESTFLAGS:-} ${ATLAS_TEST_PACKAGES:-./...}
