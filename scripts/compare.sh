#!/bin/sh
# Methods side by side, on the shapes data set unless you name another:
#   sh scripts/compare.sh ["[NAME=]METHOD [@RUN] [OPTION ...]" ...]
# Each word is a run:
#   MiB                             all steps of MiB; the run is called MiB
#   "MiB-100=MiB --loss_kd 100"     a run MiB-100, with an option of its own
#   "MiB @FT"                       a run whose step 0 is that of the run FT: it is scored, and not trained again
# RUN has the same seed and trains its own step 0. It stands before in the list, or is in OUT from an earlier command.
# Without words all methods run; those whose step 0 is the same as that of FT take FT's.
# The same command resumes what was cut off. What is finished is not run again.
#   SEEDS="42 43 44"   seeds             OUT=compare   folder of all files
#   TASK=15-1          X-Y, overlapped; or offline, all classes at once; or FILE.txt, as for --class_order
#   LAST=5             last step that runs (default: that of the task; an imagefolder needs it)
#   OPTIONS=""         more options of run.py for all methods, as "--branches 2", "--test_on_val", "--crop_size 128"
#   DATA=data/shapes   the data set; it is drawn if it is not there
#   DATASET=voc        what it is to run.py, as folder or imagefolder
#   PRETRAINED=FILE    weights of the body to start from (default: none, from scratch)
#   FIRST="--lr 0.05 --warmup 30 --epochs 4"   options of step 0
#   LATER="--lr 0.005 --epochs 2"              options of the later steps (default: these, and those of the method)
. "$(dirname "$0")/setup.sh"
SEEDS=${SEEDS:-42 43 44}
OUT=${OUT:-compare}
DATA=${DATA:-data/shapes}
DATASET=${DATASET:-voc}
TASK=${TASK:-15-1}
# Step 0 has a warm-up that the short steps after it have no time for.
FIRST=${FIRST:---lr 0.05 --warmup 30 --epochs 4}
[ $# -gt 0 ] || set -- FT "LWF @FT" "ILT @FT" "MiB @FT" "PLOP @FT" LWF-MC EWC RW PI RCIL \
    "LGKD @FT" "EWF @FT" "UCD @FT" "ST @FT" SDR DKD "DKD-M @DKD" STAR "STAR-M @STAR" CFSSeg SSUL "SSUL-M @SSUL"
order=--task
case $TASK in
    offline) LAST=0 ;;
    *.txt)
        [ -f "$TASK" ] || { echo "error: TASK=$TASK: no such file" >&2; exit 2; }
        order=--class_order
        LAST=${LAST:-$(($(grep -c '^[^#]*[^# ]' "$TASK") - 1))}
        ;;
    *[!0-9-]* | [0-]* | *- | *--* | *-0*) # bash would run what stands in brackets, in the sum below
        echo "error: TASK=$TASK: X-Y of the classes is needed, as TASK=15-1; or offline, or a file of an order, FILE.txt" >&2
        exit 2
        ;;
    *)
        classes=20
        [ "$DATASET" != folder ] || classes=$(($(grep -c . "$DATA/classes.txt") - 1))
        LAST=${LAST:-$(((classes - ${TASK%-*}) / ${TASK#*-}))}
        ;;
esac
[ -n "${PRETRAINED:-}" ] && scratch= || scratch=--no_pretrained
task=$(basename "$TASK" .txt)
data=$(basename "$DATA" | tr _ -) # the first part of the name of a table, whose parts a _ divides

select_run() { # SEED "[NAME=]METHOD [@RUN] [OPTION ...]": the run that the functions below are about
    seed=$1 method=${2%% *} options=${2#"${2%% *}"} first=
    name=${method%%=*}
    method=${method#*=}
    case $options in
        " @"*)
            first=${options#" @"}
            options=${first#"${first%% *}"}
            first=${first%% *}
            ;;
    esac
    folder=$OUT/seed$seed
    step_ckpt=$folder/checkpoints/$task-${DATASET}_${first}_0.pth
}

is_finished() {
    [ "$(grep -v '^#' "$folder/results/${data}_${DATASET}_${task}_$name.csv" 2>/dev/null | wc -l)" -gt "$LAST" ]
}

rates() { # factors on the rate of its step 0: that is not one of a body alone here
    case $method in
        DKD* | STAR*) echo --head_rate 1 --classifier_rate 1 ;;
        SSUL*) echo --body_rate 1 ;;
        CFSSeg) echo --body_rate 1 --expansion 2048 ;; # 8192 take 16 times as long
    esac
}

later() { # the options of its later steps
    echo "${LATER:---lr 0.005 --epochs 2}"
    [ -z "$LATER" ] || return 0
    # Chosen for this schedule on a split of the training images: docs/RESULTS.md.
    case $method in
        FT | LWF | ST) echo --lr 0.015 ;;
        ILT) echo --loss_de 10 ;;
        MiB | UCD) echo --lr 0.03 ;;
        SDR) echo --lr 0.03 --loss_kd 10 --sdr_sparse 0.0001 --init_balanced --init_bias ;;
        EWF) echo --lr 0.06 ;;
        PLOP | LGKD) echo --lr 0.03 --pod_factor 0.0001 --pod_logits_factor 0.000005 ;;
        DKD*) echo --lr 0.001 ;;
        CFSSeg) rates ;;
        STAR*) echo --lr 0.0005 ;;
        SSUL) echo --lr 0.2 ;;
        SSUL-M) echo --lr 0.1 ;;
        RCIL) echo --lr 0.03 --loss_kd 10 --spatial_factors 0.0001 0.000005 --channel_factors 0.0001 0.000005 ;;
    esac
}

run() { # OPTION ...
    python run.py --method "$method" --name "$name" --random_seed "$seed" \
        --dataset "$DATASET" --data_root "$DATA" $order "$TASK" \
        --backbone resnet26 --width 32 --head_channels 128 $scratch ${PRETRAINED:+--pretrained "$PRETRAINED"} \
        --crop_size 96 --batch_size 16 --num_workers 0 --val_interval 100 --date "$data" \
        --checkpoint "$folder/checkpoints" --logdir "$folder/logs" --results_dir "$folder/results" \
        --overlap ${OPTIONS:-} ${first:+--step_ckpt "$step_ckpt"} "$@" || exit
}

# A first step that is missing: said now, and not after hours of training.
for seed in $SEEDS; do
    before=" "
    for wanted in "$@"; do
        select_run "$seed" "$wanted"
        if [ -z "$first" ]; then
            before="$before$name "
        elif [ "${before#*" $first "}" = "$before" ] && [ ! -f "$step_ckpt" ] && ! is_finished; then
            echo "error: \"$wanted\": $step_ckpt is missing; put $first, which trains it, before this run" >&2
            exit 2
        fi
    done
done

[ -d "$DATA" ] || python tools/make_shapes.py --root "$DATA" || exit
for seed in $SEEDS; do
    for wanted in "$@"; do
        select_run "$seed" "$wanted"
        if is_finished; then continue; fi
        # The last of two values counts: a run's own schedule is that of its later steps.
        run --step 0 $(rates) $options $FIRST
        [ "$LAST" -gt 0 ] || continue
        start=$(date +%s) # after step 0, which some methods train and others take
        run --step $(seq "$LAST") $(later) $options
        echo "$name,$(awk "BEGIN { print ($(date +%s) - $start) / 60 }")" >> "$folder/minutes.csv"
    done
done
folders=
for seed in $SEEDS; do folders="$folders $OUT/seed$seed"; done
echo
python tools/compare.py $folders --markdown "$OUT/table.md" --png "$OUT/curves.png" --title "$data, $task"
