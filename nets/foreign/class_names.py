"""Class names that the weights of other projects take for granted."""

VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)

# Annotations of COCO number 80 classes from 1 to 90, and torchvision's networks keep the numbers.
COCO_BY_NUMBER = {
    **dict(enumerate(("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train"), 1)),
    **dict(enumerate(("truck", "boat", "traffic light", "fire hydrant"), 8)),
    **dict(enumerate(("stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse"), 13)),
    **dict(enumerate(("sheep", "cow", "elephant", "bear", "zebra", "giraffe"), 20)),
    **dict(enumerate(("backpack", "umbrella"), 27)),
    **dict(enumerate(("handbag", "tie", "suitcase", "frisbee", "skis", "snowboard"), 31)),
    **dict(enumerate(("sports ball", "kite", "baseball bat", "baseball glove"), 37)),
    **dict(enumerate(("skateboard", "surfboard", "tennis racket", "bottle"), 41)),
    **dict(enumerate(("wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana"), 46)),
    **dict(enumerate(("apple", "sandwich", "orange", "broccoli", "carrot", "hot dog"), 53)),
    **dict(enumerate(("pizza", "donut", "cake", "chair", "couch", "potted plant", "bed"), 59)),
    **{67: "dining table", 70: "toilet"},
    **dict(enumerate(("tv", "laptop", "mouse", "remote", "keyboard", "cell phone"), 72)),
    **dict(enumerate(("microwave", "oven", "toaster", "sink", "refrigerator"), 78)),
    **dict(enumerate(("book", "clock", "vase", "scissors", "teddy bear", "hair drier"), 84)),
    90: "toothbrush",
}
# Names have to differ, so the ten columns without a class carry their number.
COCO = tuple(COCO_BY_NUMBER.get(i, f"unused {i}") for i in range(1, 91))
