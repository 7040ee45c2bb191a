# Every target sets itself up: `make demo` and `make test` are all a bare machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests start several hundred Pythons, each of which would compile all that it imports: half of what it does until it is ready.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo demo-web example-django example-fastapi example-flask test lint docs bench fuzz fuzz-http simulate pythons djangos audit chaos soak test-slow test-web test-cassandra clean

help:
	@echo "make demo   play a social network through real workers and show the feeds"
	@echo "make demo-web  watch a lively network in the browser, with a private Redis and workers"
	@echo "make example-django, make example-fastapi, make example-flask  a small network in the browser, with a private Redis and a worker"
	@echo "make test   everything that should be green: linters, types, tests"
	@echo "make test-slow  what takes long: ill brokers, killed workers, deployments, backups, whole sites"
	@echo "make test-web  pages in a real Chromium, which must be installed; --screenshots in ARGS writes those of the docs"
	@echo "make lint   only the linters and types"
	@echo "make docs   the documentation, as docs/_build/html/index.html"
	@echo "make bench  ours against bare Redis and empty Celery tasks, in one run of some minutes"
	@echo "make test-cassandra  what concerns feeds on Cassandra, with a real server: needs Java 17 and npm"
	@echo "make chaos  faults on purpose, with real servers and workers; writes docs/reliability.md"
	@echo "make soak   random faults for a while, e.g. ARGS='--soak-minutes 30'; adds to docs/reliability.md"
	@echo "make fuzz   a million malformed inputs, e.g. ARGS='--inputs 20000'; a whole run writes docs/reliability/fuzz.json"
	@echo "make fuzz-http  ten thousand requests made of the HTTP service's own description, e.g. ARGS='--requests 100000'"
	@echo "make simulate  histories with faults in one thread, from seeds, e.g. ARGS='--seconds 60' or '--storage cassandra'; docs/decisions/0050 says what of"
	@echo "make pythons  install and test on the other supported Pythons of this machine"
	@echo "make djangos  test what Django projects get on each Python and Django of this machine"
	@echo "make audit  known holes in what is installed"
	@echo "make clean  remove the virtual environment and caches"

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Feedmill needs Python 3.10 or newer; set PYTHON=python3.x"; exit 1; }
	@echo "Installing what is needed into $(VENV): one to two minutes the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); $(PYTHON) -m virtualenv $(VENV); } || { echo "No virtual environment could be made; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,deploy]'
	@touch $(STAMP)

demo: $(STAMP)
	@PATH="$$PATH:$$($(BIN)/python .ci/fetch_redis.py)" $(BIN)/feedmill demo

# WEB_PORT=8000; EXAMPLE_DB names a file that keeps what is done.
demo-web: SITE := live
example-django: SITE := django
example-fastapi: SITE := fastapi
example-flask: SITE := flask
demo-web example-django example-fastapi example-flask: $(STAMP)
	@PATH="$$PATH:$$($(BIN)/python .ci/fetch_redis.py)" $(BIN)/python -m examples.run $(SITE)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Tests side by side; docs/decisions/0076 says how many. A part: make test ARGS='tests/feeds'; alone: python -m pytest tests/feeds
test: lint
	$(BIN)/python -m pytest -n auto --dist loadgroup $(ARGS)

# What takes long: brokers that are ill, workers that are killed, deployments, backups, whole sites, the pages of the documentation.
test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow -n auto --dist loadgroup $(ARGS)

# What drives a browser is large, and nothing else needs it.
$(VENV)/.browser: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser]'
	@touch $@

test-web: $(VENV)/.browser
	$(BIN)/python -m pytest tests/web -m web $(ARGS)

# A part: make test-cassandra ARGS='tests/cassandra'. Without it the tests of all kinds of feeds run there as well, for an hour.
test-cassandra: $(STAMP)
	$(BIN)/python -m pytest -m cassandra $(ARGS)

docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -n -q -d docs/_build/doctrees docs docs/_build/html
	@echo "docs/_build/html/index.html"

# Two runs side by side: make bench ARGS='--out before', and later make bench ARGS='compare before'
bench: $(STAMP)
	$(BIN)/python -m benchmarks $(ARGS)

# With ARGS it runs a part, and leaves the page alone: make chaos ARGS='-m "chaos and short"'
chaos: $(STAMP)
	$(BIN)/python -m pytest tests/chaos $(if $(ARGS),-m chaos $(ARGS),-m chaos --reliability)

# Larger crowds than the scenarios have; both brokers, or one of them: make soak ARGS='-k rabbitmq --soak-kills 100'
soak: $(STAMP)
	CHAOS_FOLLOWERS=$(or $(FOLLOWERS),3000) CHAOS_CHUNK=$(or $(CHUNK),250) $(BIN)/python -m pytest tests/chaos -m soak $(ARGS)

# With ARGS it leaves the record of the last whole run alone.
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz $(or $(ARGS),--json docs/reliability/fuzz.json)

fuzz-http: $(STAMP)
	$(BIN)/python -m tests.http_service.fuzz $(ARGS)

# A minute of it on each storage; a whole run: ARGS='--histories 1000000 --json docs/reliability/simulation.json'. --add goes on behind
# the seeds that the record has. With --storage cassandra some feeds are on a Cassandra server: about two histories a second. See --help.
simulate: $(STAMP)
	$(BIN)/python -m tests.simulation $(or $(ARGS),--seconds 120 --storage both)

# In an environment of its own: what audits must not be among what is audited.
$(VENV)/audit/bin/pip-audit: $(STAMP)
	$(BIN)/python -m venv $(VENV)/audit || { rm -rf $(VENV)/audit; $(PYTHON) -m virtualenv $(VENV)/audit; }
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.7,<3'

pythons:
	.ci/pythons $(ARGS)

djangos:
	.ci/djangos $(ARGS)

audit: $(VENV)/audit/bin/pip-audit
	@$(BIN)/python .ci/audit.py $< "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')" $(ARGS)

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info .mypy_cache .ruff_cache .hypothesis
