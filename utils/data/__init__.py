"""A devkit on disk -> batches.

Images are decoded and augmented by OpenCV in threads of ours, or one after another beside torch's:
threads of its own would only take cores from these. So it is told once, here, to start none.
"""

import cv2

cv2.setNumThreads(0)
