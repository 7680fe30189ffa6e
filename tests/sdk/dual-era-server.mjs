// An MCP server on the official TypeScript SDK that serves both eras on one path: legacy clients get a session,
// modern ones are served request by request. It records every HTTP request it receives, and every call that it sees
// cancelled: the witness of the tests.
//
//   node dual-era-server.mjs --mode json|sse --record FILE
import { randomUUID } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import { createServer } from 'node:http';

import { NodeStreamableHTTPServerTransport, toNodeHandler, toWebRequest } from '@modelcontextprotocol/node';
import { createMcpHandler, isInitializeRequest, isLegacyRequest } from '@modelcontextprotocol/server';

import { bodyOf, endWithParent, listen, options, witness } from './common.mjs';
import { build } from './dual-era-tools.mjs';

const { mode, record } = options({ mode: 'json', record: '' });
const sessions = new Map();

/** What the calls of all sessions and requests share. */
const world = {
    mode,
    begun: new Map(),
    cancelled: new Map(),
    /** Says to whoever subscribed, in either era, that a resource changed. */
    touch: async uri => {
        modern.notify.resourceUpdated(uri);
        for (const { server, subscribed } of sessions.values()) {
            if (subscribed.has(uri)) await server.server.sendResourceUpdated({ uri });
        }
    },
    /** Says so to everybody whose session has a stream: what a careless server does. */
    shout: async uri => {
        for (const { server } of sessions.values()) await server.server.sendResourceUpdated({ uri });
    },
    /** Waits until the session has a stream of its own, on which the server may speak unasked. */
    listening: async id => {
        while (sessions.has(id) && !sessions.get(id).stream?.headersSent) await new Promise(done => setTimeout(done, 5));
    },
    note: line => appendFileSync(record, JSON.stringify(line) + '\n')
};

const modern = createMcpHandler(({ era }) => build(era, world), { legacy: 'reject', responseMode: mode });
const serveModern = toNodeHandler(modern);
const refuse = (response, status, code, message) =>
    response.writeHead(status, { 'content-type': 'application/json' })
        .end(JSON.stringify({ jsonrpc: '2.0', error: { code, message }, id: null }));

/** Keeps the events of a session's streams, so that a client that lost one gets what it missed. */
function eventStore() {
    const events = [];
    return {
        storeEvent: async (stream, message) => `${stream}_${events.push({ stream, message })}`,
        getStreamIdForEventId: async id => id.slice(0, id.lastIndexOf('_')),
        replayEventsAfter: async (id, { send }) => {
            const stream = id.slice(0, id.lastIndexOf('_'));
            for (const [index, event] of [...events.entries()].slice(Number(id.slice(id.lastIndexOf('_') + 1)))) {
                // The first event of a stream only names it.
                if (event.stream === stream && event.message.jsonrpc) await send(`${stream}_${index + 1}`, event.message);
            }
            return stream;
        }
    };
}

async function serveLegacy(request, response, body) {
    const id = request.headers['mcp-session-id'];
    if (id !== undefined) {
        const session = sessions.get(id);
        if (!session) return refuse(response, 404, -32001, 'Session not found');
        if (request.method === 'GET' && !request.headers['last-event-id']) session.stream = response;
        return session.transport.handleRequest(request, response, body);
    }
    if (!isInitializeRequest(body)) return refuse(response, 400, -32000, 'Bad Request: Session ID required');
    const subscribed = new Set();
    const server = build('legacy', world, subscribed);
    const transport = new NodeStreamableHTTPServerTransport({
        sessionIdGenerator: () => randomUUID(),
        enableJsonResponse: mode === 'json',
        eventStore: eventStore(),
        retryInterval: 50,
        onsessioninitialized: created => sessions.set(created, { transport, server, subscribed, stream: null })
    });
    transport.onclose = () => sessions.delete(transport.sessionId);
    await server.connect(transport);
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
