#!/usr/bin/env bash
# Five epochs, on two data sets: the appendix of docs/evidence.md. Started again it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
shared=(--no-pretrained --optimizer adamw --lr 0.003 --schedule cosine --ema 0.99 --batch-size 8 --expand 1 --workers 1 --cache ram)

teacher() { # NAME SET EPOCHS
    go_on=(); if [ -e "logs/$1/last.pth" ]; then go_on=(--resume); fi
    python train_teacher.py --train "$2/train" --val "$2/val" --classes "VOCdevkit/$2/classes.txt" \
        --backbone 'resnet18(width=0.25)' --epochs "$3" --val-every 10 --name "$1" "${shared[@]}" "${go_on[@]}"
}
student=(--backbone 'resnet18(width=0.125)' --epochs 5 --val-every 0 "${shared[@]}")
soft="--preset soft --conf-weight 0.7 --soft-weight 3 --neg-w 1.5"

teacher neu_teacher neu_det 40
python -m tools.compare --out logs/neu --teacher logs/neu_teacher/best.pth --first-seed 3 --seeds 10 --test neu_det/test \
    --variant "soft 3 T4: $soft --temperature 4" \
    -- --train neu_det/train --val neu_det/val --classes VOCdevkit/neu_det/classes.txt "${student[@]}"

teacher fod_teacher fod20 12
cp benchmarks/results/evidence_fod20/train1000.txt VOCdevkit/fod20/ImageSets/Main
python -m tools.compare --out logs/fod --teacher logs/fod_teacher/best.pth --seeds 3 --test fod20/test \
    --variant "soft 3 T2: $soft" "soft 3 T4: $soft --temperature 4" "soft 3: $soft --temperature 1" \
    "tutorial: --preset tutorial" "paper: --preset paper --distill" "longer: --alone --epochs 9" \
    -- --train fod20/train1000 --val fod20/val --classes VOCdevkit/fod20/classes.txt "${student[@]}"
