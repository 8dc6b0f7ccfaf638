#!/bin/sh
# The whole system on the shapes data set, on two CPU cores: sh scripts/demo.sh [compare]
# Task 15-1 overlapped, all 6 steps, through the very code that Pascal VOC takes; `compare` trains FT beside RCIL.
# SEED=43 takes another seed, VENV=DIR another environment. What is finished is not run again: delete demo/ for that.
. "$(dirname "$0")/setup.sh"
SEED=${SEED:-42}
out=demo/seed$SEED

train() { # METHOD: step 0 first, with a warm-up that the short steps after it have no time for
    run --method "$1" --name "$1" --step 0 --lr 0.05 --warmup 30 --epochs 4
    run --method "$1" --name "$1" --step 1 2 3 4 5 --lr 0.005 --epochs 2
}

run() {
    python run.py --dataset voc --data_root data/shapes --task 15-1 --overlap "$@" \
        --backbone resnet26 --width 32 --head_channels 128 --no_pretrained \
        --crop_size 96 --batch_size 16 --num_workers 0 --val_interval 100 \
        --random_seed "$SEED" --date shapes \
        --checkpoint "$out/checkpoints" --logdir "$out/logs" --results_dir "$out/results" || exit
}

python tools/make_shapes.py --root data/shapes || exit
train RCIL
if [ "${1:-}" = compare ]; then
    train FT
    table=$out/results/shapes_voc_15-1
    echo
    python tools/compare_csv.py "${table}_FT.csv" "${table}_RCIL.csv" --png "$out/compare.png" --title "shapes, 15-1 overlapped"
fi
