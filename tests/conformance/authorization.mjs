// The gateway as an authorization server: the suite's scenarios for those, with a scripted person where it waits for a
// browser. Its scenarios called `auth/…` are about clients, and the gateway is none.
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { PATIENCE, SUITE, read } from './results.mjs';
import { freePort, start } from './start.mjs';

const PERSON = 'suite';

/** Runs every scenario for authorization servers; gives the exit code, the log and every check that was made. */
export async function runAuthorization({ binary, directory }) {
    const password = randomBytes(16).toString('hex');
    const issuer = await startServer(binary, join(directory, 'authorization'), password);
    const callback = await freePort();
    const client = await register(`${issuer}/register`, `http://127.0.0.1:${callback}/callback`);
    const output = join(directory, 'authorization-server');
    const log = `${output}.log`;
    const file = openSync(log, 'w');
    const words = ['--url', issuer, '--client-id', client, '--resource', issuer, '--port', callback, '-o', output];
    const child = spawn(process.execPath, [SUITE, 'authorization', ...words], { stdio: ['ignore', 'pipe', file] });
    const late = setTimeout(() => child.kill('SIGKILL'), PATIENCE);
    createInterface({ input: child.stdout }).on('line', line => {
        writeSync(file, line + '\n');
        if (line.startsWith(`${issuer}/authorize?`)) {
            signIn(line, password).catch(error => {
                writeSync(file, `nobody could sign in: ${error.stack}\n`);
                child.kill('SIGKILL');
            });
        }
    });
    const code = await new Promise(resolve => child.on('exit', code => resolve(code ?? 'a signal')));
    clearTimeout(late);
    return { code, log, checks: read(output) };
}

/** What the suite lists as scenarios for authorization servers. */
export function scenarios() {
    const listed = execFileSync(process.execPath, [SUITE, 'list', '--authorization'], { encoding: 'utf8' });
    return [...listed.matchAll(/^ {2}- (\S+)/gm)].map(found => found[1]);
}

async function startServer(binary, directory, password) {
    mkdirSync(join(directory, 'policies'), { recursive: true });
    writeFileSync(join(directory, 'portcullis.yaml'), `store: memory\nlog: { file: "${join(directory, 'audit.jsonl')}" }\n`);
    writeFileSync(join(directory, 'policies', 'suite.yaml'), POLICY);
    execFileSync(binary, ['user', 'add', join(directory, 'users.yaml'), PERSON, '--password-stdin'], { input: password });
    const address = `127.0.0.1:${await freePort()}`;
    const log = join(directory, 'log.jsonl');
    await start(binary, ['serve', '--listen', address, directory], { log: openSync(log, 'w') }).catch(error => {
        throw new Error(`${error.message}\n${readFileSync(log, 'utf8')}`);
    });
    return `http://${address}/mcp`;
}

async function register(endpoint, redirect) {
    const about = { client_name: 'Conformance suite', redirect_uris: [redirect], token_endpoint_auth_method: 'none' };
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(endpoint, { method: 'POST', headers, body: JSON.stringify(about) });
    if (answer.status !== 201) throw new Error(`registration: ${answer.status} ${await answer.text()}`);
    return (await answer.json()).client_id;
}

/** What a person does with the URL that the suite shows: allows the client, signs in, and comes back to it. */
async function signIn(url, password) {
    const cookies = new Map();
    const go = async (to, form) => {
        const headers = { cookie: [...cookies].map(pair => pair.join('=')).join('; '), 'sec-fetch-site': form ? 'same-origin' : 'none' };
        const answer = await fetch(to, { method: form ? 'POST' : 'GET', headers, body: form && new URLSearchParams(form), redirect: 'manual' });
        for (const cookie of answer.headers.getSetCookie()) cookies.set(...cookie.split(';')[0].split('=', 2));
        return { status: answer.status, to: answer.headers.get('location'), page: await answer.text() };
    };
    const filled = ({ page, status }, more) => {
        const field = /<input type="hidden" name="(\w+)" value="([^"]*)">/.exec(page);
        const action = /<form method="post" action="([^"]*)">/.exec(page);
        if (!field || !action) throw new Error(`a page with a form: ${status} ${page}`);
        return [action[1], { [field[1]]: field[2], ...more }];
    };
    const asked = await go(url);
    const allowed = await go(...filled(asked, { provider: 'people' }));
    const back = await go(...filled(await go(allowed.to), { name: PERSON, password }));
    if (!back.to) throw new Error(`a way back: ${back.status} ${back.page}`);
    await fetch(back.to);
}

const POLICY = `service: suite
route: { path: /mcp }
upstream: { url: http://127.0.0.1:9/mcp }
providers: { people: { local: { users: ../users.yaml } } }
authorization_server:
  sign_in: [people]
  redirects: { loopback: true }
rules:
  - allow: { tools: ["*"] }
`;
