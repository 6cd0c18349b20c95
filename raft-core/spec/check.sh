#!/usr/bin/env bash
# Checks the specification with TLC.
#
#   check.sh            the quick models: what each bounds, its states, its time
#   check.sh --deep     the deep one
#   check.sh --break    breaks a rule of the specification, three times: TLC must find a counter-example
#
# Needs Java and Python; installs them and TLC if it can (Debian, as root).

set -euo pipefail
source "$(dirname "$0")/lib.sh"
spec=$root/raft-core/spec
quick='elections pre_vote members snapshots reads lease'

# One model: its first line says what bounds it.
check() {
    local model=$1 module=models start=$SECONDS folder=$work/$1
    [ "$model" = lease ] && module=lease
    rm -rf "$folder" && mkdir -p "$folder" && cp "$spec"/*.tla "$spec/$model.cfg" "$folder"
    printf '%s: %s\n' "$model" "$(sed -n '1s/^\\\* //p' "$spec/$model.cfg")"
    tlc "$folder" "$module.tla" "$model.cfg" >"$folder/log" 2>&1 || {
        cat "$folder/log"
        return 1
    }
    printf '    no error: %s; %d s\n' \
        "$(sed -n 's/^\(.* states generated, .* distinct states found\).*/\1/p' "$folder/log" | tail -n 1)" $((SECONDS - start))
}

# broken NAME MODEL FIND PUT: the model must not hold if this text of the specification is another.
broken() {
    local name=$1 model=$2 find=$3 put=$4 folder=$work/broken
    rm -rf "$folder" && mkdir -p "$folder" && cp "$spec"/*.tla "$spec/$model.cfg" "$folder"
    python3 - "$folder/raft.tla" "$find" "$put" <<'PY'
import sys
path, find, put = sys.argv[1:]
text = open(path).read()
assert text.count(find) == 1, f"not once in the specification: {find}"
open(path, "w").write(text.replace(find, put))
PY
    printf 'broken: %s\n' "$name"
    if tlc "$folder" models.tla "$model.cfg" >"$folder/log" 2>&1; then
        echo '    TLC finds nothing: the model is too small, or the rule is not needed'
        return 1
    fi
    grep -q 'Invariant Safety is violated' "$folder/log" || { cat "$folder/log"; return 1; }
    printf '    violated in %d steps, all of them in %s:\n' "$(grep -c '^State ' "$folder/log")" "$folder/log"
    grep '^State ' "$folder/log" | sed 's/^State \([0-9]*\): <\(.*\) line.*/        \1 \2/; s/^State 1:.*/        1 the beginning/'
}

prepare
case ${1:-} in
'') for model in $quick; do check "$model"; done ;;
--deep) check deep ;;
--break)
    broken 'a leader counts its own entries before its disk holds them' elections \
        'IF p = s THEN DurableIndex(s) ELSE' 'IF p = s THEN Len(log[s]) ELSE'
    broken 'a leader commits by counting entries of earlier terms (Figure 8)' figure_8 \
        '/\ log[s][n].term = term[s]' '/\ TRUE'
    broken 'a vote for a log that lacks entries (§5.4.1)' elections \
        '/\ AtLeast(m.last, LastLog(log[v]))' '/\ TRUE'
    ;;
*) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
