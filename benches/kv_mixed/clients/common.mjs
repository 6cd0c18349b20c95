// What the drivers of clients for Node have in common; redis_py.py says what a driver does.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

export const [key, ...addresses] = process.argv.slice(2);
export const say = (line) => console.log(line);
// The packages are beside the node_modules that the test names, not beside this file.
export const load = createRequire(`${process.env.KV_CLIENTS}/`);

let ended = false;
process.stdin.resume().on('end', () => (ended = true));

export async function refused(call, text) {
    await assert.rejects(call, (error) => error.message.includes(text));
}

// `connect` gives a client, with `incr` and `close`. What it loses is no error of the server: those have a code in capitals.
export async function increment(connect) {
    say('first page');
    let client = null;
    for (let next = 0; !ended; ) {
        try {
            client ??= await connect(addresses[next++ % addresses.length]);
            await client.incr(key);
            say('acknowledged');
        } catch (error) {
            if (/^[A-Z]{3,} /.test(error.message)) throw error;
            say(`lost ${error.constructor.name} ${error.message}`);
            client?.close();
            client = null;
        }
    }
    process.exit(0);
}
