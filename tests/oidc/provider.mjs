// A real OpenID provider (npm oidc-provider) for the gateway's tests, on loopback.
//
//   node provider.mjs READY_FILE     listens on a free port and writes its number into READY_FILE
//
// Tokens come by client credentials: client "service", secret "service-secret". What they are like is up to the resource
// that is asked for: urn:gateway:jwt:<alg>:<seconds> or urn:gateway:opaque:<seconds>. Client "gateway", secret
// "gateway-secret", may introspect. POST /control/keys {"keep": bool} makes new signing keys and keeps or drops the old.
import { createServer } from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { renameSync, writeFileSync } from 'node:fs';
import Provider from 'oidc-provider';

const [readyFile] = process.argv.slice(2);

// One store for all providers that follow each other: tokens outlive a change of keys.
const stored = new Map();
class Store {
  constructor(kind) {
    this.kind = kind;
  }
  async upsert(id, payload, expiresIn) {
    stored.set(`${this.kind}:${id}`, { payload, until: expiresIn ? Date.now() + expiresIn * 1000 : Infinity });
  }
  async find(id) {
    const found = stored.get(`${this.kind}:${id}`);
    return found && found.until > Date.now() ? found.payload : undefined;
  }
  async findByUserCode() {}
  async findByUid() {}
  async consume() {}
  async destroy(id) {
    stored.delete(`${this.kind}:${id}`);
  }
  async revokeByGrantId() {}
}

function newKeys() {
  const jwk = (pair, alg) => ({ ...pair.privateKey.export({ format: 'jwk' }), use: 'sig', alg, kid: randomUUID() });
  return [
    jwk(generateKeyPairSync('rsa', { modulusLength: 2048 }), 'RS256'),
    jwk(generateKeyPairSync('ec', { namedCurve: 'P-256' }), 'ES256'),
  ];
}

function makeHandler(issuer, keys) {
  const client = (id) => ({
    client_id: id,
    client_secret: `${id}-secret`,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
  });
  const provider = new Provider(issuer, {
    adapter: Store,
    clients: [client('service'), client('gateway')],
    jwks: { keys },
    cookies: { keys: [randomUUID()] },
    scopes: ['events', 'read'],
    extraTokenClaims: async () => ({ role: 'tester' }),
    ttl: { ClientCredentials: (_ctx, token) => token.resourceServer?.accessTokenTTL ?? 600 },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: async () => true },
      revocation: { enabled: true, allowedPolicy: async () => true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: async (_ctx, resource) => {
          const [, , format, ...rest] = resource.split(':');
          const accessTokenTTL = Number(rest.at(-1));
          const common = { scope: 'events read', audience: 'gateway', accessTokenTTL, accessTokenFormat: format };
          return format === 'jwt' ? { ...common, jwt: { sign: { alg: rest[0] } } } : common;
        },
      },
    },
  });
  return provider.callback();
}

let keys = newKeys();
let handle;
let issuer;
const server = createServer(async (request, response) => {
  if (request.url !== '/control/keys') return handle(request, response);
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const { keep } = JSON.parse(Buffer.concat(chunks));
  keys = [...newKeys(), ...(keep ? keys : [])];
  handle = makeHandler(issuer, keys);
  response.writeHead(204).end();
});
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  issuer = `http://127.0.0.1:${port}`;
  handle = makeHandler(issuer, keys);
  writeFileSync(`${readyFile}.tmp`, String(port));
  renameSync(`${readyFile}.tmp`, readyFile);
});
