#!/usr/bin/env bash
# Sets up, builds, and runs examples/guestbook in the foreground on this machine. Ctrl-C removes all but its data.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" -ne 0 ]; then
	if command -v sudo >/dev/null; then
		exec sudo --preserve-env=PATH,GOFLAGS,GOPROXY,GOMODCACHE,GOCACHE "$0" "$@"
	fi
	echo "make demo: needs root, for namespaces and nftables; run it as root" >&2
	exit 1
fi
make --no-print-directory setup-run build
archive=$PWD/bin/guestbook.tar
go run ./examples/images -archive "$archive" guestbook redis report
exec bin/shoal dev --images "$archive" "$@" examples/guestbook
