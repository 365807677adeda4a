# Two commands do all set-up on a fresh machine: `make up` and `make test`.
.PHONY: up test check bench lab lab-test lab-soak lock clean help
BIN := .venv/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check install
TEST_PACKAGES := iproute2 ethtool mosquitto nats-server postgresql kmod procps lldpd snmp clang
BENCH_PACKAGES := $(TEST_PACKAGES) prometheus-node-exporter collectd-core netdata-core nftables

help: ## what there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

up: .venv/.run ## inventory and watch this host: broker, SQL, agent; prints one screen
	@$(BIN)/rackhand up $(ARGS)

test: .venv/.dev ## install what the tests need, check the code, run every test, those in the lab too
	@.ci/packages $(TEST_PACKAGES)
	@$(BIN)/rackhand-lab setup
	@$(MAKE) --no-print-directory check
	@$(BIN)/python -m pytest -m "not soak" $(ARGS)

check: .venv/.dev ## ruff, mypy and pyright strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/pyright
	@$(BIN)/lint-imports

bench: .venv/.dev ## ratios measured in this run, beside the peer or the raw ceiling
	@.ci/packages $(BENCH_PACKAGES)
	@$(BIN)/python -m bench $(ARGS)

lab: .venv/.lab ## what the lab needs: packages, kernel, guest image; two minutes, once per machine
	@$(BIN)/rackhand-lab setup

lab-test: .venv/.dev lab ## the tests in virtual machines alone
	@$(BIN)/python -m pytest -m "lab and not soak" $(ARGS)

lab-soak: .venv/.dev lab ## what takes long: every collector live, every fault, bonds, wires; 200 random deaths, 5,000 simulated hosts
	@RACKHAND_SOAK=10 $(BIN)/python -m pytest -s tests/lab tests/agent/test_faults.py tests/agent/test_kill.py tests/hardware_lab/test_fleet.py -m "soak or not lab" $(ARGS)
	@RACKHAND_SOAK=10 $(BIN)/python -m pytest -s tests/lab/test_kill.py $(ARGS)

lock: .venv/.dev ## make requirements/*.txt anew from pyproject.toml
	@cd requirements && for t in "build.in -o build.txt" "../pyproject.toml -o server.txt" "../pyproject.toml --extra inventory -o run.txt" \
	  "../pyproject.toml --extra lab -o lab.txt" \
	  "../pyproject.toml --all-extras --group ../pyproject.toml:dev -o dev.txt"; do \
	  ../$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header $$t; done

clean: ## forget the virtual environment and what the tools cached
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist

.venv/bin/python:
	@.ci/venv

.venv/.run: requirements/run.txt requirements/build.txt pyproject.toml | .venv/bin/python
	@echo "installing rackhand into .venv" >&2
	@$(PIP) --require-hashes -r requirements/run.txt -r requirements/build.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.lab: requirements/lab.txt .venv/.run
	@echo "installing the lab into .venv" >&2
	@$(PIP) --require-hashes -r requirements/lab.txt
	@touch $@

.venv/.dev: requirements/dev.txt .venv/.run
	@echo "installing what the tests need into .venv" >&2
	@$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@
