"""What a carrier's official package signs, for our verifier: `signed.py twilio|telnyx` prints a JSON list.

Twilio's package signs by itself. Telnyx's only verifies, with PyNaCl: that signs here, and the package's own verifier says of each
request whether it is right.
"""

import base64
import json
import sys
import time


def twilio():
    from twilio.request_validator import RequestValidator

    token = "an-auth-token"
    signed = []
    for url in ["https://dialer.example.com/webhooks/twilio/status/t", "https://dialer.example.com:8443/x?a=1&b=%20", "http://d.example/x"]:
        for params in [{}, {"CallSid": "CA1", "CallStatus": "completed", "ToCity": ""}, {"Name": "J\u00fcrgen +&=", "Digits": "1"}]:
            right = RequestValidator(token).compute_signature(url, params)
            signed.append({"url": url, "params": params, "token": token, "signature": right, "valid": True})
            signed.append({"url": url + "0", "params": params, "token": token, "signature": right, "valid": False})
            signed.append({"url": url, "params": dict(params, X="1"), "token": token, "signature": right, "valid": False})
            signed.append({"url": url, "params": params, "token": token + "x", "signature": right, "valid": False})
    return signed


def telnyx():
    import nacl.signing
    from telnyx.lib.webhook_verification import WebhookVerificationError, verify_webhook_signature

    signer, stranger = nacl.signing.SigningKey.generate(), nacl.signing.SigningKey.generate()
    key = base64.b64encode(bytes(signer.verify_key)).decode()
    now = int(time.time())
    signed = []
    for body in ["{}", json.dumps({"data": {"event_type": "call.hangup", "payload": {"to": "J\u00fcrgen"}}}, ensure_ascii=False), " {\n} "]:
        for by, age, spoiled in [(signer, 0, ""), (signer, 290, ""), (signer, 400, ""), (signer, -400, ""), (stranger, 0, ""), (signer, 0, " ")]:
            stamp = str(now - age)
            signature = base64.b64encode(by.sign(stamp.encode() + b"|" + body.encode()).signature).decode()
            headers = {"Telnyx-Signature-Ed25519": signature, "Telnyx-Timestamp": stamp}
            try:
                verify_webhook_signature((body + spoiled).encode(), headers, key)
                valid = True
            except WebhookVerificationError:
                valid = False
            signed.append({"key": key, "signature": signature, "timestamp": stamp, "body": body + spoiled, "now": now, "valid": valid})
    return signed


print(json.dumps({"twilio": twilio, "telnyx": telnyx}[sys.argv[1]]()))
