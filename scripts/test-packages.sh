#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Which programs of others do the tests and the bench need? Installs the Debian packages that are missing when we are
# root and may (apt-get), else names them: tests that need one fail without it.
set -euo pipefail

packages=() names=()
need() { # program, Debian package
  if ! PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null; then
    packages+=("$2")
    names+=("$1")
  fi
}
need nginx nginx-light
need haproxy haproxy
need wrk wrk
need curl curl
need openssl openssl
need taskset util-linux
need chromium chromium
need node nodejs
need ip iproute2
need nft nftables
need dnsmasq dnsmasq-base
need slapd slapd
need ldapsearch ldap-utils
need redis-server redis-server
# Debian keeps PostgreSQL's server out of everybody's PATH.
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || need postgres postgresql

[ "${#packages[@]}" -gt 0 ] || exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  printf 'installing %s\n' "${packages[*]}"
  # RUNLEVEL=1 keeps the servers among them from being started, and their ports from being taken.
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
  install=(apt-get install -qq -y --no-install-recommends "${packages[@]}")
  "${install[@]}" >/dev/null 2>&1 || { apt-get update -qq && "${install[@]}" >/dev/null; } && exit 0
fi
printf 'not found: %s; tests that need them fail; hint: apt-get install %s\n' "${names[*]}" "${packages[*]}"
