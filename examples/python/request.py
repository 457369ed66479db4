"""Sends a script, signed, and believes only the pinned service: `python request.py SCRIPT`.
Needs `pip install -r requirements.txt`, and the variables that `dev.env` sets."""
import asyncio, base64, hashlib, json, os, re, secrets, ssl, sys, time
import nats, nkeys, nacl.signing

b64 = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()
unb64 = lambda text: base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
digest = lambda data: b64(hashlib.sha256(data).digest())

def prove(seed, service, service_nkey, body):
    pair = nkeys.from_seed(bytearray(seed))
    head = {"alg": "ccreq1", "typ": "ccreq+jwt", "kid": pair.public_key.decode()}
    claims = {"aud": service, "op": "run", "iat": int(time.time()), "jti": secrets.token_hex(16), "bh": digest(body)}
    signed = ".".join(b64(json.dumps(part, separators=(",", ":")).encode()) for part in (head, claims))
    prefix = b"\xff\0crypto-cli request 1\n" + service_nkey.encode() + b"\n"  # no NATS server can have this signed as its nonce
    return signed + "." + b64(pair.sign(prefix + signed.encode()))

def check(reply, service_nkey, proof, script):  # the claims of the service about its answer, or an exception
    signed, _, signature = reply.headers["Crypto-Proof"].rpartition(".")
    key = base64.b32decode(service_nkey + "=" * (-len(service_nkey) % 8))[1:33]
    nacl.signing.VerifyKey(key).verify(signed.encode(), unb64(signature))
    head, claims = (json.loads(unb64(part)) for part in signed.split("."))
    told = (head["typ"], claims["form"], claims["req"], claims["script"], claims["bh"])
    if told != ("ccres+jwt", "value", digest(proof.encode()), digest(script), digest(reply.data)):
        raise ValueError("the answer is not to this request")
    return claims

async def main(script, env=os.environ):
    local = re.fullmatch(r"nats://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", env["NATS_URL"])  # plain text goes to this machine alone
    tls = None if local else ssl.create_default_context(cafile=env.get("NATS_CA"))
    connection = await nats.connect(env["NATS_URL"], tls=tls, nkeys_seed=env["NATS_NKEY_SEED_FILE"], max_reconnect_attempts=1)
    if tls and not connection._transport._io_writer.get_extra_info("ssl_object"):  # whatever the server says
        raise ValueError("the connection is not encrypted")
    proof = prove(open(env["NATS_NKEY_SEED_FILE"], "rb").read().strip(), env["CRYPTO_SERVICE"], env["CRYPTO_SERVICE_NKEY"], script)
    reply = await connection.request(env["CRYPTO_SUBJECT"], script, timeout=10, headers={"Crypto-Proof": proof})
    status = check(reply, env["CRYPTO_SERVICE_NKEY"], proof, script)["st"]
    print(reply.data.decode(), file=sys.stdout if status == "ok" else sys.stderr) or sys.exit(status != "ok")

asyncio.run(main(open(sys.argv[1], "rb").read()))
