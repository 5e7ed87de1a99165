.DEFAULT_GOAL := help
.PHONY: help setup build demo check test race chaos shots lint fmt

VERSION = $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# Each version has a folder of its own, so that a new one is fetched when it changes.
LINT_VERSION := v2.15.0
LINT := .tools/golangci-lint-$(LINT_VERSION)/golangci-lint

help: ## explain these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s  %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## install the PostgreSQL server and the browser the tests need, where there is none
	@.ci/setup

build: ## build bin/calco
	go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/calco ./cmd/calco

demo: setup build ## try the web app, with a sample database on a private server
	bin/calco demo

check: ## run the quick tests, in a minute or two: no browser, no faults, no server of a test's own
	go test -short -timeout 10m ./...

test: setup ## run all tests, against PostgreSQL servers of their own
	go test -timeout 60m ./...

race: setup ## run all tests under the race detector, which takes about twice as long
	go test -race -timeout 90m ./...

chaos: setup ## clone while workers, servers, networks and disks are taken away, 200 times, for one to two hours
	CALCO_CHAOS_FAULTS=$${CALCO_CHAOS_FAULTS:-200} CALCO_CHAOS_MINUTES=$${CALCO_CHAOS_MINUTES:-150} \
		CALCO_CHAOS_SEED=$${CALCO_CHAOS_SEED:-$$(date +%s)} \
		go test -count=1 -v -timeout 3h -run '^TestChaos$$' ./cmd/calco/chaos

shots: setup ## take pictures of all pages, into shots/
	CALCO_SHOTS=$(CURDIR)/shots go test -count=1 -timeout 15m -run 'TestPages' ./web/... ./cmd/...

lint: $(LINT) ## report what is against the rules in .golangci.yml
	$(LINT) run

fmt: $(LINT) ## format the code
	$(LINT) fmt

$(LINT):
	GOBIN=$(CURDIR)/$(@D) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
