#!/usr/bin/env bash
# Makes .venv: torch, mmcv with its operators, the rest of OpenMMLab, mmcompress.
#
# `make install` calls it, and so do `make test` and `make demo` before their own work.
# Done once for a given set of requirements; a later call only compares a stamp. It may
# be interrupted and called again: what is installed already is kept.
#
# Environment:
#   PYTHON   the Python (3.10 or newer) to make .venv with
#   DEVICE   cpu or cuda; by default cuda where there are an NVIDIA GPU and nvcc
#   TORCH    the torch to install instead of the preferred one, e.g. 'torch==2.6.0'
#   CONSTRAINTS  the releases of all else; /dev/null for the newest of everything

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly VENV=.venv
readonly PY=$VENV/bin/python
readonly STAMP=$VENV/mmcompress-setup.stamp
readonly PREFERRED_TORCH=2.13.0
readonly CPU_INDEX=https://download.pytorch.org/whl/cpu
TORCH=${TORCH:-}
CONSTRAINTS=${CONSTRAINTS:-requirements/constraints.txt}

say() { printf '[setup] %s\n' "$*"; }
die() { printf '[setup] error: %s\n' "$*" >&2; exit 1; }

pip() { "$PY" -m pip --disable-pip-version-check "$@"; }
# Not quiet: pip then says every minute that it is still compiling.
pip_verbose() { pip install --progress-bar off -c "$CONSTRAINTS" "$@"; }
pip_quiet() { pip_verbose --quiet "$@"; }

# The installed version of a distribution, or nothing.
version_of() {
  "$PY" - "$1" <<'EOF'
import sys
from importlib.metadata import PackageNotFoundError, version
try:
    print(version(sys.argv[1]))
except PackageNotFoundError:
    pass
EOF
}

# What .venv depends on. The folder is in it because a virtual environment and an
# editable installation both hold absolute paths; the device is not, so that a later
# call without DEVICE keeps what the first one chose, and neither is TORCH.
fingerprint() {
  { pwd; grep '^__version__' mmcompress/__init__.py
    cat requirements/*.txt setup.py tools/dev/setup_env.sh
  } | cksum
}

is_ready() {
  [[ -z $TORCH && -f $STAMP && -e mmcompress/.mim/configs ]] \
    && [[ $(<"$STAMP") == "$(fingerprint)" ]] && "$PY" -c '' 2>/dev/null
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
    then
      echo "$candidate"
      return
    fi
  done
  die "no Python 3.10 or newer found (${PYTHON:-python3, python3.10 to python3.13});" \
    'name one with PYTHON=/path/to/python'
}

make_venv() {
  if ! "$PY" -m pip --version >/dev/null 2>&1; then
    local python
    python=$(find_python)
    say "making $VENV with $("$python" --version)"
    "$python" -m venv --clear "$VENV" \
      || die "$python cannot make a virtual environment (Debian: python3-venv)"
  fi
  pip_quiet -r requirements/build.txt
}

choose_device() {
  if [[ -n ${DEVICE:-} ]]; then
    [[ $DEVICE == cpu || $DEVICE == cuda ]] || die "DEVICE is '$DEVICE': cpu or cuda"
  elif ! nvidia-smi -L >/dev/null 2>&1; then
    DEVICE=cpu
  elif command -v nvcc >/dev/null || [[ -x ${CUDA_HOME:-/usr/local/cuda}/bin/nvcc ]]
  then
    DEVICE=cuda
  else
    say 'a GPU is here but not nvcc, which the CUDA operators of mmcv are built with:' \
      'installing for the CPU (DEVICE=cuda insists)'
    DEVICE=cpu
  fi
}

reachable() {
  "$PY" -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=5)' \
    "$1/torch/" >/dev/null 2>&1
}

# Install the first of several requirements that can be had: any of them will do, and
# which exist depends on the machine. Each is one string, with options of its own.
install_first_of() {
  local requirement
  for requirement in "$@"; do
    say "trying $requirement"
    # shellcheck disable=SC2086  # it is to be split
    if pip_quiet $requirement 2>"$VENV/pip-error.log"; then
      return
    fi
  done
  cat "$VENV/pip-error.log" >&2
  return 1
}

install_torch() {
  if [[ -z $TORCH && -n $(version_of torch) ]]; then
    return
  fi
  local choices=("torch==$PREFERRED_TORCH" 'torch>=2.8')
  if [[ -n $TORCH ]]; then
    choices=("$TORCH")
  elif [[ $DEVICE == cpu && $(uname -s) == Linux ]]; then
    # On PyPI, Linux has CUDA builds only: gigabytes that a CPU has no use for. A CPU
    # build may be among what pip is configured to look at, or on PyTorch's own index.
    install_first_of "torch==$PREFERRED_TORCH+cpu" 2>/dev/null && return
    if reachable "$CPU_INDEX"; then
      local cpu="--extra-index-url $CPU_INDEX"
      choices=("torch==$PREFERRED_TORCH+cpu $cpu" "torch>=2.8 $cpu")
    fi
  fi
  install_first_of "${choices[@]}" || die 'no torch could be installed (above)'
}

# torchvision without its dependencies, which would replace torch: its release goes with
# one release of torch (torch 2.N with torchvision 0.N+15). A CPU torch may find only
# the CUDA build of it; mmcompress/_torchvision.py makes that one importable.
install_torchvision() {
  local torch minor release index=''
  torch=$(version_of torch)
  minor=${torch#2.}
  release=0.$((${minor%%.*} + 15))
  if [[ $(version_of torchvision) == "$release".* ]]; then
    return
  fi
  local choices=("--no-deps torchvision==$release.*" '--no-deps torchvision')
  if [[ $torch == *+cpu ]] && reachable "$CPU_INDEX"; then
    index="--extra-index-url $CPU_INDEX"
    choices=("--no-deps torchvision==$release.0+cpu $index" "${choices[@]}")
  fi
  install_first_of "${choices[@]}" || die 'no torchvision could be installed (above)'
}

# opencv-python (mmcv) and opencv-python-headless (imaug, of mmdet) write to one folder,
# cv2. Where their releases differ, or the window system that the former needs is
# missing, both are put at one release, the headless one last.
fix_opencv() {
  local full headless
  full=$(version_of opencv-python)
  headless=$(version_of opencv-python-headless)
  if [[ ${headless:-$full} == "$full" ]] && "$PY" -c 'import cv2' 2>/dev/null; then
    return
  fi
  say "opencv-python ${full:-absent}, headless ${headless:-absent}: making them one"
  pip_quiet --no-deps --force-reinstall "opencv-python==${headless:-$full}"
  pip_quiet --no-deps --force-reinstall "opencv-python-headless==${headless:-$full}"
}

# The build of mmcv asks for C++17, and the headers of torch from 2.15 on want C++20. They
# name what they want; a compiler in .venv then puts it in the place of mmcv's wish.
use_standard_of_torch() {
  local headers standard
  headers=$("$PY" -c 'import torch.utils.cpp_extension as e; print(e.include_paths()[0])' \
    2>/dev/null)
  standard=$(sed -n 's/.*#error C++\([0-9]*\) or later.*/\1/p' "$headers/ATen/ATen.h")
  if [[ ${standard:-17} == 17 ]]; then
    return
  fi
  say "building mmcv as C++$standard, which this torch wants"
  cat >"$VENV/bin/mmcv-c++" <<EOF
#!/usr/bin/env bash
exec ${CXX:-c++} "\${@/#-std=c++17/-std=c++$standard}"
EOF
  chmod +x "$VENV/bin/mmcv-c++"
  export CXX=$PWD/$VENV/bin/mmcv-c++
}

has_mmcv_ops() { "$PY" -c 'import mmcv.ops' >/dev/null 2>&1; }

# mmcv is an sdist that looks for torch as it is built: in pip's isolated build
# environment there is none, and it then builds without its operators, silently.
install_openmmlab() {
  if [[ $DEVICE == cpu ]]; then
    export CUDA_VISIBLE_DEVICES=''  # with a GPU in sight mmcv asks for nvcc
  else
    export FORCE_CUDA=1
  fi
  use_standard_of_torch
  if [[ -z $(version_of onedl-mmcv) ]]; then
    say 'mmcv: the first build takes 12 to 18 minutes on 2 cores; pip keeps the wheel'
  fi
  local chatter='^ *(Requirement|Collecting|Processing|Downloading|Using)'
  pip_verbose --no-build-isolation -r requirements/mminstall.txt \
    | grep --line-buffered -Ev "$chatter" \
    || [[ ${PIPESTATUS[0]} == 0 ]]
  fix_opencv  # first: mmcv imports cv2
  if ! has_mmcv_ops; then
    # pip's cache does not know which torch a wheel was built for.
    say 'the mmcv wheel in the cache of pip does not fit this torch: building another'
    pip_verbose --no-build-isolation --no-deps --no-cache-dir --force-reinstall \
      --no-binary onedl-mmcv onedl-mmcv
  fi
  "$PY" -c 'import mmcv.ops' \
    || die 'mmcv was built without its operators; is there a C++ compiler?'
}

verify() {
  "$PY" -W ignore - <<'EOF' || die 'the environment does not work (above)'
import mmcompress  # before mmdet: see mmcompress/_torchvision.py
import cv2, mmcv.ops, mmdet.apis, mmpretrain, pycocotools, torch
print(f'[setup] mmcompress {mmcompress.__version__}, torch {torch.__version__}, '
      f'mmcv {mmcv.__version__}, mmdet {mmdet.__version__}, '
      f'mmpretrain {mmpretrain.__version__}')
EOF
  [[ -e mmcompress/.mim/configs ]] || die 'mmcompress/.mim was not made (setup.py)'
}

main() {
  if is_ready; then
    return
  fi
  mkdir -p "$VENV"
  if command -v flock >/dev/null; then
    exec 9>"$VENV.lock"
    flock -n 9 || { say 'waiting for another installation'; flock 9; }
    if is_ready; then
      return
    fi
  fi
  local start=$SECONDS
  rm -f "$STAMP"
  make_venv
  choose_device
  install_torch
  install_torchvision
  install_openmmlab
  pip_quiet -r requirements/runtime.txt -r requirements/tests.txt -r requirements/docs.txt
  pip_quiet --no-build-isolation --no-deps -e .
  verify
  fingerprint >"$STAMP"
  say "ready in $((SECONDS - start)) s"
}

main
