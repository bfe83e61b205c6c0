#!/usr/bin/env bash
# Everything that is measured on a GPU, on a machine that has only Python with PyTorch and a driver, in stages of a few minutes.
#   benchmarks/gpu/run.sh [--pack DIR] [--work DIR] [--data-dir DIR] [--out DIR] [--archive FILE] [--device cuda]
#     [--total SECONDS] [--limit SECONDS] [--tiny] [--again] all | list | STAGE...
# A stage writes STAGE.log and JSON into --out; one that is done is not run again there unless --again is given, so a
# machine that goes away costs one stage. Runs of 200 epochs go on from their checkpoints.
# --total: the whole call ends by then; a stage begins only if all the time that it may take (--limit, else what `list` shows) is left.
# --archive: a tar.gz of --out, without checkpoints, written after each stage.
# `--device cpu --tiny` goes through all stages in a few minutes, to try the script: its figures mean nothing.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# In the order of their worth, with the seconds that each may take: estimated, until a GPU has been asked.
stages=(environment parity update resnet20 passes profile sanitizer resnet50 wrn28_10 memory cifar94 runs)
declare -A seconds=(
  [environment]=40 [parity]=80 [update]=20 [resnet20]=200 [passes]=40 [profile]=100 [sanitizer]=60
  [resnet50]=220 [wrn28_10]=220 [memory]=80 [cifar94]=180 [runs]=540
)

device=cuda out=gpu-results archive= pack= work=${TMPDIR:-/tmp}/flatmin-gpu data= total= limit= tiny= again=
usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | grep -v '^set '; echo "stages: ${stages[*]}"; }
wrong() { echo "run: $1" >&2; usage >&2; exit 2; }

wanted=()
while [ $# -gt 0 ]; do
  case $1 in
    --device | --out | --archive | --pack | --work | --data-dir | --total | --limit)
      [ $# -ge 2 ] || wrong "$1 needs a value"
      name=${1#--}
      declare "$([ "$name" = data-dir ] && echo data || echo "$name")=$2"
      shift
      ;;
    --tiny) tiny=1 ;;
    --again) again=1 ;;
    -h | --help) usage; exit ;;
    all) wanted=("${stages[@]}") ;;
    list) for stage in "${stages[@]}"; do echo "$stage ${seconds[$stage]}"; done; exit ;;
    *)
      [[ " ${stages[*]} " == *" $1 "* ]] || wrong "unknown stage or option '$1'"
      wanted+=("$1")
      ;;
  esac
  shift
done
[ ${#wanted[@]} -gt 0 ] || wrong "which stages?"
for number in "$total" "$limit"; do [[ $number =~ ^([1-9][0-9]*)?$ ]] || wrong "expected a whole number of seconds, found '$number'"; done
# The stages' own times are those of a GPU.
[ "$device" = cpu ] && limit=${limit:-460}
mkdir -p "$out"
out=$(cd "$out" && pwd)

say() { printf '%s %s\n' "$(date -u +%H:%M:%S)" "$*" >&2; }

# What pack.sh packed goes into --work; data in whichever parts are there.
if [ -n "$pack" ]; then
  mkdir -p "$work/cifar"
  if ! cmp -s <(stat -c '%s %Y' "$pack/code.tar.xz") "$work/.packed"; then
    say "unpacking $pack/code.tar.xz"
    python3 -m tarfile -e "$pack/code.tar.xz" "$work" || exit 1
    stat -c '%s %Y' "$pack/code.tar.xz" >"$work/.packed"
  fi
  root=$work
  export FLATMIN_PEERS_PYTHON=${FLATMIN_PEERS_PYTHON:-python3}
  for part in "$pack"/data-*.tar; do
    stamp=$work/cifar/$(basename "$part").unpacked
    if [ ! -e "$part" ] || [ -e "$stamp" ]; then continue; fi
    python3 -m tarfile -e "$part" "$work/cifar-sheets" || exit 1
    "$FLATMIN_PEERS_PYTHON" "$root/benchmarks/gpu/cifar_sheets.py" unpack "$work/cifar-sheets" "$work/cifar" || exit 1
    rm -rf "$work/cifar-sheets"
    touch "$stamp"
  done
  data=${data:-$work/cifar}
  export PYTHONPATH="$root/site${PYTHONPATH:+:$PYTHONPATH}"
fi
node=node
[ -x "$root/node/bin/node" ] && node=$root/node/bin/node
FLATMIN_PEERS_PYTHON=${FLATMIN_PEERS_PYTHON:-$(bash "$root/benchmarks/peers/venv.sh" models)} || exit 1
export FLATMIN_PEERS_PYTHON FLATMIN_BOOTSTRAP=off PYTHONUNBUFFERED=1
# ncu and compute-sanitizer, where the toolkit is installed but not on the path.
export PATH=$PATH:/usr/local/cuda/bin

flatmin() { within "$node" "$root/bin/flatmin.js" "$@"; }
script() { within "$node" "$root/benchmarks/gpu/$1" "${@:2}"; }
# What is cut short at the limit writes its checkpoint first.
within() {
  local left=$((deadline - SECONDS))
  [ "$left" -gt 0 ] || return 124
  timeout --signal=INT --kill-after=20 "$left" "$@"
}
skip() { echo "skipped: $1"; exit 77; }
has_data() { [ -e "$data/test_batch.bin" ] || [ -e "$data/cifar-10-batches-bin/test_batch.bin" ]; }
# ordinary size on the left, the rehearsal's on the right
pick() { if [ -n "$tiny" ]; then echo "$2"; else echo "$1"; fi; }

# Steps in turns with the peers: MODEL BATCH STEPS. In groups, because all of them at once take much memory and a cut must not cost
# what was measured before; a group that is there is left out, and a peer that compiles for too long is.
compare() {
  local group
  local -A peers=(
    [eager]=nchw,channels_last_bf16,channels_last_bf16_foreach
    [graph]=channels_last_bf16_foreach_graph
    [compiled]=channels_last_bf16_foreach_compiled,channels_last_bf16_foreach_compiled_graph
  )
  [ "$device" != cpu ] || peers=([eager]=nchw [graph]=channels_last_bf16_foreach_graph [compiled]=channels_last_bf16_foreach)
  for group in eager graph compiled; do
    if [ -e "$out/$1-$group.json" ] && [ -z "$again" ]; then continue; fi
    flatmin bench train --model "$1" --batch "$(pick "$2" 2)" --optimizer asam --dtype bfloat16 --device "$device" --peer --variants "${peers[$group]}" \
      --peer-timeout 120 --rounds "$(pick 5 1)" --steps "$(pick "$3" 1)" --warmup "$(pick 10 1)" --out "$out/$1-$group.json"
  done
}

stage_environment() {
  if command -v nvidia-smi; then nvidia-smi && nvidia-smi -q; fi
  "$FLATMIN_PEERS_PYTHON" -c 'import torch; print("torch", torch.__version__, "cuDNN", torch.backends.cudnn.version())'
  command -v cc gcc clang || echo "no C compiler: the compiled peers cannot start"
  flatmin doctor --json >"$out/environment.json"
  cat "$out/environment.json"
}

# The program of the kernels' tests; the CUDA runtime lies beside it.
needs_kernels() {
  kernels=$root/native/kernels-on-device
  [ -x "$kernels" ] || skip "native/ holds no kernels-on-device"
  [ "$device" != cpu ] || skip "the kernels need a GPU"
  export LD_LIBRARY_PATH=$root/native${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}

# The update of ResNet-50's 25.6 million parameters, replayed as a graph, and its launches one by one.
stage_update() {
  needs_kernels
  within "$kernels" --time >"$out/update.json.part"
  mv "$out/update.json.part" "$out/update.json"
}

# Every kernel beside its twin, also under the checkers of memory accesses.
stage_sanitizer() {
  needs_kernels
  within "$kernels"
  command -v compute-sanitizer || { echo "compute-sanitizer is not installed: the kernels ran without it"; return; }
  check memcheck
  check racecheck
  check initcheck --uninitialised
  check synccheck
}

# TOOL OPTION... of the program
check() { within compute-sanitizer --tool "$1" --error-exitcode 9 "$kernels" "${@:2}"; }

stage_parity() { script parity.mjs --device "$device" --steps "$(pick 20 3)" --batch "$(pick 128 32)" --out "$out/parity.json"; }

stage_resnet20() { compare resnet20 128 50; }
stage_wrn28_10() { compare wrn28_10 128 12; }
stage_resnet50() { compare resnet50 256 6; }

# What the second pass and ASAM's scale cost.
stage_passes() {
  flatmin bench train --optimizer sgd,sam,asam --model resnet20 --batch "$(pick 128 2)" --dtype bfloat16 --device "$device" \
    --rounds "$(pick 9 1)" --steps "$(pick 100 1)" --warmup "$(pick 20 1)" --out "$out/passes.json"
}

# Where the time of a step goes, kernel by kernel, and what those of the update take.
stage_profile() {
  [ "$device" != cpu ] || skip "a profile of kernels needs a GPU"
  command -v ncu || skip "ncu is not installed"
  profile resnet20 128 --launch-skip 4000 --launch-count 3000
  profile resnet50 256 --launch-skip 200 --launch-count 300 --kernel-name "regex:$("$node" "$root/benchmarks/gpu/kernels.mjs" --pattern)"
}

# MODEL BATCH OPTION... of ncu: the launches that are looked at, behind the warm-up.
profile() {
  within ncu --clock-control none --cache-control none --graph-profiling node --kernel-name-base demangled "${@:3}" \
    --metrics gpu__time_duration.sum --csv --log-file "$out/profile-$1.csv" \
    "$node" "$root/bin/flatmin.js" bench train --model "$1" --batch "$2" --dtype bfloat16 --device "$device" --rounds 1 --warmup 10 --steps 50
  script kernels.mjs "$out/profile-$1.csv" --device "$device" --out "$out/profile-$1.json"
}

# As long as the stage may take: a minute, unless --limit gives it more.
stage_memory() { script memory.mjs --device "$device" --seconds "$(pick $((allowed - 20)) 6)" --out "$out/memory.json"; }

stage_cifar94() {
  has_data || [ -n "$tiny" ] || skip "no CIFAR-10; give --data-dir"
  script cifar94.mjs --device "$device" --data-dir "$data" --runs "$(pick 5 1)" ${tiny:+--tiny --batch 32} --out "$out/cifar94.json"
}

# One run of 200 epochs with the ASAM paper's settings, on from its checkpoint if there is one: OPTIMIZER RHO SEED
train_run() {
  local folder=$out/runs/$1-$3 flags=()
  [ ! -e "$folder/finished" ] || return 0
  if [ -e "$folder/checkpoints/last" ]; then
    flags=(--resume "$folder")
  else
    flags=(--model resnet20 --optimizer "$1" ${2:+--rho "$2"} --lr 0.1 --momentum 0.9 --weight-decay 5e-4 --label-smoothing 0.1 --augment standard)
    flags+=(--epochs "$(pick 200 2)" --batch-size 128 --dtype bfloat16 --seed "$3" --run-dir "$folder")
    if has_data; then flags+=(--data cifar10 --data-dir "$data"); else flags+=(--data digits); fi
    [ -z "$tiny" ] || flags+=(--train-images 64 --test-images 64)
    [ "$device" = cpu ] || flags+=(--device "$device")
  fi
  flatmin train "${flags[@]}" && touch "$folder/finished"
}

stage_runs() {
  has_data || [ -n "$tiny" ] || skip "no CIFAR-10; give --data-dir"
  for seed in $(pick "1 2 3" 1); do
    train_run sgd "" "$seed"
    train_run sam 0.05 "$seed"
    train_run asam 0.5 "$seed"
  done
}

# What there is so far, as a table and packed.
summarize() {
  "$node" "$root/benchmarks/gpu/bars.mjs" "$out" >"$out/bars.txt" || failed=1
  [ -n "$archive" ] || return 0
  mkdir -p "$(dirname "$archive")"
  tar czf "$archive.part" -C "$out" --exclude=checkpoints . && mv "$archive.part" "$archive"
}

failed=0
for stage in "${wanted[@]}"; do
  if [ -e "$out/$stage.done" ] && [ -z "$again" ]; then say "$stage: done before"; continue; fi
  allowed=${limit:-${seconds[$stage]}}
  if [ -n "$total" ] && [ $((SECONDS + allowed)) -gt "$total" ]; then say "$stage: needs up to $allowed s; call it again"; failed=1; continue; fi
  say "$stage..."
  start=$SECONDS deadline=$((SECONDS + allowed))
  (set -e; "stage_$stage") >>"$out/$stage.log" 2>&1
  code=$?
  case $code in
    0) touch "$out/$stage.done"; say "$stage: done in $((SECONDS - start)) s" ;;
    77) say "$stage: $(tail -n 1 "$out/$stage.log")" ;;
    124 | 130) say "$stage: not finished within $allowed s; call it again"; failed=1 ;;
    *) say "$stage: failed (exit code $code); the end of $out/$stage.log:"; tail -n 12 "$out/$stage.log" >&2; failed=1 ;;
  esac
  summarize
done
[ -e "$out/bars.txt" ] || summarize
cat "$out/bars.txt"
exit "$failed"
