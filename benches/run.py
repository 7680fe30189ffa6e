#!/usr/bin/env python3
"""`make bench`: what a request costs in the gateway, beside a bare Pingora proxy, in the same interleaved run.

Measures CPU (user + system of the process, from /proc) per request, so that neither the load generator nor the upstream
counts. Writes the raw figures to docs/performance/ and a table between the markers of README.md.
Shorter: `run.py --seconds 1 --rounds 1 --no-write`.
"""

import argparse
import base64
import datetime
import json
import os
import pathlib
import platform
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
TICKS = os.sysconf("SC_CLK_TCK")
ISSUER = "https://issuer.example.com"
AUDIENCE = "api://bench"
MARKERS = ("<!-- figures: begin (make bench) -->", "<!-- figures: end -->")


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value):
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def token_and_keys():
    """An RS256 token good for a day, and the key set that verifies it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_numbers()
    now = int(time.time())
    header = {"alg": "RS256", "typ": "at+jwt", "kid": "bench"}
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "client_id": "bench", "jti": "1",
              "iat": now, "exp": now + 86400, "scope": "tools:use"}
    text = b64(json.dumps(header).encode()) + "." + b64(json.dumps(claims).encode())
    signed = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    jwk = {"kty": "RSA", "kid": "bench", "alg": "RS256", "use": "sig", "n": number(public.n), "e": number(public.e)}
    return f"{text}.{b64(signed)}", {"keys": [jwk]}


def policy(name, upstream, keys, limits="  - { rate: 1000000/second, per: subject }"):
    """Ten plain rules, one argument matcher, one limit."""
    plain = "\n".join(f"  - {{ allow: {{ tools: [tool_{i}, other_{i}_*] }}, scopes: [\"tools:use\"] }}" for i in range(9))
    return f"""service: {name}
route: {{ path: /{name}/mcp }}
upstream: {{ url: "http://{upstream}/mcp" }}
providers:
  corp: {{ jwks: {{ issuer: "{ISSUER}", file: "{keys}", algorithms: [RS256] }} }}
authentication: {{ providers: [corp], audiences: ["{AUDIENCE}"], shared_audience: true }}
scopes: {{ "tools:use": {{ describe: Use the tools, default: true }} }}
rules:
{plain}
  - allow: {{ tools: ["search_*"] }}
    scopes: ["tools:use"]
  - allow: {{ tools: [create_issue] }}
    scopes: ["tools:use"]
    arguments: {{ repo: {{ matches: "acme/[a-z-]+" }} }}
limits:
{limits}
"""


def request_bytes(host, path, token, method, params):
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}).encode()
    name = f"mcp-name: {params['name']}\r\n" if "name" in params else ""
    head = (f"POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n"
            f"accept: application/json, text/event-stream\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: {method}\r\n"
            f"{name}content-length: {len(body)}\r\n\r\n")
    return head.encode() + body


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def wait_for(address, process):
    host, port = address.split(":")
    for _ in range(6000):
        if process.poll() is not None:
            sys.exit(f"{process.args[0]} ended with {process.returncode} before it listened")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            time.sleep(0.01)
    sys.exit(f"{process.args[0]} does not listen on {address}")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mb(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024, 1)


class Cast:
    """The processes of a run; all of them end with it."""

    def __init__(self, programs, threads, directory):
        self.programs, self.threads, self.directory, self.running = programs, threads, pathlib.Path(directory), []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running:
            process.kill()
            process.wait()

    def start(self, address, *command):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.running.append(process)
        wait_for(address, process)
        return process

    def stub(self):
        address = free_address()
        self.start(address, self.programs["stub"], address)
        return address

    def baseline(self, upstream):
        address = free_address()
        return address, self.start(address, self.programs["baseline"], address, upstream, str(self.threads))

    def gateway(self, name, upstream, keys, policies, installation=None):
        home = self.directory / name
        (home / "policies").mkdir(parents=True)
        if installation:
            (home / "portcullis.yaml").write_text(installation)
        for index in range(policies):
            service = "bench" if index == 0 else f"bench{index}"
            (home / "policies" / f"{service}.yaml").write_text(policy(service, upstream, keys))
        address = free_address()
        (self.directory / f"{name}-log").mkdir()
        log = self.directory / f"{name}-log" / "audit.jsonl"  # in no folder that the gateway watches
        started = time.monotonic()
        process = self.start(address, self.programs["portcullis"], "serve", "--listen", address, "--log", str(log), str(home))
        return address, process, home, time.monotonic() - started

    def redis(self):
        """A Redis that keeps nothing on disk, and a gateway's settings for it."""
        address = free_address()
        port = address.split(":")[1]
        process = self.start(address, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        seal = self.directory / "seal"
        seal.write_text("0123456789abcdef" * 4)
        return process, f'store: {{ redis: {{ url: "redis://{address}" }} }}\nencryption_keys: [{{ file: "{seal}" }}]\n'

    def load(self, address, process, request, connections, seconds):
        """One measured run: CPU microseconds of `process` for each answered request."""
        file = self.directory / "request"
        file.write_bytes(request)
        before = cpu_seconds(process.pid)
        command = [self.programs["load"], address, str(connections), str(seconds), str(file)]
        seen = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=seconds * 4 + 60).stdout)
        spent = cpu_seconds(process.pid) - before
        if seen["failures"] or not seen["requests"]:
            sys.exit(f"{process.args[0]}: {seen['failures']} failures, {seen['requests']} good answers: nothing to measure")
        return {**seen, "cpu_us_per_request": round(spent * 1e6 / seen["requests"], 2), "rss_mb": rss_mb(process.pid)}


def programs():
    """The built programs; Cargo says where its benches are."""
    command = [os.environ.get("CARGO", "cargo"), "bench", "--locked", "--no-run", "--message-format=json"]
    for name in ("baseline", "stub", "load", "decide", "streams"):
        command += ["--bench", name]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT).stdout
    built = [json.loads(line) for line in said.splitlines()]
    found = {item["target"]["name"]: item["executable"] for item in built if item.get("executable")}
    return {**found, "portcullis": str(TARGET / "release" / "portcullis")}


def side_by_side(cast, contenders, request, connections, rounds, seconds):
    """Interleaved runs: A B A B …, so that a noisy minute hits both."""
    runs = {name: [] for name in contenders}
    for name, (address, process) in contenders.items():
        cast.load(address, process, request(address), connections, min(1, seconds))  # warm caches, pools and allocator
    for turn in range(rounds):
        for name, (address, process) in contenders.items():
            run = cast.load(address, process, request(address), connections, seconds)
            runs[name].append(run)
            print(f"  {connections:>3} connections, round {turn + 1}, {name}: {run['cpu_us_per_request']} us CPU a request",
                  file=sys.stderr, flush=True)
    cost = {name: statistics.median(run["cpu_us_per_request"] for run in done) for name, done in runs.items()}
    first, second = contenders
    return {"connections": connections, "median_cpu_us": cost, "ratio": round(cost[second] / cost[first], 3), "runs": runs}


def measure(options):
    token, keys = token_and_keys()
    with tempfile.TemporaryDirectory() as directory, Cast(programs(), options.threads, directory) as cast:
        key_file = pathlib.Path(directory) / "keys.json"
        key_file.write_text(json.dumps(keys))
        upstream = cast.stub()
        bare, bare_process = cast.baseline(upstream)
        ours, our_process, _, _ = cast.gateway("one", upstream, key_file, 1)
        time.sleep(2)
        idle = {"gateway_mb": rss_mb(our_process.pid), "baseline_mb": rss_mb(bare_process.pid)}

        def call(address):
            params = {"name": "create_issue", "arguments": {"repo": "acme/site", "title": "A title", "labels": ["bug"]}}
            return request_bytes(address, "/bench/mcp", token, "tools/call", params)

        def tools(address):
            return request_bytes(address, "/bench/mcp", token, "tools/list", {})

        pair = {"baseline": (bare, bare_process), "gateway": (ours, our_process)}
        print("== tools/call", file=sys.stderr)
        calls = [side_by_side(cast, pair, call, n, options.rounds, options.seconds) for n in (1, 32, 256)]
        print("== tools/list, 500 tools", file=sys.stderr)
        lists = side_by_side(cast, pair, tools, 1, options.rounds, options.seconds)
        found = {"idle": idle, "calls": calls, "list": lists}
        print("== single steps", file=sys.stderr)
        found["steps_us"] = json.loads(subprocess.run([cast.programs["decide"]], check=True, capture_output=True).stdout)
        print("== the same limit, counted in Redis", file=sys.stderr)
        found["redis"] = redis(cast, options, upstream, key_file, (ours, our_process), call)
        if options.streams:
            print(f"== {options.streams} silent streams, and one that speaks", file=sys.stderr)
            found["streams"] = streams(cast, options, token, key_file)
        if options.policies:
            print(f"== {options.policies} policies", file=sys.stderr)
            found["many"] = many(cast, options, upstream, key_file, (ours, our_process), call)
        return found


def redis(cast, options, upstream, key_file, local, call):
    """One limit for each call, counted in the process and in Redis: CPU of the gateway and time of an answer."""
    server, installation = cast.redis()
    address, process, _, _ = cast.gateway("redis", upstream, key_file, 1, installation)
    pair = {"local": local, "redis": (address, process)}
    before = cpu_seconds(server.pid)
    runs = [side_by_side(cast, pair, call, n, options.rounds, options.seconds) for n in (1, 32)]
    counted = sum(run["requests"] for found in runs for run in found["runs"]["redis"])
    for found in runs:
        found["median_p50_us"] = {name: statistics.median(run["p50_us"] for run in done) for name, done in found["runs"].items()}
    return {"runs": runs, "server_cpu_us": round((cpu_seconds(server.pid) - before) * 1e6 / max(1, counted), 2)}


def streams(cast, options, token, key_file):
    """Memory of many silent streams, and how long an event takes, with the gateway and without it."""
    def request(address):
        params = {"name": "search_events", "arguments": {}}
        return request_bytes(address, "/bench/mcp", token, "tools/call", params)

    def run(listen, target, count, resident):
        file = cast.directory / "stream-request"
        file.write_bytes(request(target))
        command = [cast.programs["streams"], listen, target, str(count), str(file)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        cast.running.append(process)
        opened = json.loads(process.stdout.readline() or "{}")
        time.sleep(2)
        memory = resident()
        process.stdin.write("\n")
        process.stdin.flush()
        return {**opened, "rss_mb": memory, **json.loads(process.stdout.readline())}

    upstream = free_address()
    address, process, _, _ = cast.gateway("streams", upstream, key_file, 1)
    through = run(upstream, address, options.streams, lambda: rss_mb(process.pid))
    alone = free_address()
    direct = run(alone, alone, 1, lambda: 0)
    return {"gateway": through, "direct": direct}


def many(cast, options, upstream, key_file, one, call):
    address, process, home, load_seconds = cast.gateway("many", upstream, key_file, options.policies)
    time.sleep(3)
    resident = rss_mb(process.pid)
    compared = side_by_side(cast, {"one": one, "many": (address, process)}, call, 32, options.rounds, options.seconds)
    time.sleep(2)
    before = cpu_seconds(process.pid)
    changed = home / "policies" / "bench7.yaml"
    changed.write_text(changed.read_text().replace("create_issue", "create_ticket"))
    time.sleep(4)
    return {"policies": options.policies, "load_seconds": round(load_seconds, 2), "rss_mb": resident,
            "change_one_cpu_ms": round((cpu_seconds(process.pid) - before) * 1000), "request": compared}


def table(found):
    """The README's table, generated from the figures."""
    rows = ["| what | bare Pingora | Portcullis | ratio |", "|---|---:|---:|---:|"]
    for run in [*found["calls"], found["list"]]:
        what = "`tools/list` of 500 tools (200 KB), filtered" if run is found["list"] else "`tools/call`"
        cost = run["median_cpu_us"]
        many_or_one = "connection" if run["connections"] == 1 else "connections"
        rows.append(f"| CPU a request, {what}, {run['connections']} {many_or_one} | {cost['baseline']:.1f} µs "
                    f"| {cost['gateway']:.1f} µs | {run['ratio']:.2f} |")
    rows.append(f"| resident memory, idle | {found['idle']['baseline_mb']} MB | {found['idle']['gateway_mb']} MB | |")
    steps = found["steps_us"]
    rows.append(f"| authorize, 10 rules and 1,000 rules | | {steps['authorize_10_rules']:.2f} µs, "
                f"{steps['authorize_1000_rules']:.2f} µs | |")
    rows.append(f"| filter 500 tools (200 KB) | | {steps['filter_500_tools'] / 1000:.2f} ms | |")
    for run in found["redis"]["runs"]:
        cost, p50 = run["median_cpu_us"], run["median_p50_us"]
        many_or_one = "connection" if run["connections"] == 1 else "connections"
        rows.append(f"| a limit counted in Redis, {run['connections']} {many_or_one}: CPU a request, median time of an answer "
                    f"| {cost['local']:.1f} µs, {p50['local']:.0f} µs counted locally | {cost['redis']:.1f} µs, {p50['redis']:.0f} µs "
                    f"| {run['ratio']:.2f} |")
    if "streams" in found:
        through, direct = found["streams"]["gateway"], found["streams"]["direct"]
        rows.append(f"| an event's way, half of them under | {direct['p50_us']} µs without | {through['p50_us']} µs | |")
        rows.append(f"| {through['opened']:,} silent streams: resident memory | | {through['rss_mb']} MB | |")
    if "many" in found:
        scale, count = found["many"], f"{found['many']['policies']:,} policies"
        rows.append(f"| {count}: CPU a request beside one policy | | | {scale['request']['ratio']:.2f} |")
        rows.append(f"| {count}: first load, resident memory | | {scale['load_seconds']} s, {scale['rss_mb']} MB | |")
        rows.append(f"| {count}: CPU to take over a change of one | | {scale['change_one_cpu_ms']} ms | |")
    return "\n".join(rows)


def write(found, text):
    stamp = found["machine"]["date"]
    folder = ROOT / "docs" / "performance"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stamp}.json").write_text(json.dumps(found, indent=1) + "\n")
    readme = ROOT / "README.md"
    if readme.exists() and all(marker in readme.read_text() for marker in MARKERS):
        before, rest = readme.read_text().split(MARKERS[0], 1)
        after = rest.split(MARKERS[1], 1)[1]
        source = f"From [`docs/performance/{stamp}.json`](docs/performance/{stamp}.json), {found['machine']['cores']} cores."
        readme.write_text(f"{before}{MARKERS[0]}\n{text}\n\n{source}\n{MARKERS[1]}{after}")


def main():
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seconds", type=float, default=5, help="length of one run")
    words.add_argument("--rounds", type=int, default=7, help="interleaved runs of each")
    words.add_argument("--policies", type=int, default=10_000, help="size of the large installation; 0 leaves it out")
    words.add_argument("--streams", type=int, default=8000, help="silent event streams; 0 leaves them out")
    words.add_argument("--threads", type=int, default=os.cpu_count(), help="worker threads of the bare proxy")
    words.add_argument("--no-write", action="store_true", help="change neither docs/performance nor the README")
    options = words.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    found = measure(options)
    cpu = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    found["machine"] = {"date": datetime.date.today().isoformat(), "cpu": cpu, "cores": os.cpu_count(), "commit": commit,
                        "kernel": platform.release(), "seconds": options.seconds, "rounds": options.rounds}
    text = table(found)
    print(text)
    if not options.no_write:
        write(found, text)


if __name__ == "__main__":
    main()
