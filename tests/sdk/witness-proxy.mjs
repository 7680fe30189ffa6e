// A recording reverse proxy for servers that keep no record of their own. With `--everything` it also starts
// `@modelcontextprotocol/server-everything` behind itself, on a free port, and ends it with itself.
//
//   node witness-proxy.mjs --record FILE (--to URL | --everything)
import { spawn } from 'node:child_process';
import { createServer, request as ask } from 'node:http';
import { createServer as createSocket } from 'node:net';
import { fileURLToPath } from 'node:url';

import { bodyOf, endWithParent, listen, options, witness } from './common.mjs';

const { to, everything, record } = options({ to: '', everything: false, record: '' });

function freePort() {
    return new Promise(resolve => {
        const socket = createSocket().listen(0, '127.0.0.1', () => {
            const { port } = socket.address();
            socket.close(() => resolve(port));
        });
    });
}

/** Starts server-everything; resolves with its address and process once it says that it listens. */
async function startEverything() {
    const port = await freePort();
    const entry = fileURLToPath(import.meta.resolve('@modelcontextprotocol/server-everything/dist/index.js'));
    const child = spawn(process.execPath, [entry, 'streamableHttp'], {
        env: { ...process.env, PORT: String(port) },
        stdio: ['ignore', 'ignore', 'pipe']
    });
    child.on('exit', code => process.exit(code ?? 1));
    await new Promise(resolve => {
        let said = '';
        child.stderr.on('data', chunk => {
            said += chunk;
            if (said.includes('listening on port')) resolve();
        });
    });
    return { child, target: `http://127.0.0.1:${port}` };
}

const upstream = everything ? await startEverything() : { target: new URL(to).origin };
const seen = witness(record);
const server = createServer(async (request, response) => {
    const body = await bodyOf(request);
    seen(request, body);
    const { method, url, headers } = request;
    const forward = ask(upstream.target + url, { method, headers }, answer => {
        response.writeHead(answer.statusCode, answer.headers);
        response.flushHeaders();
        answer.pipe(response);
    });
    forward.on('error', error => (response.headersSent ? response.destroy() : response.writeHead(502).end(error.message)));
    response.on('close', () => forward.destroy());
    forward.end(body);
});
endWithParent(() => {
    upstream.child?.removeAllListeners('exit');
    upstream.child?.kill('SIGKILL');
});
listen(server);
