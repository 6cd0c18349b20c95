#!/usr/bin/env bash
# Tests the page in a headless Chromium: it plays, cuts, elects, goes back, and replays a recording. Expects target/viewer.html of build.sh.

set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v chromium >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium >/dev/null
fi

# The page with recordings behind it, of a cluster that ran just now.
recordings=target/viewer-recordings
rm -rf "$recordings"
cargo run --locked --quiet -p viewer --example record -- "$recordings"
{
    cat target/viewer.html
    printf '<script type="text/plain" id="sample">\n'
    for file in "$recordings"/*.rec; do
        printf '%s %s\n' "$(basename "$file")" "$(base64 -w 0 "$file")"
    done
    printf '</script>\n'
} >target/viewer-test.html

# Chromium has no sandbox for root. The clock is virtual: a test waits for nothing.
report=$(timeout 120 chromium --headless --no-sandbox --disable-gpu --user-data-dir="$(mktemp -d)" --virtual-time-budget=60000 --dump-dom \
    "file://$PWD/target/viewer-test.html#selftest" 2>target/viewer.log | sed -n '/<pre id="report">/,/<\/pre>/p' | sed 's/<[^>]*>//g')
printf '%s\n' "$report"
grep -q '^SELFTEST PASSED$' <<<"$report" || {
    tail -n 20 target/viewer.log
    exit 1
}
