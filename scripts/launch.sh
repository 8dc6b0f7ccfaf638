# Sourced by the scripts of each setting, which say DATASET, TASK, METHOD and SETTING: overlap, disjoint or, where the
# data set leaves no choice, nothing.
# Runs every step of the task in turn; a finished step is not run again. Options on the command line go to run.py.
#
# From the environment, with defaults of the paper (SGD, batch 24 in total, mixed precision):
#   DATA_ROOT   folder of the data set (data/voc, data/ade, data/cityscapes)
#   NAME        name of the run
#   GPUS        processes, one a GPU            OPT_LEVEL    O1 mixed precision, O0 fp32
#   BATCH_SIZE  images per process              NUM_WORKERS  loader processes per process
#   VENV        Python environment              CHECKPOINT   folder of the checkpoints
if [ -n "${DATA_ROOT:-}" ]; then
    set -- --data_root "$(realpath "$DATA_ROOT")" "$@"  # as seen from here: setup.sh goes elsewhere
fi
. "$(dirname "$0")/../setup.sh"
if [ -z "${GPUS:-}" ]; then
    GPUS=$(nvidia-smi --list-gpus 2>/dev/null | wc -l)
    [ "$GPUS" -gt 0 ] || GPUS=1
fi
case $GPUS in # it goes into a quotient, where bash would run what stands in brackets
    0* | *[!0-9]*)
        echo "error: GPUS=$GPUS: a number of processes is needed, as GPUS=4" >&2
        exit 2
        ;;
esac
set -- --dataset "$DATASET" --task "$TASK" $([ "$SETTING" = overlap ] && echo --overlap) --method "$METHOD" \
    --name "${NAME:-$METHOD${SETTING:+-$SETTING}}" --batch_size "${BATCH_SIZE:-$((24 / GPUS))}" \
    --opt_level "${OPT_LEVEL:-O1}" --num_workers "${NUM_WORKERS:-4}" \
    --checkpoint "${CHECKPOINT:-checkpoints/step}" "$@"
if [ "$GPUS" -eq 1 ]; then
    exec python run.py "$@"
fi
exec torchrun --standalone --nproc_per_node "$GPUS" run.py "$@"
