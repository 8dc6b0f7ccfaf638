#!/bin/sh
# Methods side by side on the shapes data set, task 15-1 overlapped: sh scripts/compare.sh [METHOD ...]
# All methods unless some are named. A first step is trained once for all methods whose first step it is; what is
# finished is not run again, and what was cut off goes on.
#   SEEDS="42 43 44"   seeds             OUT=compare   folder of all files
#   OPTIONS=""         more options of run.py for all methods, as "--branches 2" or "--test_on_val"
#   DATA=data/shapes   pictures; what is not there is drawn
#   FIRST="--lr 0.05 --warmup 30 --epochs 4"   LATER="--lr 0.005 --epochs 2"   options of step 0, and of the others
. "$(dirname "$0")/setup.sh"
SEEDS=${SEEDS:-42 43 44}
OUT=${OUT:-compare}
DATA=${DATA:-data/shapes}
# Step 0 has a warm-up that the short steps after it have no time for.
FIRST=${FIRST:---lr 0.05 --warmup 30 --epochs 4}
LATER=${LATER:---lr 0.005 --epochs 2}
[ $# -gt 0 ] || set -- FT LWF LWF-MC ILT EWC RW PI MiB PLOP RCIL
STEPS=6

run() { # SEED METHOD options
    seed=$1 method=$2
    shift 2
    python run.py --method "$method" --name "$method" --random_seed "$seed" "$@" \
        --dataset voc --data_root "$DATA" --task 15-1 --overlap \
        --backbone resnet26 --width 32 --head_channels 128 --no_pretrained \
        --crop_size 96 --batch_size 16 --num_workers 0 --opt_level O1 --val_interval 100 --date shapes \
        --checkpoint "$OUT/seed$seed/checkpoints" --logdir "$OUT/seed$seed/logs" \
        --results_dir "$OUT/seed$seed/results" $OPTIONS || exit
}

[ -d "$DATA" ] || python tools/make_shapes.py --root "$DATA" || exit
for seed in $SEEDS; do
    for method in "$@"; do
        table=$OUT/seed$seed/results/shapes_voc_15-1_$method.csv
        if [ "$(cat "$table" 2>/dev/null | wc -l)" -eq $STEPS ]; then continue; fi
        start=$(date +%s)
        run "$seed" "$method" --step 0 $FIRST
        run "$seed" "$method" --step 1 2 3 4 5 $LATER
        echo "$method,$(awk "BEGIN { print ($(date +%s) - $start) / 60 }")" >> "$OUT/seed$seed/minutes.csv"
    done
done
folders=
for seed in $SEEDS; do folders="$folders $OUT/seed$seed"; done
echo
python tools/compare_seeds.py $folders --markdown "$OUT/table.md"
