// What every script here shares: options, a witness file, one readiness line, and an end that leaves no orphans.
import { appendFileSync } from 'node:fs';

/** Reads `--name value` pairs; a name without a value is `true`. */
export function options(defaults) {
    const found = { ...defaults };
    const words = process.argv.slice(2);
    while (words.length > 0) {
        const word = words.shift();
        if (!word.startsWith('--')) throw new Error(`unexpected argument: ${word}`);
        found[word.slice(2)] = words.length === 0 || words[0].startsWith('--') ? true : words.shift();
    }
    return found;
}

/** Ends the process when whoever started it closes our standard input: no server outlives its test. */
export function endWithParent(clean = () => {}) {
    const end = () => {
        clean();
        process.exit(0);
    };
    process.stdin.on('end', end).on('error', end).resume();
    process.on('SIGTERM', end).on('SIGINT', end);
}

/** Appends one JSON line for each HTTP request that arrived, before anything is answered. */
export function witness(file) {
    return (request, body) => {
        if (!file) return;
        const { method, url, rawHeaders } = request;
        const headers = [];
        for (let i = 0; i < rawHeaders.length; i += 2) headers.push([rawHeaders[i], rawHeaders[i + 1]]);
        appendFileSync(file, JSON.stringify({ method, path: url, headers, body: body.toString('utf8') }) + '\n');
    };
}

/** The whole body of a Node request. */
export async function bodyOf(request) {
    const parts = [];
    for await (const part of request) parts.push(part);
    return Buffer.concat(parts);
}

/** Listens on a free loopback port and says where in one line. */
export function listen(server, path = '/mcp') {
    server.listen(0, '127.0.0.1', () => console.log(`listening=http://127.0.0.1:${server.address().port}${path}`));
}
