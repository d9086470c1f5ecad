"""Shared by all stages: the records passed between them, boxes, affine maps, devices, fused convolutions, memory."""
