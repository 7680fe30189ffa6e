// The fixture of the conformance suite: an MCP server on the official TypeScript SDK that has everything the scenarios
// ask for, and serves both eras on one path.
//
//   node server.mjs --path /mcp [--naive]
//
// With `--naive` it does not look at the modern headers at all, as servers do that know only the body.
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';

import { createMcpExpressApp } from '@modelcontextprotocol/express';
import { NodeStreamableHTTPServerTransport, toNodeHandler } from '@modelcontextprotocol/node';
import { classifyInboundRequest, createMcpHandler, isInitializeRequest, McpServer } from '@modelcontextprotocol/server';

import { endWithParent, listen, options } from '../sdk/common.mjs';
import { prompts } from './prompts.mjs';
import { resources } from './resources.mjs';
import { rounds, states } from './rounds.mjs';
import { answerTask, EXTENSION, taskTools } from './tasks.mjs';
import { tools } from './tools.mjs';

const { path, naive } = options({ path: '/mcp', naive: false });
const sessions = new Map();

function build() {
    const server = new McpServer({ name: 'conformance-fixture', version: '1.0.0' }, {
        capabilities: {
            tools: { listChanged: true },
            resources: { subscribe: true, listChanged: true },
            prompts: { listChanged: true },
            logging: {},
            completions: {},
            extensions: { [EXTENSION]: {} }
        },
        requestState: { verify: states.verify }
    });
    tools(server, { sessions, changed: () => modern.notify });
    rounds(server);
    taskTools(server);
    resources(server);
    prompts(server);
    server.server.setRequestHandler('logging/setLevel', async () => ({}));
    server.server.setRequestHandler('completion/complete', async () => ({ completion: { values: [], total: 0, hasMore: false } }));
    return server;
}

const modern = createMcpHandler(build);
const serveModern = toNodeHandler(modern);

/** Events of one session, so that a client that lost its stream can take it up again. */
class Events {
    #kept = [];

    async storeEvent(stream, message) {
        const id = `${this.#kept.length}.${stream}`;
        this.#kept.push({ id, stream, message });
        return id;
    }

    async replayEventsAfter(last, { send }) {
        const from = Number.parseInt(last, 10);
        const stream = last.slice(last.indexOf('.') + 1);
        for (const event of this.#kept.slice(from + 1)) {
            // The first event of a stream carries no message: it exists for its id alone.
            if (event.stream === stream && Object.keys(event.message ?? {}).length > 0) await send(event.id, event.message);
        }
        return stream;
    }
}

const refuse = (response, status, code, message) => response.status(status).json({ jsonrpc: '2.0', error: { code, message }, id: null });

async function serveLegacy(request, response) {
    const id = request.headers['mcp-session-id'];
    if (id !== undefined) {
        const transport = sessions.get(id);
        return transport ? transport.handleRequest(request, response, request.body) : refuse(response, 404, -32001, 'Session not found');
    }
    if (!isInitializeRequest(request.body)) return refuse(response, 400, -32000, 'Bad Request: Session ID required');
    const server = build();
    const transport = new NodeStreamableHTTPServerTransport({
        sessionIdGenerator: () => randomUUID(),
        eventStore: new Events(),
        retryInterval: 500,
        onsessioninitialized: created => sessions.set(created, transport)
    });
    transport.onclose = () => sessions.delete(transport.sessionId);
    await server.connect(transport);
    return transport.handleRequest(request, response, request.body);
}

/** Makes the headers say what the body says: what reads them afterwards finds nothing to refuse. */
function trustTheBody(request) {
    const { method, params } = request.body ?? {};
    const names = { 'mcp-method': method, 'mcp-name': params?.name ?? params?.uri ?? params?.taskId };
    names['mcp-protocol-version'] = params?._meta?.['io.modelcontextprotocol/protocolVersion'];
    const kept = [];
    for (let index = 0; index < request.rawHeaders.length; index += 2) {
        if (!(request.rawHeaders[index].toLowerCase() in names)) kept.push(...request.rawHeaders.slice(index, index + 2));
    }
    for (const [name, value] of Object.entries(names)) {
        delete request.headers[name];
        if (typeof value !== 'string') continue;
        request.headers[name] = value;
        kept.push(name, value);
    }
    request.rawHeaders = kept;
}

const app = createMcpExpressApp();
app.all(path, async (request, response) => {
    try {
        if (naive) trustTheBody(request);
        const { headers, method, body } = request;
        const kind = method === 'POST' ? classifyInboundRequest({
            httpMethod: method,
            protocolVersionHeader: headers['mcp-protocol-version'],
            mcpMethodHeader: headers['mcp-method'],
            body
        }).kind : 'legacy';
        if (kind === 'legacy') await serveLegacy(request, response);
        else if (!answerTask(request, response)) await serveModern(request, response, body);
    } catch (error) {
        console.error(error);
        if (response.headersSent) response.destroy();
        else refuse(response, 500, -32603, 'Internal server error');
    }
});
endWithParent();
listen(createServer(app), path);
