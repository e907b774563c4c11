#!/usr/bin/env bash
# Students cut out of their teacher, beside students from random weights: docs/evidence.md.
# Some four hours of one core. Started again it goes on where it was; needs the extra `prune`.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
out=logs/evidence
shared=(--classes VOCdevkit/neu_det/classes.txt --batch-size 16 --expand 1 --workers 1 --cache ram --amp bf16)

go_on=(); if [ -e $out/teacher/last.pth ]; then go_on=(--resume); fi
python train_teacher.py --train neu_det/train --val neu_det/val --val-every 20 "${shared[@]}" \
    --backbone 'resnet18(width=0.25)' --no-pretrained --epochs 120 --logs $out --name teacher "${go_on[@]}"
[ -e $out/cut.pth ] || python -m tools.prune --weights $out/teacher/best.pth --keep 0.5 --out $out/cut.pth

cut="--weights $out/cut.pth --backbone 'resnet18(width=0.25)' --recipe scratch"
python -m tools.compare --out $out/cut --teacher $out/teacher/best.pth --seeds 5 --test neu_det/test \
    --variant "cut: --alone $cut" \
    "cut, soft: $cut --preset soft --teacher-views 20" \
    "cut, soft 3: $cut --preset soft --conf-weight 0.7 --soft-weight 3 --teacher-views 20" \
    "cut, tutorial: $cut --preset tutorial --teacher-views 20" \
    "cut, mgd: $cut --preset soft --distill mgd --share mgd=0.3" \
    "cut, pkd: $cut --preset soft --distill pkd --share pkd=0.3" \
    "cut, crosskd: $cut --preset soft --distill crosskd --share crosskd=0.3" \
    "soft 3: --preset soft --conf-weight 0.7 --soft-weight 3 --teacher-views 20" \
    "soft 3, fading: --preset soft --soft-weight 3 --kd-schedule linear --teacher-views 20" \
    "six times as long: --alone --epochs 120" \
    -- --train neu_det/train --val-every 0 "${shared[@]}" --backbone 'resnet18(width=0.125)' --no-pretrained --epochs 20
