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
# So many runs are written, and explained, at a time.
batch=10
# So many records are shown before the one that is not explained.
context=8

# The rules that `--break` breaks. README.md names those that it does not, and why.
broken=(
    # Elections.
    'a candidate counts its own vote before it is durable'
    'a reply leaves before it is durable'
    'a vote that no write has taken along yet counts as durable'
    'the vote is not written'
    'the term is not written'
    'a restart forgets the vote'
    'a new term keeps the vote of the last'
    'a second vote in a term'
    'a vote for any log'
    'a vote for a log whose last term is older'
    'a vote for a log that is shorter'
    'a grant counts whichever log it was given to'
    'a refused vote counts'
    'a candidate needs but half of the votes'
    'a message of an earlier term is heeded'
    'replies of a term that is over are still sent'
    'a pre-vote for any log'
    "a pre-vote raises the voter's term"
    'a server without a vote stands'
    'a server that lacks entries stands'
    # Replication.
    'an append is acknowledged before it is durable'
    'an acknowledgement does not wait for its term'
    'all that is durable is acknowledged'
    'the previous entry is not compared'
    'conflicting entries are kept'
    'entries are removed without a conflict'
    'truncations are not written'
    'what is truncated stays durable'
    # Commit.
    'a leader counts its own copy before it is durable'
    'old entries commit by counting'
    'an entry commits on a minority'
    'a commit is taken back'
    'a term begins without a no-op'
    'entries are applied before they are durable here'
    # Members.
    'the new voters of a joint configuration decide alone'
    'a joint configuration commits with the new voters alone'
    'a change of voters goes without a joint configuration'
    'a change before a commit of the own term'
    'two changes at a time'
    'a joint configuration is left before it is committed'
    'a configuration takes effect when it is applied'
    'a truncated configuration stays in force'
    # Snapshots.
    'a snapshot is installed below the commit index'
    'an installed snapshot counts before it is durable'
    'a snapshot comes without its members'
    'the log is compacted before the snapshot is durable'
    'the state machine is restored before the log is'
    # Reads.
    'a read before the leader has committed in its term'
    'a read is confirmed by the round before it'
    'a read is confirmed by nobody'
    "a deposed leader's reads are answered"
    'a read of a follower is answered without a round'
)
# Of so many runs those that a broken rule has changed are looked at; of these so many may pass, and so many are explained at a time.
broken_seeds=1000 broken_tries=60 broken_batch=6
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

# explain FOLDER SEED...: writes the runs of these seeds and has TLC explain them.
explain() {
    local folder=$1
    shift
    rm -rf "$folder" && mkdir -p "$folder"
    "$program" --only "$(IFS=,; echo "$*")" >"$folder/Worlds.tla"
    judge "$folder" "$@"
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

# show FOLDER RUN LAST: prints this record, and those before it.
show() {
    awk -v run="Run$2" -v last="$3" -v context=$context '
        /^Run[0-9]/ { at = $1; number = 0; next }
        at == run { number++; if (number > last - context && number <= last) print "    " number ": " $0 }' "$1/Worlds.tla"
}

# The last value of this variable in the steps that TLC printed.
last_value() {
    sed -n "s/^\/\\\\ $2 = \([0-9]*\)\$/\1/p" "$1" | tail -n 1
}

# judge FOLDER SEED...: has TLC explain the runs that were written there. These are their seeds.
judge() {
    local folder=$1 seeds=("$@") run explained records violated
    cp "$spec"/*.tla "$spec/trace.cfg" "$folder"
    if ! tlc "$folder" trace.tla trace.cfg >"$folder/log" 2>&1; then
        violated=$(sed -n 's/^Error: Invariant \(.*\) is violated.*/\1/p' "$folder/log")
        run=$(last_value "$folder/log" world) explained=$(last_value "$folder/log" at)
        if [ -z "$violated" ] || [ -z "$run" ]; then
            cat "$folder/log"
            return 1
        fi
        printf 'seed %d is NOT accepted: %s is violated with record %d:\n' "${seeds[run]}" "$violated" "$explained"
        show "$folder" "$run" "$explained"
        return 2
    fi
    while read -r run explained records; do
        if [ "$explained" -lt "$records" ]; then
            printf 'seed %d is NOT accepted: no step explains record %d of %d:\n' "${seeds[run]}" $((explained + 1)) "$records"
            show "$folder" "$run" $((explained + 1))
            return 2
        fi
        accepted=$((accepted + 1))
        explained_records=$((explained_records + records))
    done < <(reached "$folder/log")
}

# The seed that was refused.
refused_seed() {
    sed -n 's/^seed \([0-9]*\) is NOT accepted.*/\1/p' "$work/refused.log"
}

# Breaks a rule of the core, and looks for a run that the specification refuses: among those that are not what they were.
refuse() {
    local name=$1 copy=$work/broken-core start=$SECONDS tried code differ seed
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
    "$program" --seeds "$broken_seeds" --digests >"$work/digests-broken" 2>/dev/null
    mapfile -t differ < <(comm -13 <(sort "$work/digests") <(sort "$work/digests-broken") | sort -n | cut -d ' ' -f 1)
    printf '    %d of %d runs are different\n' "${#differ[@]}" "$broken_seeds"
    differ=("${differ[@]:0:broken_tries}")
    for ((tried = 0; tried < ${#differ[@]}; tried += broken_batch)); do
        code=0
        explain "$work/broken-trace" "${differ[@]:tried:broken_batch}" >"$work/refused.log" 2>&1 || code=$?
        case $code in
        0) ;;
        2)
            sed 's/^/    /' "$work/refused.log"
            # It must be the rule that the specification misses: the run of this seed without the fault is accepted.
            seed=$(refused_seed)
            program=$work/unbroken
            explain "$work/broken-trace" "$seed" >"$work/unbroken.log" 2>&1 || {
                cat "$work/unbroken.log"
                printf '    the same seed is refused without the fault\n'
                return 1
            }
            printf '    refused after %d seeds, %d s\n' $((seed + 1)) $((SECONDS - start))
            return
            ;;
        *)
            cat "$work/refused.log"
            return 1
            ;;
        esac
    done
    printf '    %d are accepted: the trace does not show it\n' "${#differ[@]}"
    return 1
}

prepare
accepted=0 explained_records=0
cargo build --quiet --release --manifest-path "$root/Cargo.toml" -p raft-core --features sim --example spec_trace
program=${CARGO_TARGET_DIR:-$root/target}/release/examples/spec_trace
if [ -n "$breaks" ]; then
    context=3
    missed=0
    cp "$program" "$work/unbroken"
    "$program" --seeds "$broken_seeds" --digests >"$work/digests"
    number=0
    for name in "${broken[@]}"; do
        number=$((number + 1))
        progress_begin "rule $number of ${#broken[@]}" "$work/broken-trace/log"
        refuse "$name" || missed=$((missed + 1))
        progress_end
    done
    printf '%d of %d refused\n' $((${#broken[@]} - missed)) "${#broken[@]}"
    [ "$missed" -eq 0 ]
    exit
fi
if [ -n "$torture" ]; then
    progress_begin "processes under faults for $torture s, then TLC" "$work/tortured/log"
    torture "$work/tortured" "$first"
    progress_end
    printf 'accepted, %d records, %d s\n' "$explained_records" "$SECONDS"
    exit
fi
for ((from = first; from < first + seeds; from += batch)); do
    count=$((first + seeds - from < batch ? first + seeds - from : batch))
    mapfile -t batch_seeds < <(seq "$from" $((from + count - 1)))
    progress_begin "$accepted of $seeds accepted, $count more" "$work/trace/log"
    explain "$work/trace" "${batch_seeds[@]}"
    progress_end
    printf '%d of %d accepted, %d records, %d s\n' "$accepted" "$seeds" "$explained_records" "$SECONDS"
done
