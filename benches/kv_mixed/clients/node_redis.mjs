// Drives node-redis for the test `kv_clients`.

import assert from 'node:assert/strict';
import { addresses, increment, key, load, refused } from './common.mjs';

const { createClient } = load('redis');

async function connect(address, options) {
    const client = createClient({ url: `redis://${address}`, ...options });
    // Calls fail as well when the connection does; without a listener the process would end.
    let lose;
    const lost = new Promise((_, reject) => (lose = reject));
    lost.catch(() => {});
    client.on('error', lose);
    await Promise.race([client.connect(), lost]);
    return Object.assign(client, { lost });
}

async function firstPage(r, p) {
    assert.equal(await r.ping(), 'PONG');
    assert.equal(await r.set(p + 'key', 'value'), 'OK');
    assert.equal(await r.get(p + 'key'), 'value');
    assert.equal(await r.get(p + 'none'), null);
    assert.equal(await r.set(p + 'key', 'no', { NX: true }), null);
    assert.equal(await r.set(p + 'key', 'other', { XX: true, GET: true }), 'value');
    assert.equal(await r.setNX(p + 'key', 'no'), 0);
    assert.equal(await r.setNX(p + 'new', '1'), 1);
    assert.equal(await r.getSet(p + 'new', '2'), '1');
    assert.equal(await r.getDel(p + 'new'), '2');
    assert.equal(await r.mSet({ [p + 'a']: '1', [p + 'b']: '2' }), 'OK');
    assert.deepEqual(await r.mGet([p + 'a', p + 'none', p + 'b']), ['1', null, '2']);
    // Called together, they travel in one pipeline.
    const numbers = [r.incr(p + 'a'), r.incrBy(p + 'a', 8), r.decr(p + 'a'), r.decrBy(p + 'a', 4)];
    assert.deepEqual(await Promise.all(numbers), [2, 10, 9, 5]);
    assert.equal(await r.append(p + 'b', '34'), 3);
    assert.equal(await r.strLen(p + 'b'), 3);
    assert.equal(await r.exists([p + 'a', p + 'b', p + 'none']), 2);
    assert.equal(await r.type(p + 'a'), 'string');
    assert.equal(await r.ttl(p + 'a'), -1);
    const found = [];
    for await (const keys of r.scanIterator({ MATCH: p + '*', COUNT: 2 })) found.push(...keys);
    assert.deepEqual(found.sort(), [p + 'a', p + 'b', p + 'key']);
    assert.deepEqual((await r.keys(p + '?')).sort(), [p + 'a', p + 'b']);
    assert.ok((await r.dbSize()) >= 3);
    assert.equal(await r.del([p + 'a', p + 'none']), 1);
    assert.equal(await r.unlink([p + 'b', p + 'key']), 2);
    assert.deepEqual({ ...(await r.configGet('save')) }, { save: '' });
    assert.match(await r.info(), /server_name:kv/);
    await refused(r.set(p + 'key', 'value', { EX: 10 }), 'keys do not expire here');
    await refused(r.lPush(p + 'list', '1'), 'unknown command');
}

for (const RESP of [2, 3]) {
    const client = await connect(addresses[0], { RESP });
    await firstPage(client, `${key}:${RESP}:`);
    await client.close();
}
await increment(async (address) => {
    const client = await connect(address);
    return {
        incr: (key) => Promise.race([client.incr(key), client.lost]),
        close: () => client.destroy(),
    };
});
