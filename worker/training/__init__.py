"""Training: labelled data in, a bundle out."""
