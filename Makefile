# Every operation of the bundle. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv/bin
LAPTOP := $(VENV)/python -m infra.laptop
OPERATIONS := $(VENV)/python -m infra.operations
RELEASES := $(VENV)/python -m infra.releases
PREVIEWS := $(VENV)/python -m infra.preview
previewed_stack = "$(or $(STACK),dev)"
named_branch = $(if $(value BRANCH),"$$BRANCH",$(error name the branch: make $@ BRANCH=feature/x))
ifdef BRANCH # A branch's name may hold what make and the shell take for commands: they are given it as it is.
override export BRANCH := $(value BRANCH)
endif
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

.PHONY: login
login: .venv/ready ## Show the addresses and passwords of Airflow and MLflow on this machine
	@$(LAPTOP) login

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
deploy: .venv/ready ## Bring the cluster or the account to what the program says (STACK=dev, YES=1: do not ask, REFRESH=1: undo drift, FORCE="why": past the checks)
	@$(OPERATIONS) deploy $(named_stack) $(if $(YES),--yes) $(if $(REFRESH),--refresh) $(if $(FORCE),--force "$(FORCE)")

.PHONY: smoke
smoke: .venv/ready ## See that a deployed stack works: health, commit, DAG files, the pod of a task (STACK=dev)
	@$(OPERATIONS) smoke $(named_stack)

.PHONY: ui
ui: .venv/ready ## Open a way to a stack's Airflow and show the login (STACK=local)
	@$(OPERATIONS) ui $(named_stack)

.PHONY: destroy
destroy: .venv/ready ## Delete a stack and prove that nothing is left (STACK=dev, YES=1 or CONFIRM=<stack>: do not ask)
	@$(OPERATIONS) destroy $(named_stack) $(if $(YES),--yes) $(if $(CONFIRM),--confirm "$(CONFIRM)")

.PHONY: sync
sync: .venv/ready ## Push this clone's HEAD to the Git server of a stack on an existing cluster (STACK=local)
	@$(OPERATIONS) sync $(named_stack)

##@ Releases, from branch to branch

.PHONY: promote
promote: .venv/ready ## Bring the release of a stack into the next (FROM=dev TO=staging, DRY_RUN=1: only show, CONFIRM=migration)
	@$(RELEASES) promote "$(or $(FROM),$(error name the stacks: make promote FROM=dev TO=staging))" \
		"$(or $(TO),$(error name the stacks: make promote FROM=dev TO=staging))" \
		$(if $(DRY_RUN),--dry-run) $(if $(CONFIRM),--confirm "$(CONFIRM)")

.PHONY: rollback
rollback: .venv/ready ## Bring a stack back to an earlier release (STACK=prod, TO=<commit>, DRY_RUN=1: only show, CONFIRM=database)
	@$(RELEASES) rollback $(named_stack) $(if $(TO),--to "$(TO)") \
		$(if $(DRY_RUN),--dry-run) $(if $(CONFIRM),--confirm "$(CONFIRM)")

.PHONY: sign
sign: .venv/ready ## Sign the images of this commit in a stack's registry, in a workflow of GitHub's (STACK=dev)
	@$(VENV)/python -m infra.images sign $(named_stack)

.PHONY: release
release: .venv/ready ## Record what a stack runs, after `make deploy` and `make smoke` (STACK=dev)
	@$(RELEASES) release $(named_stack)

.PHONY: releases
releases: .venv/ready ## List the releases of a stack, the newest first (STACK=prod)
	@$(RELEASES) history $(named_stack)

.PHONY: gates
gates: .venv/ready ## Show what a release has passed and what it must pass before it comes into a stack (STACK=staging)
	@$(RELEASES) gates $(named_stack)

.PHONY: gate
gate: .venv/ready ## Pass one gate and record it (GATE=tests, or GATE=plan|rehearsal STACK=staging, YES=1)
	@$(RELEASES) gate "$(or $(GATE),$(error name the gate: make gate GATE=tests))" \
		$(if $(STACK),--stack "$(STACK)") $(if $(YES),--yes)

.PHONY: drift
drift: .venv/ready ## Show what was changed behind Pulumi's back, and fail if something was (STACK=prod, ISSUE=1: keep an issue on GitHub)
	@$(OPERATIONS) drift $(named_stack) $(if $(ISSUE),--issue)

.PHONY: plan-comment
plan-comment: .venv/ready ## Write what a change does to each stack and its cost (AGAINST=origin/dev, PULL_REQUEST=12: as a comment there)
	@$(VENV)/python -m infra.plan.comment "$(or $(AGAINST),$(error name a git ref: make plan-comment AGAINST=origin/dev))" \
		$(if $(PULL_REQUEST),--pull-request "$(PULL_REQUEST)")

##@ Preview environments of branches

.PHONY: preview-env
preview-env: .venv/ready ## Give a branch an Airflow of its own in a stack's cluster (BRANCH=feature/x, STACK=dev, HOURS=72)
	@$(PREVIEWS) up $(previewed_stack) $(named_branch) $(if $(HOURS),--hours "$(HOURS)")

.PHONY: preview-envs
preview-envs: .venv/ready ## List the preview environments of a stack (STACK=dev)
	@$(PREVIEWS) list $(previewed_stack)

.PHONY: preview-env-down
preview-env-down: .venv/ready ## Remove the preview environment of a branch (BRANCH=feature/x, STACK=dev)
	@$(PREVIEWS) down $(previewed_stack) $(named_branch)

.PHONY: preview-env-gc
preview-env-gc: .venv/ready ## Remove the preview environments whose time is over (STACK=dev)
	@$(PREVIEWS) gc $(previewed_stack)

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

.venv/ready: requirements/dev.txt requirements/torch.txt requirements/torchvision.txt requirements/uv.txt pyproject.toml \
		infra/environments.py
	@$(PYTHON) infra/environments.py create main

.venv-mlflow/ready: requirements/mlflow.txt requirements/uv.txt infra/environments.py
	@$(PYTHON) infra/environments.py create mlflow
