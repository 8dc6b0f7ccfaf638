#!/bin/sh
# The whole system on the shapes data set, on two CPU cores: sh scripts/demo.sh
# Task 15-1 overlapped, all 6 steps, with the same code as for Pascal VOC: RCIL, and from its first step, on the same
# two-branch network, FT, which forgets. Both start from the small body of pretrained/, which has seen real pictures;
# PRETRAINED= starts from scratch. The last command writes a report for the browser, with pictures of what both
# still know after each step. SEED=43 takes another seed, VENV=DIR another environment.
# The same command resumes what was cut off. What is finished is not run again: delete demo/ for that.
seed=${SEED:-42}
export PRETRAINED="${PRETRAINED-pretrained/resnet26w32.safetensors}"
# Step 0 has half the epochs of compare.sh: from a body that has seen pictures that is enough.
export FIRST="${FIRST:---lr 0.05 --warmup 30 --epochs 2}"
echo "the body starts from ${PRETRAINED:-scratch}"
OUT=demo SEEDS=$seed sh "$(dirname "$0")/compare.sh" RCIL "FT @RCIL --branches 2" || exit
. "$(dirname "$0")/setup.sh"
results=demo/seed$seed/results/$(basename "${DATA:-data/shapes}" | tr _ -)_voc_15-1
echo
python tools/report.py "${results}_RCIL.csv" "${results}_FT.csv" --out demo/report --no_published --title "Demo: shapes, 15-1 overlapped" || exit
echo "open demo/report/report.html; a picture of your own:"
echo "  $VENV/bin/python tools/predict.py --ckpt demo/seed$seed/checkpoints/15-1-voc_RCIL_5.pth PICTURE"
