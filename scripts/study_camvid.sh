#!/bin/sh
# The study on CamVid, part by part: sh scripts/study_camvid.sh PART ...
#   choose, choose_own   five settings of each method, on the split: 80 % of the training pictures teach two of the five
#                        later steps, the other 20 % score. The second part is of methods with a step 0 of their own.
#   choose_first         24 epochs of step 0 at two rates, on the split
#   6-1, 5-3             the tasks, each method as chosen, SEEDS="42 43 44"; with classes as the list has them
#   6-1-large-last, 5-3-large-last   the same, with large classes last: data/camvid-PART.txt
#   joint                all classes at once
#   scratch              step 0 of the tasks with large classes last, without the body
#   apart                the parts of RCIL with and without each other, on the split: plain or RC network; -cube for the pooled
#                        cube with the published weights, -cube-10 and -cube-100 with a tenth and a hundredth; -frozen for norms
#                        that stay; steady has no random channel weights, own-steady none in step 0 either
# All networks but those of scratch start from the body of scripts/body.sh.
# The same command resumes what was cut off. Tables: study/PART, or STUDY/PART.
# On two cores run two parts side by side, each with OMP_NUM_THREADS=1.
. "$(dirname "$0")/setup.sh"
export DATASET=folder DATA=${DATA:-data/camvid} PRETRAINED=${PRETRAINED:-pretrained/resnet26w32.safetensors}
export OPTIONS="--crop_size 192 --batch_size 8 --no_visualize" FIRST="--lr 0.02 --epochs 8" LATER="--lr 0.01 --epochs 4"
[ -d "$DATA" ] || sh data/download_camvid.sh || exit

# Of step 0 in the comparison; chosen on the split, too: docs/RESULTS.md.
sound="--lr 0.06 --epochs 24"

compare() { # the runs of the standard input, a line each, as scripts/compare.sh takes them
    set --
    while read -r run; do set -- "$@" "$run"; done
    OUT=${STUDY:-study}/$part sh scripts/compare.sh "$@" < /dev/null
}

on_the_split() {
    SEEDS=41 TASK=data/camvid-6-1-large-last.txt LAST=${LAST:-2} OPTIONS="$OPTIONS --test_on_val" compare
}

# The distillation of features, at a tenth and a hundredth of its published weights.
pod_10="--pod_factor 0.001 --pod_logits_factor 0.00005"
pod_100="--pod_factor 0.0001 --pod_logits_factor 0.000005"
cube_10="--spatial_factors 0.001 0.00005 --channel_factors 0.001 0.00005"
cube_100="--spatial_factors 0.0001 0.000005 --channel_factors 0.0001 0.000005"

choose() {
    on_the_split << END
FT
FT-slow=FT @FT --lr 0.003
FT-fast=FT @FT --lr 0.03
FT-faster=FT @FT --lr 0.1
FT-long=FT @FT --lr 0.01 --epochs 8
LWF-1=LWF @FT --lr 0.01 --loss_kd 10
LWF-2=LWF @FT --lr 0.03 --loss_kd 10
LWF-3=LWF @FT --lr 0.01 --loss_kd 100
LWF-4=LWF @FT --lr 0.03 --loss_kd 100
LWF-5=LWF @FT --lr 0.01 --loss_kd 10 --epochs 8
MiB-1=MiB @FT --lr 0.01 --loss_kd 10
MiB-2=MiB @FT --lr 0.03 --loss_kd 10
MiB-3=MiB @FT --lr 0.01 --loss_kd 30
MiB-4=MiB @FT --lr 0.03 --loss_kd 30
MiB-5=MiB @FT --lr 0.01 --loss_kd 10 --epochs 8
PLOP-1=PLOP @FT --lr 0.01 $pod_10
PLOP-2=PLOP @FT --lr 0.03 $pod_10
PLOP-3=PLOP @FT --lr 0.01 $pod_100
PLOP-4=PLOP @FT --lr 0.03 $pod_100
PLOP-5=PLOP @FT --lr 0.01 $pod_100 --epochs 8
EWF-1=EWF @FT --lr 0.01 --loss_kd 10
EWF-2=EWF @FT --lr 0.03 --loss_kd 10
EWF-3=EWF @FT --lr 0.06 --loss_kd 10
EWF-4=EWF @FT --lr 0.03 --loss_kd 30
EWF-5=EWF @FT --lr 0.03 --loss_kd 10 --epochs 8
END
}

choose_own() {
    on_the_split << END
RCIL
RCIL-1=RCIL @RCIL --lr 0.01 --loss_kd 30 $cube_10
RCIL-2=RCIL @RCIL --lr 0.01 --loss_kd 10 $cube_100
RCIL-3=RCIL @RCIL --lr 0.03 --loss_kd 10 $cube_100
RCIL-4=RCIL @RCIL --lr 0.01 --loss_kd 10 $cube_100 --epochs 8
SSUL --saliency none
SSUL-2=SSUL @SSUL --saliency none --lr 0.03
SSUL-3=SSUL @SSUL --saliency none --lr 0.1
SSUL-4=SSUL @SSUL --saliency none --lr 0.3
SSUL-5=SSUL @SSUL --saliency none --lr 0.1 --epochs 8
END
}

scratch() {
    export LAST=0 PRETRAINED= FIRST="$sound" TASK=data/camvid-6-1-large-last.txt
    printf '%s\n' FT RCIL | compare
}

choose_first() {
    export LAST=0
    echo FT | FIRST="--lr 0.02 --epochs 24" on_the_split
    echo FT-06=FT | FIRST=$sound on_the_split
}

# The best of each five; one with twice the epochs where it gains half a point.
methods() {
    FIRST=$sound TASK=$1 compare << END
RCIL --lr 0.03 --loss_kd 10 $cube_100
FT --lr 0.1
MiB @FT --lr 0.03 --loss_kd 30
LWF @FT --loss_kd 100
SSUL --saliency none --lr 0.3
PLOP @FT --lr 0.03 $pod_10
EWF @FT --lr 0.06 --loss_kd 10
END
}

apart() {
    # With norms that stay step 1 diverges at 0.03, and loses 9 points more of the old classes at 0.01 than at 0.003.
    still="--fix_bn --lr 0.003"
    export OPTIONS="$OPTIONS --loss_kd 10" LATER="--lr 0.03 --epochs 4"
    on_the_split << END
plain=MiB
plain-frozen=MiB @plain $still
plain-cube-100=MiB @plain --pod cube $cube_100
plain-cube-10=MiB @plain --pod cube $cube_10
plain-cube=MiB @plain --pod cube
plain-cube-frozen=MiB @plain --pod cube $still
rc=RCIL --pod none
rc-frozen=RCIL @rc --pod none $still
rc-cube=RCIL @rc
rc-cube-frozen=RCIL @rc $still
steady=RCIL @rc --no_drop_path --pod none
steady-frozen=RCIL @rc --no_drop_path --pod none $still
steady-cube=RCIL @rc --no_drop_path
steady-cube-frozen=RCIL @rc --no_drop_path $still
own-steady=RCIL --no_drop_path --pod none
own-steady-frozen=RCIL @own-steady --no_drop_path --pod none $still
own-steady-cube=RCIL @own-steady --no_drop_path
own-steady-cube-frozen=RCIL @own-steady --no_drop_path $still
END
}

for part in "$@"; do
    case $part in
        choose | choose_own | choose_first | scratch | apart) ("$part") || exit ;; # what one sets is not for the next
        6-1 | 5-3) methods "$part" || exit ;;
        6-1-large-last | 5-3-large-last) methods "data/camvid-$part.txt" || exit ;;
        joint) echo joint=FT | FIRST=$sound TASK=offline compare || exit ;;
        *) echo "error: study_camvid.sh $part: choose, choose_own, choose_first, apart, joint, scratch, 6-1, 5-3, 6-1-large-last, 5-3-large-last" >&2; exit 2 ;;
    esac
done
