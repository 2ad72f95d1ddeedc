# Every operation of the bundle. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv/bin
LAPTOP := $(VENV)/python -m infra.laptop
OPERATIONS := $(VENV)/python -m infra.operations
named_stack = "$(or $(STACK),$(error name the stack: make $@ STACK=dev))"
READY := .venv/ready .venv-mlflow/ready

.PHONY: help
help: ## List the commands
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

##@ On this machine, with nothing but Python

.PHONY: up
up: $(READY) ## Start Airflow, train the image classifier and serve it (IMAGES=<folder>, PARAMS="epochs=3")
	@$(LAPTOP) up $(if $(IMAGES),--images "$(IMAGES)") $(if $(PARAMS),--params "$(PARAMS)")

.PHONY: down
down: .venv/ready ## Stop what `make up` started; data is kept
	@$(LAPTOP) down

.PHONY: clean
clean: .venv/ready ## Stop what `make up` started and delete its data
	@$(LAPTOP) clean

.PHONY: status
status: .venv/ready ## Show the processes here, or a stack's pods, DAGs and problems (STACK=local)
	@$(if $(STACK),$(OPERATIONS) status "$(STACK)",$(LAPTOP) status)

.PHONY: logs
logs: .venv/ready ## Follow the log of one process (S=scheduler)
	@$(LAPTOP) logs $(S)

.PHONY: bench-local
bench-local: ## Measure `make up` from a fresh clone: stages, restart, memory, DAG parse times
	@$(PYTHON) tests/bench_local.py

##@ On Kubernetes: any cluster (STACK=local), or one that Pulumi builds on AWS (STACK=dev)

.PHONY: plan
plan: .venv/ready ## Show offline what a stack creates, costs and allows (STACK=dev, AGAINST=staging or a git ref)
	@$(VENV)/python -m infra.plan $(named_stack) $(if $(AGAINST),--against "$(AGAINST)")

.PHONY: images
images: .venv/ready ## Build the images that a stack's cluster lacks and bring them there (STACK=local)
	@$(VENV)/python -m infra.images build $(named_stack)

.PHONY: preview
preview: .venv/ready ## Ask the cluster or AWS what a deployment would change (STACK=dev)
	@$(OPERATIONS) preview $(named_stack)

.PHONY: deploy
deploy: .venv/ready ## Bring the cluster or the account to what the program says (STACK=dev, YES=1: do not ask)
	@$(OPERATIONS) deploy $(named_stack) $(if $(YES),--yes)

.PHONY: ui
ui: .venv/ready ## Open a way to a stack's Airflow and show the login (STACK=local)
	@$(OPERATIONS) ui $(named_stack)

.PHONY: destroy
destroy: .venv/ready ## Delete a stack and prove that nothing is left (STACK=dev, YES=1 or CONFIRM=<stack>: do not ask)
	@$(OPERATIONS) destroy $(named_stack) $(if $(YES),--yes) $(if $(CONFIRM),--confirm "$(CONFIRM)")

.PHONY: sync
sync: .venv/ready ## Push this clone's HEAD to the Git server of a stack on an existing cluster (STACK=local)
	@$(OPERATIONS) sync $(named_stack)

##@ On AWS alone

.PHONY: stack
stack: .venv/ready ## Write the settings of a new stack (NAME=qa, LIKE=staging)
	@$(OPERATIONS) stack "$(or $(NAME),$(error name the new stack: make stack NAME=qa))" $(if $(LIKE),--like "$(LIKE)")

.PHONY: bootstrap
bootstrap: .venv/ready ## Make the bucket of Pulumi's state and the key of its secrets (STACK=dev)
	@$(OPERATIONS) bootstrap $(named_stack)

.PHONY: dags-key
dags-key: .venv/ready ## Keep the key of the DAGs' repository in the cluster (STACK=dev, KEY=<file> or standard input, USER_NAME=<token's user>)
	@$(OPERATIONS) dags-key $(named_stack) $(if $(KEY),--file "$(KEY)") $(if $(USER_NAME),--user "$(USER_NAME)")

.PHONY: kubeconfig
kubeconfig: .venv/ready ## Put the cluster's access into the kubeconfig file (STACK=dev)
	@$(OPERATIONS) kubeconfig $(named_stack)

##@ Development

.PHONY: setup
setup: $(READY) ## Create the virtual environments .venv and .venv-mlflow

.PHONY: test
test: $(READY) ## Run the whole offline test suite
	@$(VENV)/python -m pytest --ignore tests/cluster

.PHONY: e2e
e2e: .venv/ready ## Prove the stack `local` on the cluster that KUBECONFIG names, after `make images STACK=local`
	@$(VENV)/python -m pytest tests/cluster

.PHONY: bench-cluster
bench-cluster: .venv/ready ## Measure the stack `local` and the chart's defaults on that cluster, turn by turn
	@$(VENV)/python -m tests.bench_cluster

.PHONY: lint
lint: .venv/ready ## Check style and types of everything
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy

.PHONY: format
format: .venv/ready ## Rewrite the sources in the project's style
	@$(VENV)/ruff check --fix-only .
	@$(VENV)/ruff format .

.PHONY: requirements
requirements: ## Pin requirements/*.txt anew from requirements/*.in (UPGRADE=1: newest versions)
	@.venv/bin/python infra/environments.py pin $(if $(UPGRADE),--upgrade)

.venv/ready: requirements/dev.txt pyproject.toml infra/environments.py
	@$(PYTHON) infra/environments.py create main

.venv-mlflow/ready: requirements/mlflow.txt infra/environments.py
	@$(PYTHON) infra/environments.py create mlflow
