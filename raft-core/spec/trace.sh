#!/usr/bin/env bash
# Runs real servers in the simulator and has TLC explain every step that they take.
#
#   trace.sh [--seeds N] [--first N]     20 seeds from 0 on, unless told otherwise
#
# A run that the specification cannot explain is an error: the first record that no step of it
# explains is printed, with those before it.

set -euo pipefail
source "$(dirname "$0")/lib.sh"
spec=$root/raft-core/spec
seeds=20 first=0
# So many runs are written, and explained, at a time.
batch=10
# So many records are shown before the one that is not explained.
context=8

while [ $# -gt 0 ]; do
    case $1 in
    --seeds) seeds=$2; shift 2 ;;
    --first) first=$2; shift 2 ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
done

# Per run: its number, the last record that was explained, how many there are.
reached() {
    sed -n 's/^<<"run", \([0-9]*\), \([0-9]*\), \([0-9]*\)>>$/\1 \2 \3/p' "$1" |
        awk '$2 >= best[$1] { best[$1] = $2; all[$1] = $3 } END { for (run in best) print run, best[run], all[run] }' |
        sort -n
}

# explain FOLDER FIRST COUNT: writes the runs of these seeds and has TLC explain them.
explain() {
    local folder=$1 from=$2 count=$3 run explained records
    rm -rf "$folder" && mkdir -p "$folder" && cp "$spec"/*.tla "$spec/trace.cfg" "$folder"
    "$program" --first "$from" --seeds "$count" >"$folder/Worlds.tla"
    if ! tlc "$folder" trace.tla trace.cfg >"$folder/log" 2>&1; then
        cat "$folder/log"
        return 1
    fi
    while read -r run explained records; do
        if [ "$explained" -lt "$records" ]; then
            printf 'seed %d is NOT accepted: no step explains record %d of %d:\n' $((from + run - 1)) $((explained + 1)) "$records"
            awk -v run="Run$run" -v last=$((explained + 1)) -v context=$context '
                /^Run[0-9]/ { at = $1; number = 0; next }
                at == run { number++; if (number > last - context && number <= last) print "    " number ": " $0 }' \
                "$folder/Worlds.tla"
            return 1
        fi
        accepted=$((accepted + 1))
        explained_records=$((explained_records + records))
    done < <(reached "$folder/log")
}

prepare
cargo build --quiet --release --manifest-path "$root/Cargo.toml" -p raft-core --features sim --example spec_trace
program=${CARGO_TARGET_DIR:-$root/target}/release/examples/spec_trace
accepted=0 explained_records=0
for ((from = first; from < first + seeds; from += batch)); do
    count=$((first + seeds - from < batch ? first + seeds - from : batch))
    explain "$work/trace" "$from" "$count"
    printf '%d of %d accepted, %d records, %d s\n' "$accepted" "$seeds" "$explained_records" "$SECONDS"
done
