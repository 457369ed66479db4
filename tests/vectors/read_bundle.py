"""Prints what is in a bundle as JSON: `python read_bundle.py FILE [--passphrase-file P | --secret HEX] [--show-secrets]`.

It was written from src/keyspace/FORMAT.md (sections 1, 4 and 7), the rule for names in README.md, and the specification of
age (https://c2sp.org/age), without a look at the source of the program. It is strict: what they do not allow ends with a
line that begins with `refused:`, and exit code 1. It needs `pip install -r requirements.txt`.
"""
import argparse, base64, hmac, json, pathlib, re, sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf import argon2, hkdf

HEADER_LIMIT, CHUNK, ITEM_LIMIT = 16 * 1024, 64 * 1024, 16 * 1024
MEMORY, PASSES, LANES = range(19 * 1024, 128 * 1024 + 1), range(2, 11), range(1, 9)
WHOLE = 512 * 1024  # most memory times passes
ALGORITHMS = {1: "ed25519", 2: "secp256k1", 3: "p256", 4: "x25519", 5: "symmetric"}
STATES = {1: "enabled", 2: "disabled", 3: "deleted"}
RAW = {"ed25519": ed25519.Ed25519PrivateKey, "x25519": x25519.X25519PrivateKey}
CURVES = {"secp256k1": ec.SECP256K1(), "p256": ec.SECP256R1()}
POINT = (serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)

class Refused(Exception):
    """What the file has that the format does not allow."""

def need(holds, why):
    if not holds:
        raise Refused(why)

def derive(secret, salt, info):
    return hkdf.HKDF(hashes.SHA256(), 32, salt, info).derive(secret)

def unseal(key, nonce, sealed, why):
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, sealed, None)
    except InvalidTag:
        raise Refused(why) from None

def from_base64(text, length=None):
    need(re.fullmatch(rb"[A-Za-z0-9+/]*", text) and len(text) % 4 != 1, "not base64 without padding")
    data = base64.b64decode(text + b"=" * (-len(text) % 4))  # Python does not mind bits after the last byte
    need(base64.b64encode(data).rstrip(b"=") == text, "base64 that is not canonical")
    need(length in (None, len(data)), f"{len(data)} bytes in base64 where {length} belong")
    return data

def parse_header(data):
    """The stanzas as (arguments, body), what the MAC covers, the MAC, and the payload."""
    lines, at = [b""], 0
    while not lines[-1].startswith(b"---"):
        end = data.find(b"\n", at, HEADER_LIMIT)
        need(end >= 0, "no end of the header in the first 16 KiB")
        lines.append(data[at:end])
        at = end + 1
    need(lines[1] == b"age-encryption.org/v1", "not a file of age, version 1")
    need(lines[-1].startswith(b"--- "), "no MAC")
    mac, covered = from_base64(lines[-1][4:], 32), data[: at - len(lines[-1]) - 1] + b"---"
    stanzas, rest = [], iter(lines[2:-1])
    for line in rest:
        # Arguments are of visible ASCII: this keeps out a carriage return and a second space, too.
        need(re.fullmatch(rb"->( [!-~]+)+", line), "a line that begins no stanza")
        body, part = b"", b"=" * 64
        while len(part) == 64:  # the first line of less than 64 characters, be it an empty one, ends the body
            part = next(rest, None)
            need(part is not None and len(part) <= 64, "a stanza without an end")
            body += from_base64(part)
        stanzas.append((line.split(b" ")[1:], body))
    need(stanzas, "no stanza")
    return stanzas, covered, mac, data[at:]

def file_key_by_passphrase(stanzas, passphrase):
    (kind, *arguments), body = stanzas[0]
    need(len(stanzas) == 1 and kind == b"crypto-cli/argon2id", "not a stanza for a passphrase and no other")
    need(len(arguments) == 4 and len(body) == 32, "not four arguments and 32 bytes")
    salt, cost = from_base64(arguments[0], 16), arguments[1:]
    need(all(re.fullmatch(rb"[1-9][0-9]{0,9}", told) for told in cost), "a cost that is not decimal")
    memory, passes, lanes = map(int, cost)
    need(memory in MEMORY and passes in PASSES and lanes in LANES, "a cost out of bounds")
    need(memory * passes <= WHOLE, "a cost out of bounds")
    kek = argon2.Argon2id(salt=salt, length=32, memory_cost=memory, iterations=passes, lanes=lanes).derive(passphrase)
    return unseal(kek, bytes(12), body, "another passphrase")

def file_key_by_secret(stanzas, secret):
    ours, found = x25519.X25519PrivateKey.from_private_bytes(secret), None
    for (kind, *arguments), body in stanzas:
        need(kind not in (b"crypto-cli/argon2id", b"scrypt"), "a stanza for a passphrase, which stands alone")
        if kind != b"X25519":
            continue
        need(len(arguments) == 1 and len(body) == 32, "not one argument and 32 bytes")
        share = from_base64(arguments[0], 32)
        try:
            shared = ours.exchange(x25519.X25519PublicKey.from_public_bytes(share))
            wrapping = derive(shared, share + ours.public_key().public_bytes_raw(), b"age-encryption.org/v1/X25519")
            found = found or ChaCha20Poly1305(wrapping).decrypt(bytes(12), body, None)
        except InvalidTag:
            pass  # for another recipient
        except ValueError:  # a share of low order comes to zero with any secret: anybody can have made the file
            raise Refused("a share of low order") from None
    need(found, "for other recipients")
    return found

def open_payload(file_key, data):
    need(len(data) > 16, "no payload")
    key, sealed, plain = derive(file_key, data[:16], b"payload"), data[16:], b""
    for counter, at in enumerate(range(0, len(sealed), CHUNK + 16)):
        nonce = counter.to_bytes(11, "big") + bytes([at + CHUNK + 16 >= len(sealed)])  # 1 for the last, else 0
        part = unseal(key, nonce, sealed[at : at + CHUNK + 16], f"chunk {counter} was changed, or is not in its place")
        need(part or counter == 0, "an empty chunk after another")
        plain += part
    return plain

class Fields:
    """Takes one field after another from the front."""
    def __init__(self, data):
        self.data = data

    def take(self, length):
        need(len(self.data) >= length, "a field that ends beyond what it is in")
        head, self.data = self.data[:length], self.data[length:]
        return head

    def number(self, length):
        return int.from_bytes(self.take(length), "big")

    def name(self):
        name = self.take(self.number(4))
        need(re.fullmatch(rb"[A-Za-z0-9._-]{1,64}", name), "not a name")
        return name.decode()

def public_key(algorithm, secret):
    if algorithm == "symmetric":
        return b""
    if algorithm in RAW:
        return RAW[algorithm].from_private_bytes(secret).public_key().public_bytes_raw()
    try:
        private = ec.derive_private_key(int.from_bytes(secret, "big"), CURVES[algorithm])
    except ValueError:
        raise Refused("a scalar that is not between 0 and the order") from None
    return private.public_key().public_bytes(*POINT)

def read_key(item, space, show_secrets):
    algorithm = ALGORITHMS.get(item.number(1))
    need(algorithm, "an unknown algorithm")
    need(item.name() == space, "a key of another key space")
    key = {"name": item.name(), "algorithm": algorithm, "created": item.number(8), "state": STATES.get(item.number(1))}
    until, count, before = item.number(8), item.number(4), 0
    need(key["state"], "an unknown state")
    need(key["state"] == "deleted" or until == 0, "a time to be destroyed, of a key that is not deleted")
    key |= {"deleted_until": until if key["state"] == "deleted" else None, "versions": []}
    need(1 <= count <= 256, "not 1 to 256 versions")
    for _ in range(count):
        number, created, secret = item.number(4), item.number(8), item.take(32)
        need(number > before, "versions that do not ascend from 1")
        before, public = number, public_key(algorithm, secret).hex()
        shown = {"secret": secret.hex()} if show_secrets else {}
        key["versions"].append({"number": number, "created": created, "public_key": public} | shown)
    return key

def read_contents(plain, show_secrets):
    fields, spaces, seen, kind = Fields(plain), [], set(), None
    need(fields.take(4) == b"CCKB" and fields.number(2) == 1, "not a bundle of version 1")
    while kind != 3:
        length = fields.number(4)  # of the kind and the body
        need(length <= ITEM_LIMIT, "an item that is too long")
        item = Fields(fields.take(length))
        kind = item.number(1)
        need(kind in (1, 2, 3), "an item of an unknown kind")
        if kind == 1:
            spaces.append({"name": item.name(), "created": item.number(8), "keys": []})
            need(spaces[-1]["name"] not in seen, "a key space twice")
            seen.add(spaces[-1]["name"])
        elif kind == 2:
            need(spaces, "a key before any key space")
            key = read_key(item, spaces[-1]["name"], show_secrets)
            spaces[-1]["keys"].append(key)
            path = (spaces[-1]["name"], key["name"])
            need(path not in seen, "a key twice")
            seen.add(path)
        else:
            told = [item.number(8), item.number(8)]
            need(told == [len(spaces), sum(len(space["keys"]) for space in spaces)], "not as much as the end tells")
        need(not item.data, "bytes left over in an item")
    need(not fields.data, "something after the end")
    return {"key_spaces": spaces}

def read(data, passphrase=None, secret=None, show_secrets=False):
    stanzas, covered, mac, payload = parse_header(data)
    file_key = file_key_by_secret(stanzas, secret) if passphrase is None else file_key_by_passphrase(stanzas, passphrase)
    need(hmac.compare_digest(hmac.digest(derive(file_key, b"", b"header"), covered, "sha256"), mac), "another MAC")
    return read_contents(open_payload(file_key, payload), show_secrets)

def main():
    arguments, content = argparse.ArgumentParser(), lambda path: pathlib.Path(path).read_bytes()
    arguments.add_argument("file", type=content)
    one = arguments.add_mutually_exclusive_group(required=True)
    one.add_argument("--passphrase-file", type=content, dest="passphrase")
    one.add_argument("--secret", type=bytes.fromhex)
    arguments.add_argument("--show-secrets", action="store_true")
    told = arguments.parse_args()
    passphrase = told.passphrase and re.sub(rb"\r?\n\Z", b"", told.passphrase)  # the line end is no part of it
    try:
        print(json.dumps(read(told.file, passphrase, told.secret, told.show_secrets), indent=2))
    except Refused as why:
        sys.exit(f"refused: {why}")

if __name__ == "__main__":
    main()
