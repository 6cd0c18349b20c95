#!/usr/bin/env bash
# Checks the specification with TLC.
#
#   check.sh            the quick models: what each bounds, its states, its time
#   check.sh MODEL...   these models
#   check.sh --deep     the deep one
#   check.sh --break    breaks five rules of the specification, one at a time: TLC must find a counter-example
#
# A model has to come to what its `Goals` name, or it is taken for one in which nothing happens.
# Needs Java and Python; installs them and TLC if it can (Debian, as root).

set -euo pipefail
source "$(dirname "$0")/lib.sh"
spec=$root/raft-core/spec
quick='elections pre_vote members learners removal snapshots reads figure_8 lease liveness'
# These run long enough for Java to compile well. For the others, and for broken rules, that is not worth its time.
long='elections learners removal figure_8 deep'

# The module that a model belongs to.
module_of() {
    case $1 in lease) echo lease ;; *) echo models ;; esac
}

# The options of Java for this model.
tune() {
    case " $long " in *" $1 "*) java_options=(-XX:+UseParallelGC) ;; *) java_options=("${short_options[@]}") ;; esac
}

# folder_for NAME MODEL: a folder of its own with all that TLC reads.
folder_for() {
    local folder=$work/$1
    rm -rf "$folder" && mkdir -p "$folder" && cp "$spec"/*.tla "$spec/$2.cfg" "$folder"
    echo "$folder"
}

# What the model had to come to, and did not.
missed() {
    sed -n '/Goals = {/,/}/p' "$1/$2.cfg" | sed -n 's/^ *"\(.*\)",\{0,1\}$/\1/p' |
        while read -r goal; do grep -qF "<<\"reached\", \"$goal\">>" "$1/log" || echo "$goal"; done
}

# check_all MODEL...: these models, one after another.
check_all() {
    local model number=0 count=$#
    for model in "$@"; do
        number=$((number + 1))
        check "$model"
    done
}

# One model: its first line says what bounds it.
check() {
    local model=$1 start=$SECONDS folder
    folder=$(folder_for "$model" "$model")
    tune "$model"
    printf '%s: %s\n' "$model" "$(sed -n '1s/^\\\* //p' "$spec/$model.cfg")"
    progress_begin "model $number of $count, $model" "$folder/log"
    tlc "$folder" "$(module_of "$model").tla" "$model.cfg" >"$folder/log" 2>&1 || {
        progress_end
        cat "$folder/log"
        return 1
    }
    progress_end
    if [ -n "$(missed "$folder" "$model")" ]; then
        printf '    never comes to: %s\n' "$(missed "$folder" "$model")"
        return 1
    fi
    printf '    no error: %s; %d s\n' \
        "$(sed -n 's/^\([0-9]* states generated, .* distinct states found\).*/\1/p' "$folder/log" | tail -n 1)" $((SECONDS - start))
}

# broken NAME MODEL INVARIANT FIND PUT: the invariant must not hold if this text of the specification is another.
broken() {
    local name=$1 model=$2 invariant=$3 find=$4 put=$5 start=$SECONDS folder file code
    folder=$(folder_for broken "$model")
    file=raft
    [ "$model" = lease ] && file=lease
    python3 - "$folder/$file.tla" "$find" "$put" <<'PY'
import sys
path, find, put = sys.argv[1:]
text = open(path).read()
assert text.count(find) == 1, f"not once in the specification: {find}"
open(path, "w").write(text.replace(find, put))
PY
    printf 'broken: %s\n' "$name"
    progress_begin "broken, $model" "$folder/log"
    code=0
    tlc "$folder" "$(module_of "$model").tla" "$model.cfg" >"$folder/log" 2>&1 || code=$?
    progress_end
    if [ "$code" -eq 0 ]; then
        echo '    TLC finds nothing: the model is too small, or the rule is not needed'
        return 1
    fi
    grep -q "Invariant $invariant is violated" "$folder/log" || { cat "$folder/log"; return 1; }
    printf '    %s is violated after %d steps, found in %d s:\n' \
        "$invariant" $(($(grep -c '^State ' "$folder/log") - 1)) $((SECONDS - start))
    python3 "$spec/steps.py" "$folder/log"
}

break_rules() {
    broken 'a candidate counts its own vote before its disk holds it' elections ElectionSafety \
        $'/\\ Quorum(granted[s], Config(log[s]))\n    /\\ HardStateIsDurable(s)' '/\ Quorum(granted[s], Config(log[s]))'
    broken 'a vote for a log that lacks entries (§5.4.1)' elections LeaderCompleteness \
        '/\ AtLeast(m.last, LastLog(log[v]))' '/\ TRUE'
    broken 'a leader counts its own entries before its disk holds them' elections CommittedIsDurable \
        'IF p = s THEN DurableIndex(s) ELSE' 'IF p = s THEN Len(log[s]) ELSE'
    broken 'a leader commits by counting entries of earlier terms (Figure 8)' figure_8 LeaderCompleteness \
        '/\ log[s][n].term = term[s]' '/\ TRUE'
    broken 'a lease promise is not stored (thesis 6.4.1)' lease ReadsAreFresh \
        "stored'  = [stored EXCEPT ![s] = Max(@, promise)]" "stored'  = stored"
}

prepare
case ${1:-} in
'') check_all $quick ;;
--deep) check_all deep ;;
--break) break_rules ;;
-*) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2 ;;
*) check_all "$@" ;;
esac
