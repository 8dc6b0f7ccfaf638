#!/bin/sh
# Methods side by side on the shapes data set: sh scripts/compare.sh ["[NAME=]METHOD [OPTION ...]" ...]
# All methods unless some are named, a run each; "MiB-100=MiB --loss_kd 100" is a run MiB-100 with an option of its own.
# A first step is trained once for all runs whose first step it is: so EWC, RW and PI, which leave more in it than
# others, come first. What is finished is not run again, and what was cut off goes on.
#   SEEDS="42 43 44"   seeds             OUT=compare   folder of all files
#   TASK=15-1          X-Y of the 20 classes, overlapped
#   LAST=5             last step that runs (default: that of the task)
#   OPTIONS=""         more options of run.py for all methods, as "--branches 2", "--test_on_val", "--crop_size 128"
#   DATA=data/shapes   pictures; what is not there is drawn
#   FIRST="--lr 0.05 --warmup 30 --epochs 4"   options of step 0
#   LATER="--lr 0.005 --epochs 2"              of the others; where it is not set, also what suits each method then
. "$(dirname "$0")/setup.sh"
SEEDS=${SEEDS:-42 43 44}
OUT=${OUT:-compare}
DATA=${DATA:-data/shapes}
TASK=${TASK:-15-1}
# Step 0 has a warm-up that the short steps after it have no time for.
FIRST=${FIRST:---lr 0.05 --warmup 30 --epochs 4}
[ $# -gt 0 ] || set -- RW EWC PI FT LWF LWF-MC ILT MiB PLOP RCIL
case $TASK in # it goes into a sum, where bash would run what stands in brackets
    *[!0-9-]* | [0-]* | *- | *--* | *-0*)
        echo "error: TASK=$TASK: X-Y of the 20 classes is needed, as TASK=15-1" >&2
        exit 2
        ;;
esac
LAST=${LAST:-$(((20 - ${TASK%-*}) / ${TASK#*-}))}

later() { # METHOD: the options of its later steps
    echo "${LATER:---lr 0.005 --epochs 2}"
    [ -z "$LATER" ] || return 0
    # Chosen for this schedule on a split of the training images: docs/RESULTS.md.
    case $1 in
        FT | LWF) echo --lr 0.015 ;;
        ILT) echo --loss_de 10 ;;
        MiB) echo --lr 0.03 ;;
        PLOP) echo --lr 0.03 --pod_factor 0.0001 --pod_logits_factor 0.000005 ;;
        RCIL) echo --lr 0.03 --loss_kd 10 --spatial_factors 0.0001 0.000005 --channel_factors 0.0001 0.000005 ;;
    esac
}

run() { # SEED NAME METHOD options
    seed=$1 name=$2 method=$3
    shift 3
    python run.py --method "$method" --name "$name" --random_seed "$seed" \
        --dataset voc --data_root "$DATA" --task "$TASK" --scenario overlapped \
        --backbone resnet26 --width 32 --head_channels 128 --no_pretrained \
        --crop_size 96 --batch_size 16 --num_workers 0 --val_interval 100 --date shapes \
        --checkpoint "$OUT/seed$seed/checkpoints" --logdir "$OUT/seed$seed/logs" \
        --results_dir "$OUT/seed$seed/results" $OPTIONS "$@" || exit
}

[ -d "$DATA" ] || python tools/make_shapes.py --root "$DATA" || exit
for seed in $SEEDS; do
    for wanted in "$@"; do
        method=${wanted%% *} options=${wanted#"${wanted%% *}"}
        name=${method%%=*} method=${method#*=}
        table=$OUT/seed$seed/results/shapes_voc_${TASK}_$name.csv
        if [ "$(grep -v '^#' "$table" 2>/dev/null | wc -l)" -gt "$LAST" ]; then continue; fi
        # The last of two values counts: a run's own schedule is that of its later steps.
        run "$seed" "$name" "$method" --step 0 $options $FIRST
        start=$(date +%s) # the first step may be that of another run: its minutes would tell nothing
        run "$seed" "$name" "$method" --step $(seq "$LAST") $(later "$method") $options
        echo "$name,$(awk "BEGIN { print ($(date +%s) - $start) / 60 }")" >> "$OUT/seed$seed/minutes.csv"
    done
done
folders=
for seed in $SEEDS; do folders="$folders $OUT/seed$seed"; done
echo
python tools/compare_seeds.py $folders --markdown "$OUT/table.md" --png "$OUT/curves.png" --title "shapes, $TASK overlapped"
