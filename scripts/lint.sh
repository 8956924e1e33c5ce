#!/usr/bin/env bash
# gofumpt, vet, staticcheck, and the rules of the house (internal/*_test.go).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${GO:=go}" "${BIN:=$PWD/.bin}"

# Files of the index and new ones; what is deleted but not yet staged is left out.
files=()
while IFS= read -r -d '' f; do
  [ ! -f "$f" ] || [[ $f == *_templ.go ]] || files+=("$f")
done < <(git ls-files -z --cached --others --exclude-standard '*.go')
unformatted=$("$BIN/gofumpt" -l "${files[@]}")
if [ -n "$unformatted" ]; then
  printf 'lint: not formatted, run make fmt:\n%s\n' "$unformatted" >&2
  exit 1
fi
"$GO" vet ./...
"$BIN/staticcheck" ./...
"$GO" mod tidy -diff
"$GO" mod verify >/dev/null
"$GO" test -count=1 ./internal
