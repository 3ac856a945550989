"""The official Twilio client uses the sandbox carrier, and its validator judges the callbacks.

Usage: twilio_sandbox.py PATH_TO_ROLLCALL_CARRIER. Prints one line per check and `N passed, N failed`.
"""

import datetime
import http.server
import queue
import signal
import subprocess
import sys
import threading
import urllib.parse

from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.request_validator import RequestValidator
from twilio.rest import Client

ACCOUNT = "AC" + "a1" * 16
TOKEN = "an-auth-token"
FROM = "+14155550100"
ANSWERED, BUSY, HELD, ENDLESS, QUEUED = ("+1212555" + end for end in ("0190", "0191", "0196", "0194", "0198"))
PATIENCE = 20  # s; only a bug makes a wait this long


class SandboxHttp(TwilioHttpClient):
    """Sends what is meant for api.twilio.com to the sandbox."""

    def __init__(self, base):
        super().__init__(pool_connections=True)
        self.session.trust_env = False
        self.base = base

    def request(self, method, url, **rest):
        return super().request(method, url.replace("https://api.twilio.com", self.base, 1), **rest)


class Hooks(http.server.BaseHTTPRequestHandler):
    """Takes callbacks, judges their signature, and hands out TwiML."""

    received = queue.Queue()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        params = dict(urllib.parse.parse_qsl(body, keep_blank_values=True))
        url = "http://%s%s" % (self.headers["Host"], self.path)
        signature = self.headers.get("X-Twilio-Signature", "")
        valid = RequestValidator(TOKEN).validate(url, params, signature)
        spoiled = RequestValidator(TOKEN).validate(url, dict(params, CallStatus="x"), signature)
        answer = b"<Response><Say>Hello</Say></Response>" if self.path.startswith("/answer") else b""
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        Hooks.received.put((self.path, params, valid and not spoiled))

    def log_message(self, *_):
        pass


class Checks:
    def __init__(self):
        self.passed, self.failed = 0, 0

    def check(self, name, holds, seen=""):
        self.passed, self.failed = self.passed + bool(holds), self.failed + (not holds)
        print(("ok      " if holds else "FAILED  ") + name + ("" if holds else ": %r" % (seen,)))


def refusal(call):
    try:
        call()
    except TwilioRestException as error:
        return error.status, error.code
    return None


def callbacks(count):
    """The next so many requests of the sandbox."""
    return [Hooks.received.get(timeout=PATIENCE) for _ in range(count)]


def create_and_follow(checks, client, hooks):
    call = client.calls.create(
        to=ANSWERED,
        from_=FROM,
        url=hooks + "/answer/one?x=1",
        status_callback=hooks + "/status/one?x=1#rc=2&rp=all",
        status_callback_event=["initiated", "ringing", "answered", "completed"],
        timeout=30,
        time_limit=60,
    )
    checks.check("create gives a queued call", call.status == "queued" and call.sid.startswith("CA"), call.status)
    checks.check("create gives no dates", call.date_created is None and call.start_time is None)
    seen = callbacks(5)
    told = sorted(p["SequenceNumber"] + p["CallStatus"] for path, p, _ in seen if path.startswith("/status"))
    checks.check("four callbacks in order", told == ["0initiated", "1ringing", "2in-progress", "3completed"], told)
    checks.check("the official validator accepts all of them", all(valid for _, _, valid in seen), seen)
    checks.check("the fragment is not sent", all("#" not in path for path, _, _ in seen))
    fetched = client.calls(call.sid).fetch()
    checks.check("fetch gives the end", fetched.status == "completed", fetched.status)
    checks.check("dates are read", isinstance(fetched.start_time, datetime.datetime), fetched.start_time)
    checks.check("the ids agree", fetched.account_sid == ACCOUNT and fetched.to == ANSWERED)
    checks.check("ending an ended call is 21220", refusal(lambda: client.calls(call.sid).update(status="completed")) == (400, 21220))
    events = client.calls(call.sid).events.list()
    checks.check("events show our create", events[0].request["parameters"]["to"] == ANSWERED, events)


def list_calls(checks, client):
    twiml = "<Response><Say>Hi</Say></Response>"
    made = [client.calls.create(to=BUSY, from_=FROM, twiml=twiml).sid for _ in range(5)]
    rows = client.calls.list(to=BUSY, page_size=2)
    checks.check("pages give every call once, newest first", [row.sid for row in rows] == made[::-1], rows)
    checks.check("a limit holds", len(client.calls.list(limit=3)) == 3)
    queued = client.calls.create(to=QUEUED, from_=FROM, twiml=twiml)
    today = datetime.datetime.now(datetime.timezone.utc)
    week = datetime.timedelta(days=7)
    checks.check("a status filters", [row.sid for row in client.calls.list(status="queued")] == [queued.sid])
    checks.check("a queued call has no start", client.calls.list(to=QUEUED, start_time_after=today - week) == [])
    checks.check("started since", len(client.calls.list(to=BUSY, start_time_after=today - week)) == 5)
    checks.check("started before", client.calls.list(to=BUSY, start_time_before=today - week) == [])
    checks.check("from filters", client.calls.list(from_="+14155550199") == [])
    canceled = client.calls(queued.sid).update(status="canceled")
    checks.check("a queued call is cancelled", canceled.status == "canceled", canceled.status)


def hang_up(checks, client, hooks):
    held = client.calls.create(
        to=HELD, from_=FROM, twiml="<Response/>", status_callback=hooks + "/status/held", status_callback_event=["ringing", "completed"]
    )
    callbacks(1)
    client.calls(held.sid).update(status="canceled")
    [(_, params, valid)] = callbacks(1)
    checks.check("a ringing call is cancelled and said so", valid and params["CallStatus"] == "canceled", params)
    endless = client.calls.create(
        to=ENDLESS,
        from_=FROM,
        twiml="<Response><Say>...</Say></Response>",
        status_callback=hooks + "/status/endless",
        status_callback_event=["answered", "completed"],
    )
    callbacks(1)
    ended = client.calls(endless.sid).update(status="completed")
    [(_, params, valid)] = callbacks(1)
    checks.check("an answered call is hung up", ended.status == params["CallStatus"] == "completed" and valid, params)


def refuse(checks, client, base):
    def create(**changes):
        return lambda: client.calls.create(**{"to": BUSY, "from_": FROM, "twiml": "<Response/>", **changes})

    checks.check("a bad To is 21211", refusal(create(to="nobody")) == (400, 21211))
    checks.check("a bad Url is 21205", refusal(create(url="nowhere")) == (400, 21205))
    checks.check("a bad Timeout is 21208", refusal(create(timeout=601)) == (400, 21208))
    checks.check("an unknown call is 20404", refusal(client.calls("CA" + "0" * 32).fetch) == (404, 20404))
    stranger = Client(ACCOUNT, "wrong", http_client=SandboxHttp(base))
    checks.check("a wrong token is 20003", refusal(stranger.calls("CA" + "0" * 32).fetch) == (401, 20003))


def main(binary):
    command = [binary, "--addr", "127.0.0.1:0", "--account", "%s:%s" % (ACCOUNT, TOKEN), "--cps", "0"]
    command += ["--dial-ms", "20", "--ring-ms", "20", "--talk-ms", "20", "--accept-delay-ms", "0", "--list-lag-ms", "0"]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hooks)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hooks = "http://127.0.0.1:%d" % server.server_address[1]
    checks = Checks()
    carrier = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        base = carrier.stdout.readline().split()[-1]
        client = Client(ACCOUNT, TOKEN, http_client=SandboxHttp(base))
        create_and_follow(checks, client, hooks)
        list_calls(checks, client)
        hang_up(checks, client, hooks)
        refuse(checks, client, base)
    except Exception as error:  # noqa: BLE001 (whatever broke, the count below must say so)
        checks.check("the script came to its end", False, error)
    finally:
        carrier.send_signal(signal.SIGTERM)
        checks.check("SIGTERM ends the sandbox with 0", carrier.wait(timeout=PATIENCE) == 0, carrier.returncode)
    print("twilio-python: %d passed, %d failed" % (checks.passed, checks.failed))
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
