"""Backbones: small networks that turn images into features; built from plugins by name."""
