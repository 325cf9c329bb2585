#!/usr/bin/env bash
# Everything that must hold: linters, unit tests under the race detector, end-to-end scripts, the simulator.
# Ends with a line "N passed, N failed" and stops itself after 80 minutes.
set -uo pipefail
cd "$(dirname "$0")/.."
results=$(mktemp)
trap 'rm -f "$results"' EXIT
export FULL=
seconds=30 # of the simulator
if [ "${1:-}" = full ]; then
	export FULL=1
	seconds=180
fi
unset SIM_SECONDS # the unit tests simulate a few fixed seeds
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
	run "end to end" go test -json -tags e2e -timeout 75m -count=1 -p 1 ./cmd/shoal/e2e/... >>"$results"
else
	echo "== end to end: needs root"
	failed=1
fi
run "simulated ring, ${seconds}s" env SIM_SECONDS=$seconds go test -json -timeout 30m -count=1 -p 1 -run '^(TestSim|TestFault_U2_MixedVersions|TestFault_N16)' ./engine/enginetest ./nodeagent/ring >>"$results"
go run ./tools/tally -failed "$failed" -log bin/failed.txt <"$results" # whole outputs of failed tests
