#!/usr/bin/env bash
# Takes the binary out of Debian's package of Prometheus and puts it at $1; nothing is installed.
set -euo pipefail
echo "unpack  prometheus"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq prometheus 2>/dev/null || { apt-get update -qq && apt-get download -qq prometheus; }
dpkg-deb -x prometheus_*.deb .
mkdir -p "$(dirname "$1")"
cp usr/bin/prometheus "$1"
