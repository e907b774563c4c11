"""What a GPU does with this project, measured and tested in one call; see ../gpu.sh."""
