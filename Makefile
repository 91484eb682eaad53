# Ferrule's everyday commands. They run on a fresh Debian 12 with Rust, as root or with sudo.
#
#   make serve    build, and serve an embedded pool: POOL=PATH[:SIZE], STATE=DIR, ARGS="further arguments"
#   make install  the program, its name lbcli, completions and manual pages, below PREFIX
#   make test     everything that must pass: format, lints, documents, tests, a real Linux host in a guest
#   make bench    measure the parts, and the whole against the machine's bounds: BENCH_ARGS="further arguments"
#   make fuzz     the fuzz targets, FUZZ_SECONDS each
#   make clean    remove what was built and the embedded pool

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := serve
.NOTPARALLEL:
.PHONY: serve install install-files test bench check build guest fuzz clean packages test-packages bench-packages cargo

TARGET := $(or $(CARGO_TARGET_DIR),target)
STATE ?= .run/state
POOL ?= .run/pool:4GiB
ARGS ?=
BENCH_ARGS ?=
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 10
BUILD_PACKAGES := build-essential pkg-config libhwloc-dev protobuf-compiler
TEST_PACKAGES := curl etcd-client etcd-server openssl python3-venv xz-utils zstd
BENCH_PACKAGES := curl fio linux-perf valgrind

serve: packages cargo
	cargo build --release --package mgmt --bin ferrule
	mkdir -p "$(STATE)" .run
	exec "$(TARGET)/release/ferrule" serve --state "$(STATE)" --pool "$(POOL)" $(ARGS)

install: packages cargo
	cargo build --release --package mgmt --bin ferrule
	@$(MAKE) --no-print-directory install-files

# Puts a program that is built in its place: BINARY, DESTDIR and PREFIX say which and where.
BINARY ?= $(TARGET)/release/ferrule
SHARE = $(DESTDIR)$(PREFIX)/share
install-files:
	install -D -m 755 "$(BINARY)" "$(DESTDIR)$(PREFIX)/bin/ferrule"
	ln -sf ferrule "$(DESTDIR)$(PREFIX)/bin/lbcli"
	install -d "$(SHARE)/bash-completion/completions" "$(SHARE)/zsh/site-functions" \
		"$(SHARE)/fish/vendor_completions.d" "$(SHARE)/man/man1"
	for name in ferrule lbcli; do \
		program="$(DESTDIR)$(PREFIX)/bin/$$name"; \
		"$$program" completions bash > "$(SHARE)/bash-completion/completions/$$name"; \
		"$$program" completions zsh > "$(SHARE)/zsh/site-functions/_$$name"; \
		"$$program" completions fish > "$(SHARE)/fish/vendor_completions.d/$$name.fish"; \
	done
	"$(BINARY)" man "$(SHARE)/man/man1"
	ln -sf ferrule.1 "$(SHARE)/man/man1/lbcli.1"

# The binary under test is built in the same profile as the tests, so that every crate is compiled once.
test: check build guest fuzz
	cargo test --workspace --no-fail-fast

# The server is built by itself: together with the benches it would get the features that only tests want.
bench: packages bench-packages cargo
	cargo build --release --package mgmt --bin ferrule
	cargo build --release --package benches
	cargo bench --package benches --bench transport --bench store --bench reactor --bench map
	cargo bench --package benches --bench instructions
	"$(TARGET)/release/compare" --out "$(TARGET)/compare.md" --plot "$(TARGET)/compare.svg" $(BENCH_ARGS)
	"$(TARGET)/release/manage"

check: packages cargo
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

build: packages cargo
	cargo build --profile test --workspace --bins --tests

guest: test-packages
	tests/guest/fetch.sh 6.12 6.1

fuzz: packages cargo
	fuzz/run $(FUZZ_SECONDS)

clean:
	rm -rf .run
	cargo clean

# What is missing is installed; where nothing is, neither apt nor root is needed.
install = @missing=$$({ dpkg-query -W -f '$${db:Status-Status} $${Package}\n' $(1) 2>/dev/null || true; } | \
	awk '$$1 == "installed" { print $$2 }' | sort | comm -13 - <(printf '%s\n' $(1) | sort)); \
	[ -z "$$missing" ] || { sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; set -x; \
	$$sudo apt-get -q update; $$sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y install $$missing; }

packages:
	$(call install,$(BUILD_PACKAGES))

test-packages:
	$(call install,$(TEST_PACKAGES))

bench-packages:
	$(call install,$(BENCH_PACKAGES))

cargo:
	@command -v cargo >/dev/null || { echo "Rust is missing: install it with rustup, version 1.95 or newer" >&2; exit 1; }
	@printf '%s\n' 1.95 "$$(rustc --version | awk '{ print $$2 }')" | sort --check=quiet --version-sort || \
		{ echo "$$(rustc --version) is too old: install 1.95 or newer with rustup" >&2; exit 1; }
