#!/bin/sh
# Ensures that Redis is available: at MIEN_REDIS_URL, or as a redis-server program that demo and tests can start.
set -eu

[ -n "${MIEN_REDIS_URL:-}" ] && exit 0
is_there() {
    command -v redis-server >/dev/null || return 1
    case $(redis-server --version) in
        *v=[2-6].*)
            echo "error: redis-server is older than 7.0: install a newer one, or set MIEN_REDIS_URL" >&2
            exit 1
            ;;
    esac
}
is_there && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing redis-server from the distribution's packages ..."
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null || true
    is_there && exit 0
fi
echo "error: no Redis: install redis-server (Debian, Ubuntu: sudo apt-get install redis-server) or set MIEN_REDIS_URL" >&2
exit 1
