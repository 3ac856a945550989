"""The installation of docker-compose.yml under a name of its own, and a client of its API. Standard library only."""

import base64
import http.client
import json
import os
import secrets
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "rollcall-check"
PATIENCE = 240  # s; only a bug makes a wait this long
REPLICATED = ("api", "worker", "calls")
ADMIN_PORTS = {"api": 9090, "worker": 9091, "calls": 9092}
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Failed(Exception):
    """Something that must hold does not."""


def expect(holds, said):
    if not holds:
        raise Failed(said)


def until(what, holds, limit=PATIENCE):
    """Waits until holds() is true and gives its value back."""
    end = time.monotonic() + limit
    while True:
        value = holds()
        if value:
            return value
        expect(time.monotonic() < end, f"never happened within {limit} s: {what}")
        time.sleep(0.25)


def run(*command, check=True, both=False):
    """What the command prints; with `both`, on standard error as well."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    expect(done.returncode == 0 or not check, f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return (done.stdout + done.stderr if both else done.stdout).strip()


def environment():
    """What compose sees: nothing that a developer has set for Rollcall, and secrets of this trial."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROLLCALL_", "COMPOSE_", "POSTGRES_"))}
    for name in ("PUBLIC_BASE_URL", "PUBLIC_MEDIA_URL", "LOG_FORMAT", "TWILIO_API_BASE_URL", "HTTP_ADDR"):
        kept.pop(name, None)
    return kept | {
        "COMPOSE_FILE": f"{ROOT}/docker-compose.yml:{ROOT}/tests/containers/compose.yml",
        "COMPOSE_PROJECT_NAME": PROJECT,
        "COMPOSE_ENV_FILES": os.devnull,
        "HTTP_ADDR": "127.0.0.1:",
        "ROLLCALL_OPERATOR_KEY": secrets.token_hex(16),
        "ROLLCALL_SEALING_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
    }


ENVIRONMENT = environment()


def compose(*arguments, check=True):
    return run("docker", "compose", *arguments, check=check)


def containers(service):
    found = run("docker", "ps", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}",
                "--filter", f"label=com.docker.compose.service={service}")
    return found.split()


def inspect(container):
    return json.loads(run("docker", "inspect", container))[0]


def name_of(container):
    return inspect(container)["Name"].removeprefix(f"/{PROJECT}-")


def health(service):
    return [inspect(one)["State"].get("Health", {}).get("Status") for one in containers(service)]


def up(replicas, *options):
    """Starts everything with so many replicas of each program, and waits until all of it is healthy."""
    begun = time.monotonic()
    scale = [part for service in REPLICATED for part in ("--scale", f"{service}={replicas}")]
    compose("--profile", "sandbox", "up", "--detach", *options, *scale)
    for service in (*REPLICATED, "nginx"):
        wanted = replicas if service in REPLICATED else 1
        until(f"{service} is healthy", lambda: health(service) == ["healthy"] * wanted)
    return time.monotonic() - begun


def published(service, port):
    return compose("port", service, str(port))


def figures():
    """What the carrier has counted."""
    with DIRECT.open(f"http://{published('carrier', 8070)}/_figures", timeout=30) as answer:
        return json.load(answer)


# Containers that have taken the place of a store, by its name.
IN_PLACE = {}


def at(store):
    return IN_PLACE.get(store) or containers(store)[0]


def sql(statement):
    return run("docker", "exec", at("postgres"), "psql", "-U", "rollcall", "-d", "rollcall", "-Atc", statement)


def redis(*command):
    return run("docker", "exec", at("redis"), "redis-cli", *command)


def process_metric(container, service, name):
    """A counter of one replica, summed over its labels. Asked from inside, because no admin port is published."""
    networks = inspect(container)["NetworkSettings"]["Networks"]
    address = networks[f"{PROJECT}_doors"]["IPAddress"]
    text = run("docker", "exec", containers("nginx")[0], "curl", "-s", f"http://{address}:{ADMIN_PORTS[service]}/metrics")
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


class Business:
    """A business with a key and the sandbox as its carrier, used through nginx."""

    def __init__(self, slots):
        self.key = ENVIRONMENT["ROLLCALL_OPERATOR_KEY"]
        self.account = f"AC{uuid.uuid4().hex}"
        made = self.ask("POST", "/v1/businesses", {"name": f"Trial {self.account[-6:]}", "max_concurrent_calls": slots,
                                                  "default_region": "GB", "allowed_countries": ["GB"]})
        self.id, self.slots = made["id"], slots
        self.ask("PUT", f"/v1/businesses/{self.id}/carriers/twilio", {
            "account_sid": self.account, "auth_token": uuid.uuid4().hex, "caller_ids": ["+12025550100"],
            "calls_per_second": 100})
        self.key = self.ask("POST", f"/v1/businesses/{self.id}/keys", {"name": "trial", "role": "manager"})["key"]

    def request(self, method, path, body=None, kind="application/json", door=None):
        request = urllib.request.Request(f"http://{door or published('nginx', 80)}{path}", data=body, method=method)
        request.add_header("Authorization", f"Bearer {self.key}")
        if body is not None:
            request.add_header("Content-Type", kind)
            request.add_header("Idempotency-Key", str(uuid.uuid4()))
        return request

    def ask(self, method, path, body=None, kind="application/json"):
        """The answer. A reading that finds a store away is repeated for a while: behind a failover that takes a moment."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        until_then = time.monotonic() + 20
        while True:
            try:
                with DIRECT.open(self.request(method, path, data, kind), timeout=300) as answer:
                    text = answer.read()
                break
            except urllib.error.HTTPError as error:
                if method != "GET" or error.code != 503 or time.monotonic() > until_then:
                    raise Failed(f"{method} {path}: {error.code} {error.read().decode()}") from error
                time.sleep(0.2)
        return json.loads(text) if text else None

    def status_of(self, path, door):
        """The HTTP status of a GET through nginx at `door`; the error's name where there is none."""
        try:
            with DIRECT.open(self.request("GET", path, door=door), timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__

    def draft(self, leads):
        run_id = self.ask("POST", "/v1/runs", {"name": "Trial", "message": {"text": "Hello {{name}}"}})["id"]
        return run_id, self.ask("POST", f"/v1/runs/{run_id}/leads", leads, "text/csv")

    def started(self, numbers):
        rows = "".join(f"{number},Ada\n" for number in numbers)
        run_id, taken = self.draft(f"to,name\n{rows}".encode())
        expect(taken["accepted"] == len(numbers), f"{taken['accepted']} of {len(numbers)} numbers were accepted")
        self.ask("POST", f"/v1/runs/{run_id}/start")
        return run_id

    def run(self, run_id):
        return self.ask("GET", f"/v1/runs/{run_id}")

    def of_carrier(self):
        """The carrier's own figures of this business."""
        return figures()["accounts"].get(self.account, {"created": 0, "ended": 0, "live": 0})

    def until_created(self, calls):
        until(f"the carrier has {calls} calls", lambda: self.of_carrier()["created"] >= calls)

    def until_completed(self, run_id):
        until(f"run {run_id} is completed", lambda: self.run(run_id)["state"] == "completed")

    def called_once(self, run_id, wanted):
        """Fails unless the carrier has called every number exactly once, and says the figures."""
        self.until_completed(run_id)
        seen, run_now = self.of_carrier(), self.run(run_id)
        finished = sum(run_now["progress"]["states"][state] for state in ("completed", "unreached", "failed"))
        expect(seen["created"] == wanted and seen["numbers_called_twice"] == 0 and seen["created_twice"] == 0,
               f"the carrier counted {seen}")
        expect(seen["most_live"] <= self.slots, f"{seen['most_live']} calls at once on {self.slots} slots")
        expect(finished == wanted, f"{run_now['progress']}")
        until("nothing is held", lambda: sql("SELECT count(*) FROM attempt WHERE rank < 9") == "0")
        return (f"{seen['created']} of {wanted} numbers called, {seen['numbers_called_twice']} twice, at most "
                f"{seen['most_live']} of {self.slots} at once; {finished} jobs final")


def numbers(city, count):
    """Numbers that are kept for fiction (Ofcom): a thousand for each of the cities 20 7946, 161 496, 117 496, …"""
    return [f"+44{city}0{last:03}" for last in range(count)]
