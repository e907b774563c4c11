#!/usr/bin/env bash
# All labels, and longer runs: docs/evidence.md. After cut.sh, fod.sh and cut_fifth.sh, whose teachers and cut networks
# it takes. Some seventeen hours of one core. Started again it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
out=logs/evidence
shared=(--backbone 'resnet18(width=0.125)' --batch-size 16 --expand 1 --workers 1 --cache ram --amp bf16 --no-pretrained --val-every 0)
cut="--backbone 'resnet18(width=0.25)' --recipe scratch"

from="--weights $out/cut.pth $cut"
python -m tools.compare --out $out/all --teacher $out/teacher/best.pth --seeds 5 --test neu_det/test \
    --variant "cut: --alone $from --epochs 60" "cut, soft: --preset soft --teacher-views 20 $from --epochs 60" \
              "cut, 120 epochs: --alone $from --epochs 120" \
    -- --train neu_det/train --classes VOCdevkit/neu_det/classes.txt "${shared[@]}" --epochs 120
# `objectness`, as terms.sh has it for a fifth of the labels.
python -m tools.compare --out $out/all_objectness --teacher $out/teacher/best.pth --seeds 3 --test neu_det/test \
    --variant "objectness: --preset soft --soft-weight 0 --distill objectness --share objectness=0.2 --teacher-views 20" \
    -- --train neu_det/train --classes VOCdevkit/neu_det/classes.txt "${shared[@]}" \
    --weights $out/cut.pth --backbone 'resnet18(width=0.25)' --recipe scratch --epochs 60

# Twice as long as the longest of these.
python -m tools.compare --out $out/longer --teacher $out/teacher/best.pth --seeds 3 --test neu_det/test --variant "cut: --alone $from" \
    -- --train neu_det/train --classes VOCdevkit/neu_det/classes.txt "${shared[@]}" --epochs 240

from="--weights $out/fod_cut.pth $cut"
python -m tools.compare --out $out/fod_all --teacher $out/fod_teacher/best.pth --seeds 5 --test fod20/test \
    --variant "cut: --alone $from --epochs 30" "cut, soft: --preset soft --teacher-views 15 $from --epochs 30" \
    -- --train fod20/train --classes VOCdevkit/fod20/classes.txt "${shared[@]}" --epochs 60
python -m tools.compare --out $out/fod_longer --teacher $out/fod_teacher/best.pth --seeds 3 --test fod20/test --variant "cut: --alone $from --epochs 60" \
    -- --train fod20/train --classes VOCdevkit/fod20/classes.txt "${shared[@]}" --epochs 120
