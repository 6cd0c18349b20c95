"""Drives redis-py for the test `kv_clients`: redis_py.py KEY HOST:PORT...

First what its first page shows, at the first address. Then it increments KEY until standard input ends, and says `acknowledged`
after each. If the connection is lost it says `lost WHY` and goes on at the next address. Any other error ends it.
"""

import itertools
import sys
import threading

import redis

key, *addresses = sys.argv[1:]


def connect(address, **options):
    host, port = address.rsplit(":", 1)
    return redis.Redis(host=host, port=int(port), decode_responses=True, **options)


def refused(call, text):
    try:
        call()
    except redis.ResponseError as error:
        assert text in str(error), error
    else:
        raise AssertionError(f"{text}: it was not refused")


def first_page(r, p):
    assert r.ping() and r.echo("hello") == "hello"
    assert r.set(p + "foo", "bar") is True and r.get(p + "foo") == "bar"
    assert r.get(p + "none") is None
    assert r.set(p + "foo", "no", nx=True) is None
    assert r.set(p + "foo", "baz", xx=True, get=True) == "bar"
    assert r.setnx(p + "foo", "no") is False and r.setnx(p + "new", "1") is True
    assert r.getset(p + "new", "2") == "1" and r.getdel(p + "new") == "2"
    assert r.mset({p + "a": "1", p + "b": "2"}) is True
    assert r.mget(p + "a", p + "none", p + "b") == ["1", None, "2"]
    assert [r.incr(p + "a"), r.incr(p + "a", 8), r.decr(p + "a"), r.decrby(p + "a", 4)] == [2, 10, 9, 5]
    assert r.append(p + "b", "34") == 3 and r.strlen(p + "b") == 3
    assert r.exists(p + "a", p + "b", p + "none") == 2
    assert r.type(p + "a") == "string" and r.ttl(p + "a") == -1 and r.ttl(p + "none") == -2
    assert set(r.scan_iter(match=p + "*", count=2)) == {p + "foo", p + "a", p + "b"}
    assert set(r.keys(p + "?")) == {p + "a", p + "b"}
    assert r.dbsize() >= 3
    with r.pipeline(transaction=False) as pipe:
        assert pipe.set(p + "a", 1).incr(p + "a").get(p + "a").execute() == [True, 2, "2"]
    assert r.delete(p + "a", p + "none") == 1 and r.unlink(p + "b", p + "foo") == 2
    assert r.client_setname("me") and r.client_getname() == "me" and r.client_id() > 0
    assert r.config_get("save") == {"save": ""} and r.info()["server_name"] == "kv"
    refused(lambda: r.set(p + "foo", "bar", ex=10), "keys do not expire here")
    refused(lambda: r.incr(p + "text") if r.set(p + "text", "x") else None, "not an integer")
    refused(lambda: r.lpush(p + "list", "1"), "unknown command")
    r.delete(p + "text")


def say(line):
    print(line, flush=True)


for protocol in (2, 3):
    with connect(addresses[0], protocol=protocol) as client:
        first_page(client, f"{key}:{protocol}:")
say("first page")

ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
addresses = itertools.cycle(addresses)
client = connect(next(addresses))
while not ended.is_set():
    try:
        client.incr(key)
        say("acknowledged")
    except (redis.ConnectionError, redis.TimeoutError) as error:
        say(f"lost {type(error).__name__} {error}")
        client.close()
        client = connect(next(addresses))
