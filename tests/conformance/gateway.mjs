// The gateway under test: the built program with policies that allow everything, and a token that it accepts.
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { freePort, start } from './start.mjs';

const ISSUER = 'https://issuer.example.com';

/** One service for each leg; clients see it at `port`, where the shim is. */
export async function startGateway({ binary, directory, port, legs }) {
    const origin = `http://localhost:${port}`;
    mkdirSync(join(directory, 'policies'), { recursive: true });
    const audit = join(directory, 'audit.jsonl');
    writeFileSync(join(directory, 'portcullis.yaml'), installation(origin, audit));
    for (const leg of legs) writeFileSync(join(directory, 'policies', `${leg.name}.yaml`), policy(leg, origin));

    const env = { ...process.env, CONFORMANCE_SECRET: randomBytes(32).toString('hex') };
    const audiences = legs.flatMap(({ path }) => ['--audience', origin + path]);
    const mint = ['token', 'mint', '--secret-env', 'CONFORMANCE_SECRET', '--issuer', ISSUER, '--subject', 'suite', ...audiences];
    const token = execFileSync(binary, mint, { env, encoding: 'utf8' }).trim();

    const own = `127.0.0.1:${await freePort()}`;
    const log = join(directory, 'log.jsonl');
    const running = start(binary, ['serve', '--listen', own, directory], { env, log: openSync(log, 'w') });
    const { stop } = await running.catch(error => {
        throw new Error(`${error.message}\n${readFileSync(log, 'utf8')}`);
    });
    const permitted = ({ name }) => readFileSync(audit, 'utf8').split('\n').filter(Boolean).map(line => JSON.parse(line))
        .filter(record => record.service === called(name) && record.decision === 'permit').length;
    return { origin: `http://${own}`, token, stop, permitted };
}

/** What the service of a leg is called: names begin with a letter. */
const called = name => `leg-${name}`;

const installation = (origin, audit) => `public_url: ${origin}
log: { file: "${audit}" }
providers:
  suite:
    hmac:
      issuer: ${ISSUER}
      secrets: [{ env: CONFORMANCE_SECRET }]
`;

const policy = ({ name, path, through }, origin) => `service: ${called(name)}
route: { path: ${path} }
upstream: { url: "${through.fixture.url}" }
authentication: { providers: [suite] }
origins: ["${origin}"]
rules:
  - allow: { tools: ["*"], prompts: ["*"], resources: ["**"], methods: ["*"] }
server_requests: { elicitation: { url: ["*"] } }
`;
