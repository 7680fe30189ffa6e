// Opens files in yaml-language-server, as an editor would, and prints what it finds as one JSON object:
// { "<path>": [ { "line": 1-based, "severity": 1 = error, "message": "…" } ] }
//
//   node yamlls.mjs FILE…
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const LIMIT_MS = 120_000;
const files = process.argv.slice(2).map(file => resolve(file));
const home = dirname(createRequire(import.meta.url).resolve('yaml-language-server/package.json'));
const server = spawn(process.execPath, [join(home, 'bin/yaml-language-server'), '--stdio'], { stdio: ['pipe', 'pipe', 'inherit'] });
const clock = setTimeout(() => {
    server.kill('SIGKILL');
    console.error(`no diagnostics for: ${[...waiting.values()].join(', ')}`);
    process.exit(1);
}, LIMIT_MS);

const send = message => {
    const body = JSON.stringify({ jsonrpc: '2.0', ...message });
    server.stdin.write(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
};
const waiting = new Map(files.map(file => [pathToFileURL(file).href, file]));
const found = {};

const settings = { yaml: { validate: true, schemaStore: { enable: false }, kubernetesCRDStore: { enable: false } } };
const replies = {
    // The server asks for its settings section by section.
    'workspace/configuration': ({ items }) => items.map(({ section }) => settings[section] ?? {}),
    'client/registerCapability': () => null
};

function received(message) {
    if (message.id === 1 && message.result) {
        send({ method: 'initialized', params: {} });
        send({ method: 'workspace/didChangeConfiguration', params: { settings } });
        for (const [uri, file] of waiting) {
            const text = readFileSync(file, 'utf8');
            send({ method: 'textDocument/didOpen', params: { textDocument: { uri, languageId: 'yaml', version: 1, text } } });
        }
    } else if (message.method === 'textDocument/publishDiagnostics') {
        const { uri, diagnostics } = message.params;
        const file = waiting.get(uri);
        if (file === undefined) return;
        found[file] = diagnostics.map(({ range, severity, message: said }) => ({ line: range.start.line + 1, severity, message: said }));
        waiting.delete(uri);
        if (waiting.size === 0) finish();
    } else if (message.method && message.id !== undefined) {
        send({ id: message.id, result: replies[message.method]?.(message.params) ?? null });
    }
}

function finish() {
    clearTimeout(clock);
    server.kill('SIGKILL');
    process.stdout.write(JSON.stringify(found, null, 1) + '\n', () => process.exit(0));
}

let buffer = Buffer.alloc(0);
server.stdout.on('data', chunk => {
    buffer = Buffer.concat([buffer, chunk]);
    for (;;) {
        const head = buffer.indexOf('\r\n\r\n');
        if (head < 0) return;
        const length = Number(/content-length: (\d+)/i.exec(buffer.subarray(0, head).toString())[1]);
        if (buffer.length < head + 4 + length) return;
        const message = JSON.parse(buffer.subarray(head + 4, head + 4 + length).toString('utf8'));
        buffer = buffer.subarray(head + 4 + length);
        received(message);
    }
});
if (files.length === 0) finish();
else send({ id: 1, method: 'initialize', params: { processId: process.pid, rootUri: null, capabilities: { workspace: { configuration: true } } } });
