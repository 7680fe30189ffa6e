// An MCP server on the official TypeScript SDK that serves both eras on one path: legacy clients get a session,
// modern ones are served request by request. It records every HTTP request it receives: the witness of the tests.
//
//   node dual-era-server.mjs --mode json|sse --record FILE
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';

import { NodeStreamableHTTPServerTransport, toNodeHandler, toWebRequest } from '@modelcontextprotocol/node';
import {
    createMcpHandler, isInitializeRequest, isLegacyRequest, McpServer, ResourceTemplate
} from '@modelcontextprotocol/server';
import * as z from 'zod/v4';

import { bodyOf, endWithParent, listen, options, witness } from './common.mjs';

const { mode, record } = options({ mode: 'json', record: '' });
const text = value => ({ content: [{ type: 'text', text: String(value) }] });
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

function build(era) {
    const server = new McpServer({ name: 'dual-era', version: '1.0.0' });
    const tool = (name, description, inputSchema, run) =>
        server.registerTool(name, { description, inputSchema: z.object(inputSchema) }, run);

    tool('echo', 'Says it back', { message: z.string() }, async ({ message }) => text(message));
    tool('add', 'Adds two numbers', { a: z.number(), b: z.number() }, async ({ a, b }) => text(a + b));
    tool('era', 'Names the era of the request', {}, async () => text(era));
    for (const kind of ['users', 'issues']) {
        tool(`search_${kind}`, `Searches ${kind}`, { query: z.string() }, async ({ query }) => text(`${kind}: ${query}`));
        tool(`delete_${kind}`, `Deletes ${kind}`, { id: z.string() }, async ({ id }) => text(`deleted ${id}`));
    }
    tool('slow', 'Answers late', { ms: z.number() }, async ({ ms }) => {
        await sleep(ms);
        return text('late');
    });
    tool('progress', 'Reports each step', { steps: z.number(), ms: z.number().default(5) }, async ({ steps, ms }, ctx) => {
        const progressToken = ctx.mcpReq._meta?.progressToken;
        for (let progress = 1; progress <= steps; progress += 1) {
            await sleep(ms);
            if (progressToken !== undefined) {
                await ctx.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total: steps } });
            }
        }
        return text(`${steps} steps`);
    });

    for (const name of ['readme', 'secret']) {
        const uri = `repo://acme/${name}`;
        server.registerResource(name, uri, { mimeType: 'text/plain' }, async () => ({ contents: [{ uri, text: name }] }));
    }
    const template = new ResourceTemplate('repo://acme/files/{path}', { list: undefined });
    server.registerResource('file', template, {}, async (uri, { path }) => ({ contents: [{ uri: uri.href, text: `file ${path}` }] }));

    for (const name of ['review', 'admin']) {
        const argsSchema = z.object({ subject: z.string() });
        server.registerPrompt(name, { description: `The ${name} prompt`, argsSchema }, async ({ subject }) => ({
            messages: [{ role: 'user', content: { type: 'text', text: `${name} ${subject}` } }]
        }));
    }
    return server;
}

const sessions = new Map();
const modern = createMcpHandler(({ era }) => build(era), { legacy: 'reject', responseMode: mode });
const serveModern = toNodeHandler(modern);
const refuse = (response, status, code, message) =>
    response.writeHead(status, { 'content-type': 'application/json' })
        .end(JSON.stringify({ jsonrpc: '2.0', error: { code, message }, id: null }));

async function serveLegacy(request, response, body) {
    const id = request.headers['mcp-session-id'];
    if (id !== undefined) {
        const transport = sessions.get(id);
        return transport ? transport.handleRequest(request, response, body) : refuse(response, 404, -32001, 'Session not found');
    }
    if (!isInitializeRequest(body)) return refuse(response, 400, -32000, 'Bad Request: Session ID required');
    const transport = new NodeStreamableHTTPServerTransport({
        sessionIdGenerator: () => randomUUID(),
        enableJsonResponse: mode === 'json',
        onsessioninitialized: created => sessions.set(created, transport)
    });
    transport.onclose = () => sessions.delete(transport.sessionId);
    await build('legacy').connect(transport);
    return transport.handleRequest(request, response, body);
}

const seen = witness(record);
const server = createServer(async (request, response) => {
    try {
        const raw = await bodyOf(request);
        seen(request, raw);
        if (request.method !== 'POST') return await serveLegacy(request, response, undefined);
        const body = JSON.parse(raw.toString('utf8'));
        const legacy = await isLegacyRequest(await toWebRequest(request, body));
        return await (legacy ? serveLegacy(request, response, body) : serveModern(request, response, body));
    } catch (error) {
        if (!response.headersSent) refuse(response, 400, -32700, error.message);
        else response.destroy();
    }
});
endWithParent();
listen(server);
