// A certified OpenID provider with one client, the gateway. Anybody who types a name is signed in by its pages.
//
//   node openid-provider.mjs --redirect URI --secret SECRET --record FILE [--port PORT] [--access opaque|jwt]
//                            [--kid NAME] [--stall MILLISECONDS [--at PATH]]
//
// Its keys are new at every start. It records the access tokens that it issued, and may stall one endpoint, the token endpoint by default.
import { generateKeyPairSync } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import { createServer } from 'node:http';

import Provider from 'oidc-provider';

import { endWithParent, options } from './common.mjs';

const { redirect, secret, record, port, access, kid, stall, at } =
    options({ port: '0', access: 'opaque', kid: 'first', stall: '0', at: '/token', record: '' });
const server = createServer();
await new Promise(done => server.listen(Number(port), '127.0.0.1', done));
const issuer = `http://127.0.0.1:${server.address().port}`;

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const key = { ...privateKey.export({ format: 'jwk' }), kid, alg: 'RS256', use: 'sig' };
const isJwt = access === 'jwt';
const provider = new Provider(issuer, {
    jwks: { keys: [key] },
    cookies: { keys: [crypto.randomUUID()] },
    clients: [{ client_id: 'gateway', client_secret: secret, redirect_uris: [redirect] }],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'] },
    // A JWT is for an API and not for userinfo, so that the claims must be in the ID token.
    conformIdTokenClaims: !isJwt,
    features: {
        devInteractions: { enabled: true },
        resourceIndicators: {
            enabled: isJwt,
            defaultResource: () => 'https://api.example.com',
            getResourceServerInfo: () => ({ scope: '', audience: 'https://api.example.com', accessTokenFormat: 'jwt' }),
            useGrantedResource: () => true
        }
    },
    ttl: { AccessToken: 300, IdToken: 300, Interaction: 600, Session: 600, Grant: 600 },
    findAccount: (_, accountId) => ({
        accountId,
        claims: () => ({ sub: accountId, email: `${accountId}@example.com`, email_verified: true, groups: ['eng'] })
    })
});
provider.use(async (context, next) => {
    if (context.path === at) await new Promise(done => setTimeout(done, Number(stall)));
    await next();
    if (context.path === '/token' && record) {
        appendFileSync(record, JSON.stringify({ status: context.status, token: context.body?.access_token ?? null }) + '\n');
    }
});
server.on('request', provider.callback());
endWithParent();
console.log(`listening=${issuer}`);
