#!/usr/bin/env bash
# Counts the instructions of what is recorded, under valgrind, and holds them against benches/instructions.json.
#
#   benches/check_instructions.sh [--update] [FILTER]
#
# --update   stores what was counted; commit that with the change that caused it
# FILTER     only what has this in its name
#
# Fails where something needs 5 % more than stored, or is not stored. Without valgrind it is left out, loudly;
# NETTRACE_LAB=require makes that a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v valgrind >/dev/null; then
    echo "LEFT OUT: no valgrind on this machine, so no instructions are counted (apt-get install valgrind)." >&2
    [[ ${NETTRACE_LAB-} != require ]] || exit 1
    exit 0
fi
exec cargo bench --locked --features _bench --bench instructions -- "$@"
