#!/usr/bin/env bash
# Measures the tables of benches/README.md: compares clients with their baselines, job by job.
#
#   benches/write_tables.sh [ROUNDS] [PART…]
#
# By default 20 rounds (240 short ones where all clients are in one process) of all parts: layers
# alternatives noise clients downloads probes snapshots growth volume. Takes an hour, on a machine without other load.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
rounds=20
[[ ${1-} != [0-9]* ]] || { rounds=$1; shift; }
[[ $# -gt 0 ]] || set -- layers alternatives noise clients downloads probes snapshots growth volume

against=() # which mode all are compared with, if not each with its own baseline
load() { target/release/nettrace-load "$@"; }
in_netns() { benches/in_netns.sh ${tracked-} target/release/nettrace-load "$@"; }
# All clients in one process, which make a few requests each in turn.
turns() {
    local title=$1 modes=$2
    shift 2
    in_turns --row "$title" --modes "$modes" "${against[@]}" "$@"
}
# The same, as a column.
column() {
    local title=$1
    shift
    in_turns --column "$title" "$@"
}
in_turns() {
    in_netns --turns $((12 * rounds)) --anew "$rounds" --snapshots 0 "$@" | grep -v '^{'
}
# Each run in a process of its own.
compare() {
    local title=$1 modes=$2
    shift 2
    in_netns --compare "$rounds" --row "$title" --modes "$modes" "${against[@]}" "$@" | grep '^|'
}
columns() {
    echo "| job | baseline, µs of CPU (wall) | $1 | allocations | rounds × requests |"
    echo "|---|---|$(sed 's/[^|]*|/---|/g; s/[^|]*$/---/' <<<"$1")|---|---|"
}

layers() {
    local modes=plain,layers,layers-uncaptured,layers-off,traced,off
    columns "layers | layers-uncaptured | layers-off | traced | off"
    turns "kept alive, 1 at a time" $modes
    turns "kept alive, 16 at a time" $modes --concurrency 16 --slice 500
    turns "HTTP/2 over TLS, 16 at a time" $modes --url h2 --concurrency 16 --slice 500
    turns "new connections" $modes --fresh-connections
    turns "new connections, TLS" $modes --fresh-connections --url https --slice 50
    echo
    modes=reqwest,reqwest-observed,reqwest-off
    columns "reqwest-observed | reqwest-off"
    turns "kept alive, 1 at a time" $modes
    turns "kept alive, 16 at a time" $modes --concurrency 16 --slice 500
    turns "new connections" $modes --fresh-connections
    echo
    modes=tonic,tonic-traced,tonic-off
    columns "tonic-traced | tonic-off"
    turns "unary call, 1 at a time" $modes
    turns "unary call, 16 at a time" $modes --concurrency 16 --slice 500
}

# In the order of the modes.
alternatives() {
    local modes=plain,layers,events,tower-http,tower-http-otel
    modes+=,reqwest,reqwest-observed,reqwest-tracing,reqwest-tracing-otel
    column "kept alive, 1 at a time" --modes $modes >"$work/1"
    column "kept alive, 16 at a time" --modes $modes --concurrency 16 --slice 500 >"$work/2"
    column "new connections" --modes $modes --fresh-connections >"$work/3"
    paste -d '' - "$work"/{1,2,3} <<'END' | sed 's/---$/&|/; t; s/$/ |/'
| client | mode | what is recorded
|---|---|---
| hyper-util's | `plain` | nothing
| … in this crate's layers | `layers` | dial, connection with each read and write, request with its phases, sizes and links; kept in memory
| … and `TracingEvents` | `events` | the same, and a line for each request: method, URL, status, connection, sizes, duration to the end of the body
| … in tower-http's `TraceLayer` | `tower-http` | a line for each request: method, URL, version, status, time to the head of the response
| … and tracing-opentelemetry | `tower-http-otel` | a span of OpenTelemetry with the same
| reqwest's | `reqwest` | nothing
| … observed by this crate | `reqwest-observed` | dial, DNS, TLS, request with its phases and, by addresses, its connection; kept in memory
| … with reqwest-tracing | `reqwest-tracing` | a line for each request: method, scheme, host, port, status, time to the head of the response
| … and tracing-opentelemetry | `reqwest-tracing-otel` | a span of OpenTelemetry with the same
END
}

noise() {
    echo "A second client of the same mode, and its ratio to the first:"
    local job jobs=("" "--concurrency 16 --slice 500" --fresh-connections "--fresh-connections --url https --slice 50")
    for job in "${jobs[@]}"; do
        # The jobs are words.
        # shellcheck disable=SC2086
        in_netns --turns $((12 * rounds)) --snapshots 0 --modes plain --behind 300,300 $job | tail -1
    done
}

clients() {
    local against=(--baseline untraced) modes=untraced,bare,off,traced
    columns "bare | off | traced"
    turns "kept alive, 1 at a time" $modes
    turns "kept alive, 16 at a time" $modes --concurrency 16 --slice 500
    turns "kept alive, 20 header fields" $modes --headers 20
    turns "kept alive, TLS" $modes --url https
    turns "HTTP/2 over TLS, 16 at a time" $modes --url h2 --concurrency 16 --slice 500
    turns "new connections" $modes --fresh-connections
    turns "new connections, TLS" $modes --fresh-connections --url https --slice 50
    turns "new connections, DNS" $modes --fresh-connections --names --slice 50
}

downloads() {
    local against=(--baseline untraced) modes=untraced,bare,off,traced
    columns "bare | off | traced"
    compare "1 GiB download" $modes --path "/big?n=1073741824" --requests 1
    compare "1 GiB download, TLS" $modes --path "/big?n=1073741824" --requests 1 --url https
}

probes() {
    local against=(--baseline untraced) tracked=--tracked
    echo "With probes, in a network in which the kernel tracks and counts connections:"
    echo
    columns "traced | full"
    turns "new connections" untraced,traced,full --fresh-connections
    turns "new connections, TLS" untraced,traced,full --fresh-connections --url https --slice 50
    echo
    against=(--baseline traced)
    columns "stamped"
    turns "kept alive, 1 at a time" traced,stamped
    turns "new connections" traced,stamped --fresh-connections
    compare "1 GiB download" traced,stamped --path "/big?n=1073741824" --requests 1
    against=(--baseline untraced)
    echo
    columns "traced | full | captured"
    compare "new connections" untraced,traced,full,captured --fresh-connections --requests 2000
    compare "new connections, TLS" untraced,traced,full,captured --fresh-connections --url https --requests 600
    compare "1 GiB download" untraced,traced,full,captured --path "/big?n=1073741824" --requests 1
}

snapshots() {
    echo "While a snapshot is taken every 100 ms; worst_ms is the slowest request:"
    load --compare "$rounds" --unpinned --modes untraced,traced --baseline untraced --snapshot-every 100 --concurrency 16 --requests 100000 | tail -1
}

growth() {
    echo "Growth, with every record kept: the cost of a request after so many others; then of new connections:"
    in_netns --turns $((20 * rounds)) --anew 6 --modes traced --baseline traced --unbounded --snapshots 1 \
        --behind 1000,10000,100000,1000000 --concurrency 16 --slice 100
    # One pass only: it makes a million new connections.
    in_netns --turns $((10 * rounds)) --anew 1 --modes traced --baseline traced --unbounded --snapshots 1 \
        --behind 1000,10000,100000,1000000 --fresh-connections --slice 50
}

volume() {
    echo "16 GiB: every operation kept; with the default bounds; over TLS:"
    load --mode traced --unbounded --path "/big?n=17179869184" --requests 1
    load --mode traced --path "/big?n=17179869184" --requests 1
    load --mode traced --unbounded --path "/big?n=17179869184" --requests 1 --url https
}

for part; do
    [[ $part == @(layers|alternatives|noise|clients|downloads|probes|snapshots|growth|volume) ]] || { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
done
cargo build --release --locked -p nettrace-load
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for part; do
    "$part"
    echo
done
