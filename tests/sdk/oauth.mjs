// An official TypeScript client that knows nothing but the URL: it discovers, registers and asks for authorization by
// itself, walks through its steps and prints one JSON line for each.
//
//   node oauth.mjs --url URL --era v1|legacy|modern|auto --steps '[{"do":"tools/list"}, …]'
//                  [--method none|client_secret_basic|client_secret_post]
//                  [--document URL]
//                  [--service CLIENT_ID --secret SECRET | --service CLIENT_ID --key FILE]
//
// A client with a document names itself by its URL and does not register. A service is registered beforehand and acts for
// itself.
// Where a person would see a browser it prints {"browse": URL} and waits until a browser comes to its redirect URI.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

import { options } from './common.mjs';

const { url, era, steps, method, document, service, secret, key } = options({ era: 'modern', steps: '[]', method: 'none' });
const limits = { timeout: 60000 };
const say = line => process.stdout.write(JSON.stringify(line) + '\n');

// What the client asked and was answered during the step.
let http = [];
const watchedFetch = async (target, init) => {
    const answer = await fetch(target, init);
    const form = init?.body instanceof URLSearchParams ? init.body : new URLSearchParams();
    http.push({
        method: init?.method ?? 'GET',
        path: new URL(target).pathname,
        status: answer.status,
        grant: form.get('grant_type'),
        challenge: answer.headers.get('www-authenticate')
    });
    return answer;
};
const report = line => {
    say({ ...line, http });
    http = [];
};

// The redirect URI: a port of this computer, as RFC 8252 section 7.3 has it.
let arrived = () => {};
const callback = createServer((request, response) => {
    response.end('You can close this page.');
    arrived(new URL(request.url, 'http://127.0.0.1').searchParams);
}).listen(0, '127.0.0.1');
await once(callback, 'listening');

/** What a client of a person keeps, and how it sends them to a browser. */
const person = {
    redirectUrl: `http://127.0.0.1:${callback.address().port}/callback`,
    clientMetadata: {
        client_name: `Desk ${era}`,
        redirect_uris: [`http://127.0.0.1:${callback.address().port}/callback`],
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
        token_endpoint_auth_method: method
    },
    ...(document ? { clientMetadataUrl: document } : {}),
    kept: {},
    state() { return (this.kept.state = crypto.randomUUID()); },
    clientInformation() { return this.kept.client; },
    saveClientInformation(client) { this.kept.client = client; },
    tokens() { return this.kept.tokens; },
    saveTokens(tokens) { this.kept.tokens = tokens; },
    saveCodeVerifier(verifier) { this.kept.verifier = verifier; },
    codeVerifier() { return this.kept.verifier; },
    discoveryState() { return this.kept.discovered; },
    saveDiscoveryState(discovered) { this.kept.discovered = discovered; },
    redirectToAuthorization(to) {
        this.answer = new Promise(resolve => { arrived = resolve; });
        say({ browse: to.href });
    }
};

let Client, StreamableHTTPClientTransport, UnauthorizedError, ClientCredentialsProvider, PrivateKeyJwtProvider;
if (era === 'v1') {
    ({ Client } = await import('@modelcontextprotocol/sdk/client/index.js'));
    ({ StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js'));
    ({ UnauthorizedError } = await import('@modelcontextprotocol/sdk/client/auth.js'));
    ({ ClientCredentialsProvider, PrivateKeyJwtProvider } = await import('@modelcontextprotocol/sdk/client/auth-extensions.js'));
} else {
    ({ Client, StreamableHTTPClientTransport, UnauthorizedError, ClientCredentialsProvider, PrivateKeyJwtProvider } =
        await import('@modelcontextprotocol/client'));
}

/** Who the client is: what it keeps, and how it gets a token. */
function identity() {
    if (!service) return person;
    const who = { clientId: service, expectedIssuer: url };
    return key
        ? new PrivateKeyJwtProvider({ ...who, privateKey: readFileSync(key, 'utf8'), algorithm: 'ES256' })
        : new ClientCredentialsProvider({ ...who, clientSecret: secret });
}

const provider = identity();
const about = { name: 'portcullis-tests', version: '1.0.0' };
const wire = { authProvider: provider, fetch: watchedFetch };
const mode = era === 'modern' ? { pin: '2026-07-28' } : era;
const build = () => [
    era === 'v1' ? new Client(about) : new Client(about, { versionNegotiation: { mode } }),
    new StreamableHTTPClientTransport(new URL(url), wire)
];

/** Waits for the browser and redeems what it brought. */
async function authorized(transport) {
    const answer = await provider.answer;
    if (answer.get('state') !== provider.kept.state) throw new Error('the answer is to another request');
    if (answer.has('error')) throw new Error(`not authorized: ${answer.get('error')}`);
    // The 1.x SDK takes the code alone.
    await transport.finishAuth(era === 'v1' ? answer.get('code') : answer);
}

/** What a host does: whenever the SDK sent the person to a browser, waits for them and tries once more. */
async function withAuthorization(transport, attempt) {
    try {
        return await attempt();
    } catch (error) {
        if (!(error instanceof UnauthorizedError)) throw error;
        await authorized(transport());
        return attempt();
    }
}

let client, transport;
async function connect() {
    [client, transport] = build();
    await client.connect(transport, limits);
    return client.getServerVersion() ?? null;
}

async function run({ do: what, name, arguments: args }) {
    switch (what) {
        case 'tools/list': return client.listTools(undefined, limits);
        case 'tools/call': {
            const request = { name, arguments: args ?? {} };
            return era === 'v1' ? client.callTool(request, undefined, limits) : client.callTool(request, limits);
        }
        // The token ends, and the SDK is not told when.
        case 'expire': return void (provider.kept.tokens = { ...provider.kept.tokens, access_token: 'no.longer.good' });
        // What a host of the 1.x SDK has to do before a wider scope: that SDK refreshes as long as it can.
        case 'forget-refresh': return void (provider.kept.tokens = { ...provider.kept.tokens, refresh_token: undefined });
        default: throw new Error(`no such step: ${what}`);
    }
}

for (const [step, wanted] of [{ do: 'connect' }, ...JSON.parse(steps)].entries()) {
    const attempt = () => wanted.do === 'connect' ? connect() : run(wanted);
    try {
        report({ step, ok: true, result: await withAuthorization(() => transport, attempt) ?? null });
    } catch (error) {
        report({ step, ok: false, error: { name: error.constructor?.name, message: error.message } });
        if (wanted.do === 'connect') break;
    }
}
say({ tokens: await provider.tokens() ?? null, client: await provider.clientInformation() ?? null });
process.exit(0);
