#!/bin/sh
# Installs the wheel of the project with plain pip in a fresh environment, as its user does, and uses it.
# It runs in the Debian of enter.sh. Each step says how long it took.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
# A copy of the project beside the shared photographs: somebody may go on working on the project.
mkdir checkout && ln -s /shared shared
tar -C /project --exclude=./.debian13 --exclude=./.venv --exclude=./.cluster --exclude=./.engines \
  --exclude=./.tools --exclude=./.git -cf - . | tar -C checkout -xf -
python3 -m venv user
bin=$work/user/bin
wheel=$(ls "$work"/checkout/dist/imgpipe-[0-9]*.whl)
step() {    # step NAME COMMAND...
  name=$1; shift
  begun=$(date +%s)
  "$@" >"$work/log" 2>&1 || { cat "$work/log"; echo "FAILED: $name"; exit 1; }
  echo "$name: $(($(date +%s) - begun)) s"
}
serve_and_ask() {
  "$bin/imgpipe" serve "$work/found" --port 18500 --rest-port 18501 &
  server=$!
  code=1
  for attempt in $(seq 60); do
    sleep 2
    if "$bin/python" "$work/checkout/tests/debian13/ask.py" localhost:18500 "$work/imgpipe-demo/photos"; then code=0; break; fi
  done
  kill "$server" && wait "$server" || true
  return $code
}
# With the installed wheel: the links in `src` of the copy are not on the path.
fast_tests() {
  cd "$work/checkout"
  "$bin/pytest" -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder -rs \
    -m "not slow and not engines and not cluster"
}
python3 --version
step "pip install" "$bin/pip" install "$wheel"
echo "installed: $(du -sm "$work/user" | cut -f1) MB"
step "doctor" "$bin/imgpipe" doctor
step "demo" "$bin/imgpipe" demo
step "run with a search" "$bin/imgpipe" run "$work/imgpipe-demo/photos" --out "$work/found" --minutes 2 \
  --set gate.max_rejected_share=0.3
step "serve and a client" serve_and_ask
step "pip install, extras and tools of the tests" "$bin/pip" install "imgpipe[heic,hub,onnx] @ file://$wheel" \
  --group "$work/checkout/pyproject.toml:dev"
for kind in keras tflite onnx; do
  step "export $kind" "$bin/imgpipe" export "$kind" "$work/found" --to "$work/model.$kind"
done
step "export saved_model" "$bin/imgpipe" export saved_model "$work/found" --to "$work/saved_model"
step "fast tests" fast_tests
tail -n 20 "$work/log"
