#!/usr/bin/env bash
# Puts the Redis clients that the test `kv_clients` drives under target/clients: redis-py, node-redis and ioredis, of the versions
# with which it is known to pass. Needs python3 with venv, and Node 20 with npm; what is missing is said, and that client left out.

set -euo pipefail
cd "$(dirname "$0")/../../.."

redis_py=8.1.0
node_redis=6.3.1
ioredis=6.0.0

clients=$PWD/target/clients
mkdir -p "$clients"

if python3 -c 'import ensurepip, venv' 2>/dev/null; then
    [ -x "$clients/venv/bin/python" ] || python3 -m venv "$clients/venv"
    "$clients/venv/bin/pip" install --quiet --disable-pip-version-check "redis==$redis_py"
    printf 'redis-py %s\n' "$redis_py"
else
    printf 'no redis-py: python3 with venv is missing\n'
fi
if command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null; then
    npm install --silent --no-audit --no-fund --no-package-lock --no-save --prefix "$clients" \
        "redis@$node_redis" "ioredis@$ioredis"
    printf 'node-redis %s, ioredis %s\n' "$node_redis" "$ioredis"
else
    printf 'no node-redis, no ioredis: Node 20 with npm is missing\n'
fi
