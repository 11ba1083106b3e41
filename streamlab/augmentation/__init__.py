"""Augmentation: pipelines by name, views of images, and the operations, a whole batch in one call."""
