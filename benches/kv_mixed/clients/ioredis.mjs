// Drives ioredis for the test `kv_clients`.

import assert from 'node:assert/strict';
import { addresses, increment, key, load, refused } from './common.mjs';

const Redis = load('ioredis');

function connect(address) {
    const client = new Redis(`redis://${address}`, { retryStrategy: null });
    client.on('error', () => {});
    return client;
}

async function firstPage(r, p) {
    assert.equal(await r.ping(), 'PONG');
    assert.equal(await r.set(p + 'mykey', 'value'), 'OK');
    assert.equal(await r.get(p + 'mykey'), 'value');
    assert.equal(await r.get(p + 'none'), null);
    assert.equal(await r.set(p + 'mykey', 'no', 'NX'), null);
    assert.equal(await r.getset(p + 'mykey', '1'), 'value');
    assert.equal(await r.setnx(p + 'mykey', 'no'), 0);
    assert.equal(await r.mset(p + 'a', '1', p + 'b', '2'), 'OK');
    assert.deepEqual(await r.mget(p + 'a', p + 'none', p + 'b'), ['1', null, '2']);
    const answers = await r.pipeline().incr(p + 'a').incrby(p + 'a', 8).decr(p + 'a').get(p + 'a').exec();
    assert.deepEqual(answers, [[null, 2], [null, 10], [null, 9], [null, '9']]);
    assert.equal(await r.append(p + 'b', '34'), 3);
    assert.equal(await r.exists(p + 'a', p + 'b', p + 'none'), 2);
    const found = [];
    for await (const keys of r.scanStream({ match: p + '*', count: 2 })) found.push(...keys);
    assert.deepEqual(found.sort(), [p + 'a', p + 'b', p + 'mykey']);
    assert.equal(await r.del(p + 'a', p + 'none'), 1);
    assert.equal(await r.unlink(p + 'b', p + 'mykey'), 2);
    await refused(r.set(p + 'mykey', 'value', 'EX', 10), 'keys do not expire here');
    await refused(r.lpush(p + 'list', '1'), 'unknown command');
}

const client = connect(addresses[0]);
await firstPage(client, `${key}:`);
await client.quit();
await increment(async (address) => {
    const client = connect(address);
    return { incr: (key) => client.incr(key), close: () => client.disconnect() };
});
