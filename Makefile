# `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --always --dirty 2>/dev/null || echo unknown)
GO ?= go
# The site to bake in; empty: the lab's, with CA roots made for this checkout.
SITE ?=
LAB_SITE := .lab-ca/site.yaml
BAKED := $(if $(SITE),$(SITE),$(LAB_SITE))
STRIPPED := -ldflags '-s -w -X main.version=$(VERSION)'

# One set of flags for builds and tests, so that Consul and Vault compile once.
export GOFLAGS := $(GOFLAGS) -trimpath

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: bin/pawl ## Build bin/pawl; SITE=path bakes another site than the lab's

# The site is compiled in through the compiler's overlay, so that the tree stays clean.
.PHONY: bin/pawl
bin/pawl: $(if $(SITE),,$(LAB_SITE))
	@echo "building bin/pawl with $(BAKED) (the first time takes minutes: Consul is in it)"
	@$(GO) run ./internal/site/verify '$(BAKED)'
	@mkdir -p .build
	@printf '{"Replace": {"%s": "%s"}}\n' "$$(pwd)/internal/site/site.yaml" "$$(realpath '$(BAKED)')" > .build/overlay.json
	@$(GO) build -overlay .build/overlay.json $(STRIPPED) -o bin/pawl ./cmd/pawl

# The lab's variant of the agent, which records its log before anything is left
# out of it: what `pawl-lab chaos --only outage-recorded` needs.
.PHONY: bin/pawl-record
bin/pawl-record: bin/pawl
	@echo "building bin/pawl-record"
	@$(GO) build -tags record -overlay .build/overlay.json $(STRIPPED) -o bin/pawl-record ./cmd/pawl

$(LAB_SITE): bin/pawl-lab
	@bin/pawl-lab site --out $(LAB_SITE)

.PHONY: bin/pawl-lab bin/pawl-metadata bin/consul bin/lab-vault
bin/pawl-lab:
	@echo "building bin/pawl-lab"
	@$(GO) build $(STRIPPED) -o bin/pawl-lab ./cmd/pawl-lab
bin/pawl-metadata:
	@echo "building bin/pawl-metadata"
	@$(GO) build $(STRIPPED) -o bin/pawl-metadata ./cmd/pawl-metadata
bin/consul:
	@echo "building bin/consul, the stock Consul (the first time takes minutes)"
	@$(GO) build $(STRIPPED) -o bin/consul github.com/hashicorp/consul
bin/lab-vault:
	@echo "building bin/lab-vault, the real Vault (the first time takes minutes)"
	@cd testdata/lab && $(GO) build $(STRIPPED) -o ../../bin/lab-vault ./vault

.PHONY: lab-binaries
lab-binaries: bin/pawl-lab bin/pawl-metadata bin/consul bin/lab-vault ## Build what the lab is made of

.PHONY: demo
demo: build lab-binaries ## Start the lab and the agent, watch it reach Serving; Ctrl-C cleans up
	@bin/pawl-lab demo

.PHONY: demo-outage
demo-outage: build lab-binaries ## The same with outages of Vault and of Consul
	@bin/pawl-lab demo --outage

.PHONY: fleet
fleet: ## Simulate 10,000 VMs after an outage, beside vault agent's policy; draw the load to .fleet/fleet.svg
	@$(GO) run ./internal/fleet/simulate --out .fleet

# As root each fault has a network namespace of its own, four at once; else they
# are made one at a time, without those that need one.
.PHONY: chaos
chaos: build lab-binaries ## Make every fault of a table for the running agent, and print how it came through
	@bin/pawl-lab chaos

# Five labs at once: they mostly wait.
LONG := vault-down-5m,vault-down-5m-past-ttl,both-down-10m,both-down-10m-past-ttl,outage-recorded
.PHONY: chaos-long
chaos-long: build bin/pawl-record lab-binaries ## The faults that last for five and ten minutes, with the real agent and one that records its log
	@bin/pawl-lab chaos --only $(LONG) --at-once 5

.PHONY: bench-boot
bench-boot: build lab-binaries ## Time ten boots, from exec to passing in the catalogue
	@bin/pawl-lab bench-boot

# SOAK takes the command's flags, as in: make soak SOAK='--seed 7 --servers 3'
SOAK ?=
.PHONY: soak
soak: build lab-binaries ## Rotate every credential 200 times while Vault and Consul are killed: most of an hour
	@bin/pawl-lab soak $(SOAK)

# The order is from cheap to dear: a slip of the pen fails in seconds, not after
# the lab's three minutes.
.PHONY: test
test: check unit unit-consul build lab-binaries lab-test lab-chaos clean-tree ## Run everything: checks, unit tests, and the lab's tests on the real Vault and Consul

# What compiles Consul is tested without the race detector, which would compile
# all of Consul a second time.
CONSUL_PACKAGES := pawl/cmd/pawl pawl/internal/service/consulagent
PLAIN_PACKAGES = $(filter-out $(CONSUL_PACKAGES),$(shell $(GO) list ./...))

.PHONY: check
check: ## gofmt, go vet, staticcheck, go.mod and go.sum are tidy
	@echo "checking: gofmt, go mod, go vet, staticcheck"
	@test -z "$$(gofmt -l cmd fsm internal states transitions deploy testdata)" || { gofmt -l cmd fsm internal states transitions deploy testdata; echo "run gofmt -w on these"; exit 1; }
	@$(GO) mod tidy -diff
	@cd testdata/lab && $(GO) mod tidy -diff
	@$(GO) vet ./...
	@$(GO) vet -tags record ./cmd/pawl
	@cd testdata/lab && $(GO) vet ./...
	@$(GO) tool staticcheck ./...

# What is many steps of few goroutines runs whole without the race detector,
# which would only make it slow, and in a small sample (-short) with it. It prints
# its seeds and scores.
SEARCH := '^(TestSearch|TestMutations)$$'

.PHONY: unit
unit: ## Unit tests with the race detector; the search, 100,000 histories and the fleet without
	$(GO) test -race -short -skip $(SEARCH) $(PLAIN_PACKAGES)
	$(GO) test -v -run $(SEARCH) ./transitions
	$(GO) test -v -run '^TestRandomHistories$$' ./fsm
	$(GO) test -v ./internal/fleet

.PHONY: unit-consul
unit-consul: ## Unit tests of what compiles Consul, on the stock Consul server
	$(GO) test $(CONSUL_PACKAGES)

.PHONY: lab-test
lab-test: ## The lab's own module: the agent on the real Vault and Consul
	cd testdata/lab && $(GO) test -count=1 -timeout 40m ./...

.PHONY: systemd-test
systemd-test: build lab-binaries ## The shipped unit under a real systemd: 20 crashes, the watchdog's whole patience; as root, some minutes
	cd testdata/lab && PAWL_LONG=1 $(GO) test -count=1 -v -run '^TestSystemd$$' ./e2e

# One of each kind that a story of testdata/scenarios tells; make chaos has them all.
FEW := vault-sealed-past-ttl,vault-paused,vault-429,old-vault-token-revoked,old-consul-token-deleted,role-missing-at-boot,gossip-key-short,consul-no-leader,consul-replaced,api-listener-closed,metadata-unroutable
.PHONY: lab-chaos
lab-chaos: ## A dozen faults of `make chaos`, whose walks the stories of testdata/scenarios tell
	@bin/pawl-lab chaos --only $(FEW)

.PHONY: clean-tree
clean-tree:
	@test -z "$$(git status --porcelain)" || { git status --short; echo "the tests changed the tree, or something is not committed"; test -z "$${CI:-}"; }

.PHONY: clean
clean: ## Remove what was built, the lab and its CA
	@rm -rf bin .build .fleet .lab .lab-ca
