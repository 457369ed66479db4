// Sends a script, signed, and believes only the pinned service: `node request.mjs SCRIPT`.
// Needs `npm install`, and the variables that `dev.env` sets.
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { connect, headers, nkeyAuthenticator } from "@nats-io/transport-node";
import { fromPublic, fromSeed } from "@nats-io/nkeys";

const b64 = (data) => Buffer.from(data).toString("base64url");
const digest = (data) => createHash("sha256").update(data).digest("base64url");

function prove(seed, aud, service, body) {
  const pair = fromSeed(seed), iat = Math.floor(Date.now() / 1000);
  const head = { alg: "ccreq1", typ: "ccreq+jwt", kid: pair.getPublicKey() };
  const claims = { aud, op: "run", iat, jti: randomBytes(16).toString("hex"), bh: digest(body) };
  const signed = `${b64(JSON.stringify(head))}.${b64(JSON.stringify(claims))}`;
  const prefix = `crypto-cli request 1\n${service}\n`; // after FF 00: no NATS server can have this signed as its nonce
  return `${signed}.${b64(pair.sign(Buffer.concat([Buffer.of(0xff, 0), Buffer.from(prefix + signed)])))}`;
}

function check(reply, service, proof, script) { // the claims of the service about its answer, or an exception
  const [head, claims, signature] = reply.headers.get("Crypto-Proof").split(".");
  const good = fromPublic(service).verify(Buffer.from(`${head}.${claims}`), Buffer.from(signature, "base64url"));
  const [{ typ }, told] = [head, claims].map((part) => JSON.parse(Buffer.from(part, "base64url")));
  const ours = [proof, script, reply.data].map(digest).join();
  if (good && typ === "ccres+jwt" && told.form === "value" && [told.req, told.script, told.bh].join() === ours) return told;
  throw Error("the answer is not to this request");
}

const { NATS_URL, NATS_CA, NATS_NKEY_SEED_FILE, CRYPTO_SERVICE, CRYPTO_SERVICE_NKEY, CRYPTO_SUBJECT } = process.env;
const [script, seed] = [readFileSync(process.argv[2]), Buffer.from(readFileSync(NATS_NKEY_SEED_FILE, "utf8").trim())];
// Plain text goes to this machine alone; a server that offers no TLS is refused everywhere else.
const local = /^nats:\/\/(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/.test(NATS_URL);
const tls = local ? null : NATS_CA ? { caFile: NATS_CA } : {};
const connection = await connect({ servers: NATS_URL, tls, authenticator: nkeyAuthenticator(seed), reconnect: false });
const sent = headers(), proof = prove(seed, CRYPTO_SERVICE, CRYPTO_SERVICE_NKEY, script);
sent.set("Crypto-Proof", proof);
const reply = await connection.request(CRYPTO_SUBJECT, script, { timeout: 10000, headers: sent }); await connection.close();
process.exitCode = check(reply, CRYPTO_SERVICE_NKEY, proof, script).st === "ok" ? 0 : 1;
(process.exitCode ? console.error : console.log)(reply.string());
