"""Makes the bundles in `bundles/`: some that every later version of crypto-cli must open, and more that none may.

    python make_bundles.py            writes them
    python make_bundles.py --check    fails when the files are others, or when read_bundle.py disagrees with one of them

It was written from src/keyspace/FORMAT.md (sections 1, 4 and 7), the rule for names in README.md, and the specification of
age (https://c2sp.org/age), without a look at the source of the program. Salts, nonces, ephemeral secrets and file keys are
hashes of the vector's name, so that each run makes the same files. NOTHING IN THEM IS SECRET: the keys are seeds and scalars
that RFC 8032, RFC 7748 and RFC 6979 publish, the numbers 1 and order - 1, and SHA-256 of a label. Use none of them for
anything else.
Needs `pip install -r requirements.txt`.
"""
import base64, hashlib, hmac, pathlib, sys, textwrap
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

import read_bundle

HERE = pathlib.Path(__file__).resolve().parent
FOLDER = HERE / "bundles"
CHUNK = 64 * 1024
HEADER_LIMIT = 16 * 1024
PASSPHRASE = "a passphrase of the vectors"
MADE = 1_700_000_000  # in 2023: some time that is no boundary
ED25519, SECP256K1, P256, X25519, SYMMETRIC = 1, 2, 3, 4, 5
ENABLED, DISABLED, DELETED = 1, 2, 3

def label(text):
    return hashlib.sha256(b"crypto-cli vectors: " + text.encode()).digest()

SECRET = label("our recipient")
RFC8032 = [
    bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"),
    bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"),
]
RFC7748 = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
RFC6979 = bytes.fromhex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721")
ORDERS = {
    SECP256K1: 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    P256: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
}

def public(secret):
    return x25519.X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()

def hkdf(secret, salt, info):
    return HKDF(hashes.SHA256(), 32, salt, info).derive(secret)

def b64(data):
    return base64.b64encode(data).rstrip(b"=")

def one_bit_more(text):
    """Base64 of the same bytes, with a bit set that belongs to none of them."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return text[:-1] + bytes([alphabet[alphabet.index(text[-1]) | 1]])

# What is encrypted.

def number(value, length):
    return value.to_bytes(length, "big")

def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return number(len(data), 4) + data

def item(kind, body):
    return number(len(body) + 1, 4) + number(kind, 1) + body  # the length counts the kind, too

def space(name, more=b""):
    return item(1, text(name) + number(MADE, 8) + more)

def version(secret, of=1):
    return number(of, 4) + number(MADE + of, 8) + secret

def key(algorithm, within, name, versions, state=ENABLED, until=0, count=None, more=b""):
    """`count` is what it says of its versions, where that is not how many follow."""
    head = number(algorithm, 1) + text(within) + text(name) + number(MADE, 8) + number(state, 1) + number(until, 8)
    return item(2, head + number(len(versions) if count is None else count, 4) + b"".join(versions) + more)

def end(spaces, keys, more=b""):
    return item(3, number(spaces, 8) + number(keys, 8) + more)

def contents(*items, magic=b"CCKB", of=1):
    return magic + number(of, 2) + b"".join(items)

# How it is encrypted. What should be random follows from the name of the vector.

def stanza(*arguments, body):
    """The first line, and the body in lines of 64 characters, of which the last is shorter, if need be empty."""
    lines = b64(body)
    lines = [lines[at : at + 64] for at in range(0, len(lines) + 1, 64)]
    arguments = [part if isinstance(part, bytes) else part.encode() for part in arguments]
    return b"\n".join([b" ".join([b"->", *arguments]), *lines, b""])

def file_key(name, length=16):
    return label(f"{name}, file key")[:length]

def by_passphrase(name, memory=19456, passes=2, lanes=1, told=None, salt=16, key_length=16):
    """`told` is what the stanza says of the cost, where that is not what it cost."""
    salt = label(f"{name}, salt")[:salt]
    kek = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory).derive(PASSPHRASE.encode())
    wrapped = ChaCha20Poly1305(kek).encrypt(bytes(12), file_key(name, key_length), None)
    return stanza("crypto-cli/argon2id", b64(salt), *map(str, told or (memory, passes, lanes)), body=wrapped)

def by_recipient(name, recipient, which="", low_order=None, key_length=16, more=()):
    """`which` tells the stanzas of one file apart."""
    secret = label(f"{name}, ephemeral secret {which}")
    ours, theirs = x25519.X25519PrivateKey.from_private_bytes(secret), x25519.X25519PublicKey.from_public_bytes(recipient)
    # With a share of low order each recipient comes to a shared secret of zeros: anybody can open the file.
    share, shared = (low_order, bytes(32)) if low_order else (public(secret), ours.exchange(theirs))
    wrapping = hkdf(shared, share + recipient, b"age-encryption.org/v1/X25519")
    wrapped = ChaCha20Poly1305(wrapping).encrypt(bytes(12), file_key(name, key_length), None)
    return stanza("X25519", b64(share), *more, body=wrapped)

def header(name, *stanzas, first=b"age-encryption.org/v1\n", key_length=16):
    covered = first + b"".join(stanzas) + b"---"
    mac = hmac.digest(hkdf(file_key(name, key_length), b"", b"header"), covered, "sha256")
    return covered + b" " + b64(mac) + b"\n"

def payload(name, *chunks, key_length=16):
    """Chunks are (plain, number, whether it says that it is the last)."""
    nonce = label(f"{name}, nonce")[:16]
    cipher = ChaCha20Poly1305(hkdf(file_key(name, key_length), nonce, b"payload"))
    return nonce + b"".join(cipher.encrypt(number(of, 11) + number(last, 1), plain, None) for plain, of, last in chunks)

def chunks_of(plain):
    parts = [plain[at : at + CHUNK] for at in range(0, len(plain), CHUNK)] or [b""]
    return [(part, of, of == len(parts) - 1) for of, part in enumerate(parts)]

def sealed(name, plain, *stanzas, **more):
    return header(name, *(stanzas or [by_passphrase(name)]), **more) + payload(name, *chunks_of(plain))

# The vectors.

@dataclass
class Vector:
    name: str
    why: str
    bundle: bytes
    counts: tuple = None  # of key spaces and keys, if it opens
    passphrase: str = PASSPHRASE
    secret: bytes = None  # instead of the passphrase

    def file(self):
        lines = ["expect: " + ("opens" if self.counts else "refused"), f"why: {self.why}"]
        lines.append(f"secret: {self.secret.hex()}" if self.secret else f"passphrase: {self.passphrase}")
        if self.counts:
            lines += [f"spaces: {self.counts[0]}", f"keys: {self.counts[1]}", *listing(self)]
        return "\n".join([*lines, "", *textwrap.wrap(base64.b64encode(self.bundle).decode(), 76), ""])

def listing(vector):
    """A line for each key space and key, in the order of bytes; where that is more than 4 KiB, SHA-256 of it."""
    lines = []
    told = read_bundle.read(vector.bundle, None if vector.secret else vector.passphrase.encode(), vector.secret, True)
    for one in told["key_spaces"]:
        lines.append(f"space {one['name']}: made {one['created']}")
        for key in one["keys"]:
            until = f" until {key['deleted_until']}" if key["deleted_until"] else ""
            line = f"key {one['name']}/{key['name']}: {key['algorithm']} {key['state']}{until} made {key['created']}"
            for version in key["versions"]:
                # A symmetric key has no public one.
                mac = hmac.digest(bytes.fromhex(version["secret"]), b"vector", "sha256").hex()
                line += f", {version['number']} made {version['created']} {version['public_key'] or mac}"
            lines.append(line)
    whole = "".join(f"{line}\n" for line in sorted(lines)).encode()
    return [f"listing: {hashlib.sha256(whole).hexdigest()}"] if len(whole) > 4096 else sorted(lines)

SEED = [version(RFC8032[0])]
SPACE, KEY = space("a"), key(ED25519, "a", "k", SEED)
SMALL = contents(SPACE, KEY, end(1, 1))
SMALLEST = contents(end(0, 0))

def filled(length):
    """Contents of just this length: keys with as many versions as they may have, and one that takes up the rest."""
    items, rest = [SPACE], length - len(contents(SPACE, end(1, 0)))
    while rest:
        room = rest - len(key(SYMMETRIC, "a", "", []))
        versions = min(256, (room - 1) // 44)
        name = f"{len(items)}".ljust(1 if versions == 256 else room - 44 * versions, "-")
        items.append(key(SYMMETRIC, "a", name, [version(label(f"{name}, {of}"), of) for of in range(1, versions + 1)]))
        rest -= len(items[-1])
    return contents(*items, end(1, len(items) - 1)), (1, len(items) - 1)

def long_header(name, recipient, length):
    ours, other = by_recipient(name, recipient), stanza("", body=b"")
    other = stanza("x" * (length - len(header(name, ours, other))), body=b"")
    return sealed(name, SMALLEST, ours, other)

def good_ones(recipient):
    yield Vector("one-key", "one key for a passphrase, at the lowest cost", sealed("one-key", SMALL), (1, 1))

    name, keys = "every-kind-of-key", [
        key(ED25519, "a", "enabled", [version(seed, of) for of, seed in enumerate(RFC8032, 1)]),
        key(ED25519, "a", "disabled", SEED, DISABLED),
        key(ED25519, "a", "deleted", SEED, DELETED, MADE + 604_800),
        key(SECP256K1, "a", "secp256k1", [version(number(1, 32)), version(number(ORDERS[SECP256K1] - 1, 32), 2)]),
        key(P256, "a", "p256", [version(RFC6979), version(number(1, 32), 2), version(number(ORDERS[P256] - 1, 32), 3)]),
        key(X25519, "a", "x25519", [version(RFC7748)]),
        key(SYMMETRIC, "a", "symmetric", [version(label("symmetric"))]),
    ]
    why = "all algorithms and states, several versions, the least and the greatest scalar"
    yield Vector(name, why, sealed(name, contents(SPACE, *keys, end(1, len(keys)))), (1, len(keys)))

    name = "empty-key-space"
    yield Vector(name, "a key space without keys", sealed(name, contents(SPACE, end(1, 0))), (1, 0))
    yield Vector("no-key-space", "nothing but the end", sealed("no-key-space", SMALLEST), (0, 0))

    name, longest = "names", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._"
    plain = contents(space(longest), key(ED25519, longest, longest, SEED), space("-"), key(ED25519, "-", "..", SEED), end(2, 2))
    yield Vector(name, "names of 64 bytes, and all that may be in them", sealed(name, plain), (2, 2))

    name = "most-passes-and-lanes"
    yield Vector(name, "10 passes and 8 lanes", sealed(name, SMALLEST, by_passphrase(name, passes=10, lanes=8)), (0, 0))

    name = "two-key-spaces"
    plain = contents(SPACE, KEY, space("b"), key(ED25519, "b", "k", [version(RFC8032[1])]), end(2, 2))
    yield Vector(name, "two key spaces for a recipient", sealed(name, plain, by_recipient(name, recipient)), (2, 2), secret=SECRET)

    name = "several-recipients"
    stanzas = [
        stanza("unknown", body=b""),
        stanza("-other", "!", "~", body=label("unknown") * 3),  # 96 bytes: two full lines and an empty one
        by_recipient(name, public(label("another recipient")), "of another"),
        by_recipient(name, recipient),
        by_recipient(name, public(RFC7748), "of a third"),
        stanza("example.com/last", "with", "arguments", body=label("unknown") * 2),  # 64 bytes: a full line and a part
    ]
    why = "other recipients, and stanzas that nobody knows, before and after ours"
    yield Vector(name, why, sealed(name, SMALLEST, *stanzas), (0, 0), secret=SECRET)

    name = "header-of-16-kib"
    yield Vector(name, "a header of 16384 bytes", long_header(name, recipient, HEADER_LIMIT), (0, 0), secret=SECRET)

    for name, why, length in [
        ("one-full-chunk", "a payload of just 64 kib", CHUNK),
        ("two-chunks", "a payload of 64 kib and a byte, with keys of 256 versions", CHUNK + 1),
    ]:
        plain, counts = filled(length)
        yield Vector(name, why, sealed(name, plain), counts)

def bad_costs():
    for name, why, how in [
        ("memory-too-low", "19455 kib of memory", {"memory": 19_455}),
        ("memory-too-high", "131073 kib of memory", {"memory": 131_073}),
        ("memory-times-passes-too-high", "131072 kib of memory and 5 passes", {"memory": 131_072, "passes": 5}),
        ("memory-huge", "4294967295 kib of memory", {"told": (2**32 - 1, 2, 1)}),
        ("memory-of-33-bits", "memory that is 19456 in 32 bits", {"told": (2**32 + 19_456, 2, 1)}),
        ("memory-with-leading-zero", "a zero before the memory", {"told": ("019456", 2, 1)}),
        ("memory-with-plus", "a plus sign before the memory", {"told": ("+19456", 2, 1)}),
        ("memory-in-hexadecimal", "memory that is not decimal", {"told": ("0x4c00", 2, 1)}),
        ("passes-too-few", "1 pass", {"passes": 1}),
        ("passes-too-many", "11 passes", {"passes": 11}),
        ("passes-of-33-bits", "passes that are 2 in 32 bits", {"told": (19_456, 2**32 + 2, 1)}),
        ("passes-with-leading-zero", "a zero before the passes", {"told": (19_456, "02", 1)}),
        ("lanes-none", "0 lanes", {"told": (19_456, 2, 0)}),
        ("lanes-too-many", "9 lanes", {"lanes": 9}),
        ("lanes-of-33-bits", "lanes that are 1 in 32 bits", {"told": (19_456, 2, 2**32 + 1)}),
        ("cost-without-lanes", "three arguments of argon2id", {"told": (19_456, 2)}),
        ("cost-with-more", "five arguments of argon2id", {"told": (19_456, 2, 1, 1)}),
        ("salt-too-short", "a salt of 15 bytes", {"salt": 15}),
        ("salt-too-long", "a salt of 17 bytes", {"salt": 17}),
    ]:
        yield Vector(name, why, sealed(name, SMALLEST, by_passphrase(name, **how)))
    for name, length in ("file-key-too-short", 15), ("file-key-too-long", 17), ("file-key-of-32-bytes", 32):
        head = header(name, by_passphrase(name, key_length=length), key_length=length)
        why = f"a wrapped file key of {length} bytes"
        yield Vector(name, why, head + payload(name, *chunks_of(SMALLEST), key_length=length))

def bad_headers():
    """For a passphrase. The MAC is made after a stanza is changed, so that it is right for what is wrong."""
    for name, why, change in [
        ("mac-wrong", "a bit of the mac is another", lambda mac: b64(bytes([mac[0] ^ 1]) + mac[1:])),
        ("mac-too-short", "a mac of 31 bytes", lambda mac: b64(mac[:31])),
        ("mac-padded", "padding after the mac", lambda mac: base64.b64encode(mac)),
        ("mac-not-canonical", "bits after the last byte of the mac", lambda mac: one_bit_more(b64(mac))),
        ("mac-line-crlf", "a carriage return after the mac", lambda mac: b64(mac) + b"\r"),
        ("mac-after-two-spaces", "two spaces before the mac", lambda mac: b" " + b64(mac)),
        ("mac-empty", "no mac after the last mark", lambda mac: b""),
    ]:
        start, _, mac = header(name, by_passphrase(name)).rpartition(b" ")
        mac = base64.b64decode(mac[:-1] + b"=")
        yield Vector(name, why, start + b" " + change(mac) + b"\n" + payload(name, *chunks_of(SMALLEST)))
    name = "mac-after-tab"
    head = header(name, by_passphrase(name)).replace(b"--- ", b"---\t")
    yield Vector(name, "a tab before the mac", head + payload(name, *chunks_of(SMALLEST)))
    name = "mac-line-cut"
    yield Vector(name, "the file ends in the mac", header(name, by_passphrase(name))[:-20])
    name = "mac-line-missing"
    yield Vector(name, "the file ends after the stanza", header(name, by_passphrase(name)).rpartition(b"---")[0])

    for name, why, first in [
        ("version-line-2", "version 2 of age", b"age-encryption.org/v2\n"),
        ("version-line-crlf", "a carriage return in the version line", b"age-encryption.org/v1\r\n"),
        ("version-line-after-empty-line", "an empty line before all", b"\nage-encryption.org/v1\n"),
    ]:
        yield Vector(name, why, sealed(name, SMALLEST, by_passphrase(name), first=first))
    name = "no-stanza"
    yield Vector(name, "no stanza", header(name) + payload(name, *chunks_of(SMALLEST)))

    def salt_and_body(one):
        return one.split()[2], one.split()[-1]

    for name, why, change in [
        ("stanza-crlf", "carriage returns in the stanza", lambda one: one.replace(b"\n", b"\r\n")),
        ("stanza-with-two-spaces", "two spaces between arguments", lambda one: one.replace(b" 2 ", b"  2 ")),
        ("stanza-with-space-at-end", "a space after the arguments", lambda one: one.replace(b"\n", b" \n", 1)),
        ("stanza-with-other-name", "an unknown stanza alone", lambda one: one.replace(b"argon2id", b"argon2i")),
        ("salt-padded", "padding after the salt", lambda one: one.replace(b" 19456", b"== 19456")),
        ("salt-not-canonical", "bits after the last byte of the salt", lambda one: swap(one, one.split()[2])),
        ("body-padded", "padding after the body", lambda one: one[:-1] + b"=\n"),
        ("body-not-canonical", "bits after the last byte of the body", lambda one: swap(one, one.split()[-1])),
        ("body-with-second-line", "a line after a short line of the body", lambda one: one + b"AAAA\n"),
        ("body-cut-in-two", "a body in lines that are not full", lambda one: one[:-24] + b"\n" + one[-24:]),
        ("two-argon2id-stanzas", "two stanzas for a passphrase", lambda one: one + one),
        ("argon2id-and-unknown", "an unknown stanza beside the one for a passphrase", lambda one: one + stanza("x", body=b"")),
        ("unknown-and-argon2id", "an unknown stanza before the one for a passphrase", lambda one: stanza("x", body=b"") + one),
    ]:
        yield Vector(name, why, sealed(name, SMALLEST, change(by_passphrase(name))))

def swap(whole, base64_part):
    return whole.replace(base64_part, one_bit_more(base64_part))

def bad_recipients(recipient):
    """For our secret, and who is not meant."""
    other = public(label("another recipient"))
    for name, why, stanzas in [
        ("share-of-zeros", "a share of low order, 0", lambda name: [by_recipient(name, recipient, low_order=bytes(32))]),
        ("share-of-low-order", "a share of low order, 1", lambda name: [
            by_recipient(name, recipient, low_order=b"\1" + bytes(31))]),
        ("share-with-more", "three arguments of x25519", lambda name: [by_recipient(name, recipient, more=["x"])]),
        ("share-not-canonical", "bits after the last byte of the share", lambda name: [
            swap(by_recipient(name, recipient), by_recipient(name, recipient).split()[2])]),
        ("share-padded", "padding after the share", lambda name: [by_recipient(name, recipient).replace(b"\n", b"=\n", 1)]),
        ("share-too-short-before-ours", "a share of 31 bytes", lambda name: [
            stanza("X25519", b64(label("share")[:31]), body=label("body")), by_recipient(name, recipient)]),
        ("share-missing-before-ours", "a stanza of x25519 without a share", lambda name: [
            stanza("X25519", body=label("body")), by_recipient(name, recipient)]),
        ("body-too-long-before-ours", "a wrapped file key of 17 bytes", lambda name: [
            by_recipient(name, other, key_length=17), by_recipient(name, recipient)]),
        ("other-recipient", "for another recipient", lambda name: [by_recipient(name, other)]),
        ("recipient-and-argon2id", "a stanza for a passphrase beside a recipient", lambda name: [
            by_recipient(name, recipient), by_passphrase(name)]),
        ("recipient-and-scrypt", "a stanza of scrypt, which must be alone, beside a recipient", lambda name: [
            by_recipient(name, recipient), stanza("scrypt", b64(label("salt")[:16]), "10", body=label("body"))]),
        ("passphrase-asked-for-secret", "for a passphrase, and there is a secret", lambda name: [by_passphrase(name)]),
    ]:
        yield Vector(name, why, sealed(name, SMALLEST, *stanzas(name)), secret=SECRET)
    name = "argon2id-and-recipient"
    stanzas = by_passphrase(name), by_recipient(name, other)
    yield Vector(name, "a recipient beside a stanza for a passphrase", sealed(name, SMALLEST, *stanzas))
    name = "secret-asked-for-passphrase"
    yield Vector(name, "for a recipient, and there is a passphrase", sealed(name, SMALLEST, by_recipient(name, recipient)))
    yield Vector("wrong-passphrase", "another passphrase", sealed("wrong-passphrase", SMALLEST), passphrase="another passphrase")

    name = "header-too-long"
    yield Vector(name, "a header of 16385 bytes", long_header(name, recipient, HEADER_LIMIT + 1), secret=SECRET)

    # Nobody needs these stanzas, and still they must be stanzas.
    for name, why, unknown in [
        ("unknown-crlf", "carriage returns in an unknown stanza", b"-> x\r\n\r\n"),
        ("unknown-with-two-spaces", "two spaces between arguments", b"-> x  y\n\n"),
        ("unknown-with-space-at-end", "a space after the arguments", b"-> x \n\n"),
        ("unknown-with-tab", "a tab in an argument", b"-> x\ty\n\n"),
        ("unknown-not-ascii", "an argument that is not ascii", b"-> \xc3\xa9\n\n"),
        ("unknown-without-arguments", "a stanza without arguments", b"->\n\n"),
        ("unknown-mark", "a line with another mark than a stanza", b"=> x\n\n"),
        ("unknown-line-too-long", "a line of 68 characters in a body", b"-> x\n" + b"A" * 68 + b"\n"),
        ("unknown-without-short-line", "a body that ends with a full line", b"-> x\n" + b"A" * 64 + b"\n"),
        ("unknown-padded", "padding after a body", b"-> x\nAA==\n"),
        ("unknown-not-canonical", "bits after the last byte of a body", b"-> x\nAB\n"),
    ]:
        yield Vector(name, why, sealed(name, SMALLEST, by_recipient(name, recipient), unknown), secret=SECRET)

    # Our stanza still opens in these, so that the MAC alone tells.
    for name, why, change in [
        ("stanza-changed", "a stanza beside ours was changed", lambda ours, first, last: [first, ours, last.replace(b"3", b"4")]),
        ("stanza-taken-away", "a stanza beside ours was taken away", lambda ours, first, last: [first, ours]),
        ("stanza-added", "a stanza was added", lambda ours, first, last: [first, ours, last, last]),
        ("stanzas-swapped", "two stanzas have changed places", lambda ours, first, last: [last, ours, first]),
    ]:
        parts = by_recipient(name, recipient), stanza("x", "1", "2", body=b""), stanza("y", "3", body=b"")
        before = b"".join([parts[1], parts[0], parts[2]])
        yield Vector(name, why, sealed(name, SMALLEST, before).replace(before, b"".join(change(*parts))), secret=SECRET)

def bad_payloads():
    full, _ = filled(CHUNK)
    more, _ = filled(CHUNK + 1)
    for name, why, chunks, change in [
        ("nonce-missing", "nothing after the header", [], lambda rest: b""),
        ("nonce-cut", "a nonce of 15 bytes", [], lambda rest: rest[:15]),
        ("no-chunk", "no chunk after the nonce", [], None),
        ("chunk-of-nothing", "a chunk with nothing in it", [(b"", 0, True)], None),
        ("chunk-cut", "the last byte is missing", [(SMALLEST, 0, True)], lambda rest: rest[:-1]),
        ("chunk-changed", "a bit of the chunk is another", [(SMALLEST, 0, True)], lambda rest: rest[:-1] + bytes([rest[-1] ^ 1])),
        ("chunk-not-marked-last", "the last chunk is not marked as last", [(SMALLEST, 0, False)], None),
        ("chunk-numbered-1", "the first chunk has the number of the second", [(SMALLEST, 1, True)], None),
        ("chunk-short-before-last", "a chunk that is not full before the last", [
            (SMALLEST[:9], 0, False), (SMALLEST[9:], 1, True)], None),
        ("byte-after-chunk", "a byte after the last chunk", [(SMALLEST, 0, True)], lambda rest: rest + b"\0"),
        ("byte-after-full-chunk", "a byte after the last chunk, which is full", [(full, 0, True)], lambda rest: rest + b"\0"),
        ("last-chunk-missing", "all is in a full chunk, after which there should be another", [(full, 0, False)], None),
        ("last-chunk-empty", "an empty chunk after a full one", [(full, 0, False), (b"", 1, True)], None),
        ("chunks-swapped", "two chunks have the number of one another", [(more[:CHUNK], 1, False), (more[CHUNK:], 0, True)], None),
    ]:
        rest = payload(name, *chunks)
        yield Vector(name, why, header(name, by_passphrase(name)) + (change(rest) if change else rest))

def bad_contents():
    def names(what, make):
        for name, why, value in [
            ("empty", "is empty", ""),
            ("too-long", "has 65 bytes", "n" * 65),
            ("with-slash", "has a slash", "a/b"),
            ("with-space", "has a space", "a b"),
            ("with-zero", "has a zero byte", "a\0"),
            ("not-ascii", "is utf-8, but not of the letters of names", b"\xc3\xa9"),
            ("not-utf-8", "is not utf-8", b"\xff"),
        ]:
            yield f"{what}-name-{name}", f"the name of a {what.replace('-', ' ')} {why}", make(value)

    def with_key(*arguments, **more):
        return contents(SPACE, key(*arguments, **more), end(1, 1))

    too_many = [version(RFC8032[0], of) for of in range(1, 258)]
    yield from (Vector(name, why, sealed(name, plain)) for name, why, plain in [
        ("magic-wrong", "not the first four bytes of a bundle", contents(end(0, 0), magic=b"CCKS")),
        ("contents-version-0", "version 0", contents(end(0, 0), of=0)),
        ("contents-version-2", "version 2", contents(end(0, 0), of=2)),
        ("contents-cut", "nothing after the first four bytes", b"CCKB"),
        ("item-length-0", "an item of no bytes", contents(number(0, 4), end(0, 0))),
        ("item-too-long", "an item of 16385 bytes", contents(space("a", bytes(16_385 - 14)), end(1, 0))),
        ("item-beyond-end", "an item that ends beyond the payload", SMALLEST[:-1]),
        ("item-length-cut", "the payload ends in a length", contents(SPACE, b"\0\0")),
        ("kind-0", "an item of kind 0", contents(item(0, b""), end(0, 0))),
        ("kind-4", "an item of kind 4", contents(item(4, b""), end(0, 0))),
        ("key-before-key-space", "a key before any key space", contents(KEY, SPACE, end(1, 1))),
        ("key-of-other-key-space", "a key of another key space", contents(SPACE, space("b"), KEY, end(2, 1))),
        ("end-with-other-key-spaces", "fewer key spaces than the end tells", contents(SPACE, end(2, 0))),
        ("end-with-other-keys", "fewer keys than the end tells", contents(SPACE, end(1, 1))),
        ("end-without-the-key", "more keys than the end tells", contents(SPACE, KEY, end(1, 0))),
        ("end-missing", "no end", contents(SPACE)),
        ("nothing-at-all", "no item", contents()),
        ("end-cut", "an end without its last byte", contents(item(3, bytes(15)))),
        ("end-followed-by-byte", "a byte after the end", contents(end(0, 0), b"\0")),
        ("end-followed-by-key-space", "a key space after the end", contents(end(0, 0), SPACE)),
        ("end-twice", "a second end", contents(end(0, 0), end(0, 0))),
        ("key-space-twice", "the same key space again", contents(SPACE, SPACE, end(2, 0))),
        ("key-twice", "the same key again", contents(SPACE, KEY, KEY, end(1, 2))),
        ("key-space-with-more", "a byte left over in a key space", contents(space("a", b"\0"), end(1, 0))),
        ("key-with-more", "a byte left over in a key", with_key(ED25519, "a", "k", SEED, more=b"\0")),
        ("end-with-more", "a byte left over in the end", contents(end(0, 0, b"\0"))),
        ("versions-none", "a key without versions", with_key(ED25519, "a", "k", [])),
        ("versions-too-many", "a key of 257 versions", with_key(ED25519, "a", "k", too_many)),
        ("versions-cut", "fewer versions than the key tells", with_key(ED25519, "a", "k", SEED, count=2)),
        ("versions-descending", "version 1 after version 2", with_key(ED25519, "a", "k", [version(RFC8032[1], 2), *SEED])),
        ("versions-same", "version 1 twice", with_key(ED25519, "a", "k", [*SEED, version(RFC8032[1])])),
        ("versions-from-0", "a version 0", with_key(ED25519, "a", "k", [version(RFC8032[0], 0)])),
        ("algorithm-0", "an unknown algorithm, 0", with_key(0, "a", "k", SEED)),
        ("algorithm-6", "an unknown algorithm, 6", with_key(6, "a", "k", SEED)),
        ("state-0", "an unknown state, 0", with_key(ED25519, "a", "k", SEED, state=0)),
        ("state-4", "an unknown state, 4", with_key(ED25519, "a", "k", SEED, state=4)),
        ("enabled-with-time", "an enabled key with a time to be destroyed", with_key(ED25519, "a", "k", SEED, ENABLED, MADE)),
        ("disabled-with-time", "a disabled key with a time to be destroyed", with_key(ED25519, "a", "k", SEED, DISABLED, MADE)),
        ("secp256k1-zero", "the scalar 0", with_key(SECP256K1, "a", "k", [version(bytes(32))])),
        ("secp256k1-order", "the order as a scalar", with_key(SECP256K1, "a", "k", [version(number(ORDERS[SECP256K1], 32))])),
        ("p256-zero", "the scalar 0", with_key(P256, "a", "k", [version(bytes(32))])),
        ("p256-order", "the order as a scalar", with_key(P256, "a", "k", [version(number(ORDERS[P256], 32))])),
        *names("key-space", lambda name: contents(space(name), end(1, 0))),
        *names("key", lambda name: with_key(ED25519, "a", name, SEED)),
    ])

def all_vectors(recipient=public(SECRET)):
    yield from good_ones(recipient)
    yield from bad_costs()
    yield from bad_headers()
    yield from bad_recipients(recipient)
    yield from bad_payloads()
    yield from bad_contents()

def disagreement(vector):
    """What read_bundle.py makes of a vector, where that is not what is expected."""
    try:
        spaces = read_bundle.read(vector.bundle, None if vector.secret else vector.passphrase.encode(), vector.secret)["key_spaces"]
        counts, why = (len(spaces), sum(len(one["keys"]) for one in spaces)), "opens"
    except read_bundle.Refused as refused:
        counts, why = None, f"refused: {refused}"
    return None if counts == vector.counts else f"{vector.name}: {why} {counts}"

def check(vectors):
    on_disk = {path.name: path.read_bytes() for path in FOLDER.glob("*")}
    made = {f"{vector.name}.txt": vector.file().encode() for vector in vectors}
    found = [f"{name}: not what is made here" for name in sorted(on_disk | made) if on_disk.get(name) != made.get(name)]
    found += filter(None, map(disagreement, vectors))
    for line in found:
        print(line, file=sys.stderr)
    good = sum(vector.counts is not None for vector in vectors)
    print(f"{good} that open, {len(vectors) - good} that are refused, {len(found)} disagreements")
    return 1 if found else 0

def main():
    vectors = list(all_vectors())
    if len({vector.name for vector in vectors}) != len(vectors):
        raise ValueError("two vectors of one name")
    if sys.argv[1:] == ["--check"]:
        return check(vectors)
    if sys.argv[1:]:
        sys.exit(__doc__)
    FOLDER.mkdir(exist_ok=True)
    for vector in vectors:
        (FOLDER / f"{vector.name}.txt").write_bytes(vector.file().encode())
    return 0

if __name__ == "__main__":
    sys.exit(main())
