#!/usr/bin/env bash
# Installs what the tests need and this machine lacks, once and quietly:
#   tools.sh go   the checkers, in .bin
#   tools.sh      these, Chromium, PostgreSQL, and what tests run of npm and of others
# A system package that cannot be installed here is named on standard error and
# left to the test that needs it, which then fails with its own reason.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

: "${GO:=go}" "${BIN:=$PWD/.bin}"
: "${GOFUMPT:=mvdan.cc/gofumpt@v0.12.0}" "${STATICCHECK:=honnef.co/go/tools/cmd/staticcheck@v0.8.2}"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() { # runs a command; shows what it said only when it fails
  "$@" >"$log" 2>&1 || { echo "tools: failed: $*" >&2; cat "$log" >&2; return 1; }
}

# The stamp names version and toolchain, so that either one's change installs anew.
go_tool() {
  local module=$1 name stamp
  name=$(basename "${module%@*}")
  stamp="$BIN/$name.version"
  local want="$module $("$GO" env GOVERSION)"
  if [ -x "$BIN/$name" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then return; fi
  echo "tools: installing $module"
  mkdir -p "$BIN"
  GOBIN="$BIN" quietly "$GO" install "$module"
  echo "$want" >"$stamp"
}

go_tool "$GOFUMPT"
go_tool "$STATICCHECK"
[ "${1:-}" != go ] || exit 0
go_tool filippo.io/torchwood/cmd/litewitness@v0.6.1 # a witness by others; 0.10 needs a newer Go

has_postgres() { command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || compgen -G '/usr/pgsql-*/bin/initdb' >/dev/null; }
has_chromium() { command -v "${COUNTERSIGN_CHROMIUM:-chromium}" >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; }
has_npm() { command -v npm >/dev/null; }

missing=()
has_postgres || [ -n "${COUNTERSIGN_TEST_POSTGRES:-}" ] || missing+=(postgresql)
has_chromium || missing+=(chromium)
has_npm || missing+=(npm)

as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo -n)
if [ ${#missing[@]} -gt 0 ]; then
  if command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
    echo "tools: installing ${missing[*]}"
    # Debian's package would start a server of its own, which no test uses.
    if [[ " ${missing[*]} " == *" postgresql "* ]] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
      quietly "${as_root[@]}" mkdir -p /etc/postgresql-common
      echo 'create_main_cluster = false' | quietly "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf
    fi
    quietly "${as_root[@]}" apt-get update -qq
    quietly "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
  else
    echo "tools: please install: ${missing[*]} (no apt-get, or no right to use it here)" >&2
  fi
fi

# node_modules is right when it was made from this very lock file.
packages() { # folder
  local lock=$1/package-lock.json stamp=$1/node_modules/.countersign-lock
  if ! has_npm || cmp -s "$lock" "$stamp"; then return; fi
  echo "tools: installing the packages of $1"
  (cd "$1" && quietly npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
  cp "$lock" "$stamp"
}
packages test/browser
packages test/interop

# Programs of Debian that the interop tests run, with what they need that is not
# here: unpacked, not installed, so that no service starts and no root is needed.
unpacked=(apache2-bin git-credential-oauth libapache2-mod-auth-openidc oidc-agent-cli)
unpack() {
  local at=$BIN/debian dir deb
  [ "$(cat "$at.packages" 2>/dev/null)" != "${unpacked[*]}" ] || return 0
  command -v apt-get >/dev/null || { echo "tools: please get: ${unpacked[*]} (no apt-get here)" >&2; return 0; }
  echo "tools: unpacking ${unpacked[*]}"
  dir=$(mktemp -d)
  fetch() { # with what they need; apt-get -s says what that is
    local list
    list=$(apt-get -s install --no-install-recommends "${unpacked[@]}" | awk '/^Inst /{print $2}') || return 1
    (cd "$dir" && printf '%s\n' "${unpacked[@]}" $list | sort -u | xargs apt-get download -qq)
  }
  fetch >/dev/null 2>&1 || { quietly "${as_root[@]}" apt-get update -qq && quietly fetch; }
  rm -rf "$at"
  mkdir -p "$at"
  for deb in "$dir"/*.deb; do quietly dpkg -x "$deb" "$at"; done
  rm -rf "$dir"
  echo "${unpacked[*]}" >"$at.packages"
}
unpack
