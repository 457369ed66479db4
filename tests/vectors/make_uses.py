"""Writes uses.txt: what keys of the keyspace make of a text, for secrets that are hashes of labels. Every run writes the same.

It was written from src/keyspace/FORMAT.md (sections 4 and 7), draft-irtf-cfrg-xchacha-03 and RFC 9180, without a look at the
source of the program. It needs `pip install -r requirements.txt`.
"""
import base64, hashlib, hmac, pathlib, struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf import hkdf

TEXT = b"a text of the vectors"

def hashed(label, length=32):
    return hashlib.sha256(label.encode()).digest()[:length]

def derive(secret, info):
    return hkdf.HKDF(hashes.SHA256(), 32, None, info).derive(secret)

def hchacha20(key, nonce):
    """The state of ChaCha20 without its last addition: here it is taken off again."""
    stream = Cipher(algorithms.ChaCha20(key, nonce), None).encryptor().update(bytes(64))
    before = struct.unpack("<16I", b"expand 32-byte k" + key + nonce)
    after = struct.unpack("<16I", stream)
    state = [(a - b) % 2**32 for a, b in zip(after, before)]
    return struct.pack("<8I", *state[:4], *state[12:])

def xchacha20_poly1305(key, nonce, text, associated):
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])).encrypt(bytes(4) + nonce[16:], text, associated)

def encrypted(secret, version):
    head, nonce = b"\x01" + version.to_bytes(4, "big"), hashed(f"nonce {version}", 24)
    key = derive(secret, b"crypto-cli encrypt 1")
    return head + nonce + xchacha20_poly1305(key, nonce, TEXT, head)

def extract(suite, salt, label, secret):
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + secret, "sha256")

def expand(suite, key, label, info, length):
    labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hkdf.HKDFExpand(hashes.SHA256(), length, labelled).derive(key)

def encrypted_to(public, info):
    """RFC 9180, base mode: KEM 0x0020, KDF 0x0001, AEAD 0x0003."""
    ephemeral = x25519.X25519PrivateKey.from_private_bytes(hashed("ephemeral"))
    share = ephemeral.public_key().public_bytes_raw()
    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x03"
    agreed = ephemeral.exchange(x25519.X25519PublicKey.from_public_bytes(public))
    shared = expand(kem, extract(kem, b"", b"eae_prk", agreed), b"shared_secret", share + public, 32)
    context = b"\x00" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
    secret = extract(suite, shared, b"secret", b"")
    key, nonce = (expand(suite, secret, label, context, length) for label, length in ((b"key", 32), (b"base_nonce", 12)))
    return b"\x01" + share + ChaCha20Poly1305(key).encrypt(nonce, TEXT, b"")

def bech32(prefix, data):
    """BIP-173, of any length."""
    def checked(values):
        check = 1
        for value in values:
            top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
            for bit, part in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
                check ^= part if top >> bit & 1 else 0
        return check
    bits = "".join(f"{byte:08b}" for byte in data)
    words = [int(bits[at : at + 5].ljust(5, "0"), 2) for at in range(0, len(bits), 5)]
    spread = [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]
    check = checked(spread + words + [0] * 6) ^ 1
    words += [check >> 5 * (5 - at) & 31 for at in range(6)]
    return prefix + "1" + "".join("qpzry9x8gf2tvdw0s3jn54khce6mua7l"[word] for word in words)

def public(secret):
    return x25519.X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()

def main():
    symmetric, curve, seed = map(hashed, ("symmetric", "x25519", "service"))
    coded = lambda data: base64.b64encode(data).decode()
    rows = {
        "text": TEXT.decode(),
        "symmetric": symmetric.hex(),
        "hmac": hmac.digest(symmetric, TEXT, "sha256").hex(),
        "encrypt": coded(encrypted(symmetric, 1)),
        "encrypt-with-data-key": coded(encrypted(symmetric, 0)),
        "x25519": curve.hex(),
        "encrypt_to": coded(encrypted_to(public(curve), b"crypto-cli encrypt_to 1")),
        "service": seed.hex(),
        "recipient": bech32("age", public(derive(seed, b"crypto-cli recipient 1"))),
    }
    text = "".join(f"{name}: {value}\n" for name, value in rows.items())
    pathlib.Path(__file__).with_name("uses.txt").write_text(text)

if __name__ == "__main__":
    main()
