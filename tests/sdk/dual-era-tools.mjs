// What the dual-era server offers: the same tools, prompts and resources to either era.
import { acceptedContent, completable, inputRequired, McpServer, ResourceTemplate } from '@modelcontextprotocol/server';
import * as z from 'zod/v4';

const text = value => ({ content: [{ type: 'text', text: String(value) }] });
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));
const starting = list => value => list.filter(item => item.startsWith(value ?? ''));

/** A promise for each label, kept from whoever asks for it first. */
function signal(map, label) {
    if (!map.has(label)) map.set(label, deferred());
    return map.get(label);
}

function deferred() {
    let resolve;
    const promise = new Promise(done => { resolve = done; });
    return { promise, resolve };
}

/** A server for one session, or for one request of the modern era. */
export function build(era, world, subscribed = new Set()) {
    const server = new McpServer({ name: 'dual-era', version: '1.0.0' });
    const tool = (name, description, inputSchema, run) =>
        server.registerTool(name, { description, inputSchema: z.object(inputSchema) }, run);
    plain(tool, era);
    lasting(tool, world);
    asking(tool, server, era, world);
    resources(tool, server, world, subscribed, era);
    prompts(server);
    return server;
}

function plain(tool, era) {
    tool('echo', 'Says it back', { message: z.string() }, async ({ message }) => text(message));
    tool('add', 'Adds two numbers', { a: z.number(), b: z.number() }, async ({ a, b }) => text(a + b));
    tool('era', 'Names the era of the request', {}, async () => text(era));
    for (const kind of ['users', 'issues']) {
        tool(`search_${kind}`, `Searches ${kind}`, { query: z.string() }, async ({ query }) => text(`${kind}: ${query}`));
        tool(`delete_${kind}`, `Deletes ${kind}`, { id: z.string() }, async ({ id }) => text(`deleted ${id}`));
    }
}

/** Tools that take their time: with progress, with a stream that breaks off, until they are cancelled. */
function lasting(tool, world) {
    tool('slow', 'Answers late', { ms: z.number() }, async ({ ms }) => {
        await sleep(ms);
        return text('late');
    });
    const progress = async (ctx, step, total) => {
        const progressToken = ctx.mcpReq._meta?.progressToken;
        if (progressToken === undefined) return;
        await ctx.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress: step, total } });
    };
    tool('progress', 'Reports each step', { steps: z.number(), ms: z.number().default(5) }, async ({ steps, ms }, ctx) => {
        for (let step = 1; step <= steps; step += 1) {
            await sleep(ms);
            await progress(ctx, step, steps);
        }
        return text(`${steps} steps`);
    });
    tool('broken_off', 'Loses its stream half way and goes on', {}, async (_, ctx) => {
        await progress(ctx, 1, 3);
        if (!ctx.http?.closeSSE) return text('nothing to break off');
        await sleep(20);
        ctx.http.closeSSE();
        await progress(ctx, 2, 3);
        await progress(ctx, 3, 3);
        return text('resumed');
    });
    tool('hang', 'Hangs until it is cancelled', { label: z.string() }, async ({ label }, ctx) => {
        const over = new Promise(done => ctx.mcpReq.signal.addEventListener('abort', done));
        signal(world.begun, label).resolve();
        await over;
        world.note({ cancelled: label });
        signal(world.cancelled, label).resolve();
        return text('cancelled');
    });
    tool('begun', 'Answers when the call with this label hangs', { label: z.string() }, async ({ label }) => {
        await signal(world.begun, label).promise;
        return text('begun');
    });
    tool('cancelled', 'Answers when the call with this label was cancelled', { label: z.string() }, async ({ label }) => {
        await signal(world.cancelled, label).promise;
        return text('cancelled');
    });
}

const person = z.object({ name: z.string() });
const question = { message: 'Who are you?', requestedSchema: person };
// How long to wait for an answer that comes another way than the call; a test of one that may not come says less.
const patience = { patience: z.number().default(15_000) };
const sample = { messages: [{ role: 'user', content: { type: 'text', text: 'Say something' } }], maxTokens: 8 };

/**
 * Tools that need the client. In the modern era they answer `input_required` and are called again; to legacy clients the
 * SDK sends a request on the stream of the call, and where answers are JSON, this server on the session's own stream.
 */
function asking(tool, server, era, world) {
    const unasked = era === 'legacy' && world.mode === 'json';
    const own = async (ctx, send) => {
        await world.listening(ctx.sessionId);
        return send();
    };
    tool('sample', 'Asks the model of the client', patience, async ({ patience: timeout }, ctx) => {
        const said = unasked
            ? await own(ctx, () => server.server.createMessage(sample, { timeout }))
            : ctx.mcpReq.inputResponses?.said;
        if (!said) return inputRequired({ inputRequests: { said: inputRequired.createMessage(sample) }, requestState: 'asked' });
        return text(`${said.model}: ${said.content.text} (${unasked ? 'asked' : ctx.mcpReq.requestState()})`);
    });
    tool('ask', 'Asks the person', patience, async ({ patience: timeout }, ctx) => {
        const given = unasked
            ? await own(ctx, () => server.server.elicitInput({ ...question, requestedSchema: wire(person) }, { timeout }))
            : ctx.mcpReq.inputResponses?.who;
        if (!given) return inputRequired({ inputRequests: { who: inputRequired.elicit(question) }, requestState: 'asked' });
        const who = unasked ? given.content : acceptedContent(ctx.mcpReq.inputResponses, 'who', person);
        return text(`${given.action}: ${who?.name} (${unasked ? 'asked' : ctx.mcpReq.requestState()})`);
    });
}

const wire = schema => {
    const { type, properties, required } = z.toJSONSchema(schema);
    return { type, properties, required };
};

function resources(tool, server, world, subscribed, era) {
    for (const name of ['readme', 'secret']) {
        const uri = `repo://acme/${name}`;
        server.registerResource(name, uri, { mimeType: 'text/plain' }, async () => ({ contents: [{ uri, text: name }] }));
    }
    for (const [name, words] of [['files', ['alpha', 'amber', 'beta']], ['vault', ['gold']]]) {
        const template = new ResourceTemplate(`repo://acme/${name}/{path}`, { list: undefined, complete: { path: starting(words) } });
        server.registerResource(name, template, {}, async (uri, { path }) => ({ contents: [{ uri: uri.href, text: `file ${path}` }] }));
    }
    server.server.registerCapabilities({ resources: { subscribe: true } });
    if (era === 'legacy') {
        server.server.setRequestHandler('resources/subscribe', async ({ params }) => {
            subscribed.add(params.uri);
            return {};
        });
        server.server.setRequestHandler('resources/unsubscribe', async ({ params }) => {
            subscribed.delete(params.uri);
            return {};
        });
    }
    tool('touch', 'Changes a resource', { uri: z.string(), careless: z.boolean().default(false) }, async ({ uri, careless }, ctx) => {
        if (era === 'legacy') await world.listening(ctx.sessionId);
        await (careless ? world.shout(uri) : world.touch(uri));
        return text('touched');
    });
}

function prompts(server) {
    for (const name of ['review', 'admin']) {
        const argsSchema = z.object({ subject: completable(z.string(), starting(['code', 'contract', 'essay'])) });
        server.registerPrompt(name, { description: `The ${name} prompt`, argsSchema }, async ({ subject }) => ({
            messages: [{ role: 'user', content: { type: 'text', text: `${name} ${subject}` } }]
        }));
    }
}
