#!/usr/bin/env bash
# Checks an image that build-image.sh built: starts it, trains a model, predicts and explains, over HTTP and gRPC:
# check-image.sh [IMAGE]
set -euo pipefail

image=${1:-localhost/vitrine:cpu}
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot

home=$(mktemp -d)
container=$(buildah from --pull-never "$image")
groups=()
clean() {
    local status=$? group
    trap - EXIT
    # Only what runs inside is told to end; buildah follows it. What has not ended after 20 s is killed.
    for group in "${groups[@]}"; do pkill -TERM --pgroup "$group" --uid "$user" || true; done
    for group in "${groups[@]}"; do
        for _ in {1..40}; do kill -0 "$group" 2>/dev/null || break; sleep 0.5; done
        kill -KILL -- "-$group" 2>/dev/null || true
    done
    if [ $status -ne 0 ]; then
        tail -n 40 "$home"/*.log "$home"/logs/*.log "$home"/logs/jobs/*.log >&2 2>/dev/null || true
        echo "check-image.sh: $image FAILED" >&2
    fi
    buildah rm "$container" >/dev/null
    rm -rf "$home"
    exit $status
}
trap clean EXIT
trap 'exit 130' INT TERM

# Runs a command in the image as its own user, with the temporary home. It shares this machine's network.
inside() {
    buildah run --env "VITRINE_HOST=127.0.0.1" --env "VITRINE_PORT=$port" \
        --env "VITRINE_GRPC_PORT=$grpc_port" --volume "$home:/var/lib/vitrine" "$container" -- "$@"
}

port=0 grpc_port=off
chmod 755 "$home"
user=$(inside id -u)
chown "$user" "$home"
free_port='import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
port=$(inside python -c "$free_port")
grpc_port=$(inside python -c "$free_port")

# What should be so before anything runs: an ordinary user, no tools of development, ready-made bytecode.
inside python - <<'EOF'
import importlib.util, os, pathlib, service

assert os.getuid() == 10001, os.getuid()
found = [name for name in ("pytest", "ruff", "pyright", "pip", "hatchling") if importlib.util.find_spec(name)]
assert not found, f"in the image: {found}"
assert pathlib.Path(service.__cached__).exists(), service.__cached__
EOF

export -f inside
export container home port grpc_port
for part in serve worker; do
    setsid bash -c "inside vitrine $part" >"$home/$part.log" 2>&1 </dev/null &
    groups+=($!)
done

inside env "ADDRESS=http://127.0.0.1:$port" python - <<'EOF'
import json, os, time, urllib.error, urllib.request

address = os.environ["ADDRESS"]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(path, body=None, timeout=60):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
    try:
        with opener.open(request, timeout=timeout) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{path}: {error.code} {error.read().decode()}") from None


def wait_until(what, seconds, ask):
    start = time.monotonic()
    while not (answer := ask()):
        if time.monotonic() - start > seconds:
            raise SystemExit(f"{what}: not within {seconds} s")
        time.sleep(0.5)
    print(f"{what}: after {time.monotonic() - start:.1f} s", flush=True)
    return answer


def live():
    try:
        return call("/health/live")
    except OSError:
        return None


def finished():
    job = call(f"/train/{submitted['job']}")
    return job if job["status"] not in ("queued", "running") else None


wait_until("live", 60, live)
submitted = call("/train", {"model": "iris", "dataset": {"builtin": "iris"}, "training": {"epochs": 20}})
job = wait_until("trained", 300, finished)
if job["status"] != "succeeded":
    raise SystemExit(f"the job: {json.dumps(job)}")

row = {"model": "iris", "version": job["version"], "inputs": [[5.1, 3.5, 1.4, 0.2]]}
predicted = call("/predict", row)
print("POST /predict", json.dumps(predicted), flush=True)
explained = call("/explain", row)
print("POST /explain", json.dumps(explained), flush=True)
assert explained["explanations"][0]["targets"][0]["attributions"], "no attributions"

# Imported after what needs no library: that says most when something is missing.
import grpc

from service.rpc.messages import SERVICE, message_class

channel = grpc.insecure_channel(f"127.0.0.1:{os.environ['VITRINE_GRPC_PORT']}")


def call_grpc(method, **fields):
    message = message_class(f"{method}Request")(**fields).SerializeToString()
    answer = channel.unary_unary(f"/{SERVICE}/{method}")(message, timeout=60)
    return message_class(f"{method}Response").FromString(answer)


assert call_grpc("ServerReady").ready, "ServerReady over gRPC"
values = {"fp32_contents": row["inputs"][0]}
tensor = {"name": "input", "datatype": "FP32", "shape": [1, 4], "contents": values}
inferred = call_grpc("ModelInfer", model_name="iris", model_version=str(job["version"]), inputs=[tensor])
print("ModelInfer", inferred, flush=True)
expected = list(predicted["predictions"][0]["probabilities"].values())
received = list(inferred.outputs[0].contents.fp32_contents)
assert max(abs(a - b) for a, b in zip(received, expected, strict=True)) < 1e-6, (received, expected)
EOF

inside vitrine doctor --url "http://127.0.0.1:$port"

# The image's own health check, as an engine would run it.
buildah inspect --type image "$image" | inside python -c '
import json, subprocess, sys
kind, *command = json.load(sys.stdin)["Docker"]["config"]["Healthcheck"]["Test"]
raise SystemExit(subprocess.call(command))'
echo "check-image.sh: $image passed"
