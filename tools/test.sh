#!/usr/bin/env bash
# Everything that must hold: linters, unit tests under the race detector, end-to-end scripts, the simulator.
# Ends with a line "N passed, N failed" and stops itself after 80 minutes.
set -uo pipefail
cd "$(dirname "$0")/.."
results=$(mktemp)
trap 'rm -f "$results"' EXIT
export SIM_SECONDS=30 FULL=
if [ "${1:-}" = full ]; then
	export SIM_SECONDS=600 FULL=1
fi
budget=$((80 * 60))
run() { # name, command...: the rest of the budget is its limit
	local left=$((budget - SECONDS))
	echo "== $1"
	shift
	timeout --kill-after=30 "$((left > 1 ? left : 1))" "$@"
}
failed=0
run "lint" make --no-print-directory lint || { echo "lint failed"; failed=1; }
run "unit tests, race detector" env CGO_ENABLED=1 go test -json -race -timeout 30m ./... >>"$results"
run "build" make --no-print-directory build || { echo "build failed"; failed=1; }
if [ "$(id -u)" -eq 0 ]; then
	run "end to end" go test -json -tags e2e -timeout 60m -count=1 -p 1 ./cmd/shoal/e2e/... >>"$results"
else
	echo "== end to end: needs root"
	failed=1
fi
run "simulated ring, ${SIM_SECONDS}s" go test -json -timeout 30m -count=1 -run TestSim ./engine/enginetest >>"$results"
go run ./tools/tally -failed "$failed" <"$results"
