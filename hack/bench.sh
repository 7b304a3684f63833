#!/usr/bin/env bash
# Runs the benchmark on servers of its own (instance "bench"). BENCHFLAGS passes flags to it: `go run ./bench -help` lists them.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"; bin/devenv down --instance bench' EXIT
rival=
if python3 -m venv "$folder/venv" 2> /dev/null; then
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check -r bench/fastapi/requirements.txt
  rival=$folder/venv/bin/python
else
  echo "==> no FastAPI rival: python3 has no venv here (on Debian: apt-get install python3-venv)" >&2
fi
bin/devenv up --instance bench servers
go build -o "$folder/bench" ./bench
(cd bench/river && go build -o "$folder/river" .)
# shellcheck disable=SC2086 # flags are a list
bin/devenv exec --instance bench -- "$folder/bench" -python "$rival" -river "$folder/river" ${BENCHFLAGS:-}
