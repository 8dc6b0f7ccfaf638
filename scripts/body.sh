#!/bin/sh
# A small body that has seen real pictures, from any folder of them by class: sh scripts/body.sh [run.py options]
# Trains ResNet-26 of width 32 on all classes at once, and writes pretrained/NAME.safetensors: half precision, without
# the classifier, under torchvision's names. The same command resumes what was cut off.
#   DATA=data/tiny    train/CLASS/PICTURE and val/CLASS/PICTURE       NAME=resnet26w32
. "$(dirname "$0")/setup.sh"
DATA=${DATA:-data/tiny}
NAME=${NAME:-resnet26w32}
python run.py --dataset imagefolder --data_root "$DATA" --task offline --method FT --backbone resnet26 --width 32 \
    --crop_size 64 --resize_size 64 --batch_size 128 --epochs 12 --lr 0.1 --warmup 400 --no_pretrained --opt_level O0 \
    --results_dir results/body --logdir logs/body "$@" --name "$NAME" --checkpoint checkpoints/body &&
    exec python tools/body.py --ckpt "checkpoints/body/offline-imagefolder_${NAME}_0.pth" --out "pretrained/$NAME.safetensors"
