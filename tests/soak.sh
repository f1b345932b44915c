#!/usr/bin/env bash
# Leaves a sink on under load, and checks that memory and descriptors stay within bounds, that links are right and that no
# request is lost. Optimised; not part of tests/run.sh.
#
#   tests/soak.sh [SECONDS]
#
# SECONDS   how long, five minutes by default
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
NETTRACE_SOAK_SECONDS=${1:-300} cargo test --locked --release --features client,json --test soak -- --ignored --nocapture
