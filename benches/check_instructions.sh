#!/usr/bin/env bash
# Counts the instructions of each scene in benches/scenes under valgrind, and compares them with
# benches/instructions.json.
#
#   benches/check_instructions.sh [--update] [FILTER]
#
# --update   stores the counts; commit them with the change that caused them
# FILTER     only scenes whose name contains this
#
# Fails if a scene needs 5 % more than stored, or is not stored. Without valgrind it prints a message and counts nothing;
# with NETTRACE_LAB=require that is a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v valgrind >/dev/null; then
    echo "LEFT OUT: no valgrind on this machine, so no instructions are counted (apt-get install valgrind)." >&2
    [[ ${NETTRACE_LAB-} != require ]] || exit 1
    exit 0
fi
exec cargo bench --locked -p nettrace-benches --bench instructions -- "$@"
