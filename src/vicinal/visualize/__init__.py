"""Pictures of what mixing does: to images, to lambda, to decision regions, between test images. Numbers, then drawn."""
