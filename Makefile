# Verbs only; what is longer than a line lies in deploy/local or in a Python module.
PYTHON := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help setup up down status logs reset demo test test-unit test-contract test-integration test-fault test-e2e bench lint types imports schemas release-schemas check settings lock

help: ## list the verbs
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
setup: ## make .venv and install what is missing
	@deploy/local/bootstrap.sh
up: setup ## start everything, or repair it; prints all addresses
	@$(PYTHON) -m deploy.local up
down: ## stop everything
	@$(PYTHON) -m deploy.local down
status: ## show every process
	@$(PYTHON) -m deploy.local status
logs: ## follow the logs (one process: make logs s=reporting-worker)
	@$(PYTHON) -m deploy.local logs $(s)
reset: ## stop everything and delete the stack's data
	@$(PYTHON) -m deploy.local reset
demo: up ## replay real learning records, freeze a quarter, print the report
	@$(PYTHON) -m deploy.demo
test: setup ## run every test on a stack of its own
	@$(PYTHON) -m pytest
test-unit: setup ## rules only, no server
	@$(PYTHON) -m pytest tests/unit
test-contract: setup ## can yesterday's reader read today's event
	@$(PYTHON) -m pytest tests/contract
test-integration: setup ## SQL and machinery on real Kafka and PostgreSQL
	@$(PYTHON) -m pytest tests/integration
test-fault: setup ## faults, with negative controls (make test-fault only=P1,DB1 seed=7; seeds=25 minutes=60; only=P2 points=all)
	@$(PYTHON) -m pytest tests/fault/test_matrix.py tests/fault/test_crash_points.py $(if $(points),--crash-points '$(points)') \
	  $(if $(only),--fault-only $(only)) $(if $(seed),--fault-seed $(seed)) $(if $(seeds),--fault-seeds $(seeds)) $(if $(minutes),--fault-minutes $(minutes))
test-e2e: setup ## a learner's journey through all four services
	@$(PYTHON) -m pytest tests/e2e
bench: setup ## measure the whole way on a stack of its own (or one thing in depth: make bench only=rebuild events=1000000, only=poison)
	@$(PYTHON) -m tests.bench$(if $(only),.$(only)) $(events)
lint: setup ## ruff
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .
types: setup ## mypy
	@.venv/bin/mypy
imports: setup ## import rules
	@.venv/bin/lint-imports
release-schemas: setup ## promise today's schemas to readers; what breaks them is refused from then on
	@$(PYTHON) -m shared.contracts.generate --release
schemas: setup ## write JSON Schemas, AsyncAPI and the tables of topics and events
	@$(PYTHON) -m shared.contracts.generate
check: lint types imports test ## everything CI looks at
settings: setup ## print a service's settings (make settings s=enrollment)
	@$(PYTHON) -m services.$(s).main settings
lock: setup ## renew the locks
	@deploy/lock.sh
