#!/usr/bin/env bash
# Runs all tests. As root on Debian it first names and installs the packages that they need.
#
#   tests/run.sh [--no-install]
#
# --no-install   installs nothing; tests whose program is missing are left out and listed
#
# NETTRACE_LAB=require   a test that cannot run here fails instead of being left out
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=parts.sh
source tests/parts.sh
export PATH="$PATH:/usr/sbin:/sbin:/usr/lib/postgresql/15/bin" # Debian's programs for administrators

# Each program that a test runs, and the Debian package that has it.
needed=(
    nginx:nginx-light dnsmasq:dnsmasq-base openssl:openssl strace:strace curl:curl
    nft:nftables conntrack:conntrack ip:iproute2 ss:iproute2 tcpdump:tcpdump tshark:tshark
    cc:gcc cc:libc6-dev pcap-config:libpcap-dev valgrind:valgrind initdb:postgresql-15
    tinyproxy:tinyproxy-bin squid:squid microsocks:microsocks unbound:unbound dnsdist:dnsdist
)

# Built together, so that their dependencies have the same features and are compiled once. The clients of other crates have
# half of their dependencies in common with the library.
tested=(-p nettrace -p nettrace-load)
clients=(-p nettrace-clients)

main() {
    local install=yes
    case "${1-}" in
        "") ;;
        --no-install) install=no ;;
        *) usage ;;
    esac
    [[ $# -le 1 ]] || usage

    work=$(mktemp -d)
    trap clean_up EXIT
    export NETTRACE_SKIP_LOG="$work/skipped"
    touch "$NETTRACE_SKIP_LOG" "$work/log"
    [[ ! -t 1 ]] || export CARGO_TERM_COLOR=always

    packages "$install"
    choose_runner

    # All tests run with all features. Unit tests and those of TLS and of the command also run with the cryptography that
    # is the default, which is not used where both are on.
    part "All features"
    run_tests "${tested[@]}" "${clients[@]}" --all-features
    part "ring alone"
    run_tests "${tested[@]}" --features nettrace/full --lib --test tls --test cli
    local features test
    while read -r features test <&3; do
        [[ $test == test ]] || continue
        part "Unit tests: $features"
        run_tests --lib --no-default-features --features "${features/#none/}"
    done 3< <(grep -v "^#" tests/feature-sets)
    part "Examples"
    cargo build --locked "${tested[@]}" "${clients[@]}" --all-features --bins --examples
    load_generator
    part "Documentation tests"
    logged cargo test --locked "${tested[@]}" "${clients[@]}" --all-features --doc
    part "Loom models"
    models
    part "Interpreted (miri)"
    interpreted
    part "Hostile peers, optimised"
    hostile

    closing_line
}

# Runs the load generator with each client over each protocol: each request is recorded, and no task and no descriptor
# is left behind.
load_generator() {
    local presets=untraced,bare,off,traced,full,recorder grpc=tonic,tonic-traced,tonic-off
    local http=plain,layers,layers-uncaptured,layers-off,wire,wire-off,events,tower-http,tower-http-otel
    http+=,reqwest,reqwest-observed,reqwest-off,reqwest-tracing,reqwest-tracing-otel
    left_nothing $http,$grpc --concurrency 4
    left_nothing $http,$grpc --url h2 --concurrency 4
    left_nothing $http --url https
    left_nothing $http --fresh-connections
    left_nothing $presets --baseline untraced --concurrency 4
    left_nothing $presets --baseline untraced --url https
    left_nothing $presets --baseline untraced --url h2 --concurrency 4
    left_nothing $presets --baseline untraced --fresh-connections --names
    if [[ $EUID -eq 0 ]]; then
        left_nothing captured --baseline captured
    else
        echo "NOT ROOT: the load generator's mode captured is LEFT OUT."
    fi
    local run modes=$presets,$http
    run=$(load --turns 2 --anew 2 --slice 4 --behind 8 --fresh-connections --modes $modes)
    [[ $(grep -c '"rounds":2,"slice":4' <<<"$run") -eq $(count $modes) ]] || { echo "$run"; return 1; }
    echo "load --turns --modes $modes"
}

left_nothing() {
    local modes=$1 run
    shift
    run=$(load --compare 1 --requests 40 --modes "$modes" "$@")
    [[ $(grep -c '"tasks_left":0,"fds_left":0' <<<"$run") -eq $(count "$modes") ]] || { echo "$run"; return 1; }
    echo "load --modes $modes $*: nothing left behind"
}

count() {
    tr , '\n' <<<"$1" | wc -l
}

load() {
    "${CARGO_TARGET_DIR:-target}/debug/nettrace-load" "$@"
}

usage() {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 2
}

# Installs missing packages: the only function that changes the machine.
packages() {
    local install=$1 missing=() entry
    for entry in "${needed[@]}"; do
        command -v "${entry%%:*}" >/dev/null || missing+=("${entry#*:}")
    done
    part "Packages"
    if [[ $EUID -ne 0 ]]; then
        echo "NOT ROOT: tests that make networks of their own are LEFT OUT (NAT, delays, unreachable hosts)."
    fi
    if [[ ${#missing[@]} -eq 0 ]]; then
        echo "All programs that the tests run are installed."
    elif [[ $install == yes && $EUID -eq 0 ]] && command -v apt-get >/dev/null; then
        echo "Missing, and being installed: ${missing[*]}"
        forbid_services
        apt-get update
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
        allow_services
    else
        echo "MISSING: the tests that need these are LEFT OUT. To install them, as root:"
        echo "apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
    fi
}

# Debian starts the services of a package when it is installed; the tests need only the programs.
policy=/usr/sbin/policy-rc.d
forbid_services() {
    [[ ! -e $policy ]] || return 0
    policy_is_ours=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}
allow_services() {
    [[ -z ${policy_is_ours-} ]] || rm -f "$policy"
    policy_is_ours=
}

choose_runner() {
    if cargo nextest --version >/dev/null 2>&1; then
        runner=(cargo nextest run --locked)
    else
        echo "No cargo-nextest here: tests run under cargo test, without its time limits."
        runner=(cargo test --locked --no-fail-fast)
    fi
}

run_tests() {
    if [[ ${runner[1]} == test && $* != *--lib* && $* != *--test* ]]; then
        set -- "$@" --lib --bins --tests --examples # without the documentation tests
    fi
    logged "${runner[@]}" "$@"
}

# Runs the loom models: all orders of events with up to three preemptions, a few seconds. `--cfg loom` takes a build of its
# own.
models() {
    RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 \
        logged cargo test --locked -p nettrace-loom-models --lib --release --target-dir target/loom
}

# Runs some unit tests under miri, where the toolchain has it. The crate forbids unsafe code, so miri can only find
# errors in its dependencies. These tests need neither sockets nor the processor's clock.
interpreted() {
    if cargo miri --version >/dev/null 2>&1; then
        MIRIFLAGS="-Zmiri-disable-isolation" PROPTEST_CASES=8 logged cargo miri test --locked --lib \
            --no-default-features --features connect --target-dir target/miri -- \
            record::ops:: sink::registry:: --skip without_recursion --skip while_a_writer --skip many_threads
    else
        echo "LEFT OUT: this toolchain has no miri (the crate has no unsafe code of its own)."
    fi
}

# Runs the tests that bound time. The bounds hold for optimised code alone.
hostile() {
    local profile=--profile
    [[ ${runner[1]} == test ]] || profile=--cargo-profile
    logged "${runner[@]}" "$profile" bench -p nettrace-benches --test hostile
}

logged() {
    "$@" 2>&1 | tee -a "$work/log"
}

closing_line() {
    local passed skipped
    passed=$(plain_log | awk '
        /Summary \[|test result: / && match($0, /[0-9]+ passed/) { sum += substr($0, RSTART, RLENGTH) }
        END { print sum + 0 }')
    skipped=$(wc -l <"$NETTRACE_SKIP_LOG")
    passed=$((passed - skipped)) # the runner takes a test that returned early for one that passed
    part "All done"
    if [[ $skipped -gt 0 ]]; then
        sort -u "$NETTRACE_SKIP_LOG"
    fi
    print_part_times
    echo "$passed tests passed over all feature sets, 0 failed, $skipped left out for want of something here"
}

plain_log() {
    sed 's/\x1b\[[0-9;]*m//g' "$work/log"
}

clean_up() {
    local status=$?
    allow_services
    rm -rf "$work"
    if [[ $status -ne 0 && -n ${part_title-} ]]; then
        printf '\nFAILED in: %s\n' "$part_title" >&2
    fi
}

main "$@"
