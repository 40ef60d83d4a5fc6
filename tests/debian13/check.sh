#!/bin/sh
# Installs the wheel of the project with plain pip in a fresh environment, as its user does, and uses it.
# It runs in the Debian of enter.sh. Each step says how long it took.
set -eu
work=$(mktemp -d)
cd "$work"
python3 -m venv user
bin=$work/user/bin
wheel=$(ls /project/dist/imgpipe-[0-9]*.whl)
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
    if "$bin/python" /project/tests/debian13/ask.py localhost:18500 "$work/imgpipe-demo/photos"; then code=0; break; fi
  done
  kill "$server" && wait "$server" || true
  return $code
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
  --group /project/pyproject.toml:dev
for kind in keras tflite onnx; do
  step "export $kind" "$bin/imgpipe" export "$kind" "$work/found" --to "$work/model.$kind"
done
step "export saved_model" "$bin/imgpipe" export saved_model "$work/found" --to "$work/saved_model"
# The tests use the installed wheel, and their own copy of the project.
mkdir "$work/checkout"
tar -C /project --exclude=./.debian13 --exclude=./.venv --exclude=./.cluster --exclude=./.tools -cf - . | tar -C "$work/checkout" -xf -
cd "$work/checkout"
"$bin/pytest" -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not slow and not engines and not cluster"
cd / && rm -rf "$work"
