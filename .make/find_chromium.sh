#!/bin/sh
# Finds Chromium for the tests of the page, or installs it if possible.  Without it, these tests are skipped.
set -eu

for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing chromium from the distribution's packages ..."
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null || true
    command -v chromium >/dev/null && exit 0
fi
echo "note: no Chromium, so the tests of the page are skipped (Debian, Ubuntu: sudo apt-get install chromium)" >&2
