#!/usr/bin/env bash
# Tests and measures everything that concerns a GPU in one call of under ten minutes; writes JSON.
# bash benchmarks/gpu.sh [OUTPUT.json]; add --tiny to try the script on a CPU.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-benchmarks/results/gpu.json}
shift || true
exec "${PYTHON:-python3}" -m benchmarks.gpu --json "$out" "$@"
