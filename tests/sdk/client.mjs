// An official TypeScript client that walks through the steps it is given and prints one JSON line for each.
//
//   node client.mjs --url URL --token TOKEN --era v1|legacy|modern|auto --steps '[{"do":"tools/list"}, …]'
//   node client.mjs --visits '[{"url": …, "token": …}, …]' --era … --steps …
//
// `v1` is the 1.x SDK; the others are the 2.x SDK speaking the named era. The first line of a visit is about connecting,
// the last one about the session.
import { options } from './common.mjs';

const { url, token, visits, era, steps, timeout } = options({ era: 'modern', steps: '[]', token: '', timeout: '60000' });
const limits = { timeout: Number(timeout) };

// What HTTP answered during the step: the SDK's errors do not always tell.
let http = [];
// What the server asked during the step.
let asked = [];
// Resources that changed, and who waits for the next one.
const updates = [];
let updated = () => {};
// The first event that could be resumed from.
let event = null;
// The number of the server that is visited.
let visit = 0;

const say = line => {
    process.stdout.write(JSON.stringify({ visit, ...line, asked, http }) + '\n');
    http = [];
    asked = [];
};
const watchedFetch = async (target, init) => {
    const answer = await fetch(target, init);
    const headers = new Headers(init?.headers);
    http.push({
        method: init?.method ?? 'GET',
        status: answer.status,
        type: answer.headers.get('content-type'),
        challenge: answer.headers.get('www-authenticate'),
        resumed: headers.has('last-event-id')
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

async function build({ url, token }) {
    const about = { name: 'portcullis-tests', version: '1.0.0' };
    const capabilities = { sampling: {}, elicitation: { form: {} } };
    const requestInit = token ? { headers: { Authorization: `Bearer ${token}` } } : {};
    const wire = { requestInit, fetch: watchedFetch };
    if (era === 'v1') {
        const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
        const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
        const types = await import('@modelcontextprotocol/sdk/types.js');
        const client = new Client(about, { capabilities });
        answer(client, types.CreateMessageRequestSchema, types.ElicitRequestSchema, types.ResourceUpdatedNotificationSchema);
        return [client, new StreamableHTTPClientTransport(new URL(url), wire)];
    }
    const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
    const mode = era === 'modern' ? { pin: '2026-07-28' } : era;
    const client = new Client(about, { capabilities, versionNegotiation: { mode } });
    answer(client, 'sampling/createMessage', 'elicitation/create', 'notifications/resources/updated');
    return [client, new StreamableHTTPClientTransport(new URL(url), wire)];
}

/** What the client says when the server asks. */
function answer(client, sampling, elicitation, update) {
    client.setRequestHandler(sampling, async ({ params }) => {
        asked.push({ method: 'sampling/createMessage', text: params.messages[0].content.text });
        return { model: 'parrot', role: 'assistant', content: { type: 'text', text: 'something' }, stopReason: 'endTurn' };
    });
    client.setRequestHandler(elicitation, async ({ params }) => {
        asked.push({ method: 'elicitation/create', text: params.message });
        return { action: 'accept', content: { name: 'Ada' } };
    });
    client.setNotificationHandler(update, async ({ params }) => {
        updates.push(params.uri);
        updated();
    });
}

async function run(client, transport, { do: method, name, uri, arguments: args, ref, argument, touch }) {
    switch (method) {
        case 'tools/list': return client.listTools(undefined, limits);
        case 'resources/list': return client.listResources(undefined, limits);
        case 'resources/templates/list': return client.listResourceTemplates(undefined, limits);
        case 'prompts/list': return client.listPrompts(undefined, limits);
        case 'resources/read': return client.readResource({ uri }, limits);
        case 'prompts/get': return client.getPrompt({ name, arguments: args }, limits);
        case 'completion/complete': return client.complete({ ref, argument }, limits);
        case 'ping': return client.ping(limits);
        case 'tools/call': return call(client, name, args, limits);
        case 'cancel': return cancel(client, name, args);
        case 'subscribe': return subscribe(client, uri, touch ?? []);
        case 'listen': return listen(client, uri);
        case 'terminate': return transport.terminateSession();
        default: throw new Error(`no such step: ${method}`);
    }
}

/** Calls a tool and adds the progress that was reported on the way. */
async function call(client, name, args, how) {
    const progress = [];
    const watched = {
        ...how,
        onprogress: update => progress.push(update.progress),
        onresumptiontoken: id => { event ??= id; }
    };
    const request = { name, arguments: args ?? {} };
    const result = era === 'v1' ? await client.callTool(request, undefined, watched) : await client.callTool(request, watched);
    return { ...result, progress };
}

/** Calls a tool that hangs, gives it up once it does, and waits until the server has noticed. */
async function cancel(client, name, args) {
    const giveUp = new AbortController();
    const hanging = call(client, name, args, { ...limits, signal: giveUp.signal }).then(() => 'answered', error => error.constructor.name);
    const first = await Promise.race([hanging, call(client, 'begun', args, limits)]);
    if (typeof first === 'string') throw new Error(`it did not hang: ${first}`);
    giveUp.abort('the person changed their mind');
    const outcome = await hanging;
    const noticed = await call(client, 'cancelled', args, limits);
    return { outcome, noticed: noticed.content[0].text };
}

/** Subscribes to a resource, has others and then this one changed, and tells of which it heard. */
async function subscribe(client, uri, touch) {
    updates.length = 0;
    const subscription = era === 'modern'
        ? await client.listen({ resourceSubscriptions: [uri] }, limits)
        : await client.subscribeResource({ uri }, limits);
    const heard = new Promise((resolve, reject) => {
        updated = () => updates.includes(uri) && resolve();
        setTimeout(() => reject(new Error(`no word of ${uri}, only of ${updates}`)), limits.timeout).unref();
    });
    for (const args of [...touch, { uri }]) await call(client, 'touch', args, limits);
    await heard;
    if (era === 'modern') await subscription.close();
    else await client.unsubscribeResource({ uri }, limits);
    return { updates };
}

/** Listens for changes of a resource until the stream is ended, and tells by whom. */
async function listen(client, uri) {
    const subscription = await client.listen({ resourceSubscriptions: [uri] }, limits);
    await call(client, 'touch', { uri }, limits);
    const late = new Promise((_, reject) => setTimeout(() => reject(new Error('nobody ended it')), limits.timeout).unref());
    return { closed: await Promise.race([subscription.closed, late]) };
}

/** Connects to one server and takes the steps. */
async function walk(where) {
    const [client, transport] = await build(where);
    event = null;
    try {
        await client.connect(transport, limits);
    } catch (error) {
        return failed('connect', error);
    }
    say({ step: 'connect', ok: true, result: client.getServerVersion() ?? null });
    for (const [step, wanted] of JSON.parse(steps).entries()) {
        try {
            say({ step, ok: true, result: await run(client, transport, wanted) });
        } catch (error) {
            failed(step, error);
        }
    }
    say({ step: 'end', ok: true, session: transport.sessionId ?? null, event });
    await client.close().catch(() => {});
}

for (const [number, where] of (visits ? JSON.parse(visits) : [{ url, token }]).entries()) {
    visit = number;
    await walk(where);
}
process.exit(0);
