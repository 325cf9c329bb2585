# Shoal's workbench. `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := build
.DELETE_ON_ERROR:

GOLANGCI_VERSION := v2.15.0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
TOOLS := $(CURDIR)/.tools
BIN := $(CURDIR)/bin
EMBED := nodeagent/containers/embedded/files
LDFLAGS := -s -w -X main.version=$(VERSION)
SIM_SECONDS ?= $(if $(FULL),180,30)
SOAK_SECONDS ?= 3600
export PATH := $(TOOLS):$(PATH)
# One set of flags for all builds but those under the race detector, so that the build cache serves them all.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath

# What the tests need on a fresh Debian 12, beside Go, git and make.
PACKAGES := gcc libc6-dev libseccomp-dev pkg-config iproute2 nftables conntrack iptables procps util-linux \
	openssh-server openssh-client gnupg curl busybox-static e2fsprogs mount

## help: this list
help:
	@grep -hE '^## ' $(MAKEFILE_LIST) | sed 's/^## /  /' | column -t -s ':'

## setup: install Debian packages that are missing, build the pinned runc and the linter
setup: setup-run
	@$(MAKE) --no-print-directory $(TOOLS)/golangci-lint
	@$(MAKE) --no-print-directory $(TOOLS)/prometheus

# What building and running need, without the linter.
setup-run:
	@tools/setup.sh "$(PACKAGES)"
	@$(MAKE) --no-print-directory $(TOOLS)/runc

$(TOOLS)/runc: tools/runc/go.mod tools/runc/go.sum
	@echo "build   runc"
	@mkdir -p $(TOOLS)
	@cd tools/runc && CGO_ENABLED=1 go build -tags "seccomp netgo osusergo" -ldflags '-s -w -extldflags "-static"' -o $@ github.com/opencontainers/runc

# For the test of gates that ask Prometheus: Debian's binary, not installed.
$(TOOLS)/prometheus:
	@tools/prometheus.sh $@

$(TOOLS)/golangci-lint:
	@echo "build   golangci-lint $(GOLANGCI_VERSION)"
	@mkdir -p $(TOOLS)
	@GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

## build: bin/shoal, the one file to install
build: embed
	@echo "build   bin/shoal"
	@go build -ldflags '$(LDFLAGS)' -o $(BIN)/shoal ./cmd/shoal

# The shim and runc travel compressed inside bin/shoal.
embed: $(TOOLS)/runc
	@go build -ldflags '-s -w' -o $(BIN)/shoal-shim ./cmd/shoal-shim
	@go run ./tools/embed $(EMBED) $(BIN)/shoal-shim $(TOOLS)/runc

## demo: set up, build, and run the guestbook on this machine (needs root)
demo:
	@tools/demo.sh

## check: formatting, vet, linters, unit tests with the race detector
check: lint unit

lint: $(TOOLS)/golangci-lint
	@echo "check   gofmt, vet, golangci-lint"
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'run gofmt -w on these files'; exit 1; }
	@golangci-lint run ./...

unit:
	@CGO_ENABLED=1 go test -race -timeout 20m ./...

## e2e: drive the binary on real containerd, nftables and Git (needs root)
e2e: build
	@go test -tags e2e -timeout 60m -count=1 -p 1 ./cmd/shoal/e2e/...

## sim: the simulated ring for SIM_SECONDS; a failing seed is printed and kept
sim:
	@SIM_SECONDS=$(SIM_SECONDS) go test -timeout 60m -count=1 -run 'TestSim' -v ./engine/enginetest

## soak: faults of all groups at random on five real nodes, for SOAK_SECONDS (needs root); SOAK_SEED replays one
soak: build
	@SOAK_SECONDS=$(SOAK_SECONDS) SOAK_SEED=$(SOAK_SEED) go test -tags e2e -timeout 0 -count=1 -run '^TestFault_U11_Soak$$' -v ./cmd/shoal/e2e

## fuzz: every fuzz target for 30 seconds
fuzz:
	@tools/fuzz.sh 30s

PARTS := ParseYAML|StepPhase|StepActivateOne|StepActivateAll|Snapshot|Look|List|Append|Fsync|AppendMany|Start|Cold|Changed
PARTS := $(PARTS)|PlaceAll|LostNode|Compile10000x3|FirstLoad10000x3|OneChangeOf10000x3|Connect
## bench: one JSON line a figure (needs root)
bench: build
	@set -o pipefail; go test -p 1 -run '^$$' -bench '^Benchmark($(PARTS))$$' \
		./engine/render ./engine/cluster ./engine/place ./engine/wire ./nodeagent ./nodeagent/containers ./nodeagent/firewall ./nodeagent/ledger \
		./nodeagent/nettest ./nodeagent/renderer | go run ./tools/figures
	@set -o pipefail; go test -tags e2e -timeout 60m -count=1 -p 1 -run '^$$' -bench . ./cmd/shoal/e2e/... | grep --line-buffered -E '^\{|^(ok|FAIL|---)|_test.go:'

## test: all of it, as CI runs it; FULL=1 runs the full counts
test: setup
	@tools/test.sh $(if $(FULL),full,)

## clean: remove what was built
clean:
	@rm -rf $(BIN) $(TOOLS)

.PHONY: help setup setup-run build embed demo check lint unit e2e sim soak fuzz bench test clean
