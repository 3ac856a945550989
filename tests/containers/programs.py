"""What the programs do as containers: replicas behind nginx, replaced and stopped in the middle of a run."""

import http.client
import json
import threading
import time
import urllib.error

from installation import (DIRECT, PROJECT, REPLICATED, Business, compose, containers, expect, inspect, name_of, numbers,
                          process_metric, published, redis, run, sql, until, up)


def only_nginx_can_be_reached():
    ports = {service: [key for one in containers(service) for key, bound in inspect(one)["NetworkSettings"]["Ports"].items() if bound]
             for service in ("postgres", "redis", *REPLICATED, "nginx")}
    expect(ports == {service: ["80/tcp"] if service == "nginx" else [] for service in ports}, f"published: {ports}")
    door = f"http://{published('nginx', 80)}"
    for path in ("/status", "/metrics", "/metrics.json", "/dashboard", "/status/workers"):
        try:
            with DIRECT.open(door + path, timeout=10) as answer:
                expect(False, f"{path} is answered with {answer.status} outside")
        except urllib.error.HTTPError as error:
            expect(error.code == 404, f"{path} is answered with {error.code} outside")
    users = {compose("exec", "-T", service, "id", "-u") for service in REPLICATED}
    expect(users == {"10001"}, f"users {users}")
    inside = compose("exec", "-T", "api", "sh", "-c", "ls /usr/local/bin").split()
    expect("rollcall-carrier" not in inside and "rollcall-calls" in inside, f"in the image: {inside}")
    return f"one published port (80 of nginx), admin routes are 404 there, user 10001, in the image {' '.join(inside)}"


class Events(threading.Thread):
    """Listens to the events of a run through nginx and notes when each came."""

    def __init__(self, business, run_id):
        super().__init__(daemon=True)
        self.request = business.request("GET", f"/v1/runs/{run_id}/events")
        self.came, self.error = [], None

    def run(self):
        try:
            with DIRECT.open(self.request, timeout=60) as answer:
                for line in answer:
                    if line.startswith(b"event:"):
                        self.came.append((time.monotonic(), line.split(b":", 1)[1].strip().decode()))
        except (OSError, http.client.HTTPException) as error:
            self.error = error


def a_campaign_through_nginx_calls_every_number_once():
    business = Business(slots=20)
    begun = time.monotonic()
    run_id = business.started(numbers("207946", 400))
    events = Events(business, run_id)
    events.start()
    said = business.called_once(run_id, 400)
    took = time.monotonic() - begun
    events.join(timeout=10)
    expect(events.error is None and events.came and events.came[-1][1] == "end", f"events: {events.came[-3:]} {events.error}")
    gaps = [after - before for (before, _), (after, _) in zip(events.came, events.came[1:])]
    expect(len(events.came) > 10 and max(gaps) < 5, f"{len(events.came)} events, {max(gaps):.1f} s between two: held back")
    placed = {name_of(one): int(process_metric(one, "worker", "rollcall_calls_placed_total")) for one in containers("worker")}
    ends = {name_of(one): run("docker", "logs", one, both=True).count("slot freed") for one in containers("api")}
    expect(min(*placed.values(), *ends.values()) > 0, f"a replica had nothing to do: {placed} {ends}")
    return (f"{said}, in {took:.0f} s; {len(events.came)} events through nginx, at most {max(gaps):.2f} s apart; calls by "
            f"replica {placed}, ends by replica {ends}")


def upgraded(token, *, upgrade=True):
    """Asks for a media stream through nginx; gives back status and problem."""
    connection = http.client.HTTPConnection(published("nginx", 80), timeout=10)
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    connection.request("GET", f"/media/twilio/{token}", headers=headers if upgrade else {})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body.split('"type":"/problems/', 1)[-1].split('"', 1)[0]


def a_web_socket_upgrade_reaches_every_replica_of_calls():
    # Of the right length, but nobody's. Where the headers of an upgrade got lost on the way, it would be the other answer.
    ticket = "A" * 43
    answers, plain = {upgraded(ticket) for _ in range(20)}, upgraded(ticket, upgrade=False)
    expect((answers, plain) == ({(403, "forbidden")}, (422, "validation")), f"{answers} {plain}")
    shares = {name_of(one): int(process_metric(one, "calls", "rollcall_media_refused_total")) for one in containers("calls")}
    expect(len(shares) == 2 and min(shares.values()) > 0, f"{shares}")
    return f"20 upgrades without a ticket: 403 forbidden; without an upgrade {plain}; by replica {shares}"


def a_large_list_is_streamed_through_nginx():
    business = Business(slots=1)
    some = numbers("161496", 1000)
    rows = "".join(f"{some[i % 1000]},{i:06}{'x' * 400}\n" for i in range(100_000))
    leads = f"to,note\n{rows}".encode()
    begun = time.monotonic()
    _, taken = business.draft(leads)
    took = time.monotonic() - begun
    expect((taken["rows"], taken["accepted"]) == (100_000, 1000), f"{taken}")
    kept = compose("exec", "-T", "nginx", "sh", "-c", "find / -xdev -path '*client_temp*' -type f -o -path '*/body/*' -type f 2>/dev/null | wc -l")
    used = {name_of(one): run("docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", one) for one in containers("api")}
    return f"{len(leads) / 1e6:.0f} MB in {took:.1f} s, files kept by nginx: {kept}; memory {used}"


def replicas_are_replaced_under_load_and_nobody_notices():
    business = Business(slots=20)
    run_id = business.started(numbers("117496", 1000))
    business.until_created(40)
    answers, over, door = {}, threading.Event(), published("nginx", 80)

    def ask():
        while not over.is_set():
            status = business.status_of("/v1/me", door)
            answers[status] = answers.get(status, 0) + 1
            over.wait(0.05)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    before = {one for service in REPLICATED for one in containers(service)}
    begun = time.monotonic()
    run("deploy/roll", *REPLICATED)
    took, created = time.monotonic() - begun, business.of_carrier()["created"]
    over.set()
    asking.join()
    after = {one for service in REPLICATED for one in containers(service)}
    expect(not before & after and len(after) == 6, f"{before & after} were not replaced")
    expect(created < 1000, "the run was over before the replicas were replaced")
    expect(set(answers) == {200}, f"answers while replicas were replaced: {answers}")
    doubt = sql(f"SELECT count(*) FROM attempt WHERE run_id = '{run_id}' AND transitions(events) @> '[{{\"to\": \"unknown\"}}]'")
    said = business.called_once(run_id, 1000)
    return (f"six replicas replaced in {took:.0f} s while {created} calls were made, {answers[200]} requests meanwhile all 200, "
            f"{doubt} attempts ever in doubt; {said}")


def killed_replicas_lose_nothing():
    business = Business(slots=20)
    run_id = business.started(numbers("121496", 300))
    business.until_created(60)
    run("docker", "kill", containers("worker")[0], containers("api")[0], containers("calls")[0])
    begun = time.monotonic()
    up(2)
    back = time.monotonic() - begun
    return f"one api, worker and calls killed -9, all healthy {back:.0f} s after `up`; {business.called_once(run_id, 300)}"


def down_and_up_in_mid_run_with_an_empty_redis_loses_nothing():
    business = Business(slots=20)
    run_id = business.started(numbers("131496", 400))
    business.until_created(100)
    begun = time.monotonic()
    # Without the profile: the carrier stays, as the real one does.
    compose("down", check=False)
    stopped = time.monotonic() - begun
    left = [service for service in ("postgres", "redis", *REPLICATED, "nginx") if containers(service)]
    expect(not left, f"still there: {left}")
    created = business.of_carrier()["created"]
    until("the carrier's calls are over", lambda: business.of_carrier()["live"] == 0)
    expect(business.of_carrier()["created"] == created, "calls were made while everything was down")
    run("docker", "volume", "rm", f"{PROJECT}_redis")
    back = up(2)
    keys = redis("dbsize")
    return (f"down in {stopped:.0f} s after {created} calls, the volume of Redis removed, up and healthy in {back:.0f} s "
            f"({keys} keys then); {business.called_once(run_id, 400)}")


def prometheus_finds_every_replica():
    # Grafana is left out: it only draws what Prometheus has.
    compose("--profile", "monitoring", "up", "--detach", "--no-deps", "prometheus")
    ask = ["docker", "exec", containers("nginx")[0], "curl", "-sf"]

    def replicas():
        targets = json.loads(run(*ask, "http://prometheus:9090/api/v1/targets", check=False) or "{}").get("data", {}).get("activeTargets", [])
        return sorted(target["labels"]["job"] for target in targets if target["health"] == "up")

    wanted = sorted(f"rollcall-{service}" for service in REPLICATED for _ in range(2))
    until("Prometheus has a figure of every replica", lambda: replicas() == wanted)
    groups = json.loads(run(*ask, "http://prometheus:9090/api/v1/rules"))["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    bad = [rule["name"] for rule in rules if rule["health"] == "err"]
    expect(rules and not bad, f"rules that fail: {bad}")
    compose("--profile", "monitoring", "rm", "--force", "--stop", "prometheus")
    return f"{len(wanted)} replicas up, {len(rules)} alert rules loaded"


def no_container_was_restarted_or_ran_out_of_memory():
    states = {name_of(one): (inspect(one)["RestartCount"], inspect(one)["State"]["OOMKilled"])
              for service in ("postgres", "redis", *REPLICATED, "nginx") for one in containers(service)}
    expect(set(states.values()) == {(0, False)}, f"{states}")
    used = run("docker", "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}",
               *(one for service in REPLICATED for one in containers(service)))
    return used.replace(f"{PROJECT}-", "").replace("\n", ", ")


TRIALS = [
    only_nginx_can_be_reached,
    a_campaign_through_nginx_calls_every_number_once,
    a_web_socket_upgrade_reaches_every_replica_of_calls,
    a_large_list_is_streamed_through_nginx,
    replicas_are_replaced_under_load_and_nobody_notices,
    killed_replicas_lose_nothing,
    down_and_up_in_mid_run_with_an_empty_redis_loses_nothing,
    prometheus_finds_every_replica,
    no_container_was_restarted_or_ran_out_of_memory,
]
