#!/bin/sh
# Makes sure that there is a Redis: one at MIEN_REDIS_URL, or a redis-server program that demo and tests can start.
set -eu

[ -n "${MIEN_REDIS_URL:-}" ] && exit 0
command -v redis-server >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing redis-server from the distribution's packages ..."
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null || true
    command -v redis-server >/dev/null && exit 0
fi
echo "error: no Redis: install redis-server (Debian, Ubuntu: sudo apt-get install redis-server) or set MIEN_REDIS_URL" >&2
exit 1
