"""Judges recorded callbacks by the vendors' Python libraries: judge.py RECORDING.

A callback must be verified with each secret that signs it, and refused with any other secret and once its body is changed.
"""

import base64
import json
import sys

import standardwebhooks
import stripe
import svix
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hubspot.utils.signature import Signature as HubSpot
from slack_sdk.signature import SignatureVerifier
from square.utils.webhooks_helper import verify_signature as square_verify
from twilio.request_validator import RequestValidator

STRANGER = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def standard_webhooks(call, body, secret):
    standardwebhooks.Webhook(secret).verify(body, call["headers"])
    return True


def svix_(call, body, secret):
    headers = {name: value for name, value in call["headers"].items() if name.startswith("svix-")}
    svix.Webhook(secret).verify(body, headers)
    return True


def stripe_(call, body, secret):
    stripe.WebhookSignature.verify_header(body.decode(), call["headers"]["stripe-signature"], secret, 300)
    return True


def slack(call, body, secret):
    return SignatureVerifier(secret).is_valid_request(body, call["headers"])


def twilio(call, body, secret):
    return RequestValidator(secret).validate(call["url"], body.decode(), call["headers"]["x-twilio-signature"])


def square(call, body, secret):
    return square_verify(
        request_body=body.decode(),
        signature_header=call["headers"]["x-square-hmacsha256-signature"],
        signature_key=secret,
        notification_url=call["url"],
    )


def hubspot(call, body, secret):
    return HubSpot.is_valid(
        signature=call["headers"]["x-hubspot-signature-v3"],
        client_secret=secret,
        request_body=body.decode(),
        http_uri=call["url"],
        http_method=call["method"],
        signature_version="v3",
        timestamp=call["headers"]["x-hubspot-request-timestamp"],
    )


def ed25519(call, body, key):
    headers = call["headers"]
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    for signature in headers["webhook-signature"].split(" "):
        version, signature = signature.split(",", 1)
        if version == "v1a":
            try:
                public.verify(base64.b64decode(signature), content)
                return True
            except InvalidSignature:
                pass
    return False


JUDGES = {
    "standard_webhooks": standard_webhooks,
    "svix": svix_,
    "stripe": stripe_,
    "slack": slack,
    "twilio": twilio,
    "square": square,
    "hubspot": hubspot,
}
# Headers that hold a signature by each secret in force.
LISTS = {"standard_webhooks", "svix", "stripe"}


def verified(judge, call, body, key):
    try:
        return bool(judge(call, body, key))
    except Exception:  # each library has its own way to say no
        return False


def main():
    judged = {}
    for line in open(sys.argv[1], encoding="utf-8"):
        call = json.loads(line)
        profile, body = call["profile"], base64.b64decode(call["body"])
        if profile == "standard_webhooks_ed25519":
            judge, good = ed25519, call["keys"]["keys"]
            bad = [{"x": base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")}]
            assert len(good) == len(call["secrets"]), "a public key came with each secret"
        elif profile in JUDGES:
            judge, secrets = JUDGES[profile], call["secrets"]
            good = secrets if profile in LISTS else secrets[:1]
            bad = [secret for secret in secrets if secret not in good] + [STRANGER]
        else:
            continue
        for key in good:
            assert verified(judge, call, body, key), f"{profile}: refused"
            changed = body.replace(b"1.10", b"9.99")
            assert changed != body
            assert not verified(judge, call, changed, key), f"{profile}: a changed body was verified"
        for key in bad:
            assert not verified(judge, call, body, key), f"{profile}: verified with a wrong secret"
        judged[profile] = judged.get(profile, 0) + 1
    expected = set(JUDGES) | {"standard_webhooks_ed25519"}
    assert set(judged) == expected and min(judged.values()) >= 3, f"not all were judged: {judged}"
    print("Python:", ", ".join(f"{profile} {count}" for profile, count in sorted(judged.items())))


main()
