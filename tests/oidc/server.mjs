// An OpenID provider as others run it, for the tests: real discovery, real keys, real tokens.
// It takes one JSON command a line on stdin, and answers each with one line on stdout.
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createInterface } from "node:readline";

import Provider from "oidc-provider";

const { audience, opaqueAudience, clients, seconds } = JSON.parse(process.argv[2]);
const profiles = new Map();
let keys = [newKey()];
let handle;

function newKey() {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...privateKey.export({ format: "jwk" }), kid: randomUUID(), use: "sig", alg: "RS256" };
}

// The library logs what it thinks of development settings; stdout belongs to the answers.
console.info = console.warn = console.log = console.error;

const server = createServer((request, response) => handle(request, response));
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

function serve() {
  const provider = new Provider(issuer, {
    clients,
    jwks: { keys },
    cookies: { keys: [randomUUID()] },
    findAccount: (context, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    extraTokenClaims: (context, token) =>
      profiles.has(token.accountId) ? { profile_ids: profiles.get(token.accountId) } : undefined,
    ttl: {
      AccessToken: seconds,
      ClientCredentials: seconds,
      IdToken: seconds,
      Grant: 3600,
      Interaction: 600,
      Session: 600,
    },
    features: {
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true, allowedPolicy: () => true },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        defaultResource: () => audience,
        getResourceServerInfo: (context, resource) => ({
          scope: "payments",
          audience: resource,
          accessTokenTTL: seconds,
          accessTokenFormat: resource === opaqueAudience ? "opaque" : "jwt",
          jwt: { sign: { alg: "RS256" } },
        }),
      },
    },
  });
  handle = provider.callback();
}

const commands = {
  rotate: ({ keep }) => {
    keys = [newKey(), ...(keep ? keys : [])];
    serve();
    return { kid: keys[0].kid };
  },
  profiles: ({ subject, ids }) => {
    profiles.set(subject, ids);
    return {};
  },
};

serve();
console.error = () => {};
process.stdout.write(`${JSON.stringify({ issuer })}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...options } = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(commands[command](options))}\n`);
}
process.exit(0); // Whoever started this is gone.
