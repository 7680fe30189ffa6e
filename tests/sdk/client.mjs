// An official TypeScript client that walks through the steps it is given and prints one JSON line for each.
//
//   node client.mjs --url URL --token TOKEN --era v1|legacy|modern|auto --steps '[{"do":"tools/list"}, …]'
//
// `v1` is the 1.x SDK; the others are the 2.x SDK speaking the named era. The first line is about connecting.
import { options } from './common.mjs';

const { url, token, era, steps, timeout } = options({ era: 'modern', steps: '[]', token: '', timeout: '20000' });

// What HTTP answered during the step: the SDK's errors do not always tell.
let http = [];
const say = line => {
    process.stdout.write(JSON.stringify({ ...line, http }) + '\n');
    http = [];
};
const watchedFetch = async (target, init) => {
    const answer = await fetch(target, init);
    http.push({
        method: init?.method ?? 'GET',
        status: answer.status,
        type: answer.headers.get('content-type'),
        challenge: answer.headers.get('www-authenticate')
    });
    return answer;
};
const failed = (step, error) => say({
    step,
    ok: false,
    error: {
        name: error.constructor?.name ?? error.name,
        code: error.code ?? null,
        message: error.message,
        data: error.data ?? null
    }
});

async function build() {
    const about = { name: 'portcullis-tests', version: '1.0.0' };
    const requestInit = token ? { headers: { Authorization: `Bearer ${token}` } } : {};
    if (era === 'v1') {
        const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
        const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
        return [new Client(about), new StreamableHTTPClientTransport(new URL(url), { requestInit, fetch: watchedFetch })];
    }
    const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
    const mode = era === 'modern' ? { pin: '2026-07-28' } : era;
    return [new Client(about, { versionNegotiation: { mode } }), new StreamableHTTPClientTransport(new URL(url), { requestInit, fetch: watchedFetch })];
}

async function run(client, { do: method, name, uri, arguments: args }) {
    const limits = { timeout: Number(timeout) };
    switch (method) {
        case 'tools/list': return client.listTools(undefined, limits);
        case 'resources/list': return client.listResources(undefined, limits);
        case 'resources/templates/list': return client.listResourceTemplates(undefined, limits);
        case 'prompts/list': return client.listPrompts(undefined, limits);
        case 'resources/read': return client.readResource({ uri }, limits);
        case 'prompts/get': return client.getPrompt({ name, arguments: args }, limits);
        case 'ping': return client.ping(limits);
        case 'tools/call': return call(client, name, args, limits);
        default: throw new Error(`no such step: ${method}`);
    }
}

/** Calls a tool and adds the progress that was reported on the way. */
async function call(client, name, args, limits) {
    const progress = [];
    const watched = { ...limits, onprogress: update => progress.push(update.progress) };
    const request = { name, arguments: args ?? {} };
    const result = era === 'v1' ? await client.callTool(request, undefined, watched) : await client.callTool(request, watched);
    return { ...result, progress };
}

const [client, transport] = await build();
try {
    await client.connect(transport, { timeout: Number(timeout) });
} catch (error) {
    failed('connect', error);
    process.exit(0);
}
say({ step: 'connect', ok: true, result: client.getServerVersion() ?? null });
for (const [step, wanted] of JSON.parse(steps).entries()) {
    try {
        say({ step, ok: true, result: await run(client, wanted) });
    } catch (error) {
        failed(step, error);
    }
}
await client.close().catch(() => {});
process.exit(0);
