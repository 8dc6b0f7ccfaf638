#!/bin/sh
# Classification on drawn pictures, on two CPU cores: sh scripts/demo_images.sh
# A ResNet-18 learns 10 classes of shapes, then 5 more, twice (task 10-5), with RCIL and 200 images of earlier steps. The
# last command writes a report for the browser. The same command resumes what was cut off; delete demo_images/ to start anew.
. "$(dirname "$0")/setup.sh"
out=demo_images
python tools/make_shapes.py --root "$out/data" --layout imagefolder --train 1200 --val 300 --size 64 || exit
python run.py --method RCIL --name RCIL --date shapes --dataset imagefolder --data_root "$out/data" --task 10-5 \
    --width 16 --crop_size 64 --resize_size 64 --batch_size 16 --num_workers 0 --val_interval 100 --epochs 8 4 4 \
    --lr 0.05 0.005 0.005 --loss_kd 30 --mem_size 200 \
    --checkpoint "$out/checkpoints" --logdir "$out/logs" --results_dir "$out/results" || exit
python tools/report.py "$out/results/shapes_imagefolder_10-5_RCIL.csv" --out "$out/report" --title "Demo: shapes, 10-5, whole images" || exit
echo "open $out/report/report.html; a picture of your own:"
echo "  $VENV/bin/python tools/predict.py --ckpt $out/checkpoints/10-5-imagefolder_RCIL_2.pth PICTURE"
