# Every operation of the bundle. `make help` lists them.
.DEFAULT_GOAL := help

# What a user gives, by `make up IMAGES=...` or `IMAGES=... make up`, reaches the programs byte for byte: make hands it
# down in their environment without expanding it, and a recipe takes it from there as one word.
override is_given = $(findstring command line,$(origin $(1)))
override as_it_is = $(eval override $(1) := $$(value $(1)))$(eval export $(1))
override option = $(if $(value $(1)),"$(2)=$$$(1)")
override flag = $(if $(value $(1)),$(2))
override needed = $(if $(value $(1)),"$$$(1)",$(error $(2)))
override named_stack = $(call needed,STACK,name the stack: make $@ STACK=dev)
override named_branch = $(call needed,BRANCH,name the branch: make $@ BRANCH=feature/x)
override previewed_stack = "$${STACK:-dev}"

# Python's own variables, such as PYTHONHOME, are not read; infra/process_environment.py decides about all others.
override isolated := -E -s
override run := .venv/bin/python $(isolated) -m
# Many shells leave `~` as it is in `make PYTHON=~/bin/python3`.
override named_python := python=$${PYTHON:-python3}; case $$python in "~/"*) python=$$HOME/$${python\#??} ;; esac; "$$python"
override first_python := $(named_python) $(isolated)
# Only the standard library: it runs next to a key, where no other code may.
override handover := $(named_python) -I infra/releases/handover.py
override ready := .venv/ready .venv-mlflow/ready

$(foreach name,$(.VARIABLES),$(if $(call is_given,$(name)),$(call as_it_is,$(name))))

.PHONY: help
help: ## List the commands
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

##@ On this machine, with nothing but Python

.PHONY: up
up: $(ready) ## Start Airflow, train the image classifier and serve it (IMAGES=<folder>, PARAMS="epochs=3")
	@$(run) infra.laptop up $(call option,IMAGES,--images) $(call option,PARAMS,--params)

.PHONY: down
down: .venv/ready ## Stop what `make up` started; data is kept
	@$(run) infra.laptop down

.PHONY: clean
clean: .venv/ready ## Stop what `make up` started and delete its data
	@$(run) infra.laptop clean

.PHONY: status
status: .venv/ready ## Show the processes here, or a stack's pods, DAGs and problems (STACK=local)
	@$(run) $(if $(value STACK),infra.operations status -- "$$STACK",infra.laptop status)

.PHONY: login
login: .venv/ready ## Show the addresses and passwords of Airflow and MLflow on this machine
	@$(run) infra.laptop login

.PHONY: logs
logs: .venv/ready ## Follow the log of one process (S=scheduler)
	@$(run) infra.laptop logs $(if $(value S),-- "$$S")

.PHONY: bench-local
bench-local: ## Measure `make up` from a fresh clone: stages, restart, memory, DAG parse times
	@$(first_python) tests/bench_local.py

.PHONY: bench-serving
bench-serving: .venv/ready ## Measure the model server's memory and latency: every format, several clients at once
	@$(run) tests.bench_serving

.PHONY: bench-memory
bench-memory: .venv/ready ## Measure the memory of each task with 50,000 images, photos of 48 MP and 1,000 classes
	@$(run) tests.bench_memory

##@ On Kubernetes: any cluster (STACK=local), or one that Pulumi builds on AWS (STACK=dev)

.PHONY: plan
plan: .venv/ready ## Show offline what a stack creates, costs and allows (STACK=dev, AGAINST=staging or a git ref)
	@$(run) infra.plan $(call option,AGAINST,--against) -- $(named_stack)

.PHONY: images
images: .venv/ready ## Build the images that a stack's cluster lacks and bring them there (STACK=local, BUILT=<file>: write down what was built, PREVIEW=1: for preview environments)
	@$(run) infra.images build $(call option,BUILT,--built) $(call flag,PREVIEW,--preview) -- $(named_stack)

.PHONY: preview
preview: .venv/ready ## Ask the cluster or AWS what a deployment would change (STACK=dev)
	@$(run) infra.operations preview -- $(named_stack)

.PHONY: deploy
deploy: .venv/ready ## Bring the cluster or the account to what the program says (STACK=dev, YES=1: do not ask, REFRESH=1: undo drift, FORCE="why": past the checks)
	@$(run) infra.operations deploy $(call flag,YES,--yes) $(call flag,REFRESH,--refresh) \
		$(call option,FORCE,--force) -- $(named_stack)

.PHONY: smoke
smoke: .venv/ready ## See that a deployed stack works: health, commit, DAG files, the pod of a task (STACK=dev)
	@$(run) infra.operations smoke -- $(named_stack)

.PHONY: ui
ui: .venv/ready ## Forward a stack's Airflow and MLflow and show the logins (STACK=local)
	@$(run) infra.operations ui -- $(named_stack)

.PHONY: destroy
destroy: .venv/ready ## Delete a stack and prove that nothing is left (STACK=dev, YES=1 or CONFIRM=<stack>: do not ask)
	@$(run) infra.operations destroy $(call flag,YES,--yes) $(call option,CONFIRM,--confirm) -- $(named_stack)

.PHONY: sync
sync: .venv/ready ## Push this clone's HEAD to the Git server of a stack on an existing cluster (STACK=local)
	@$(run) infra.operations sync -- $(named_stack)

##@ Releases, from branch to branch

.PHONY: promote
promote: .venv/ready ## Bring the release of a stack into the next (FROM=dev TO=staging, DRY_RUN=1: only show, CONFIRM=migration, CHANGE=<file>: for `make publish`)
	@$(run) infra.releases promote $(call flag,DRY_RUN,--dry-run) $(call option,CONFIRM,--confirm) \
		$(call option,CHANGE,--change) -- \
		$(call needed,FROM,name the stacks: make $@ FROM=dev TO=staging) \
		$(call needed,TO,name the stacks: make $@ FROM=dev TO=staging)

.PHONY: rollback
rollback: .venv/ready ## Bring a stack back to an earlier release (STACK=prod, TO=<commit>, DRY_RUN=1: only show, CONFIRM=database, CHANGE=<file>: for `make publish`)
	@$(run) infra.releases rollback $(call option,TO,--to) $(call flag,DRY_RUN,--dry-run) \
		$(call option,CONFIRM,--confirm) $(call option,CHANGE,--change) -- $(named_stack)

.PHONY: publish
publish: ## Push what another command wrote into a file (OPERATION=promote STACK=staging CHANGE=<file>, COMMIT=<tested commit>)
	@$(handover) publish $(call option,STACK,--stack) $(call option,COMMIT,--commit) -- \
		$(call needed,OPERATION,name the operation: make $@ OPERATION=release CHANGE=change) \
		$(call needed,CHANGE,name the file: make $@ OPERATION=release CHANGE=change)

.PHONY: check-out
check-out: ## Check out the commit of a stack's release (STACK=dev, CHANGE=<file>: after that is published)
	@$(handover) check-out $(call option,CHANGE,--change) -- $(named_stack)

.PHONY: sign
sign: .venv/ready ## Sign the images that `make images` built with BUILT, in a workflow of GitHub's (STACK=dev BUILT=<file>)
	@$(run) infra.images sign $(call option,BUILT,--built) -- $(named_stack)

.PHONY: release
release: .venv/ready ## Record what a stack runs, after `make deploy` and `make smoke` (STACK=dev, CHANGE=<file>: for `make publish`)
	@$(run) infra.releases release $(call option,CHANGE,--change) -- $(named_stack)

.PHONY: releases
releases: .venv/ready ## List the releases of a stack, the newest first (STACK=prod)
	@$(run) infra.releases history -- $(named_stack)

.PHONY: gates
gates: .venv/ready ## Show what a release has passed and what it must pass before it comes into a stack (STACK=staging)
	@$(run) infra.releases gates -- $(named_stack)

.PHONY: gate
gate: .venv/ready ## Pass one gate and record it (GATE=tests, or GATE=plan|rehearsal STACK=staging, YES=1, CHANGE=<file>: for `make publish`)
	@$(run) infra.releases gate $(call option,STACK,--stack) $(call flag,YES,--yes) $(call option,CHANGE,--change) -- \
		$(call needed,GATE,name the gate: make $@ GATE=tests)

.PHONY: drift
drift: .venv/ready ## Show what was changed behind Pulumi's back, and fail if something was (STACK=prod, ISSUE=1: keep an issue on GitHub, WITHOUT_SECRETS=1: with a role that reads none)
	@$(run) infra.operations drift $(call flag,ISSUE,--issue) $(call flag,WITHOUT_SECRETS,--without-secrets) -- \
		$(named_stack)

.PHONY: plan-comment
plan-comment: .venv/ready ## Write what a change does to each stack and its cost (AGAINST=origin/dev, PULL_REQUEST=12: as a comment there)
	@$(run) infra.plan.comment $(call option,PULL_REQUEST,--pull-request) -- \
		$(call needed,AGAINST,name a git ref: make $@ AGAINST=origin/dev)

##@ Preview environments of branches

.PHONY: preview-env
preview-env: .venv/ready ## Give a branch an Airflow of its own in a stack's cluster (BRANCH=feature/x, STACK=dev, HOURS=72)
	@$(run) infra.preview up $(call option,HOURS,--hours) -- $(previewed_stack) $(named_branch)

.PHONY: preview-envs
preview-envs: .venv/ready ## List the preview environments of a stack (STACK=dev)
	@$(run) infra.preview list -- $(previewed_stack)

.PHONY: preview-env-down
preview-env-down: .venv/ready ## Remove the preview environment of a branch (BRANCH=feature/x, STACK=dev)
	@$(run) infra.preview down -- $(previewed_stack) $(named_branch)

.PHONY: preview-env-gc
preview-env-gc: .venv/ready ## Remove the preview environments whose time is over (STACK=dev)
	@$(run) infra.preview gc -- $(previewed_stack)

##@ On AWS alone

.PHONY: stack
stack: .venv/ready ## Write the settings of a new stack (NAME=qa, LIKE=staging)
	@$(run) infra.operations stack $(call option,LIKE,--like) -- $(call needed,NAME,name the new stack: make $@ NAME=qa)

.PHONY: bootstrap
bootstrap: .venv/ready ## Make the bucket of Pulumi's state and the key of its secrets (STACK=dev)
	@$(run) infra.operations bootstrap -- $(named_stack)

.PHONY: dags-key
dags-key: .venv/ready ## Keep the key of the DAGs' repository in the cluster (STACK=dev, KEY=<file> or standard input, USER_NAME=<token's user>)
	@$(run) infra.operations dags-key $(call option,KEY,--file) $(call option,USER_NAME,--user) -- $(named_stack)

.PHONY: kubeconfig
kubeconfig: .venv/ready ## Put the cluster's access into the kubeconfig file (STACK=dev)
	@$(run) infra.operations kubeconfig -- $(named_stack)

##@ Development

.PHONY: setup
setup: $(ready) ## Create the virtual environments .venv and .venv-mlflow

.PHONY: test
test: $(ready) ## Run the whole offline test suite
	@$(run) pytest --ignore tests/cluster

.PHONY: e2e
e2e: .venv/ready ## Prove the stack `local` on the cluster that KUBECONFIG names, after `make images STACK=local`
	@$(run) pytest tests/cluster

.PHONY: bench-cluster
bench-cluster: .venv/ready ## Measure the stack `local` and the chart's defaults on that cluster, turn by turn
	@$(run) tests.bench_cluster

.PHONY: lint
lint: .venv/ready ## Check style and types of everything
	@$(run) ruff check .
	@$(run) ruff format --check .
	@$(run) mypy
	@.venv/bin/zizmor --quiet --offline --no-config --pedantic .github/workflows

.PHONY: format
format: .venv/ready ## Rewrite the sources in the project's style
	@$(run) ruff check --fix-only .
	@$(run) ruff format .

.PHONY: requirements
requirements: ## Pin requirements/*.txt anew from requirements/*.in (UPGRADE=1: newest versions)
	@$(run) infra.environments pin $(call flag,UPGRADE,--upgrade)

.venv/ready: requirements/dev.txt requirements/torch.txt requirements/torchvision.txt requirements/uv.txt pyproject.toml \
		infra/environments.py
	@$(first_python) -m infra.environments create main

.venv-mlflow/ready: requirements/mlflow.txt requirements/uv.txt infra/environments.py
	@$(first_python) -m infra.environments create mlflow
