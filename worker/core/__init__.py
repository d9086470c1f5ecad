"""What every stage may use: the records that travel, boxes, affine maps, devices, fused convolutions, memory."""
