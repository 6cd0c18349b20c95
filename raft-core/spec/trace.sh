#!/usr/bin/env bash
# Runs real servers, in the simulator or as processes, and has TLC explain every step that they take.
#
#   trace.sh [--seeds N] [--first N]     20 seeds from 0 on, unless told otherwise
#   trace.sh --torture SECONDS [--first N]   processes under faults of processes, disks and links; N is their seed
#   trace.sh --break                     breaks rules of the core in a copy, one at a time: a run must be refused
#   trace.sh --break NAME...             these of raft-core/tests/mutations.txt
#
# A run that the specification cannot explain is an error: the first record that no step of it
# explains is printed, with those before it.

set -euo pipefail
source "$(dirname "$0")/lib.sh"
spec=$root/raft-core/spec
seeds=20 first=0
# Java compiles less, because TLC runs for seconds.
java_options=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1)
# So many runs are written, and explained, at a time.
batch=10
# So many records are shown before the one that is not explained.
context=8

# The rules that `--break` breaks. Those of reads and leases are not among them, for a record shows neither.
broken=(
    'a candidate counts its own vote before it is durable'
    'a reply leaves before it is durable'
    'a second vote in a term'
    'a pre-vote for any log'
    'a refused vote counts'
    'a leader counts its own copy before it is durable'
    'an append is acknowledged before it is durable'
    'all that is durable is acknowledged'
    'conflicting entries are kept'
    'entries are removed without a conflict'
    'old entries commit by counting'
    'the new voters of a joint configuration decide alone'
    'a change before a commit of the own term'
)
# So many seeds may pass without notice, and so many are tried at a time.
broken_seeds=160 broken_batch=8
breaks=

# The faults of `--torture`: all but those that take a server's disk and bring it back under its id, which the specification leaves
# out, and those of the state machine and of addresses, which a record does not show.
faults='kill -9,kill -9 all,restart,restart all,stop/cont,stop/cont all,full disk,transfer,new flags,isolate,deafen,mute,cut a pair,storm'
# Clients wait so long at most, in milliseconds: TLC has to explain every entry.
pause=600
torture=

while [ $# -gt 0 ]; do
    case $1 in
    --seeds) seeds=$2; shift 2 ;;
    --first) first=$2; shift 2 ;;
    --torture) torture=$2; shift 2 ;;
    --break)
        breaks=yes; shift
        if [ $# -gt 0 ]; then broken=("$@"); fi
        break
        ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;;
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
    local folder=$1 from=$2 count=$3
    rm -rf "$folder" && mkdir -p "$folder"
    "$program" --first "$from" --seeds "$count" >"$folder/Worlds.tla"
    judge "$folder" "$from"
}

# torture FOLDER SEED: the same for processes. The nodes of a program that is built with `raft_trace` write their traces themselves.
torture() {
    local folder=$1 seed=$2
    rm -rf "$folder" && mkdir -p "$folder/nodes"
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$root/target/traced RUSTFLAGS='--cfg raft_trace' \
        cargo build --quiet --manifest-path "$root/Cargo.toml" -p torture
    RAFT_TRACE=$folder/nodes "$root/target/traced/debug/torture" \
        --seconds "$torture" --seed "$seed" --groups 1 --pause "$pause" --only "$faults" >"$folder/torture.log" 2>&1 || {
        cat "$folder/torture.log"
        return 1
    }
    grep '^operations:\|^faults:' "$folder/torture.log"
    "$program" --merge "$folder/nodes" >"$folder/Worlds.tla"
    judge "$folder" "$seed"
}

# judge FOLDER FIRST: has TLC explain the runs that were written there. The first has this seed.
judge() {
    local folder=$1 from=$2 run explained records
    cp "$spec"/*.tla "$spec/trace.cfg" "$folder"
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
            return 2
        fi
        accepted=$((accepted + 1))
        explained_records=$((explained_records + records))
    done < <(reached "$folder/log")
}

# The number of seeds up to the first that was refused.
refused_seeds() {
    echo $(($(sed -n 's/^seed \([0-9]*\) is NOT accepted.*/\1/p' "$work/refused.log" | head -n 1) + 1))
}

# Breaks a rule of the core, and looks for a run that the specification refuses.
refuse() {
    local name=$1 copy=$work/broken-core start=$SECONDS from code
    printf 'broken: %s\n' "$name"
    mkdir -p "$copy"
    python3 "$spec/broken_core.py" "$root" "$copy" "$name"
    # Nothing but the core is built anew, and that without much ado.
    CARGO_INCREMENTAL=1 CARGO_TARGET_DIR=$root/target cargo build --quiet --release --manifest-path "$copy/Cargo.toml" \
        --config 'profile.release.package.raft-core.opt-level=1' \
        -p raft-core --features sim --example spec_trace 2>"$work/broken.log" || {
        cat "$work/broken.log"
        return 1
    }
    program=$work/broken-core/spec_trace
    cp "$root/target/release/examples/spec_trace" "$program"
    for ((from = 0; from < broken_seeds; from += broken_batch)); do
        code=0
        explain "$work/broken-trace" "$from" "$broken_batch" >"$work/refused.log" 2>&1 || code=$?
        case $code in
        0) ;;
        2)
            sed 's/^/    /' "$work/refused.log"
            printf '    refused after %d seeds, %d s\n' "$(refused_seeds)" $((SECONDS - start))
            return
            ;;
        *)
            cat "$work/refused.log"
            return 1
            ;;
        esac
    done
    printf '    %d seeds are accepted: the trace does not show it\n' "$broken_seeds"
    return 1
}

prepare
accepted=0 explained_records=0
if [ -n "$breaks" ]; then
    context=3
    missed=0
    for name in "${broken[@]}"; do refuse "$name" || missed=$((missed + 1)); done
    printf '%d of %d refused\n' $((${#broken[@]} - missed)) "${#broken[@]}"
    [ "$missed" -eq 0 ]
    exit
fi
cargo build --quiet --release --manifest-path "$root/Cargo.toml" -p raft-core --features sim --example spec_trace
program=${CARGO_TARGET_DIR:-$root/target}/release/examples/spec_trace
if [ -n "$torture" ]; then
    torture "$work/tortured" "$first"
    printf 'accepted, %d records, %d s\n' "$explained_records" "$SECONDS"
    exit
fi
for ((from = first; from < first + seeds; from += batch)); do
    count=$((first + seeds - from < batch ? first + seeds - from : batch))
    explain "$work/trace" "$from" "$count"
    printf '%d of %d accepted, %d records, %d s\n' "$accepted" "$seeds" "$explained_records" "$SECONDS"
done
