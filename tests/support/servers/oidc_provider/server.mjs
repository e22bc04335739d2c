// SPDX-License-Identifier: Apache-2.0
// How does a certified OpenID provider answer, with keys that turn over and troubles that a test asks for?
//
// argv[2]: JSON {port, controlPort, issuer, clients, accessTokenTtlS, tls: {cert, key} | null}. Users are whoever logs in, with
// the password "<name>s-own" where one is asked for (password grant); their groups and roles follow from the name.
// The control port takes POST /rotate[?drop=1], /delay?ms=N, /fail?path=P&status=S, /heal, /revoke-all and GET /requests.
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { readFileSync } from 'node:fs';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { Provider } from 'oidc-provider';

const options = JSON.parse(process.argv[2]);
const { port, controlPort, issuer, clients, accessTokenTtlS } = options;

const store = new Map();

// One store over all providers, so that a new set of keys forgets nobody.
class Store {
  constructor(model) { this.model = model; }
  key(id) { return `${this.model}:${id}`; }
  async upsert(id, payload, expiresIn) {
    store.set(this.key(id), { payload, endsAt: expiresIn ? Date.now() + expiresIn * 1000 : Infinity });
  }
  async find(id) {
    const found = store.get(this.key(id));
    return found && found.endsAt > Date.now() ? found.payload : undefined;
  }
  async findBy(member, value) {
    for (const [key, { payload, endsAt }] of store) {
      if (key.startsWith(`${this.model}:`) && payload[member] === value && endsAt > Date.now()) return payload;
    }
    return undefined;
  }
  async findByUid(uid) { return this.findBy('uid', uid); }
  async findByUserCode(userCode) { return this.findBy('userCode', userCode); }
  async consume(id) { const found = await this.find(id); if (found) found.consumed = Math.floor(Date.now() / 1000); }
  async destroy(id) { store.delete(this.key(id)); }
  async revokeByGrantId(grantId) {
    for (const [key, { payload }] of store) if (payload.grantId === grantId) store.delete(key);
  }
}

function newKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

let keys = [newKey()];

const groupsOf = (name) => (name === 'alice' ? ['dev', 'ops'] : ['dev']);
const rolesOf = (name) => (name === 'alice' ? ['admin', 'reader'] : ['reader']);

function resourceServer(resource) {
  return {
    scope: 'read write', audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: accessTokenTtlS,
    jwt: { sign: { alg: 'RS256' } },
  };
}

function newProvider() {
  const provider = new Provider(issuer, {
    adapter: Store,
    jwks: { keys },
    clients,
    cookies: { keys: ['a key of the test only'] },
    scopes: ['openid', 'profile', 'email', 'groups', 'offline_access', 'read', 'write'],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'preferred_username'], groups: ['groups', 'roles'] },
    pkce: { required: () => false },
    conformIdTokenClaims: false,
    issueRefreshToken: async (ctx, client, code) => client.grantTypeAllowed('refresh_token') && code.scopes.has('offline_access'),
    ttl: {
      AccessToken: accessTokenTtlS, ClientCredentials: accessTokenTtlS, IdToken: 3600, Session: 3600, Grant: 3600,
      Interaction: 600, RefreshToken: 3600,
    },
    features: {
      introspection: { enabled: true }, revocation: { enabled: true }, userinfo: { enabled: true },
      clientCredentials: { enabled: true }, devInteractions: { enabled: true },
      rpInitiatedLogout: { enabled: true },
      resourceIndicators: {
        enabled: true, defaultResource: () => undefined, useGrantedResource: () => true,
        getResourceServerInfo: (ctx, resource) => resourceServer(resource),
      },
    },
    extraTokenClaims: (ctx, token) => {
      const name = token.accountId ?? token.clientId;
      return { groups: groupsOf(name), realm_access: { roles: rolesOf(name) }, preferred_username: name };
    },
    findAccount: (ctx, id) => ({
      accountId: id,
      claims: async () => ({
        sub: id, email: `${id}@example.com`, email_verified: true, name: id, preferred_username: id,
        groups: groupsOf(id), roles: rolesOf(id),
      }),
    }),
  });
  provider.registerGrantType('password', passwordGrant, ['username', 'password', 'scope', 'resource', 'audience']);
  provider.on('server_error', (ctx, error) => console.error(error));
  return provider;
}

// OAuth 2.0's own (RFC 6749, section 4.3), which the provider does not bring.
async function passwordGrant(ctx) {
  const { provider } = ctx.oidc;
  const { username, password, scope, resource } = ctx.oidc.params;
  if (!username || password !== `${username}s-own`) {
    ctx.status = 400;
    ctx.body = { error: 'invalid_grant', error_description: 'no such user or another password' };
    return;
  }
  const { client } = ctx.oidc;
  const grant = new provider.Grant({ accountId: username, clientId: client.clientId });
  if (scope) grant.addOIDCScope(scope);
  if (resource) grant.addResourceScope(resource, scope);
  const token = new provider.AccessToken({
    client, accountId: username, grantId: await grant.save(), gty: 'password', scope, claims: {},
  });
  if (resource) token.resourceServer = new provider.ResourceServer(resource, resourceServer(resource));
  ctx.oidc.entity('AccessToken', token);
  ctx.body = { access_token: await token.save(), expires_in: token.expiration, scope, token_type: 'Bearer' };
}

let handle = newProvider().callback();
let delayMs = 0;
const failing = new Map();
const requests = [];

function serve(request, response) {
  const path = new URL(request.url, issuer).pathname;
  requests.push({ method: request.method, path });
  const answer = () => {
    const status = failing.get(path) ?? failing.get('*');
    if (status) {
      response.writeHead(status, { 'content-type': 'text/html' }).end('<h1>out of order</h1>');
    } else {
      handle(request, response);
    }
  };
  if (delayMs) setTimeout(answer, delayMs); else answer();
}

const control = createServer((request, response) => {
  const url = new URL(request.url, 'http://control.test');
  const asked = url.searchParams;
  const said = {
    '/rotate': () => {
      keys = asked.get('drop') ? [newKey()] : [newKey(), ...keys];
      handle = newProvider().callback();
      return { kids: keys.map(({ kid }) => kid) };
    },
    '/delay': () => { delayMs = Number(asked.get('ms')); },
    '/fail': () => { failing.set(asked.get('path') ?? '*', Number(asked.get('status') ?? 500)); },
    '/heal': () => { failing.clear(); delayMs = 0; },
    '/revoke-all': () => { for (const key of store.keys()) if (!key.startsWith('Client:')) store.delete(key); },
    '/forget': () => { requests.length = 0; },
    '/requests': () => requests,
  }[url.pathname];
  if (!said) { response.writeHead(404).end(); return; }
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(said() ?? {}));
});

const server = options.tls
  ? createTlsServer({ cert: readFileSync(options.tls.cert), key: readFileSync(options.tls.key) }, serve)
  : createServer(serve);
server.listen(port, '127.0.0.1');
control.listen(controlPort, '127.0.0.1');
