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
    writeFileSync(join(directory, 'portcullis.yaml'), installation(origin));
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
    return { origin: `http://${own}`, token, stop };
}

const installation = origin => `public_url: ${origin}
providers:
  suite:
    hmac:
      issuer: ${ISSUER}
      secrets: [{ env: CONFORMANCE_SECRET }]
`;

const policy = ({ name, path, through }, origin) => `service: ${name === 'naive' ? name : `revision-${name}`}
route: { path: ${path} }
upstream: { url: "${through.fixture.url}" }
authentication: { providers: [suite] }
origins: ["${origin}"]
rules:
  - allow: { tools: ["*"], prompts: ["*"], resources: ["**"], methods: ["*"] }
server_requests: { elicitation: { url: ["*"] } }
`;
