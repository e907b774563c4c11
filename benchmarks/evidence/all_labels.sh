#!/usr/bin/env bash
# All labels, and longer runs (not so long that students are done): docs/evidence.md. After cut.sh, fod.sh and cut_fifth.sh, whose
# teachers and cut networks it takes. Some ten hours of one core. Started again it goes on where it was.
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

# Is the student from random weights done by then? The comparison of these three seeds takes the place of the one before.
for kind in json md svg; do cp $out/all/comparison.$kind $out/all/five_seeds.$kind; done
python -m tools.compare --out $out/all --teacher $out/teacher/best.pth --seeds 3 --test neu_det/test \
    --variant "cut, 120 epochs: --alone $from --epochs 120" "alone, 240 epochs: --alone --epochs 240" \
    -- --train neu_det/train --classes VOCdevkit/neu_det/classes.txt "${shared[@]}" --epochs 120

from="--weights $out/fod_cut.pth $cut --epochs 30"
python -m tools.compare --out $out/fod_all --teacher $out/fod_teacher/best.pth --seeds 5 --test fod20/test \
    --variant "cut: --alone $from" "cut, soft: --preset soft --teacher-views 15 $from" \
    -- --train fod20/train --classes VOCdevkit/fod20/classes.txt "${shared[@]}" --epochs 60
