# Everything a developer or a newcomer runs. `make` alone prepares .venv; nothing else needs to be installed first
# but Python 3.11 and make (the lab's own packages are installed by the lab, with apt).
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Where Python may not keep what it compiles, each command compiles all that it loads again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt
	scripts/make-venv "$(PYTHON)" "$(VENV)"
	touch $@

.PHONY: check
check: $(VENV)/ready ## lint, types, unit tests: at most 2 minutes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/generate.py --check
	$(BIN)/yamllint --strict .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint --offline
	$(BIN)/pytest -q -n 2 tests/unit

.PHONY: test
test: check ## everything a change must pass, lab tests included
	command -v cc >/dev/null || scripts/apt-install gcc libc6-dev # a test compiles what pretends to be NVML
	$(BIN)/pytest -q -n 2 --instafail --durations=60 --durations-min=4 tests/integration tests/lab

.PHONY: gpu-test
gpu-test: ## on a machine with an NVIDIA card: needs python3, torch, pynvml and pytest, installs nothing
	PYTHONPATH=. python3 -m pytest -q -s -c tests/gpu/pytest.ini -p no:cacheprovider tests/gpu

.PHONY: campaign
campaign: $(VENV)/ready ## 500 rounds of a chain that misbehaves, 200 of a fleet that is tampered with: some hours
	$(BIN)/pytest -q -m campaign tests/lab/test_campaign.py tests/lab/test_plan_campaign.py

.PHONY: bench
bench: $(VENV)/ready ## time deploys, status and switches on rehearsal hosts, and the assignment; results in bench/results
	$(BIN)/python bench/assignment.py
	$(BIN)/python bench/gpu_verifier.py
	$(BIN)/python bench/fleet_times.py
	$(BIN)/python bench/plan.py
	$(BIN)/python bench/cold_deploy.py
	$(BIN)/python bench/registry_switches.py

.PHONY: demo
demo: $(VENV)/ready ## build the rehearsal fleet, deploy it, show it
	scripts/demo

.PHONY: clean-lab
clean-lab: $(VENV)/ready ## remove the rehearsal fleet and everything built for it
	$(BIN)/celium-ops lab down --images --yes

.PHONY: generate
generate: $(VENV)/ready ## write what follows from the roles' contracts
	$(BIN)/python scripts/generate.py

.PHONY: lock
lock: ## write constraints.txt anew: the newest versions that fit together
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	scripts/lock $(BIN)/pip > constraints.txt.new
	mv constraints.txt.new constraints.txt

.PHONY: help
help: ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14
