#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Is everything here that a build needs? Finds Python, a Rust toolchain and a C compiler, says in one line each what is
# missing, and hands over to scripts/build.py, which does nothing when all is up to date.
#   scripts/bootstrap.sh run       .venv, with the release build installed: what users run
#   scripts/bootstrap.sh test      .venv-test, with the test build and the tools of tests and lint
#   scripts/bootstrap.sh wheel     dist/*.whl
set -euo pipefail
cd "$(dirname "$0")/.."

mode=${1:?run, test or wheel}
newest_minor=14 # the newest CPython that pyo3 knows
oldest_minor=11

die() {
  printf 'Error: %s\n' "$1" >&2
  exit 1
}

python_minor() { # prints the minor version of a usable CPython 3, or fails
  "$1" - 2>/dev/null <<'EOF'
import sys, sysconfig, ensurepip, venv
usable = sys.implementation.name == "cpython" and sys.version_info.releaselevel == "final"
if sys.version_info[0] != 3 or not usable or sysconfig.get_config_var("Py_GIL_DISABLED"):
    raise SystemExit(1)
print(sys.version_info[1])
EOF
}

find_python() {
  local best='' best_minor=0 candidate minor
  for minor in $(seq "$newest_minor" -1 "$oldest_minor"); do
    for candidate in "$(command -v "python3.$minor" || true)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"3.$minor".*/bin/python3; do
      [ -x "$candidate" ] && [ "$(python_minor "$candidate")" = "$minor" ] && printf '%s\n' "$candidate" && return
    done
  done
  candidate=$(command -v python3 || true)
  if [ -n "$candidate" ] && best_minor=$(python_minor "$candidate"); then
    [ "$best_minor" -ge "$oldest_minor" ] && [ "$best_minor" -le "$newest_minor" ] && best=$candidate
  fi
  [ -n "$best" ] || return 1
  printf '%s\n' "$best"
}

is_at_least() { # is version $1 at least $2?
  [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

command -v cargo >/dev/null || PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
venv=.venv
[ "$mode" = test ] && venv=.venv-test

if ! "$venv/bin/python" -c '' 2>/dev/null; then
  python=$(find_python) || die "Python 3.$oldest_minor to 3.$newest_minor with venv is needed and not found; hint: apt-get install python3 python3-venv"
  printf 'Python    %s (%s)\n' "$("$python" -c 'import platform; print(platform.python_version())')" "$python"
  printf 'making    %s\n' "$venv"
  "$python" -m venv "$venv"
fi
if "$venv/bin/python" scripts/build.py "$mode" --check; then
  exit 0
fi

wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
command -v cargo >/dev/null || die "Rust $wanted or newer is needed and cargo is not found; hint: https://rustup.rs"
rust=$(rustc --version | cut -d ' ' -f 2)
is_at_least "$rust" "$wanted" || die "Rust $wanted or newer is needed, this is $rust; hint: rustup update stable"
printf 'Rust      %s (%s)\n' "$rust" "$(command -v cargo)"
compiler=$(command -v cc || command -v gcc || command -v clang) || die "a C compiler is needed and neither cc, gcc nor clang is found; hint: apt-get install gcc libc6-dev"
printf 'C         %s\n' "$compiler"
exec "$venv/bin/python" scripts/build.py "$mode"
