# `make help` lists the targets.
.DEFAULT_GOAL := help

# Variables set with `make up IMAGES=...` or `IMAGES=... make up` reach the programs byte for byte: make passes them in the
# environment without expanding them, and the programs read them there.
override is_given = $(findstring command line,$(origin $(1)))
override as_it_is = $(eval override $(1) := $$(value $(1)))$(eval export $(1))

# Ignore Python's own variables, such as PYTHONHOME; ops/process_environment.py filters all others.
override isolated := -E -s
# Tests start many processes; without bytecode, each would compile all libraries.
unexport PYTHONDONTWRITEBYTECODE
override run := .venv/bin/python $(isolated) -m
override ops := $(run) ops
# Many shells do not expand `~` in `make PYTHON=~/bin/python3`.
override named_python := python=$${PYTHON:-python3}; case $$python in "~/"*) python=$$HOME/$${python\#??} ;; esac; "$$python"
override first_python := $(named_python) $(isolated)
# Uses only the standard library: it runs in a job with the release key, where no other code is allowed.
override handover := $(named_python) -I ops/releases/handover.py
override ready := .venv/ready .venv-mlflow/ready
override ready_for_all_dags := $(ready) .venv-soda/ready

$(foreach name,$(.VARIABLES),$(if $(call is_given,$(name)),$(call as_it_is,$(name))))

.PHONY: help
help: ## List all commands
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

##@ On this machine, with nothing but Python

.PHONY: up
up: $(ready) $(if $(value DEMO),.venv-soda/ready) ## Start Airflow, train the image classifier and serve it (IMAGES=<folder>, PARAMS="epochs=3"; DEMO=flights or DEMO=docs: another example; DOCUMENTS=<folder>: an index of documents)
	@$(ops) up

.PHONY: down
down: .venv/ready ## Stop what `make up` started; data is kept
	@$(ops) down

.PHONY: clean
clean: .venv/ready ## Stop what `make up` started and delete its data
	@$(ops) clean

.PHONY: status
status: .venv/ready ## Show the local processes, or a stack's pods, DAGs and problems (STACK=local)
	@$(ops) status

.PHONY: login
login: .venv/ready ## Show the addresses and passwords of Airflow and MLflow on this machine
	@$(ops) login

.PHONY: logs
logs: .venv/ready ## Follow the log of one process (S=scheduler)
	@$(ops) logs

.PHONY: bench-local
bench-local: ## Measure `make up` from a fresh clone: stages, restart, memory, DAG parse times
	@$(first_python) tests/bench_local.py

.PHONY: bench-serving
bench-serving: .venv/ready ## Measure the model server's memory and latency for every format and several clients at once
	@$(run) tests.bench_serving

.PHONY: bench-memory
bench-memory: .venv/ready ## Measure the memory of each task with 50,000 images, 48 MP photos and 1,000 classes
	@$(run) tests.bench_memory

.PHONY: bench-features
bench-features: .venv/ready .venv-soda/ready ## Measure the features of a year of flights, and of one day
	@$(run) tests.bench_features

.PHONY: bench-documents
bench-documents: .venv/ready ## Measure an index of 100,000 chunks: its construction, and searches next to exact ones
	@$(run) tests.bench_documents

.PHONY: bench-workers
bench-workers: .venv/ready ## Measure a training by two workers next to one
	@$(run) tests.bench_workers

.PHONY: gpu-proof
gpu-proof: .venv/ready ## Prove training on this machine's GPU: accuracy, memory and speed
	@$(run) tests.gpu_proof

##@ On Kubernetes: any cluster (STACK=local), or one that Pulumi builds on AWS (STACK=dev)

.PHONY: plan
plan: .venv/ready ## Show offline what a stack creates, costs and allows (STACK=dev, AGAINST=staging or a git ref)
	@$(ops) plan

.PHONY: scan
scan: .venv/ready .venv-scan/ready ## Scan what the stacks create with checkov; exit code 1 for a new finding
	@$(ops) scan

.PHONY: images
images: .venv/ready ## Build the images that a stack's cluster lacks and deliver them (STACK=local, BUILT=<file>: write the digests of pushed images, PREVIEW=1: for preview environments)
	@$(ops) images

.PHONY: preview
preview: .venv/ready ## Preview a deployment (STACK=dev)
	@$(ops) preview

.PHONY: deploy
deploy: .venv/ready ## Deploy a stack (STACK=dev, YES=1: do not ask, REFRESH=1: undo drift, FORCE="reason": skip the release checks)
	@$(ops) deploy

.PHONY: smoke
smoke: .venv/ready ## Check a deployed stack: health, commit, DAG files, the pod of a task (STACK=dev)
	@$(ops) smoke

.PHONY: ui
ui: .venv/ready ## Port-forward Airflow's and MLflow's UI and print the logins (STACK=local)
	@$(ops) ui

.PHONY: user
user: .venv/ready ## Create, change or delete a user of Airflow (NAME=anna, ROLE=viewer|user|op|admin, STACK=dev: on a stack instead of this machine, NEW_PASSWORD=1, REMOVE=1)
	@$(ops) user

.PHONY: connection
connection: .venv/ready ## Create, change or delete a connection of Airflow (NAME=warehouse, FILE=<YAML>, KEY=<file with the password>, STACK=dev: on a stack instead of this machine, REMOVE=1)
	@$(ops) connection

.PHONY: destroy
destroy: .venv/ready ## Delete a stack and prove that nothing is left (STACK=dev, YES=1 or CONFIRM=<stack>: do not ask)
	@$(ops) destroy

.PHONY: upgrade-check
upgrade-check: .venv/ready .venv-scan/ready ## Show what to upgrade and by when; exit code 1 if support ended (STACK=prod)
	@$(ops) upgrade-check

.PHONY: unlock
unlock: .venv/ready ## Release the lock that a killed command left on a stack (STACK=dev, YES=1: do not ask)
	@$(ops) unlock

.PHONY: sync
sync: .venv/ready ## Push HEAD to the Git server of a stack on an existing cluster (STACK=local)
	@$(ops) sync

##@ DAGs

.PHONY: dag
dag: .venv/ready ## Write a new DAG with its steps, its declaration and its test (NAME=churn)
	@$(ops) dag

.PHONY: run
run: $(ready_for_all_dags) ## Run a DAG and follow it (DAG=churn, PARAMS="limit=10", STACK=dev: on a stack instead of this machine)
	@$(ops) run

##@ Releases, from branch to branch

.PHONY: promote
promote: .venv/ready ## Promote the release of a stack to the next stack (FROM=dev TO=staging, DRY_RUN=1: show the changes only, CONFIRM=migration, CHANGE=<file>: for `make publish`)
	@$(ops) promote

.PHONY: rollback
rollback: .venv/ready ## Roll a stack back to an earlier release (STACK=prod, TO=<commit>, DRY_RUN=1: show the changes only, CONFIRM=database, CHANGE=<file>: for `make publish`)
	@$(ops) rollback

.PHONY: publish
publish: ## Push a change that another command wrote to a file (OPERATION=promote STACK=staging CHANGE=<file>, COMMIT=<tested commit>)
	@$(handover) publish

.PHONY: check-out
check-out: ## Check out the commit of a stack's release (STACK=dev, CHANGE=<file>: wait until it is published)
	@$(handover) check-out

.PHONY: sign
sign: .venv/ready ## Sign the images that `make images` built with BUILT, in a GitHub workflow (STACK=dev BUILT=<file>)
	@$(ops) sign

.PHONY: release
release: .venv/ready ## Record what a stack runs, after `make deploy` and `make smoke` (STACK=dev, CHANGE=<file>: for `make publish`)
	@$(ops) release

.PHONY: releases
releases: .venv/ready ## List the releases of a stack, newest first (STACK=prod)
	@$(ops) releases

.PHONY: gates
gates: .venv/ready ## Show which gates the next release of a stack has passed (STACK=staging)
	@$(ops) gates

.PHONY: gate
gate: .venv/ready ## Pass one gate and record it (GATE=tests, or GATE=plan|rehearsal STACK=staging, YES=1, CHANGE=<file>: for `make publish`)
	@$(ops) gate

.PHONY: drift
drift: .venv/ready ## Show what was changed outside Pulumi; exit code 2 if something was (STACK=prod, ISSUE=1: keep a GitHub issue, WITHOUT_SECRETS=1: with a role that cannot read secrets)
	@$(ops) drift

.PHONY: plan-comment
plan-comment: .venv/ready ## Write what a change does to each stack and its cost (AGAINST=origin/dev, PULL_REQUEST=12: post it as a comment)
	@$(ops) plan-comment

##@ Preview environments of branches

.PHONY: preview-env
preview-env: .venv/ready ## Give a branch its own Airflow in a stack's cluster (BRANCH=feature/x, STACK=dev, HOURS=72)
	@$(ops) preview-env

.PHONY: preview-envs
preview-envs: .venv/ready ## List the preview environments of a stack (STACK=dev)
	@$(ops) preview-envs

.PHONY: preview-env-down
preview-env-down: .venv/ready ## Remove the preview environment of a branch (BRANCH=feature/x, STACK=dev)
	@$(ops) preview-env-down

.PHONY: preview-env-gc
preview-env-gc: .venv/ready ## Remove the expired preview environments (STACK=dev)
	@$(ops) preview-env-gc

##@ On AWS only

.PHONY: stack
stack: .venv/ready ## Write the settings of a new stack (NAME=qa, LIKE=staging)
	@$(ops) stack

.PHONY: doctor
doctor: .venv/ready ## Check everything that a deployment needs, before it takes half an hour (STACK=dev)
	@$(ops) doctor

.PHONY: bootstrap
bootstrap: .venv/ready ## Create Pulumi's state, the key of its secrets, and the image repositories (STACK=dev)
	@$(ops) bootstrap

.PHONY: github-roles
github-roles: .venv/ready ## Create the roles that the GitHub workflows assume, with narrow permissions (STACK=dev, REPOSITORY=<owner>/<name>: instead of that of the DAGs, REMOVE=1: delete them)
	@$(ops) github-roles

.PHONY: dags-key
dags-key: .venv/ready ## Store the key of the DAG repository in the cluster (STACK=dev, KEY=<file> or standard input, USER_NAME=<token's user>)
	@$(ops) dags-key

.PHONY: kubeconfig
kubeconfig: .venv/ready ## Add the cluster to the kubeconfig file (STACK=dev)
	@$(ops) kubeconfig

##@ Development

.PHONY: setup
setup: $(ready_for_all_dags) ## Create the virtual environments .venv, .venv-mlflow and .venv-soda

.PHONY: test
test: $(ready_for_all_dags) ## Run the whole offline test suite, in parallel
	@$(run) pytest --ignore tests/cluster --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: e2e
e2e: .venv/ready ## Test the stack `local` on the cluster in KUBECONFIG, after `make images STACK=local`
	@$(run) pytest tests/cluster

.PHONY: bench-cluster
bench-cluster: .venv/ready ## Compare the stack `local` with the chart's defaults on the cluster in KUBECONFIG
	@$(run) tests.bench_cluster

.PHONY: profile-task
profile-task: .venv/ready ## Show where the CPU time of a task goes on the cluster in KUBECONFIG, next to the chart's defaults
	@$(run) tests.profile_task

.PHONY: lint
lint: .venv/ready ## Check style, types, import contracts and workflows
	@$(run) ruff check .
	@$(run) ruff format --check .
	@$(run) mypy
	@.venv/bin/lint-imports --no-logo --no-cache
	@.venv/bin/zizmor --quiet --offline --no-config --pedantic .github/workflows

.PHONY: format
format: .venv/ready ## Format the sources
	@$(run) ruff check --fix-only .
	@$(run) ruff format .

.PHONY: requirements
requirements: ## Update requirements/*.txt from requirements/*.in (UPGRADE=1: to the newest versions)
	@$(run) ops.environments pin

.venv/ready: requirements/dev.txt requirements/torch.txt requirements/data.txt requirements/weights.txt requirements/uv.txt pyproject.toml ops/environments.py
	@$(first_python) -m ops.environments create main

.venv-mlflow/ready: requirements/mlflow.txt requirements/uv.txt ops/environments.py
	@$(first_python) -m ops.environments create mlflow

.venv-scan/ready: requirements/scan.txt requirements/uv.txt ops/environments.py
	@$(first_python) -m ops.environments create scan

.venv-soda/ready: requirements/soda.txt requirements/uv.txt ops/environments.py
	@$(first_python) -m ops.environments create soda
