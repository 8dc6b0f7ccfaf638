#!/bin/sh
# Train a method on every step of a task: sh scripts/train.sh PLOP voc 15-1 overlap [--test] [run.py options]
# The four words are --method, --dataset and --task of run.py, and the setting: overlap or disjoint. The images of
# Cityscapes and of classification leave no choice of a setting: sh scripts/train.sh PLOP cityscapes_domain 11-1
# The same command resumes a run that was cut off. A finished step is not run again.
#
# From the environment, with defaults of the paper (SGD, batch 24 in total, 64 in classification, mixed precision):
#   DATA_ROOT   folder of the data set (data/voc, data/ade, data/cityscapes, data/imagenet100)
#   NAME        name of the run
#   GPUS        processes, one a GPU            OPT_LEVEL    O1 mixed precision, O0 fp32
#   BATCH_SIZE  images per process              NUM_WORKERS  loader processes per process
#   VENV        Python environment              CHECKPOINT   folder of the checkpoints
#   TORCHRUN    options of torchrun that start GPUS processes in all (those of this machine, without restarts)
words=$*
refuse() { # WHAT IS ALLOWED
    printf 'error: train.sh %s: %s\n' "$words" "$1" >&2
    exit 2
}
case ${1:--}:${2:--}:${3:--} in
    -* | *:-*) refuse "give METHOD DATASET TASK SETTING, as PLOP voc 15-1 overlap, before the options of run.py" ;;
esac
method=$1 dataset=$2 task=$3 setting= batch=24
shift 3
case $dataset:${1:-} in
    cityscape*:overlap | cityscape*:disjoint | image*:overlap | image*:disjoint) refuse "$dataset leaves no choice of a setting; leave $1 out" ;;
    cityscape*) ;;
    image*) batch=64 ;;
    *:overlap | *:disjoint)
        setting=$1
        shift
        ;;
    *) refuse "$dataset needs a setting after the task: overlap or disjoint" ;;
esac

if [ -n "${DATA_ROOT:-}" ]; then
    set -- --data_root "$(realpath "$DATA_ROOT")" "$@" # as seen from here: setup.sh goes elsewhere
fi
[ "$setting" != overlap ] || set -- --overlap "$@"
. "$(dirname "$0")/setup.sh"
# torch counts what it may use: parts of a card (MIG), and what CUDA_VISIBLE_DEVICES leaves.
GPUS=${GPUS:-$(python -c "import torch; print(max(1, torch.cuda.device_count()))")} || exit
case $GPUS in # bash would run what stands in brackets, in the quotient below
    0* | *[!0-9]*)
        echo "error: GPUS=$GPUS: a number of processes is needed, as GPUS=4" >&2
        exit 2
        ;;
esac
if [ -z "${BATCH_SIZE:-}" ] && [ $((batch % GPUS)) -ne 0 ]; then
    echo "error: GPUS=$GPUS does not divide the batch of $batch images: give another number, or BATCH_SIZE, images per process" >&2
    exit 2
fi
export PYTORCH_ALLOC_CONF="${PYTORCH_ALLOC_CONF:-expandable_segments:True}" # images of many sizes fragment memory
set -- --dataset "$dataset" --task "$task" --method "$method" --name "${NAME:-$method${setting:+-$setting}}" \
    --batch_size "${BATCH_SIZE:-$((batch / GPUS))}" --opt_level "${OPT_LEVEL:-O1}" --num_workers "${NUM_WORKERS:-4}" \
    --checkpoint "${CHECKPOINT:-checkpoints/step}" "$@"
if [ "$GPUS" -eq 1 ] && [ -z "${TORCHRUN:-}" ]; then
    exec python run.py "$@"
fi
exec torchrun ${TORCHRUN:---standalone --nproc_per_node "$GPUS"} run.py "$@"
