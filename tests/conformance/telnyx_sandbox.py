"""The official Telnyx client uses the sandbox carrier, and its verifier judges the webhooks.

Usage: telnyx_sandbox.py PATH_TO_ROLLCALL_CARRIER. Prints one line per check and `N passed, N failed`.
"""

import base64
import http.server
import json
import queue
import signal
import subprocess
import sys
import threading

import telnyx
from telnyx import Telnyx
from telnyx.lib.webhook_verification import WebhookVerificationError, verify_webhook_signature

CONNECTION = "1293384261075731461"
KEY = "KEY0123456789"
# RFC 8032, section 7.1, test 1: the sandbox signs with it.
PUBLIC_KEY = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
FROM = "+14155550100"
ANSWERED, BUSY, HELD, ENDLESS = ("+1212555" + end for end in ("0190", "0191", "0196", "0194"))
PATIENCE = 20  # s; only a bug makes a wait this long


def verified(body, headers):
    try:
        verify_webhook_signature(body, headers, PUBLIC_KEY)
        return True
    except WebhookVerificationError:
        return False


class Hooks(http.server.BaseHTTPRequestHandler):
    """Takes webhooks and judges their signature."""

    received = queue.Queue()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = dict(self.headers.items())
        judged = verified(body, headers) and not verified(body + b" ", headers)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        Hooks.received.put((json.loads(body)["data"], judged))

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
    except telnyx.APIStatusError as error:
        return error.status_code, error.response.json()["errors"][0]["code"]
    return None


kept = []


def until(name, call=None):
    """The next event of this name (of this call); others are kept: Telnyx promises no order."""
    while True:
        for at, (event, judged) in enumerate(kept):
            if event["event_type"] == name and call in (None, event["payload"].get("call_control_id")):
                del kept[at]
                return event["payload"], judged
        kept.append(Hooks.received.get(timeout=PATIENCE))


def dial(client, hooks, to, **more):
    state = base64.b64encode(b"our mark").decode()
    return client.calls.dial(connection_id=CONNECTION, to=to, from_=FROM, client_state=state, webhook_url=hooks + "/w", **more).data


def speak_to_somebody(checks, client, hooks):
    call = dial(client, hooks, ANSWERED, answering_machine_detection="detect", command_id="one", timeout_secs=30, time_limit_secs=60)
    checks.check("a dial gives ids and does not live yet", call.call_control_id.startswith("v3:") and call.is_alive is False, call)
    payload, judged = until("call.initiated")
    checks.check("the official verifier accepts it, and not when touched", judged)
    checks.check("our mark comes back", base64.b64decode(payload["client_state"]) == b"our mark", payload)
    checks.check("it is of this call", payload["call_control_id"] == call.call_control_id and payload["connection_id"] == CONNECTION)
    until("call.answered")
    payload, judged = until("call.machine.detection.ended")
    checks.check("a person was heard", judged and payload["result"] == "human", payload)
    said = client.calls.actions.speak(call.call_control_id, payload="Hello", voice="female", language="en-US", command_id="say")
    checks.check("speaking is taken", said.data.result == "ok", said)
    again = client.calls.actions.speak(call.call_control_id, payload="Hello", voice="female", language="en-US", command_id="say")
    checks.check("a double is taken and ignored", again.data.result == "ok", again)
    until("call.speak.ended")
    status = client.calls.retrieve_status(call.call_control_id).data
    checks.check("the call lives", status.is_alive and status.call_leg_id == call.call_leg_id, status)
    active = [one.call_control_id for one in client.connections.list_active_calls(CONNECTION)]
    checks.check("it is listed as active", active == [call.call_control_id], active)
    client.calls.actions.hangup(call.call_control_id)
    payload, judged = until("call.hangup")
    checks.check("the end has its cause", judged and payload["hangup_cause"] == "normal_clearing", payload)
    status = client.calls.retrieve_status(call.call_control_id).data
    checks.check("it lives no more", status.is_alive is False and status.end_time is not None, status)
    checks.check("hanging up again is 90018", refusal(lambda: client.calls.actions.hangup(call.call_control_id)) == (422, "90018"))
    names = [event.name for event in client.call_events.list(filter={"leg_id": call.call_leg_id})]
    expected = ["call.answered", "call.hangup", "call.initiated", "call.machine.detection.ended", "call.speak.ended", "call.speak.started"]
    checks.check("the events are listed, the double's not", sorted(names) == expected, names)


def doubles(checks, client, hooks):
    calls = {dial(client, hooks, BUSY, command_id="same").call_control_id for _ in range(3)}
    checks.check("dials of one command_id are one call", len(calls) == 1, calls)
    payload, _ = until("call.hangup")
    checks.check("busy is said", payload["hangup_cause"] == "user_busy" and payload["sip_hangup_cause"] == "486", payload)
    other = dial(client, hooks, BUSY, command_id="other").call_control_id
    checks.check("another command_id is another call", other not in calls)
    until("call.hangup")


def cancel(checks, client, hooks):
    call = dial(client, hooks, HELD)
    until("call.initiated", call.call_control_id)
    client.calls.actions.hangup(call.call_control_id)
    payload, judged = until("call.hangup", call.call_control_id)
    checks.check("a ringing call is cancelled", judged and payload["hangup_cause"] == "originator_cancel", payload)
    calls = [dial(client, hooks, ENDLESS).call_control_id for _ in range(5)]
    listed = [one.call_control_id for one in client.connections.list_active_calls(CONNECTION, page_size=2)]
    checks.check("pages give every active call once", sorted(listed) == sorted(calls), listed)
    for call in calls:
        client.calls.actions.hangup(call)


def record(checks, client, hooks):
    call = dial(client, hooks, ENDLESS, record="record-from-answer")
    until("call.answered", call.call_control_id)
    client.calls.actions.hangup(call.call_control_id)
    payload, judged = until("call.recording.saved", call.call_control_id)
    kept = client.recordings.retrieve(payload["recording_id"]).data
    checks.check("a recording is told and kept", judged and kept.call_control_id == call.call_control_id, kept)
    checks.check("it can be downloaded", kept.download_urls.mp3.endswith(payload["recording_id"]), kept)


def refuse(checks, client, base, hooks):
    checks.check("a bad number is 10016", refusal(lambda: dial(client, hooks, "nobody")) == (422, "10016"))
    checks.check("tones behind a number are 10016", refusal(lambda: dial(client, hooks, BUSY + ",1")) == (422, "10016"))
    checks.check("a bad timeout is 90028", refusal(lambda: dial(client, hooks, BUSY, timeout_secs=4)) == (422, "90028"))
    checks.check("an unknown call is 10005", refusal(lambda: client.calls.retrieve_status("v3:nothing")) == (404, "10005"))
    stranger = Telnyx(api_key="another", base_url=base + "/v2", max_retries=0)
    checks.check("a wrong key is 10009", refusal(lambda: dial(stranger, hooks, BUSY)) == (401, "10009"))


def main(binary):
    command = [binary, "--addr", "127.0.0.1:0", "--account", "%s:%s" % (CONNECTION, KEY), "--cps", "0", "--telnyx-dps", "0"]
    command += ["--dial-ms", "20", "--ring-ms", "20", "--talk-ms", "20", "--accept-delay-ms", "0", "--list-lag-ms", "0"]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hooks)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hooks = "http://127.0.0.1:%d" % server.server_address[1]
    checks = Checks()
    carrier = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        base = carrier.stdout.readline().split()[-1]
        client = Telnyx(api_key=KEY, base_url=base + "/v2", max_retries=0)
        speak_to_somebody(checks, client, hooks)
        doubles(checks, client, hooks)
        cancel(checks, client, hooks)
        record(checks, client, hooks)
        refuse(checks, client, base, hooks)
    except Exception as error:  # noqa: BLE001 (whatever broke, the count below must say so)
        checks.check("the script came to its end", False, error)
    finally:
        carrier.send_signal(signal.SIGTERM)
        checks.check("SIGTERM ends the sandbox with 0", carrier.wait(timeout=PATIENCE) == 0, carrier.returncode)
    print("telnyx-python: %d passed, %d failed" % (checks.passed, checks.failed))
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
