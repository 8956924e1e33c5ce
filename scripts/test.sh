#!/usr/bin/env bash
# All tests, in stages that each have a budget (docs/architecture.md, Tests).
# Every package runs in exactly one stage; what it lacks is a failure, never a
# skip. Stages follow each other, so that faults and browsers are not measured
# while something else takes the processors.
#   test.sh          all stages
#   test.sh browser  one of: lint unit stores flows browser interop faults
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${GO:=go}"
export COUNTERSIGN_REQUIRE_POSTGRES=1 COUNTERSIGN_REQUIRE_BROWSER=1

only=${1:-}
begun=$SECONDS
summary=()
failed=()

# stage NAME BUDGET COMMAND…: runs it, notes seconds and outcome, goes on.
stage() {
  local name=$1 budget=$2 from=$SECONDS state=ok took
  shift 2
  [ -z "$only" ] || [ "$only" = "$name" ] || [ "$name" = tools ] || return 0
  echo "== $name"
  "$@" || { state=FAILED; failed+=("$name"); }
  took=$((SECONDS - from))
  [ "$state" != ok ] || [ "$took" -le "$budget" ] || state="ok, OVER BUDGET"
  summary+=("$(printf '%-8s %4d s of %4d s  %s' "$name" "$took" "$budget" "$state")")
}

# packages REGEXP: those of the module whose path below it matches.
module=$("$GO" list -m)
packages() {
  "$GO" list ./... | sed "s|^$module\$|.|; s|^$module/|./|" | grep -E "$1" || true
}
run_tests() { # packages, one a line
  [ -n "$1" ] || { echo "   (none yet)"; return 0; }
  # shellcheck disable=SC2086
  # Tests that are parallel mostly wait, for disks and for each other: more of them
  # run at once than there are processors.
  "$GO" test -p 2 -parallel 4 -timeout 10m $1
}

stores='^\./(internal/store|test/pgtest)(/|$)'
flows='^\./(internal/(server|oauth|admin|portal)|cmd|test/flows)(/|$)'
browser='^\./(test/(browser|e2e)|internal/portal/view)(/|$)'
interop='^\./(test/(interop|conformance|upgrade)|release)(/|$)' # a release is built, twice
faults='^\./test/trust(/|$)'
unit=$(packages . | grep -vE "$stores|$flows|$browser|$interop|$faults" || true)

cold=0
[ -e .bin/staticcheck.version ] || cold=600
stage tools   600 scripts/tools.sh
stage lint    240 scripts/lint.sh
stage unit     90 run_tests "$unit"
stage stores   90 run_tests "$(packages "$stores")"
stage flows   120 run_tests "$(packages "$flows" | grep -vE "$browser" || true)"
stage browser 240 run_tests "$(packages "$browser")"
stage interop 360 run_tests "$(packages "$interop")"
stage faults  120 run_tests "$(packages "$faults")"

total=$((SECONDS - begun)) limit=$((1200 + cold))
echo
printf '%s\n' "${summary[@]}"
printf '%-8s %4d s of %4d s\n' total "$total" "$limit"
if [ ${#failed[@]} -gt 0 ]; then
  echo "make test: failed: ${failed[*]}" >&2
  exit 1
fi
if [ "$total" -gt "$limit" ]; then
  echo "make test: over its budget as a whole, which is a failure to mend" >&2
  exit 1
fi
