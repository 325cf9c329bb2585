#!/usr/bin/env bash
# Installs the Debian packages named in $1 that are missing. Says what to do where it may not.
set -euo pipefail
missing=()
for p in $1; do
	dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
	echo "make setup: run as root, or: sudo apt-get install ${missing[*]}" >&2
	exit 1
fi
echo "install ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
