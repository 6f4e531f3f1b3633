# Verbs of the workspace. Anything longer than a line is a script in scripts/; CI runs the same verbs.
SHELL := /bin/bash
POSTHOUSE_CACHE ?= $(HOME)/.cache/posthouse
export POSTHOUSE_CACHE
export CARGO_TARGET_DIR ?= $(POSTHOUSE_CACHE)/target
export KUBECONFIG := $(CURDIR)/.local/kubeconfig
export CLUSTER TAKEOVER TOPOLOGY WITH
.DEFAULT_GOAL := help
.PHONY: help up up-backends up-cluster demo observe observe-check observe-faults observe-outage observe-picture status down clean test lint fmt generate bench soak verify-sync autobahn fuzz kind-check

help: ## Show the verbs
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: ## Bring up backends, cluster, operator and two tenants (TOPOLOGY=Compact, CLUSTER=kind, WITH=registry,opensearch,rabbitmq,console,observability)
	@scripts/up

up-backends: ## Bring up the backends alone
	@scripts/up-backends

up-cluster: ## Bring up the one-node Kubernetes alone
	@scripts/up-cluster

demo: ## Two users of each tenant register and talk; prints the transcript
	@$(CARGO_TARGET_DIR)/debug/posthouse demo

observe: ## Bring up metrics, alerts, traces and logs beside the running stack; scrape the tenants that came since
	@scripts/observe

observe-check: ## Run every query of the dashboards; fails where one finds nothing
	@scripts/observe check

observe-faults: ## Make each fault that an alert is about; fails where it does not fire, or does not end; half an hour
	@scripts/observe faults

observe-outage: ## Kill a backend chosen at random for ten minutes, and follow alerts, runbook, panels, logs and traces to it (SEED=)
	@scripts/observe outage $(SEED)

observe-picture: ## Pictures of a message's trace and of the dashboards, in .local/observe; fails where a step is missing
	@scripts/observe picture

status: ## Show what runs, and how each tenant is
	@scripts/status

down: ## Stop everything `make up` started; data stays
	@scripts/down

clean: ## Stop everything and remove data and caches
	@scripts/clean

test: ## Run every check and test; ends with `N passed, N failed`
	@scripts/test

lint: ## Run the checks that need no stack: format, words, clippy, rustdoc, dependencies, derived files
	@scripts/lint

generate: ## Write what is derived from the code: CRDs, service list, API index
	@scripts/generate

fmt: ## Format the code
	cargo fmt --all

bench: ## What a message costs beside its baseline and while parts are killed, the optional services under load, and the gateway beside Centrifuge
	@scripts/bench

soak: ## A million entries of all kinds, while every part on their path is killed 20 times
	@scripts/soak

verify-sync: ## Random histories of devices that are cut off, in memory and on the cluster (PH_HISTORIES)
	@scripts/verify-sync

autobahn: ## The whole Autobahn test suite on the WebSocket protocol of the gateway
	@scripts/autobahn

fuzz: ## Many more bad inputs for the readers of frames, records, pictures and pages (FUZZ_CASES), every fault of every call of the operator, and many edits of a tenant
	@scripts/fuzz

kind-check: ## Check the kind path where Docker cannot run: config, charts, server-side dry run
	@scripts/kind-check
