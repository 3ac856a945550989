"""docker-compose.prod.yml: secrets as files, TLS, replicas, limits, stores of its own by their profile."""

import json
import ssl
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import stores
from installation import ENVIRONMENT, PROJECT, REPLICATED, ROOT, compose, containers, expect, health, inspect, published, run, until


class Stay(urllib.request.HTTPRedirectHandler):
    """Follows nothing, so that a redirect can be looked at."""

    def redirect_request(self, *_):
        return None


def answer_of(url, key=""):
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay, urllib.request.HTTPSHandler(context=trust))
    try:
        with opener.open(urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"}), timeout=10) as answer:
            return answer.status, dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers)


def write_secrets(folder):
    secrets = {
        "DATABASE_URL": "postgres://rollcall:of-this-trial@postgres:5432/rollcall", "REDIS_URL": "redis://redis:6379/0",
        "POSTGRES_PASSWORD": "of-this-trial",
        **{name: ENVIRONMENT[name] for name in ("ROLLCALL_SEALING_KEY", "ROLLCALL_OPERATOR_KEY")},
    }
    for name, text in secrets.items():
        (folder / name).write_text(text + "\n")
    for name in ("ROLLCALL_SEALING_KEYS_ALSO", "DEEPGRAM_API_KEY", "OPENAI_API_KEY", "ELEVENLABS_API_KEY"):
        (folder / name).touch()
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
        "-keyout", str(folder / "TLS_KEY"), "-out", str(folder / "TLS_CERTIFICATE"))
    for file in folder.iterdir():
        file.chmod(0o444)
    return secrets


def the_production_files_start_with_secrets_as_files_and_tls():
    """Starts it in place of the installation that ran before."""
    stores.take_away()
    compose("--profile", "sandbox", "down", "--volumes", "--remove-orphans")
    with tempfile.TemporaryDirectory() as name:
        secrets = write_secrets(Path(name))
        before = dict(ENVIRONMENT)
        ENVIRONMENT.update({
            "COMPOSE_FILE": f"{ROOT}/docker-compose.yml:{ROOT}/docker-compose.prod.yml", "COMPOSE_PROFILES": "stores",
            "SECRETS_FOLDER": name, "ROLLCALL_IMAGE": "rollcall", "PUBLIC_BASE_URL": "https://localhost", "PUBLIC_MEDIA_URL": "wss://localhost",
            "HTTP_PORT": "127.0.0.1:0", "HTTPS_PORT": "127.0.0.1:0",
        })
        for hidden in ("ROLLCALL_SEALING_KEY", "ROLLCALL_OPERATOR_KEY"):
            del ENVIRONMENT[hidden]
        try:
            return looked_at(secrets)
        finally:
            compose("down", "--volumes")
            ENVIRONMENT.clear()
            ENVIRONMENT.update(before)


def looked_at(secrets):
    compose("up", "--detach")
    for service, replicas in (*((service, 2) for service in REPLICATED), ("nginx", 1)):
        until(f"{service} is healthy", lambda: health(service) == ["healthy"] * replicas)
    commanded = json.loads(compose("run", "--rm", "-T", "ops", "runs", "--json"))
    expect(commanded["data"] == [], f"`run ops runs` says {commanded}")
    plain, _ = answer_of(f"http://{published('nginx', 80)}/healthz")
    status, headers = answer_of(f"https://{published('nginx', 443)}/v1/businesses", secrets["ROLLCALL_OPERATOR_KEY"])
    expect((plain, status) == (308, 200) and "Strict-Transport-Security" in headers, f"{plain} {status} {headers}")
    seen = [inspect(one) for service in (*REPLICATED, "postgres") for one in containers(service)]
    told = json.dumps(seen)
    told = [name for name, text in secrets.items() if name != "REDIS_URL" and text in told]
    expect(not told, f"`docker inspect` tells {told}")
    expect(all(one["HostConfig"]["LogConfig"]["Config"]["max-size"] for one in seen), "a log without a limit")
    limits = {one["Name"].removeprefix(f"/{PROJECT}-"): one["HostConfig"]["Memory"] >> 20 for one in seen}
    return f"http 308, https 200, HSTS; `docker inspect` tells no secret; logs rotate; memory limits in MiB {limits}"


TRIALS = [the_production_files_start_with_secrets_as_files_and_tls]
