// Stands between the suite, which cannot send a token, and what it tests: adds `Authorization` and changes nothing else.
// Bytes are passed on as they come, and a disconnect on one side ends the other.
import { createServer, request as ask } from 'node:http';

const OF_THE_CONNECTION = new Set(['connection', 'keep-alive', 'transfer-encoding']);

/** Listens on a free port; `target()` says where a request goes, as `{ origin, token }`, once that is known. */
export function shim(target) {
    const server = createServer((request, response) => {
        const { origin, token } = target();
        const headers = kept(request.rawHeaders);
        if (token) headers.push('Authorization', `Bearer ${token}`);
        if (request.headers['transfer-encoding']) headers.push('Transfer-Encoding', 'chunked');
        const { method, url } = request;
        // Every request has a connection of its own, so that ending one ends nothing else.
        const forward = ask(origin + url, { method, headers, agent: false, setHost: false }, answer => {
            response.writeHead(answer.statusCode, answer.statusMessage, kept(answer.rawHeaders));
            response.flushHeaders();
            answer.pipe(response);
            answer.on('error', () => response.destroy());
        });
        forward.on('error', () => (response.headersSent ? response.destroy() : response.writeHead(502).end('no answer')));
        response.on('close', () => forward.destroy());
        request.pipe(forward);
    });
    return new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
}

/** The headers in their order and spelling, without those of one connection. */
function kept(raw) {
    const kept = [];
    for (let index = 0; index < raw.length; index += 2) {
        if (!OF_THE_CONNECTION.has(raw[index].toLowerCase())) kept.push(raw[index], raw[index + 1]);
    }
    return kept;
}
