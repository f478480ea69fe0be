# `make reproduce` runs every experiment, `make test` checks the repository; both install first where that is needed.
# In an environment of your own: pip install -c constraints.txt -r requirements.txt, then snakemake or dvc repro.

# The first of these that is Python 3.11 or newer makes the environment; `make PYTHON=python3.12 ...` chooses, and makes
# another one where there is one of another version.
PYTHONS := $(or $(PYTHON),python3 python3.11 python3.12 python3.13 python3.14 python)
CORES := all
# Processes of the tests: a third one works on two cores while others wait for servers and timeouts.
WORKERS := 3
TARGET := all

INSTALLED := .venv/installed
IN_VENV := PATH="$(CURDIR)/.venv/bin:$$PATH" OMP_NUM_THREADS=1
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
VERSION := import sys; print("%d.%d.%d" % sys.version_info[:3])

.DEFAULT_GOAL := help
.PHONY: help reproduce rehearse report docs test lint style types pytest ui release-check install clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/make \1@\2/p' Makefile | awk -F@ '{ printf "%-20s%s\n", $$1, $$2 }'

reproduce: $(INSTALLED)  ## run what is not up to date: data, training, evaluation, figures, report
	$(IN_VENV) snakemake --cores $(CORES) $(TARGET)

rehearse: $(INSTALLED)  ## every stage of the profile paper for an update or two, on the CPU and miniature data
	$(IN_VENV) python -m workflows.rehearse

report: $(INSTALLED)  ## all reports, beside what papers say, on one page: results/report.html
	$(IN_VENV) python -m workflows.page

docs: $(INSTALLED)  ## the documentation as a site that needs no network: build/site/index.html
	$(IN_VENV) python -m sphinx -qWE --keep-going -c docs -d build/doctrees . build/site
	@echo build/site/index.html

# pyright has one core busy for a minute: beside the tests, not before them.
test: style  ## all checks and tests
	@$(MAKE) --no-print-directory --jobs 2 types pytest

lint: style types  ## style, types, import directions

style: $(INSTALLED)
	$(IN_VENV) ruff check
	$(IN_VENV) ruff format --check
	$(IN_VENV) snakefmt --check Snakefile workflows
	$(IN_VENV) lint-imports

types: $(INSTALLED)
	$(IN_VENV) pyright

pytest: $(INSTALLED)
	$(IN_VENV) python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

ui: $(INSTALLED)  ## the runs in MLflow, on http://127.0.0.1:5000
	$(IN_VENV) python -m deq_core.experiment.tracking.ui

release-check: $(INSTALLED)  ## wheels and source distributions in build/release, each tried alone
	$(IN_VENV) python -m release

install: $(INSTALLED)  ## .venv with the pinned versions

clean:  ## remove .venv and caches of tools; data, results and runs stay
	rm -rf .venv .venv-unfinished .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# .venv/installed is written last and names the folder, so an interrupted installation or a moved checkout starts anew.
OWNER := $(shell cat $(INSTALLED) 2>/dev/null)
ifeq ($(origin PYTHON),command line)
OTHER := $(shell test "$$($(PYTHON) -c '$(VERSION)' 2>&1)" = "$$(.venv/bin/python -c '$(VERSION)' 2>&1)" || echo other)
endif
ifneq ($(OWNER)$(OTHER),$(CURDIR))
.PHONY: $(INSTALLED)
endif

$(INSTALLED): constraints.txt requirements.txt pyproject.toml $(wildcard packages/*/pyproject.toml)
	@if test "$(OWNER)" != "$(CURDIR)" && test -L .venv && test .venv -ef "$(OWNER)/.venv"; then \
	    echo ".venv is a link to that of $(OWNER); remove the link, and make installs one here" >&2; \
	    exit 1; \
	fi
	@if test -n "$(OTHER)" || test -e .venv-unfinished || { test -e $@ && test "$(OWNER)" != "$(CURDIR)"; } || \
	    ! .venv/bin/python -c '$(NEW_ENOUGH)' 2>/dev/null; then \
	    for python in $(PYTHONS); do \
	        if "$$python" -c '$(NEW_ENOUGH)' 2>/dev/null; then break; fi; \
	        version=$$("$$python" -c '$(VERSION)' 2>/dev/null || echo "not there"); \
	        tried="$$tried $$python ($$version)"; python=; \
	    done; \
	    if test -z "$$python"; then \
	        echo "Python 3.11 or newer is needed; tried:$$tried. Install one, or name it: make PYTHON=/path/to/python3" >&2; \
	        exit 1; \
	    fi; \
	    echo "Making .venv with $$python ($$("$$python" -c '$(VERSION)'))"; \
	    touch .venv-unfinished; \
	    if ! "$$python" -m venv --clear .venv; then \
	        echo "$$python cannot make an environment; on Debian and Ubuntu: apt install python3-venv" >&2; \
	        exit 1; \
	    fi; \
	fi
	@touch .venv-unfinished
	@echo "Installing the versions of constraints.txt (2 GB; minutes the first time)"
	PIP_CONSTRAINT=constraints.txt .venv/bin/python -m pip install --quiet -r requirements.txt
	@echo "$(CURDIR)" > $@ && rm .venv-unfinished
