"""Results of one image: boxes, keypoints, drawing, writing."""
